from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageCms
from PIL.PngImagePlugin import PngInfo

from gradprom.errors import UserError
from gradprom.images import Image, read_image, write_image

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def make_png(samples: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG written by hand, without filters: no library in common with the code under test."""
    height, width, count = samples.shape
    bits = samples.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[count], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in samples)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def parse_png(data: bytes) -> tuple[np.ndarray, dict[bytes, bytes]]:
    """Pixels and chunks of a PNG without interlacing, by the standard's text."""
    chunks: dict[bytes, bytes] = {}
    pixels, position = b"", 8
    while position < len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        content = data[position + 8 : position + 8 + length]
        assert (
            zlib.crc32(name + content) == struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0]
        )
        if name == b"IDAT":
            pixels += content
        chunks[name] = content
        position += 12 + length
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert not interlaced
    samples = {kind: count for count, kind in COLOUR_TYPES.items()}[colour_type]
    step = samples * bits // 8
    raw = zlib.decompress(pixels)
    previous, rows = [0] * (width * step), []
    for y in range(height):
        line = raw[y * (width * step + 1) : (y + 1) * (width * step + 1)]
        row: list[int] = []
        for i, value in enumerate(line[1:]):
            a = row[i - step] if i >= step else 0
            b, c = previous[i], previous[i - step] if i >= step else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]  # Paeth
            row.append((value + [0, a, b, (a + b) // 2, nearest][line[0]]) % 256)
        previous = row
        rows.append(bytes(row))
    array = np.frombuffer(b"".join(rows), ">u2" if bits == 16 else np.uint8)
    return array.reshape(height, width, samples), chunks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_bit_survives(tmp_path: Path, dtype: type, count: int) -> None:
    samples = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 13, count), dtype, endpoint=True)
    path = tmp_path / "in.png"
    path.write_bytes(make_png(samples))
    image = read_image(path)
    colours = count - (count in (2, 4))
    np.testing.assert_array_equal(image.pixels, samples[..., :colours])
    assert image.pixels.dtype == dtype
    assert image.peak == np.iinfo(dtype).max
    if colours == count:
        assert image.alpha is None
    else:
        np.testing.assert_array_equal(image.alpha, samples[..., -1])
    write_image(tmp_path / "out.png", image)
    np.testing.assert_array_equal(parse_png((tmp_path / "out.png").read_bytes())[0], samples)


def test_chunks_are_kept(tmp_path: Path) -> None:
    exif = PilImage.Exif()
    exif[274] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunks = {
        b"gAMA": struct.pack(">I", 45455),
        b"pHYs": struct.pack(">IIB", 2835, 5906, 1),
        b"tEXt": b"Title\0Lesion",
        b"eXIf": block,
    }
    profile = chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(RGB_PROFILE))
    path = tmp_path / "in.png"
    samples = np.zeros((2, 3, 3), np.uint16)
    path.write_bytes(make_png(samples, profile, *(chunk(*item) for item in chunks.items())))
    image = read_image(path)
    assert image.icc_profile == RGB_PROFILE
    assert image.pixels.shape == (2, 3, 3)  # as stored: not turned
    write_image(path, image)
    _, written = parse_png(path.read_bytes())
    assert {name: written[name] for name in chunks} == chunks
    with PilImage.open(path) as again:
        assert again.info["icc_profile"] == RGB_PROFILE
        assert again.getexif()[274] == 6
        assert again.info["Title"] == "Lesion"


def test_pillows_kinds(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    colours = PilImage.fromarray(np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8))
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P"):
        source = colours.convert(mode)
        source.save(path, pnginfo=PngInfo())
        image = read_image(path)
        expected = np.asarray(source.convert({"1": "L", "P": "RGB"}.get(mode, mode))).reshape(8, 9, -1)
        count = expected.shape[2] - (mode in ("LA", "RGBA"))
        np.testing.assert_array_equal(image.pixels, expected[..., :count])
        assert (image.alpha is not None) == (mode in ("LA", "RGBA"))


def test_grey_palette_becomes_grey_unless_it_has_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    source = PilImage.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    source.putpalette([0, 0, 0, 90, 90, 90, 255, 255, 255])
    source.save(path, transparency=1)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[..., 0], [[0, 90], [255, 90]])
    assert image.channels == 1
    np.testing.assert_array_equal(image.alpha, [[255, 0], [255, 0]])
    source.save(path, icc_profile=RGB_PROFILE)
    assert read_image(path).channels == 3


def test_interlaced(tmp_path: Path) -> None:
    # a 1×1 image has one of Adam7's passes alone: the only interlaced file simple enough to write by hand
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 0, 0, 0, 1))
    data = chunk(b"IDAT", zlib.compress(b"\0\x12\x34"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    assert read_image(tmp_path / "a.png").pixels.tolist() == [[[0x1234]]]


def test_animated_is_refused(tmp_path: Path) -> None:
    frames = [PilImage.new("L", (4, 4), shade) for shade in (0, 100)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"a\.png: expected one image, found an animated PNG"):
        read_image(tmp_path / "a.png")


def test_a_profile_that_is_broken_or_unpacks_to_very_much_is_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(70 * 2**20), 1))
    broken = chunk(b"iCCP", b"x\0\0nonsense")
    for profile in (bomb, broken):
        (tmp_path / "a.png").write_bytes(make_png(np.zeros((1, 1, 3), np.uint8), profile))
        assert read_image(tmp_path / "a.png").icc_profile is None
    assert capfd.readouterr() == ("", "")


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    data = make_png(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8))
    path = tmp_path / "cut.png"
    for length in range(8, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.png: expected a whole PNG"):
            read_image(path)


def test_flipped_bytes_are_noticed_or_do_no_harm(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    data = make_png(samples, chunk(b"tEXt", b"Title\0x"))
    path = tmp_path / "flipped.png"
    for position in range(8, len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        with contextlib.suppress(UserError):  # anything else is a bug
            np.testing.assert_array_equal(read_image(path).pixels, samples)


@pytest.mark.parametrize(("width", "height"), [(30, 19), (30, 1), (15, 20), (5, 5)])
def test_a_header_that_tells_of_a_part_is_refused(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    data = make_png(np.arange(600, dtype=np.uint8).reshape(20, 30, 1))
    told = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(data[:8] + chunk(b"IHDR", told) + data[33:])
    with pytest.raises(UserError, match=r"a\.png: expected as many pixels as its header says, found more; "):
        read_image(path)


def test_what_follows_the_pixels_is_not_unpacked(tmp_path: Path) -> None:
    data = make_png(np.arange(600, dtype=np.uint8).reshape(20, 30, 1))
    path = tmp_path / "a.png"
    path.write_bytes(data[:-12] + 40 * chunk(b"IDAT", bytes(9000)) + data[-12:])
    np.testing.assert_array_equal(read_image(path).pixels[..., 0].ravel(), np.arange(600, dtype=np.uint8))


def test_a_few_bytes_behind_the_last_row_do_no_harm(tmp_path: Path) -> None:
    samples = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    rows = b"".join(b"\0" + row.tobytes() for row in samples) + bytes(9)
    head = make_png(samples)[:33]
    path = tmp_path / "a.png"
    path.write_bytes(head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_image(path).pixels, samples)


@pytest.mark.parametrize(
    ("depth", "colour_type", "interlace"), [(3, 0, 0), (4, 2, 0), (16, 3, 0), (8, 5, 0), (8, 0, 2)]
)
def test_a_header_of_no_kind_is_refused(tmp_path: Path, depth: int, colour_type: int, interlace: int) -> None:
    path = tmp_path / "a.png"
    data = make_png(np.zeros((20, 30, 1), np.uint8))
    told = struct.pack(">IIBBBBB", 30, 20, depth, colour_type, 0, 0, interlace)
    path.write_bytes(data[:8] + chunk(b"IHDR", told) + data[33:])
    with pytest.raises(UserError, match=r"a\.png: expected a whole PNG file, found one with a broken header"):
        read_image(path)


def test_from_another_format(tmp_path: Path) -> None:
    image = Image(np.full((2, 2, 1), 9, np.uint8), format="tiff", dpi=(254.0, 127.0), extras=object())
    write_image(tmp_path / "a.png", image)
    with PilImage.open(tmp_path / "a.png") as again:
        assert again.info["dpi"] == pytest.approx((254, 127))
