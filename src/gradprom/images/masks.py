"""Masks of classes beside the images they are of: the same format and geometry, and no bit of a label lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradprom.images._tiff import TiffExtras, orientation_alone
from gradprom.images.image import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mask_image(image: Image, mask: NDArray[np.uint8]) -> Image:
    """Give a mask as an image that lies in the same way as another: its orientation, resolution and compression.

    Colour profile, opacity and texts are of that image alone.

    Args:
        image: what the mask is of.
        mask: (H, W) of class numbers, of the same size.

    Raises:
        ValueError: the sizes differ.

    Example:
        >>> image = Image(np.zeros((2, 3, 3), np.uint16), dpi=(300.0, 300.0))
        >>> labels = mask_image(image, np.ones((2, 3), np.uint8))
        >>> labels.pixels.shape, labels.peak, labels.dpi
        ((2, 3, 1), 255, (300.0, 300.0))
    """
    if mask.shape != image.pixels.shape[:2]:
        raise ValueError(f"expected a mask of {image.pixels.shape[:2]}, found {mask.shape}")
    extras = image.extras
    return Image(
        mask[..., np.newaxis],
        format=image.format,
        exif=None if image.exif is None else orientation_alone(image.exif),
        dpi=image.dpi,
        extras=replace(extras, tags=()) if isinstance(extras, TiffExtras) else None,
    )
