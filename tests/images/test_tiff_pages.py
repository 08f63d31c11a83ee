from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage
from PIL import ImageSequence

from gradprom.errors import UserError
from gradprom.images import Frames, has_pages, open_pages, read_image
from gradprom.images.tiff_pages import write_page_masks

RNG = np.random.default_rng(0)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0" Name="made up"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="40" '
    'SizeY="30" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.5"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    '<TiffData IFD="0" PlaneCount="3"/></Pixels></Image></OME>'
)


def noise(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def copy(path: Path, name: str = "out.tif") -> tuple[Frames, Path]:
    """Write the same pages again."""
    frames, target = open_pages(path), path.with_name(name)
    frames.write(target, (frames.read(index) for index in range(frames.count)))
    return frames, target


def write(path: Path, pages: list[np.ndarray], **options: Any) -> Path:
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), ome=False) as writer:
        for number, page in enumerate(pages):
            first = {"description": options["description"]} if number == 0 and "description" in options else {}
            rest = {key: value for key, value in options.items() if key != "description"}
            photometric = "rgb" if page.ndim == 3 else "minisblack"
            writer.write(page, photometric=photometric, metadata=None, contiguous=False, **rest, **first)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (16, 32), "compression": "zlib", "predictor": True}, {"compression": "lzw"}, {"bigtiff": True}],
)
def test_every_page_comes_back_and_is_stored_as_it_was(
    tmp_path: Path, dtype: Any, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    pages = [noise(*shape, dtype=dtype) for _ in range(3)]
    source = write(tmp_path / "in.tif", pages, resolution=(300, 200), **options)
    assert has_pages(source)
    frames, target = copy(source)
    assert frames.count == 3
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert after.is_bigtiff == before.is_bigtiff
        assert len(after.pages) == 3
        for old, new, page in zip(before.pages, after.pages, pages, strict=True):
            np.testing.assert_array_equal(new.asarray(), page)
            for name in ("is_tiled", "compression", "predictor", "photometric", "resolution", "dtype"):
                assert getattr(new, name) == getattr(old, name)
            if old.is_tiled:
                assert (new.tilewidth, new.tilelength) == (32, 16)


def test_pillow_reads_the_same_pages(tmp_path: Path) -> None:
    pages = [PilImage.fromarray(noise(9, 8 + index, 3, dtype=np.uint8)) for index in range(3)]
    pages[0].save(tmp_path / "in.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    frames, target = copy(tmp_path / "in.tif")
    assert [frames.read(index).shape for index in range(3)] == [(9, 8, 3), (9, 9, 3), (9, 10, 3)]
    with PilImage.open(target) as written:
        for page, found in zip(pages, ImageSequence.Iterator(written), strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(page))


def test_pages_of_several_kinds(tmp_path: Path) -> None:
    pages = [noise(5, 6), noise(7, 8, 3, dtype=np.uint8), noise(2, 2, dtype=np.uint8)]
    _, target = copy(write(tmp_path / "in.tif", pages))
    with tifffile.TiffFile(target) as written:
        for page, expected in zip(written.pages, pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), expected)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
def test_ome_is_kept(tmp_path: Path, name: str) -> None:
    pages = [noise(30, 40) for _ in range(3)]
    source = write(tmp_path / "in.ome.tif", pages, description=OME, tile=(16, 16))
    _, target = copy(source, name)
    with tifffile.TiffFile(target) as written:
        assert written.ome_metadata == OME
        (series,) = written.series
        assert (series.kind, series.axes) == ("ome", "ZYX")
        np.testing.assert_array_equal(series.asarray(), pages)


def test_masks_have_no_description_whatever_their_name(tmp_path: Path) -> None:
    source = write(tmp_path / "in.ome.tif", [noise(30, 40) for _ in range(3)], description=OME)
    masks = list(noise(3, 30, 40, dtype=np.uint8))
    write_page_masks(tmp_path / "mask.ome.tif", source, masks)
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as written:
        np.testing.assert_array_equal([page.asarray() for page in written.pages], masks)
        assert not any(page.description for page in written.pages)


def test_opacity_and_the_kind_of_page_are_kept(tmp_path: Path) -> None:
    pages = noise(2, 5, 6, 4, dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for number, page in enumerate(pages):
            writer.write(
                page,
                photometric="rgb",
                extrasamples=["unassalpha"],
                subfiletype=number,
                contiguous=False,
                metadata=None,
            )
    frames, target = copy(tmp_path / "in.tif")
    assert frames.read(0).shape == (5, 6, 3)
    with tifffile.TiffFile(target) as written:
        assert [int(page.subfiletype) for page in written.pages] == [0, 1]
        np.testing.assert_array_equal([page.asarray() for page in written.pages], pages)


@pytest.mark.parametrize("one_page", [False, True])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
def test_an_imagej_stack(tmp_path: Path, shape: tuple[int, ...], one_page: bool) -> None:
    values = noise(*shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", values, imagej=True, photometric="rgb" if len(shape) == 4 else "minisblack")
    data = bytearray((tmp_path / "in.tif").read_bytes())
    first = int.from_bytes(data[4:8], "little")
    following = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    if one_page:  # as in stacks of more than 4 GB
        data[following : following + 4] = bytes(4)
    (tmp_path / "in.tif").write_bytes(data)
    with tifffile.TiffFile(tmp_path / "in.tif") as tiff:
        assert len(tiff.pages) == (1 if one_page else 4)
    frames, target = copy(tmp_path / "in.tif")
    assert frames.count == 4
    with tifffile.TiffFile(target) as written:
        assert written.is_imagej
        assert len(written.pages) == 4
        np.testing.assert_array_equal([page.asarray() for page in written.pages], values)
        np.testing.assert_array_equal(written.series[0].asarray(), values)


def test_an_imagej_stack_that_is_cut_short(tmp_path: Path) -> None:
    pages = noise(1, 5, 6, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", pages, imagej=True)
    data = (tmp_path / "in.tif").read_bytes()
    assert b"images=1" in data
    (tmp_path / "in.tif").write_bytes(data.replace(b"images=1", b"images=4"))
    with pytest.raises(UserError, match="expected a whole TIFF file, found one that is cut short"):
        open_pages(tmp_path / "in.tif")


def test_changes_reach_the_page_they_are_of(tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif", [np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    frames = open_pages(source)
    frames.write(tmp_path / "out.tif", [frames.read(index) + np.uint8(index) for index in range(3)])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif", key=range(3))[:, 0, 0], [10, 21, 32])


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    good = noise(4, 4)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pages": [good, np.zeros((4, 4), np.float32)]}, "page 2: expected whole numbers of 1, 8 or 16 bits"),
        ({"pages": [good, good], "subifds": 1}, r"page 1: expected a plain image, found one with smaller copies"),
    ]
    for options, found in cases:
        if "subifds" in options:
            with tifffile.TiffWriter(path) as writer:
                writer.write(good, subifds=1, metadata=None)
                writer.write(good[::2, ::2], subfiletype=1, metadata=None)
                writer.write(good, metadata=None, contiguous=False)
        else:
            write(path, options["pages"])
        with pytest.raises(UserError, match=found) as caught:
            open_pages(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_too_many_pixels_in_all(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif", [noise(10, 10) for _ in range(3)])
    assert open_pages(source, max_pixels=300).count == 3
    with pytest.raises(UserError, match=r"expected at most 299 pixels in all frames, found 3×10×10.*--max-pixels 300"):
        open_pages(source, max_pixels=299)


def test_a_bomb_of_pages(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif", [np.zeros((16, 16), np.uint8) for _ in range(2)], compression="zlib")
    with tifffile.TiffFile(source) as tiff:
        offsets = [page.tags[code].valueoffset for page in tiff.pages for code in (256, 257)]
        kinds = [page.tags[code].dtype for page in tiff.pages for code in (256, 257)]
    data = bytearray(source.read_bytes())
    for offset, kind in zip(offsets, kinds, strict=True):
        struct.pack_into("<I" if kind == 4 else "<H", data, offset, 60_000)
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"found 2×60000×60000"):
        open_pages(source)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_every_cut_is_noticed(tmp_path: Path, bigtiff: bool) -> None:
    path = write(tmp_path / "a.tif", [noise(8, 8) for _ in range(3)], bigtiff=bigtiff)
    data = path.read_bytes()
    for length in range(16, len(data), 3):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="expected a whole TIFF file"):
            open_pages(path)
        if not has_pages(path):
            with pytest.raises(UserError, match="expected a whole TIFF file"):
                read_image(path)


def test_no_pages(tmp_path: Path) -> None:
    assert not has_pages(write(tmp_path / "a.tif", [noise(4, 4)]))
    (tmp_path / "b.tif").write_bytes(b"II*\0junk")
    assert not has_pages(tmp_path / "b.tif")


def test_a_pipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    assert not has_pages(tmp_path / "pipe.tif")
    with pytest.raises(UserError, match=r"pipe\.tif: expected a file, found a pipe or a device"):
        open_pages(tmp_path / "pipe.tif")


def test_enlarged_pages_cover_the_same_ground(tmp_path: Path) -> None:
    pages = [noise(30, 40) for _ in range(3)]
    source = write(tmp_path / "in.ome.tif", pages, resolution=(300, 200), description=OME)
    frames, target = open_pages(source), tmp_path / "out.ome.tif"
    frames.write(target, (np.kron(page, np.ones((2, 2), np.uint16))[..., None] for page in pages))
    with tifffile.TiffFile(target) as tiff:
        assert [page.shape for page in tiff.pages] == [(60, 80)] * 3
        assert {page.resolution for page in tiff.pages} == {(600, 400)}
        (series,) = tiff.series
        assert series.shape == (3, 60, 80)  # as OME's description says
        assert tiff.ome_metadata == OME.replace('SizeX="40" SizeY="30"', 'SizeX="80" SizeY="60"').replace(
            'PhysicalSizeX="0.5"', 'PhysicalSizeX="0.25"'
        )


def test_enlarged_opacity(tmp_path: Path) -> None:
    page = noise(6, 5, 2, dtype=np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]}
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for _ in range(2):
            writer.write(page, metadata=None, contiguous=False, **options)
    large = np.kron(page, np.ones((2, 2, 1), np.uint8))
    open_pages(tmp_path / "in.tif").write(tmp_path / "out.tif", [large[..., :1]] * 2)
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        for written in tiff.pages:
            np.testing.assert_array_equal(written.asarray(), large)


def test_origins_of_imagej_are_in_pixels(tmp_path: Path) -> None:
    values = noise(3, 6, 5)
    metadata = {"xorigin": 2.5, "yorigin": 3}
    tifffile.imwrite(tmp_path / "in.tif", values, imagej=True, metadata=metadata, resolution=(2, 2))
    open_pages(tmp_path / "in.tif").write(tmp_path / "out.tif", list(values.repeat(2, 1).repeat(2, 2)[..., None]))
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        found = tiff.imagej_metadata
        assert (found["images"], found["xorigin"], found["yorigin"]) == (3, 5, 6)
        assert tiff.pages[0].resolution == (4, 4)
        np.testing.assert_array_equal(tiff.asarray(), values.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OME.replace("</OME>", '<ROI ID="ROI:0"/></OME>'), r"without regions of interest .*, found some"),
        (OME.replace('SizeX="40"', 'SizeX="40.0"'), r"plain numbers .*, found others \(.*40\.0"),
        (OME.replace('PhysicalSizeX="0.5"', 'PhysicalSizeX="0,5"'), r"plain numbers .*, found others \(.*0,5"),
        (OME.replace('SizeX="40"', ""), "that states SizeX and SizeY for an image that is enlarged, found none"),
        ('<OME><BinaryOnly MetadataFile="a.companion.ome" UUID="x"/></OME>', "that states SizeX and SizeY"),
    ],
)
def test_descriptions_that_cannot_be_made_to_fit(tmp_path: Path, text: str, found: str) -> None:
    source = write(tmp_path / "in.ome.tif", [noise(6, 5)] * 2, description=text)
    frames = open_pages(source)
    frames.check(1)
    with pytest.raises(UserError, match=rf"^{source}: expected .*{found}"):
        frames.check(2)


def test_xml_may_be_written_in_other_ways(tmp_path: Path) -> None:
    text = OME.replace('<Pixels ID="Pixels:0"', "<Pixels ID='a > b'").replace('SizeX="40"', "SizeX = '40'")
    source = write(tmp_path / "in.ome.tif", [noise(30, 40)] * 3, description=text)
    open_pages(source).write(tmp_path / "out.ome.tif", [noise(60, 80, 1)] * 3)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        assert "SizeX = '80' SizeY=\"60\"" in tiff.ome_metadata
        assert tiff.series[0].shape == (3, 60, 80)
