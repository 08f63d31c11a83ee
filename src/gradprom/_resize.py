"""Bicubic resizing, in the one way that super-resolution here is degraded, begun and measured against."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images resized bicubically, antialiased where they get smaller; the same tensor where they have the size.

    Args:
        images: shape (N, C, H, W), values in [0, 1].
        size: (height, width) in pixels.

    Returns:
        Shape (N, C, height, width), values in [0, 1].

    Example:
        >>> import torch
        >>> images = torch.rand(2, 1, 8, 8)
        >>> resized(images, (8, 8)) is images, resized(images, (16, 32)).shape
        (True, torch.Size([2, 1, 16, 32]))
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    # antialias=True does nothing when enlarging, but takes the cubic of Pillow and MATLAB (a = -0.5) that papers use
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0.0, 1.0)
