"""Arrays to the pictures of the page: what went in, what came out, what differs, and what a recognizer makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's palette, which people tell apart whatever colours they see; the first class is background
MASK_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_BRIGHTER, _DARKER = (255, 158, 44), (64, 160, 255)
_LEAST_LIMIT = 1 / 255  # a difference that no screen shows is not blown up
_OUTER = 99.8  # percent of the differences that the colours' range covers


def to_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Give an image of uint8, uint16 or float in [0, 1] in 8 bits.

    Example:
        >>> to_bytes(np.array([0.0, 0.5, 1.0])), to_bytes(np.array([0, 65535], np.uint16))
        (array([  0, 128, 255], dtype=uint8), array([  0, 255], dtype=uint8))
    """
    octets: NDArray[np.uint8] = pixels
    if pixels.dtype != np.uint8:
        scale = np.float32(1 / 257 if pixels.dtype == np.uint16 else 255)
        octets = np.rint(pixels * scale).astype(np.uint8)
    return octets


def to_unit(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Give an image of uint8, uint16 or float in [0, 1] as float32 in [0, 1].

    Example:
        >>> to_unit(np.array([0, 51], np.uint8))
        array([0. , 0.2], dtype=float32)
    """
    unit: NDArray[np.float32] = pixels.astype(np.float32)
    if pixels.dtype.kind == "u":
        unit /= float(np.iinfo(pixels.dtype).max)
    return unit


def difference(before: NDArray[Any], after: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
    """Colour what an enhancer changed: orange where it made the image brighter, blue where darker, black where neither.

    Args:
        before: (H, W, 1 or 3), uint8, uint16 or float in [0, 1].
        after: of the same shape.

    Returns:
        The picture, (H, W, 3), and the change, of intensities in [0, 1], that has the full colour: nearly the greatest,
        and 1/255 at least. Of colours their mean counts.

    Example:
        >>> picture, limit = difference(np.full((1, 2, 1), 0.5), np.array([[[0.5], [0.75]]]))
        >>> picture.tolist(), limit
        ([[[0, 0, 0], [255, 158, 44]]], 0.25)
    """
    change = _grey(after) - _grey(before)
    # a part of the pixels is enough to find where most of them end
    sample = np.abs(change[:: max(1, change.shape[0] // 1024), :: max(1, change.shape[1] // 1024)])
    limit = max(float(np.percentile(sample, _OUTER, method="higher")), _LEAST_LIMIT)
    strengths = np.linspace(0, 1, 256)[:, np.newaxis]
    colours = np.rint(np.concatenate([strengths[::-1] * _DARKER, strengths[1:] * _BRIGHTER])).astype(np.uint8)
    change *= 255 / limit
    return colours[np.rint(change).clip(-255, 255).astype(np.int16) + 255], limit


def _grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """The mean over the channels, (H, W) float32 in [0, 1]."""
    grey: NDArray[np.float32] = pixels.mean(axis=2, dtype=np.float32)
    if pixels.dtype.kind == "u":
        grey /= float(np.iinfo(pixels.dtype).max)
    return grey


def heat(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a map in [0, 1], (H, W), to lie over an image: (H, W, 4), clear where it is 0.

    Example:
        >>> heat(np.array([[0.0, 1.0]], np.float32))[..., 3].tolist()
        [[0, 191]]
    """
    from matplotlib import colormaps

    picture: NDArray[np.uint8] = colormaps["inferno"](0.25 + 0.75 * values, bytes=True)
    picture[..., 3] = np.rint(values * 191)
    return picture


def regions(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour the classes of a mask, (H, W), to lie over an image: (H, W, 4), clear where it is 0.

    Example:
        >>> regions(np.array([[0, 1]], np.uint8)).tolist()
        [[[0, 0, 0, 0], [230, 159, 0, 128]]]
    """
    colours = np.zeros((256, 4), np.uint8)
    for index in range(1, 256):
        colours[index] = (*bytes.fromhex(MASK_COLOURS[(index - 1) % len(MASK_COLOURS)][1:]), 128)
    return colours[mask]


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture, (H, W, 1, 3 or 4)."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    # they travel a short way once: time matters more than size
    picture.save(path, "PNG", compress_level=1)
