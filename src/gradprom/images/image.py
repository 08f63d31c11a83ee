"""What an image file holds, and grey and colour made from one another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]  # uint8 or uint16; (height, width, channels)
Format = Literal["png", "jpeg", "tiff"]


class UnreadableError(Exception):
    """Why a file is refused, as the end of a sentence which begins with the file's name."""


@dataclass(frozen=True)
class Image:
    """The pixels of a file as stored, and what must not be lost when they are written again.

    Pixels are never turned: the orientation tag stays in ``exif`` and is written back with them.

    Attributes:
        pixels: (height, width, channels), uint8 or uint16, channels 1 (grey) or 3 (colour); 0 is black.
        alpha: opacity, (height, width) of the same type, or None.
        format: what kind of file it came from.
        exif: an EXIF block that begins with its byte order ("II" or "MM"), or None.
        icc_profile: the colour profile, or None.
        dpi: pixels per inch, horizontal and vertical, or None where the file states no length.
        extras: what only files of the same format can keep; written back if the format stays.

    Example:
        >>> image = Image(np.zeros((4, 6, 3), np.uint16))
        >>> image.channels, image.peak
        (3, 65535)
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: Format = "png"
    exif: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    extras: object | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the shapes or types are others than stated above."""
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"expected (height, width, 1 or 3) of uint8 or uint16, found {pixels.shape} of {pixels.dtype}"
            )
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ValueError(f"expected alpha of {pixels.shape[:2]} {pixels.dtype}, found {alpha.shape} {alpha.dtype}")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.pixels.shape[2])

    @property
    def peak(self) -> int:
        """The value of full intensity: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    def with_pixels(self, pixels: Pixels, alpha: Pixels | None) -> Image:
        """Give the same image with other pixels; where their number changes, ``dpi`` keeps the size in inches.

        Example:
            >>> image = Image(np.zeros((4, 6, 3), np.uint8), dpi=(300.0, 300.0))
            >>> image.with_pixels(np.zeros((8, 12, 3), np.uint8), None).dpi
            (600.0, 600.0)
        """
        dpi = self.dpi
        if dpi is not None:
            (old_height, old_width), (height, width) = self.pixels.shape[:2], pixels.shape[:2]
            dpi = (dpi[0] * width / old_width, dpi[1] * height / old_height)
        return replace(self, pixels=pixels, alpha=alpha, dpi=dpi)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Bring an image to 1 (grey) or 3 (colour) channels: luma of ITU-R BT.601, or grey repeated three times.

    Args:
        pixels: (height, width, 1 or 3), uint8 or uint16.
        channels: 1 or 3.

    Returns:
        (height, width, channels) of the same type; the same array if there is nothing to do.

    Raises:
        ValueError: ``pixels`` or ``channels`` are none of the above.

    Example:
        >>> to_channels(np.array([[[255, 0, 0]]], np.uint8), 1)
        array([[[76]]], dtype=uint8)
        >>> to_channels(np.array([[[7]]], np.uint8), 3)
        array([[[7, 7, 7]]], dtype=uint8)
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected (height, width, 1 or 3) of uint8 or uint16, found {pixels.shape} of {pixels.dtype}")
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 1 or 3, found {channels}")
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    # 0.299 R + 0.587 G + 0.114 B in units of 1/65536, which sum to 65536: exact, and 16 bits fit into uint32
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return luma.astype(pixels.dtype)[..., np.newaxis]
