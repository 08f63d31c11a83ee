from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage
from PIL import ImageCms

from gradprom.errors import UserError
from gradprom.images import Image, read_image, write_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
def test_every_bit_survives(tmp_path: Path, dtype: Any, count: int, compression: str | None) -> None:
    samples = noise(17, 11, count, dtype=dtype)
    colours = count - (count in (2, 4))
    tifffile.imwrite(
        tmp_path / "in.tif",
        samples if count > 1 else samples[..., 0],
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig" if count > 1 else None,
        extrasamples=["assocalpha"] if count > colours else None,
        compression=compression,
        predictor=compression in ("lzw", "zlib"),
    )
    image = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(image.pixels, samples[..., :colours])
    write_image(tmp_path / "out.tiff", image)
    with tifffile.TiffFile(tmp_path / "in.tif") as source, tifffile.TiffFile(tmp_path / "out.tiff") as written:
        before, after = source.pages[0], written.pages[0]
        np.testing.assert_array_equal(after.asarray().reshape(samples.shape), samples)
        assert after.dtype == dtype
        assert after.photometric == before.photometric
        assert after.compression == before.compression
        assert after.predictor == before.predictor
        assert after.extrasamples == before.extrasamples
        assert not after.description


def test_tags_are_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "in.tif", tmp_path / "out.tif"
    PilImage.fromarray(noise(6, 8, 3, dtype=np.uint8)).save(
        path,
        compression="tiff_lzw",
        tiffinfo={270: "A lesion", 274: 6, 271: "Maker", 33432: "me", 700: b"<xmp/>"},
        dpi=(200, 300),
        icc_profile=PROFILE,
    )
    image = read_image(path)
    assert image.dpi == (200, 300)
    write_image(out, image)
    with PilImage.open(out) as written:
        tags = dict(written.tag_v2)
        assert (tags[256], tags[257]) == (8, 6)  # as stored: not turned
        assert {code: tags[code] for code in (270, 274, 271, 33432)} == {
            270: "A lesion", 274: 6, 271: "Maker", 33432: "me",
        }  # fmt: skip
        assert tags[700] == b"<xmp/>"
        assert written.info["icc_profile"] == PROFILE
        assert written.info["dpi"] == pytest.approx((200, 300))


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
def test_the_description_of_ome_is_kept_whatever_the_name(tmp_path: Path, name: str) -> None:
    description = '<?xml version="1.0"?><OME><Image Name="made up"/></OME>'
    values = noise(6, 8)
    tifffile.imwrite(tmp_path / "in.tif", values, description=description, metadata=None)
    write_image(tmp_path / name, read_image(tmp_path / "in.tif"))
    with tifffile.TiffFile(tmp_path / name) as written:
        assert written.pages[0].description == description
        np.testing.assert_array_equal(written.pages[0].asarray(), values)


def test_the_description_of_ome_fits_a_larger_image(tmp_path: Path) -> None:
    pixels = '<ome:Pixels SizeX=\'5\' PhysicalSizeX="0.5" SizeY="4" SizeZ="1" PhysicalSizeY="3"/>'
    text = f'<?xml version="1.0"?><OME:OME><Note SizeX="5"/>{pixels}</OME:OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(4, 5), description=text, metadata=None)
    image = read_image(tmp_path / "a.ome.tif")
    write_image(tmp_path / "b.ome.tif", image.with_pixels(noise(16, 20, 1), None))
    large = '<ome:Pixels SizeX=\'20\' PhysicalSizeX="0.125" SizeY="16" SizeZ="1" PhysicalSizeY="0.75"/>'
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as written:
        assert written.pages[0].description == text.replace(pixels, large)


def test_resolution_without_a_unit_and_a_larger_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = noise(4, 5)
    tifffile.imwrite(path, values, resolution=(3.5, 7.0), resolutionunit=1, description="é µm".encode(), metadata=None)
    image = read_image(path)
    assert image.dpi is None
    write_image(path, image.with_pixels(noise(8, 10, 1), None))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert page.description == "é µm"
        assert page.resolution == pytest.approx((7.0, 14.0))
        assert page.resolutionunit == 1


def test_centimetres_become_inches_elsewhere(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(4, 5), resolution=(100, 50), resolutionunit=3)
    image = read_image(tmp_path / "a.tif")
    assert image.dpi == pytest.approx((254, 127))
    write_image(tmp_path / "a.png", image)
    with PilImage.open(tmp_path / "a.png") as png:
        assert png.info["dpi"] == pytest.approx((254, 127))


@pytest.mark.parametrize(("source", "target"), [("jpg", "tif"), ("tif", "png"), ("png", "tif"), ("tif", "jpg")])
def test_orientation_crosses_formats(tmp_path: Path, source: str, target: str) -> None:
    exif = PilImage.Exif()
    exif[274] = 8
    path, out = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    PilImage.fromarray(noise(6, 8, 3, dtype=np.uint8)).save(path, exif=exif)
    write_image(out, read_image(path))
    with PilImage.open(out) as written:
        assert written.getexif()[274] == 8


def test_planes_tiles_and_white_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    planes = noise(3, 20, 30)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", tile=(16, 16), compression="lzw")
    np.testing.assert_array_equal(read_image(path).pixels, planes.transpose(1, 2, 0))
    grey = noise(20, 30)
    tifffile.imwrite(path, grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], 65535 - grey)
    tifffile.imwrite(path, grey, byteorder=">", bigtiff=True)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], grey)


def test_pillows_kinds(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    colours = PilImage.fromarray(noise(8, 9, 3, dtype=np.uint8))
    for mode, compression in (("1", "group4"), ("1", None), ("P", None), ("P", "tiff_lzw"), ("L", "packbits")):
        source = colours.convert(mode)
        source.save(path, compression=compression)
        image = read_image(path)
        expected = np.asarray(source.convert("RGB" if mode == "P" else "L")).reshape(8, 9, -1)
        np.testing.assert_array_equal(image.pixels, expected)
        write_image(path, image)
        with PilImage.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written).reshape(8, 9, -1), expected)


def test_grey_palette_becomes_grey(tmp_path: Path) -> None:
    source = PilImage.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    source.putpalette([0, 0, 0, 90, 90, 90, 255, 255, 255] + [7] * 759)
    source.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, [[[0], [90]], [[255], [90]]])


def test_jpeg_inside_is_read_as_rgb_and_written_without_loss(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    colours = np.stack([x * 4, y * 4, np.full_like(x, 40)], axis=2).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, colours, compression="jpeg", compressionargs={"level": 95}, photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - colours).mean() < 3
    write_image(path, image)
    with PilImage.open(path) as written:
        assert written.info["compression"] == "tiff_adobe_deflate"
        np.testing.assert_array_equal(np.asarray(written), image.pixels)


def test_one_pixel(tmp_path: Path) -> None:
    for shape in ((1, 1, 1), (1, 1, 3), (1, 3, 3)):
        pixels = noise(*shape)
        write_image(tmp_path / "a.tif", Image(pixels))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(shape), pixels)


@pytest.mark.parametrize(
    ("values", "options", "found"),
    [
        (np.zeros((4, 4), np.float32), {}, "found floating point numbers of 32 bits"),
        (np.zeros((4, 4), np.int16), {}, "found signed numbers of 16 bits"),
        (np.zeros((4, 4), np.uint32), {}, "found whole numbers of 32 bits"),
        (np.zeros((3, 4, 4), np.uint8), {"photometric": "minisblack"}, "expected a TIFF of one image, found 3"),
        (np.zeros((3, 5, 6), np.uint8), {"imagej": True}, "expected a TIFF of one image, found 3"),
        (np.zeros((4, 4, 4), np.uint8), {"photometric": "separated", "planarconfig": "contig"}, "SEPARATED"),
        (
            np.zeros((4, 4, 5), np.uint8),
            {"photometric": "rgb", "planarconfig": "contig", "extrasamples": [0, 0]},
            "found 5",
        ),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, values: np.ndarray, options: dict[str, Any], found: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(UserError, match=found) as caught:
        read_image(tmp_path / "a.tif")
    assert str(caught.value).startswith(f"{tmp_path / 'a.tif'}: expected")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"compression": "jpeg"}])
def test_cuts_are_noticed(tmp_path: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, noise(64, 64, 3, dtype=np.uint8), photometric="rgb", **options)
    data = path.read_bytes()
    for length in [*range(4, len(data), 997), len(data) - 16]:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.tif: expected a whole TIFF"):
            read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_compression_that_nothing_here_undoes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags[259].overwrite(34713)  # of Nikon
    with pytest.raises(UserError, match=r"a\.tif: expected pixels that can be decompressed here, found .*; decompress"):
        read_image(path)
