from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PilImage

from gradprom.images import Image, to_channels


def test_luma_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_channels(colours, 1)[..., 0], np.asarray(PilImage.fromarray(colours).convert("L")))


def test_luma_of_16_bits_is_the_definition() -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    luma = colours.astype(np.float64) @ [0.299, 0.587, 0.114]
    grey = to_channels(colours, 1)
    assert grey.dtype == np.uint16
    assert np.abs(grey[..., 0] - luma).max() < 1.0
    assert (to_channels(np.full((1, 1, 3), 65535, np.uint16), 1) == 65535).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_repeated_and_comes_back(dtype: type) -> None:
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 7, 1), dtype=dtype, endpoint=True)
    colour = to_channels(grey, 3)
    assert colour.shape == (5, 7, 3)
    assert colour.dtype == dtype
    np.testing.assert_array_equal(colour, np.concatenate([grey] * 3, axis=2))
    np.testing.assert_array_equal(to_channels(colour, 1), grey)
    assert to_channels(grey, 1) is grey


@pytest.mark.parametrize(
    ("pixels", "channels"),
    [
        (np.zeros((2, 2), np.uint8), 1),
        (np.zeros((2, 2, 4), np.uint8), 3),
        (np.zeros((2, 2, 3), np.float32), 1),
        (np.zeros((2, 2, 3), np.uint8), 2),
    ],
)
def test_anything_else_is_refused(pixels: np.ndarray, channels: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        to_channels(pixels, channels)


def test_an_image_of_other_shapes_or_types_cannot_be_made() -> None:
    grey = np.zeros((2, 3, 1), np.uint8)
    for pixels, alpha in (
        (grey[..., 0], None),
        (grey.astype(np.float32), None),
        (grey, np.zeros((3, 2), np.uint8)),
        (grey, np.zeros((2, 3), np.uint16)),
    ):
        with pytest.raises(ValueError, match="expected"):
            Image(pixels, alpha)


def test_more_pixels_keep_the_size_in_inches() -> None:
    image = Image(np.zeros((4, 6, 1), np.uint8), dpi=(100.0, 50.0), exif=b"II*\0")
    larger = image.with_pixels(np.zeros((8, 12, 1), np.uint8), None)
    assert larger.dpi == (200.0, 100.0)
    assert larger.exif == image.exif
