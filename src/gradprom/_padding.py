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
    return _pad(image, (-height) % multiple, (-width) % multiple)


def pad_to_least(image: Tensor, least: int) -> Tensor:
    """Pad (N, C, H, W) at the bottom and right, by repeating the border, until no side is shorter than ``least``.

    Example:
        >>> import torch
        >>> pad_to_least(torch.zeros(1, 1, 5, 8), 6).shape
        torch.Size([1, 1, 6, 8])
    """
    height, width = image.shape[-2:]
    return _pad(image, max(0, least - height), max(0, least - width))


def _pad(image: Tensor, bottom: int, right: int) -> Tensor:
    # replicated, not reflected: reflection cannot pad an image smaller than the padding
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
