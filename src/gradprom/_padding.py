"""Any image size for networks that halve it several times."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) at the bottom and right, by repeating the border, to the next multiple of ``multiple``.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.zeros(1, 1, 5, 8), 4).shape
        torch.Size([1, 1, 8, 8])
    """
    height, width = image.shape[-2:]
    extra = (-height) % multiple, (-width) % multiple
    # replicated, not reflected: reflection cannot pad an image smaller than the padding
    return F.pad(image, (0, extra[1], 0, extra[0]), mode="replicate") if any(extra) else image
