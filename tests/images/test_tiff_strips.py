from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from gradprom.images import Image, read_image
from gradprom.images._tiff_strips import Rows, open_rows, write_rows
from gradprom.images.image import UnreadableError

RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def accept(_: int, __: int) -> None:
    pass


# what tifffile is to write, height 83 and width 61
GREY, COLOUR, PLANES = noise(83, 61), noise(83, 61, 3, dtype=np.uint8), noise(3, 83, 61)
KINDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "one strip": (GREY, {}),
    "strips": (GREY, {"rowsperstrip": 7}),
    "big endian": (GREY, {"byteorder": ">", "bigtiff": True}),
    "white is 0": (GREY, {"photometric": "miniswhite"}),
    "colour": (COLOUR, {"photometric": "rgb"}),
    "alpha": (noise(83, 61, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"], "rowsperstrip": 10}),
    "grey and alpha": (noise(83, 61, 2), {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]}),
    "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}),
    "planes in strips": (PLANES, {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 9}),
    "planes in tiles": (
        PLANES,
        {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 16), "compression": "lzw"},
    ),
    "one compressed strip": (GREY, {"compression": "zlib", "rowsperstrip": 83}),
    "big endian, compressed": (GREY, {"byteorder": ">", "compression": "zlib", "predictor": True, "rowsperstrip": 8}),
    "lzw": (COLOUR, {"photometric": "rgb", "compression": "lzw", "predictor": True, "rowsperstrip": 1}),
    "packbits": (GREY, {"compression": "packbits", "rowsperstrip": 20}),
    "zstd in tiles": (GREY, {"compression": "zstd", "tile": (16, 32)}),
    "plain tiles": (COLOUR, {"photometric": "rgb", "tile": (48, 16)}),
    "jpeg in tiles": (COLOUR, {"photometric": "rgb", "compression": "jpeg", "tile": (32, 32)}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 30, 83])
def test_rows_are_those_of_the_whole(tmp_path: Path, kind: str, step: int) -> None:
    path = tmp_path / "a.tif"
    values, options = KINDS[kind]
    tifffile.imwrite(path, values, **options)
    whole = read_image(path)
    with path.open("rb") as file:
        rows = open_rows(file, accept, 10_000)
        assert (rows.image.pixels.shape, rows.image.pixels.dtype) == (whole.pixels.shape, whole.pixels.dtype)
        assert (rows.image.extras, rows.image.dpi) == (whole.extras, whole.dpi)
        for start in range(0, 83, step):
            pixels, alpha = rows.window(max(0, start - 2), min(start + step, 83))
            found = slice(max(0, start - 2), min(start + step, 83))
            np.testing.assert_array_equal(pixels, whole.pixels[found])
            assert (alpha is None) == (whole.alpha is None)
            if alpha is not None and whole.alpha is not None:
                np.testing.assert_array_equal(alpha, whole.alpha[found])


@pytest.mark.parametrize(("mode", "compression"), [("1", "group4"), ("1", None), ("P", "tiff_lzw"), ("L", None)])
def test_pillows_kinds(tmp_path: Path, mode: str, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    source = PilImage.fromarray(COLOUR).convert(mode)
    source.save(path, compression=compression)
    expected = np.asarray(source.convert("RGB" if mode == "P" else "L")).reshape(83, 61, -1)
    with path.open("rb") as file:
        rows = open_rows(file, accept, 10_000)
        assert rows.image.pixels.shape == expected.shape
        for start in range(0, 80, 10):
            np.testing.assert_array_equal(rows.window(start, start + 10)[0], expected[start : start + 10])


def test_a_header_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY)
    with path.open("rb") as file:
        image = open_rows(file, accept, 10_000).image
    assert image.pixels.strides == (0, 0, 0)


def test_what_can_only_be_read_together_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for options, height in (({"rowsperstrip": 70}, 70), ({"tile": (32, 16)}, 32)):
        tifffile.imwrite(path, GREY, compression="zlib", **options)
        with path.open("rb") as file:
            open_rows(file, accept, height * 61)
            file.seek(0)
            with pytest.raises(UnreadableError, match=f"found 61×{height} that .* --max-pixels {height * 61}, or"):
                open_rows(file, accept, height * 61 - 1)
    tifffile.imwrite(path, GREY)  # not compressed: it can be read in any pieces
    with path.open("rb") as file:
        open_rows(file, accept, 1)


def test_rows_that_are_gone_or_missing() -> None:
    rows = Rows(iter(np.arange(12).reshape(4, 3, 1, 1)))
    assert rows.window(0, 4).ravel().tolist() == [0, 1, 2, 3]
    assert rows.window(7, 8).ravel().tolist() == [7]  # a whole band lies between
    with pytest.raises(ValueError, match="expected rows from 7 on, found 6"):
        rows.window(6, 8)
    with pytest.raises(ValueError, match="expected 13 rows, found 12"):
        rows.window(8, 13)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"compression": "lzw"}])
def test_written_rows_are_read_by_others(tmp_path: Path, dtype: Any, count: int, options: dict[str, Any]) -> None:
    samples = noise(83, 61, count, dtype=dtype)
    source, path = io.BytesIO(), tmp_path / "a.tif"
    tifffile.imwrite(
        source,
        samples if count > 1 else samples[..., 0],
        photometric="rgb" if count > 2 else "minisblack",
        planarconfig="contig" if count > 1 else None,
        extrasamples=[1] if count in (2, 4) else None,
        resolution=(200, 300),
        resolutionunit=2,
        iccprofile=b"profile",
        metadata=None,
        **options,
    )
    source.seek(0)
    image = open_rows(source, accept, 10_000).image
    with path.open("wb") as file:
        write_rows(image, iter(np.split(samples, [10, 11, 50])), (16, 32), file)
    source.seek(0)
    with tifffile.TiffFile(path) as written, tifffile.TiffFile(source) as given:
        after, before = written.pages[0], given.pages[0]
        np.testing.assert_array_equal(after.asarray().reshape(samples.shape), samples)
        assert after.tile == (16, 32)
        for name in ("compression", "predictor", "photometric", "extrasamples", "resolution", "resolutionunit"):
            assert getattr(after, name) == getattr(before, name)
        assert after.tags.valueof(34675) == b"profile"
        assert not written.is_bigtiff
    if count in (3, 4) and dtype == np.uint8:
        with PilImage.open(path) as pil:
            np.testing.assert_array_equal(np.asarray(pil.convert("RGB" if count == 3 else "RGBA")).shape, samples.shape)
            if count == 3:
                np.testing.assert_array_equal(np.asarray(pil), samples)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
def test_the_description_of_ome_is_kept_whatever_the_name(tmp_path: Path, name: str) -> None:
    description = '<?xml version="1.0"?><OME><Image Name="made up"/></OME>'
    source, path = io.BytesIO(), tmp_path / name
    tifffile.imwrite(source, GREY, description=description, metadata=None)
    source.seek(0)
    image = open_rows(source, accept, 10_000).image
    with path.open("wb") as file:
        write_rows(image, iter([GREY[..., np.newaxis]]), (16, 32), file)
    with tifffile.TiffFile(path) as written:
        assert written.pages[0].description == description
        np.testing.assert_array_equal(written.pages[0].asarray(), GREY)


def test_more_than_four_bytes_can_count_is_a_bigtiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = Image(np.broadcast_to(np.uint8(0), (2**16, 2**16, 1)))
    with path.open("wb") as file, pytest.raises(ValueError, match="expected 8192 rows, found 0"):
        write_rows(image, iter([]), (8192, 8192), file)
    assert path.read_bytes()[:4] == b"II+\0"
