"""PNG files: pixels by imagecodecs (Pillow reduces 16-bit colour to 8 bits), chunks by ourselves."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from gradprom.images.image import Image, UnreadableError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset((b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"))
_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_MAX_PROFILE = 64 * 2**20  # a compressed profile can unpack to anything
_INCH = 0.0254  # metres
_PIECE, _MOST = 2**14, 2**20  # bytes that are unpacked at once, and that they may become
_STRAY = 16  # bytes that some encoders leave behind the last row
# by the type of colour: samples a pixel, and the bits that a sample may have
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# of each pass over an interlaced image: first column and row, and the steps to the next
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class PngExtras:
    """Chunks that are kept as they are: gamma, primaries, rendering intent, texts."""

    chunks: tuple[tuple[bytes, bytes], ...]


def decode(file: BinaryIO, check_size: Callable[[int, int], None]) -> Image:
    """Read a PNG of any kind; a palette becomes colour, or grey if all its colours are grey; 1, 2, 4 bits become 8.

    Args:
        file: open for reading, at its start.
        check_size: is called with width and height before any pixel is decoded, and raises if they are too many.

    Raises:
        UnreadableError: animated, or cut short; imagecodecs raises errors of its own for broken pixel data.
    """
    import imagecodecs

    needed, chunks = _read_chunks(file.read())
    width, height, depth, colour_type, is_interlaced = _read_header(chunks)
    check_size(width, height)
    bits = depth * _SAMPLES[colour_type]
    stray = max(_STRAY, _row_bytes(width, 1, bits, False))
    _check_length(needed, _row_bytes(width, height, bits, is_interlaced) + stray)
    by_name = dict(reversed(chunks))  # the first of each name
    if b"acTL" in by_name:
        raise UnreadableError("expected one image, found an animated PNG; save its frames as single files")

    decoded = np.asarray(imagecodecs.png_decode(b"".join(needed))).reshape(height, width, -1)
    samples = decoded.shape[2]
    alpha = np.ascontiguousarray(decoded[..., -1]) if samples in (2, 4) else None
    pixels = decoded if alpha is None else np.ascontiguousarray(decoded[..., :-1])
    icc_profile = _unpack_profile(by_name[b"iCCP"]) if b"iCCP" in by_name else None
    # a profile of a palette describes colours and would be wrong for grey
    if colour_type == 3 and icc_profile is None and _is_grey_palette(by_name.get(b"PLTE", b"")):
        pixels = np.ascontiguousarray(pixels[..., :1])
    exif = by_name.get(b"eXIf")
    dpi = None
    physical = by_name.get(b"pHYs", b"")
    if len(physical) == 9 and physical[8] == 1:
        x, y = struct.unpack(">II", physical[:8])
        dpi = (x * _INCH, y * _INCH)
    return Image(
        pixels,
        alpha,
        format="png",
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        icc_profile=icc_profile,
        dpi=dpi,
        extras=PngExtras(tuple(chunk for chunk in chunks if chunk[0] in _KEPT)),
    )


def encode(image: Image, file: BinaryIO) -> None:
    """Write a PNG of 8 or 16 bits, grey or colour, with alpha if there is any."""
    import imagecodecs

    samples = image.pixels if image.alpha is None else np.concatenate([image.pixels, image.alpha[..., None]], axis=2)
    samples = samples[..., 0] if samples.shape[2] == 1 else samples  # the strides of an axis of 1 may be anything
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
    header_end = len(SIGNATURE) + 12 + 13
    file.write(data[:header_end])
    if image.icc_profile is not None:
        file.write(_chunk(b"iCCP", b"icc\0\0" + zlib.compress(image.icc_profile)))
    if isinstance(image.extras, PngExtras):
        for name, content in image.extras.chunks:
            file.write(_chunk(name, content))
    if image.dpi is not None:
        x, y = (round(value / _INCH) for value in image.dpi)
        file.write(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if image.exif is not None:
        file.write(_chunk(b"eXIf", image.exif))
    file.write(data[header_end:])


def _read_header(chunks: list[tuple[bytes, bytes]]) -> tuple[int, int, int, int, bool]:
    """Give width, height, bits a sample, type of colour, and whether it is interlaced."""
    if chunks and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
        width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
        if 0 not in (width, height) and depth in _DEPTHS.get(colour_type, ()) and interlace <= 1:
            return width, height, depth, colour_type, interlace == 1
    raise UnreadableError("expected a whole PNG file, found one with a broken header; copy it again")


def _row_bytes(width: int, height: int, bits: int, is_interlaced: bool) -> int:
    """How many bytes the rows have, each after a byte that tells its filter.

    Example:
        >>> _row_bytes(10, 2, 1, False), _row_bytes(1, 1, 24, True)
        (6, 4)
    """
    count = 0
    for left, top, across, down in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            count += rows * (1 + (columns * bits + 7) // 8)
    return count


def _check_length(needed: list[memoryview], too_many: int) -> None:
    """Refuse pixel data of which the header tells but a part: the decoder would take a piece of them for the image."""
    unpacker, count = zlib.decompressobj(), 0
    # in small pieces: what is left of one is copied each time
    data = (
        piece[start : start + _PIECE]
        for piece in (chunk[8:-4] for chunk in needed if bytes(chunk[4:8]) == b"IDAT")
        for start in range(0, len(piece), _PIECE)
    )
    try:
        for part in data:
            rest: bytes | memoryview = part
            while rest and not unpacker.eof and count < too_many:
                count += len(unpacker.decompress(rest, _MOST))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return  # about which the decoder says more
    if count >= too_many:
        raise UnreadableError("expected as many pixels as its header says, found more; copy it again")


def _read_chunks(data: bytes) -> tuple[list[memoryview], list[tuple[bytes, bytes]]]:
    """Give the parts of the file that its pixels need, and name and content of each chunk but those of pixels.

    The decoder never sees the rest: it would print warnings about profiles, and unpack texts of any size.
    """
    view = memoryview(data)
    needed = [view[: len(SIGNATURE)]]
    chunks = []
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        if name in _NEEDED:
            needed.append(view[position:end])
        if name not in (b"IDAT", b"fdAT"):
            content = data[position + 8 : end - 4]
            if zlib.crc32(name + content) == int.from_bytes(data[end - 4 : end], "big"):
                chunks.append((name, content))
        if name == b"IEND":
            return needed, chunks
        position = end
    raise UnreadableError("expected a whole PNG file, found one that is cut short; copy it again")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unpack_profile(content: bytes) -> bytes | None:
    """Give the colour profile of an iCCP chunk (name, zero, method, compressed), or None if it is broken."""
    _, _, rest = content.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(rest[1:], _MAX_PROFILE)
    except zlib.error:
        return None
    return profile if unpacker.eof else None


def _is_grey_palette(palette: bytes) -> bool:
    return palette[0::3] == palette[1::3] == palette[2::3]
