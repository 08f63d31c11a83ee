from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from gradprom.errors import UserError
from gradprom.images import Image, read_image, write_image

GREY = Image(np.arange(12, dtype=np.uint8).reshape(3, 4, 1))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "jpg"):
        write_image(tmp_path / f"a.{suffix}", GREY)
        lying = tmp_path / f"{suffix}.dat"
        (tmp_path / f"a.{suffix}").rename(lying)
        assert read_image(lying).format == {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"hello", "another kind of file"),
        (b"GIF89a...", "a GIF"),
        (bytes(128) + b"DICM", "a DICOM file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"{path}: expected a PNG, JPEG or TIFF image, found {found}; convert it to one of these"
    )


def test_names_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, found in (
        (tmp_path, "found a folder"),
        (tmp_path / "none.png", "there is no such file"),
        (tmp_path / "pipe.png", "found something else"),
        (tmp_path / ("x" * 300), "cannot be read|no such file"),
        (Path("a\0b"), "cannot be read|no such file"),
    ):
        with pytest.raises(UserError, match=found):
            read_image(path)


def test_too_large_is_seen_before_any_decoding(tmp_path: Path) -> None:
    # the headers promise 20000×20000 pixels which the files do not hold
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    PilImage.new("L", (16, 16)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    sides = data.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(data[:sides] + struct.pack(">HH", 20000, 20000) + data[sides + 4 :])
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[name].overwrite(20000)
    for name in ("a.png", "a.jpg", "a.tif"):
        with pytest.raises(UserError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path / name}: expected at most 100000000 pixels, found 20000×20000; if the file is to be trusted "
            "and memory allows, raise the limit with --max-pixels 400000000"
        )


def test_the_limit_can_be_moved(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", GREY)
    assert read_image(tmp_path / "a.png", max_pixels=12).pixels.size == 12
    with pytest.raises(UserError, match="--max-pixels 12"):
        read_image(tmp_path / "a.png", max_pixels=11)


def test_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.png: the file cannot be written \(.*\); check the folder's permissions"):
        write_image(tmp_path / "file" / "a.png", GREY)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tifffile, "imwrite", lambda *_, **__: full())
    with pytest.raises(UserError, match="No space left on device") as caught:
        write_image(tmp_path / "a.tif", GREY)
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", GREY)
    before = (tmp_path / "a.jpg").read_bytes()
    with pytest.raises(UserError, match="16 bits"):
        write_image(tmp_path / "a.jpg", Image(GREY.pixels.astype(np.uint16)))
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    for suffix in (".PNG", ".Jpeg", ".TIFF"):
        path = tmp_path / "naïve café 図" / f"a b.é{suffix}"
        write_image(path, GREY)
        assert read_image(path).pixels.shape == (3, 4, 1)
