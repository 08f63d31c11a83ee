from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageCms
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from gradprom.errors import UserError
from gradprom.images import Image, read_image, write_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, (x + y) * 2], axis=2).clip(0, 255).astype(np.uint8)


def make_exif(orientation: int) -> bytes:
    exif = PilImage.Exif()
    exif[274] = orientation
    exif[271] = "Maker"
    return exif.tobytes()


def test_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jpg", tmp_path / "out.JPEG"
    exif = make_exif(6)
    PilImage.fromarray(smooth()).save(
        path,
        quality=71,
        subsampling=1,
        progressive=True,
        exif=exif,
        icc_profile=PROFILE,
        dpi=(96, 120),
        comment=b"hello",
    )
    image = read_image(path)
    with PilImage.open(path) as source:
        np.testing.assert_array_equal(image.pixels, np.asarray(source))  # as stored: not turned
        assert image.dpi == (96, 120)
        write_image(out, image)
        with PilImage.open(out) as written:
            assert isinstance(source, JpegImageFile)
            assert isinstance(written, JpegImageFile)
            assert written.quantization == source.quantization
            assert get_sampling(written) == get_sampling(source) == 1
            assert written.info["exif"] == exif
            assert written.getexif()[274] == 6
            for key in ("icc_profile", "dpi", "comment", "progressive"):
                assert written.info[key] == source.info[key]
            assert np.abs(np.asarray(written).astype(int) - np.asarray(source)).max() <= 12


def test_grey(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    PilImage.fromarray(smooth()[..., 0]).save(path, quality=60)
    image = read_image(path)
    assert image.pixels.shape == (48, 64, 1)
    write_image(tmp_path / "out.jpg", image)
    with PilImage.open(path) as source, PilImage.open(tmp_path / "out.jpg") as written:
        assert written.mode == "L"
        assert isinstance(source, JpegImageFile)
        assert isinstance(written, JpegImageFile)
        assert written.quantization == source.quantization


def test_from_another_format_at_high_quality(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", Image(smooth(), exif=make_exif(3).removeprefix(b"Exif\0\0")))
    with PilImage.open(tmp_path / "a.jpg") as written:
        assert written.getexif()[274] == 3
        assert np.abs(np.asarray(written).astype(int) - smooth()).max() <= 8


def test_grey_made_of_colour_uses_no_colour_tables(tmp_path: Path) -> None:
    PilImage.fromarray(smooth()).save(tmp_path / "in.jpg", quality=20)
    image = read_image(tmp_path / "in.jpg")
    write_image(tmp_path / "out.jpg", image.with_pixels(image.pixels[..., :1].copy(), None))
    with PilImage.open(tmp_path / "out.jpg") as written:
        assert written.mode == "L"


def test_what_jpeg_cannot_hold_is_refused(tmp_path: Path) -> None:
    grey = np.zeros((2, 2, 1), np.uint8)
    path = tmp_path / "a.jpg"
    for image, what in (
        (Image(grey.astype(np.uint16)), "16 bits"),
        (Image(grey, grey[..., 0]), "alpha"),
        (Image(np.zeros((1, 65501, 1), np.uint8)), "65500 pixels a side"),
    ):
        with pytest.raises(UserError, match=what):
            write_image(path, image)
    assert list(tmp_path.iterdir()) == []


def test_four_colours_are_refused(tmp_path: Path) -> None:
    PilImage.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="expected a grey or RGB JPEG, found CMYK"):
        read_image(tmp_path / "a.jpg")


def test_cuts_are_noticed(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    PilImage.fromarray(smooth()).save(whole)
    data = whole.read_bytes()
    for length in [*range(3, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.jpg: expected a whole JPEG"):
            read_image(path)
