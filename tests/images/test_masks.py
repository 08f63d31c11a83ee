"""Masks beside plain images: what is kept of the image, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from gradprom.images import Image, read_image, write_image
from gradprom.images.masks import mask_image

LABELS = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_come_back_bit_by_bit(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    pixels = np.zeros((40, 50, channels), dtype)
    image = Image(pixels, alpha=pixels[..., 0], icc_profile=b"profile")
    write_image(tmp_path / f"a.{suffix}", mask_image(image, LABELS))
    with PilImage.open(tmp_path / f"a.{suffix}") as written:
        assert written.mode == "L"
        assert "icc_profile" not in written.info
        np.testing.assert_array_equal(np.asarray(written), LABELS)


def test_a_tiff_keeps_how_it_was_stored_and_loses_its_texts(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((40, 50), np.uint16),
        compression="lzw",
        resolution=(300, 150),
        resolutionunit=3,
        description="a slide",
        extratags=[(274, 3, 1, 8, True), (315, 2, 4, "Jane", True)],
        metadata=None,
    )
    write_image(tmp_path / "mask.tif", mask_image(read_image(tmp_path / "a.tif"), LABELS))
    with tifffile.TiffFile(tmp_path / "mask.tif") as tiff:
        (page,) = tiff.pages
        np.testing.assert_array_equal(page.asarray(), LABELS)
        assert (page.compression, page.tags.valueof(282), page.tags.valueof(283)) == (5, (300, 1), (150, 1))
        assert (page.tags.valueof(296), page.tags.valueof(274)) == (3, 8)
        assert page.description == ""
        assert page.tags.valueof(315) is None


def test_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"expected a mask of \(4, 5\), found \(5, 4\)"):
        mask_image(Image(np.zeros((4, 5, 1), np.uint8)), np.zeros((5, 4), np.uint8))
