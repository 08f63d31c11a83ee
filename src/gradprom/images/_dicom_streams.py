"""What pixel data say of themselves, their length and the headers of compressed frames, before a decoder is at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
# Start of frame of every kind of JPEG, and of JPEG-LS
_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def check_streams(source: Dataset, shape: tuple[int, int, int]) -> None:
    """Refuse an object that holds more frames than it says, or a compressed one of another size than it says.

    Decoders would give all frames there are, one behind the other, and make as much room as a frame's header asks for.

    Args:
        source: as read; only frames of JPEG, JPEG-LS and JPEG 2000 are looked into.
        shape: frames, rows and columns.

    Raises:
        UnreadableError: there are more frames, or the sizes differ, or a frame states none.
    """
    from pydicom import uid

    syntax = source.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        _check_length(source, shape)
        return
    syntaxes = (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes)
    expected = (shape[2], shape[1], int(source.SamplesPerPixel))
    for number, stream in enumerate(_streams(source, shape[0]), 1):
        if number > shape[0]:
            raise _too_many(shape)
        found = stream_size(stream) if syntax in syntaxes else expected
        if found != expected:
            what = "none that tells its size" if found is None else "one of {}×{} with {}".format(*found)
            raise UnreadableError(
                "expected compressed frames of {}×{} pixels with {} samples as the object says, found {}; "
                "copy it again".format(*expected, what)
            )


def stream_size(stream: bytes) -> tuple[int, int, int] | None:
    """Tell width, height and samples a pixel of a JPEG, JPEG-LS or JPEG 2000 stream; None if it does not say.

    Example:
        >>> stream_size(bytes.fromhex("ffd8 fffe0003ff ffc0000b 08 0003 0004 01 011100"))
        (4, 3, 1)
    """
    if stream.startswith(_JPEG):
        return _size_of_jpeg(stream)
    if stream.startswith(_JP2):
        stream = _codestream(stream)
    if not stream.startswith(_JPEG_2000) or len(stream) < 42:
        return None
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    return right - left, bottom - top, int.from_bytes(stream[40:42], "big")


def _check_length(source: Dataset, shape: tuple[int, int, int]) -> None:
    """Of what is not compressed: less than a frame may follow the last one, as padding, and always a byte."""
    samples = 2 if source.PhotometricInterpretation == "YBR_FULL_422" else int(source.SamplesPerPixel)
    frame = shape[1] * shape[2] * samples * int(source.BitsAllocated) // 8
    if len(source.get("PixelData") or b"") - shape[0] * frame >= max(frame, 2):
        raise _too_many(shape)


def _too_many(shape: tuple[int, int, int]) -> UnreadableError:
    frames, rows, columns = shape
    return UnreadableError(
        f"expected pixels of {frames} frame{'' if frames == 1 else 's'} of {columns}×{rows}, as the object says, found "
        "more; correct its number of frames, rows or columns"
    )


def _streams(source: Dataset, frames: int) -> Iterator[bytes]:
    """Give the frames as the decoders are given them."""
    from pydicom.encaps import generate_frames

    tables = source.get("ExtendedOffsetTable"), source.get("ExtendedOffsetTableLengths")
    offsets = tables if all(tables) and len(tables[0]) == len(tables[1]) else None
    return generate_frames(source.PixelData, number_of_frames=frames, extended_offsets=offsets)


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int] | None:
    at = len(_JPEG)
    while at + 10 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _FRAME:
            height, width = (int.from_bytes(stream[place : place + 2], "big") for place in (at + 5, at + 7))
            return width, height, stream[at + 9]
        if marker == 0xFF:  # any number of them can stand before a marker
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _codestream(stream: bytes) -> bytes:
    """What is wrapped into a JP2 file, box by box: its bytes could as well stand in a box that no decoder reads."""
    at = 0
    while at + 16 <= len(stream):
        length, kind, head = int.from_bytes(stream[at : at + 4], "big"), stream[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(stream[at + 8 : at + 16], "big"), 16
        if kind == b"jp2c":
            return stream[at + head :]
        if length < head:
            break
        at += length
    return b""
