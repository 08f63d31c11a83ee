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
    # no negative numbers: where a size is left open, as in an export, ONNX divides them otherwise than Python
    bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in (height, width))
    return _pad(image, bottom, right)


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
    # an int: a size that is left open must not decide whether there is padding
    is_known = isinstance(bottom, int) and isinstance(right, int)
    # replicated, not reflected: reflection cannot pad an image smaller than the padding
    return image if is_known and not (bottom or right) else F.pad(image, (0, right, 0, bottom), mode="replicate")
