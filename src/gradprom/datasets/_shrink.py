"""Images brought down to a largest side as they are read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets.sample import Sample


def shrunk(sample: Sample, max_side: int) -> Sample:
    """The sample with its image, and its mask, at most ``max_side`` pixels high and wide; smaller ones stay.

    Images are resampled with antialiasing, masks by the nearest pixel.
    """
    return replace(
        sample,
        read_image=functools.partial(_read, sample.read_image, max_side, "bilinear"),
        read_mask=None if sample.read_mask is None else functools.partial(_read, sample.read_mask, max_side, "nearest"),
    )


def _read(read: Callable[[], NDArray[Any]], max_side: int, how: str) -> NDArray[Any]:
    import torch
    import torch.nn.functional as F

    pixels = read()
    height, width = pixels.shape[:2]
    if max(height, width) <= max_side:
        return pixels
    share = max_side / max(height, width)
    size = max(1, round(height * share)), max(1, round(width * share))
    channels_first = np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.float32)
    image = torch.from_numpy(channels_first)[None]
    if how == "nearest":
        image = F.interpolate(image, size, mode="nearest-exact")
    else:
        image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    values: NDArray[Any] = image[0].permute(1, 2, 0).round().numpy().astype(pixels.dtype)
    return values.reshape(*size, *pixels.shape[2:])
