"""Compressed frames of another size than their object says are refused by their headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLSLossless, RLELossless

from gradprom.errors import UserError
from gradprom.images import Derivation, open_dicom
from gradprom.images._dicom_streams import stream_size

SMALL, LARGE = np.zeros((24, 16), np.uint8), np.zeros((200, 300), np.uint8)
ENCODERS: dict[str, tuple[UID, Callable[[np.ndarray], bytes]]] = {
    "jpeg": (JPEGBaseline8Bit, imagecodecs.jpeg_encode),
    "jpeg lossless": (JPEGLossless, imagecodecs.ljpeg_encode),
    "jpeg-ls": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "jpeg 2000": (JPEG2000, lambda values: imagecodecs.jpeg2k_encode(values, codecformat="j2k")),
    "jp2": (JPEG2000, lambda values: imagecodecs.jpeg2k_encode(values, codecformat="jp2")),
}


def run_lengths(values: np.ndarray) -> bytes:
    about = {"samples_per_pixel": 1, "bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0}
    rows, columns = values.shape
    return RLELosslessEncoder.encode(
        values, rows=rows, columns=columns, number_of_frames=1, photometric_interpretation="MONOCHROME2", **about
    )


def decoy(stream: bytes) -> bytes:
    """A JP2 file with a small codestream in a box that decoders pass over, before its own."""
    small = imagecodecs.jpeg2k_encode(SMALL, codecformat="j2k")
    box = (len(small) + 24).to_bytes(4, "big") + b"uuid" + bytes(16) + small
    assert stream[:4] == b"\0\0\0\x0c"
    return stream[:12] + box + stream[12:]


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_larger_frame_is_refused(make_dicom: Callable[..., Path], kind: str) -> None:
    syntax, encode = ENCODERS[kind]
    path = make_dicom(SMALL, syntax=syntax, PixelData=encapsulate([encode(SMALL)]))
    np.testing.assert_array_equal(open_dicom(path, Derivation("test")).read(0)[..., 0], SMALL)
    path = make_dicom(np.stack([SMALL, SMALL]), syntax=syntax, PixelData=encapsulate([encode(SMALL), encode(LARGE)]))
    with pytest.raises(
        UserError, match=r"a\.dcm: expected compressed frames of 16×24 pixels with 1 .*, found one of 300×200 with 1; "
    ):
        open_dicom(path, Derivation("test"))


@pytest.mark.parametrize("said", [None, 1, 2])
@pytest.mark.parametrize("kind", ["native", "rle", *ENCODERS])
def test_more_frames_than_the_object_says(make_dicom: Callable[..., Path], kind: str, said: int | None) -> None:
    frames = [SMALL + number for number in range(3)]
    if kind == "native":
        path = make_dicom(np.stack(frames), NumberOfFrames=said)
    else:
        syntax, encode = ENCODERS.get(kind, (RLELossless, run_lengths))
        path = make_dicom(
            np.stack(frames),
            syntax=syntax,
            PixelData=encapsulate([encode(frame) for frame in frames]),
            NumberOfFrames=said,
        )
    with pytest.raises(UserError, match=r"a\.dcm: expected pixels of .* of 16×24, as the object says, found more; "):
        open_dicom(path, Derivation("test"))


def test_fewer_rows_than_there_are(make_dicom: Callable[..., Path]) -> None:
    path = make_dicom(SMALL, Rows=12)
    with pytest.raises(
        UserError, match=r"a\.dcm: expected pixels of 1 frame of 16×12, as the object says, found more; "
    ):
        open_dicom(path, Derivation("test"))
    np.testing.assert_array_equal(open_dicom(make_dicom(SMALL[:1, :1]), Derivation("test")).read(0)[..., 0], 0)
    padded = make_dicom(SMALL, PixelData=SMALL.tobytes() + bytes(100))  # as some devices write it
    np.testing.assert_array_equal(open_dicom(padded, Derivation("test")).read(0)[..., 0], SMALL)


@pytest.mark.parametrize(
    ("syntax", "stream", "found"),
    [
        (JPEG2000, decoy(ENCODERS["jp2"][1](LARGE)), "one of 300×200 with 1"),
        (JPEGBaseline8Bit, ENCODERS["jpeg 2000"][1](LARGE), "one of 300×200 with 1"),
        (JPEG2000, imagecodecs.jpeg2k_encode(np.zeros((24, 16, 3), np.uint8), codecformat="j2k"), "16×24 with 3"),
        (JPEG2000, imagecodecs.png_encode(LARGE), "none that tells its size"),
        (JPEGBaseline8Bit, ENCODERS["jpeg"][1](LARGE)[:80], "none that tells its size"),
    ],
    ids=["decoy", "another codec", "samples", "another format", "cut"],
)
def test_what_misleads(make_dicom: Callable[..., Path], syntax: UID, stream: bytes, found: str) -> None:
    path = make_dicom(SMALL, syntax=syntax, PixelData=encapsulate([stream]))
    with pytest.raises(UserError, match=f"expected compressed frames of 16×24 pixels.*, found .*{found}"):
        open_dicom(path, Derivation("test"))


def test_twelve_bits(make_dicom: Callable[..., Path]) -> None:
    pixels = encapsulate([ENCODERS["jpeg"][1](LARGE)])
    path = make_dicom(SMALL.astype(np.uint16), syntax=JPEGExtended12Bit, BitsStored=12, PixelData=pixels)
    with pytest.raises(UserError, match="expected compressed frames of 16×24 pixels"):
        open_dicom(path, Derivation("test"))


def test_an_extended_table_tells_where_frames_lie(make_dicom: Callable[..., Path]) -> None:
    encode = ENCODERS["jpeg-ls"][1]
    data, offsets, lengths = encapsulate_extended([encode(SMALL), encode(SMALL + np.uint8(51))])
    path = make_dicom(
        np.stack([SMALL, SMALL]),
        syntax=JPEGLSLossless,
        PixelData=data,
        ExtendedOffsetTable=offsets,
        ExtendedOffsetTableLengths=lengths,
    )
    np.testing.assert_allclose(open_dicom(path, Derivation("test")).read(1), 0.2, atol=1e-6)


def test_markers_before_the_frame() -> None:
    stream = imagecodecs.jpeg_encode(np.zeros((5, 7, 3), np.uint8))
    assert stream_size(stream) == (7, 5, 3)
    # a comment that looks like a frame, filling bytes, a marker without a length
    comment = b"\xff\xfe\0\x0c\xff\xc0\0\x0b\x08\0\x01\0\x01\x01"
    assert stream_size(stream[:2] + comment + b"\xff\xff\xff\x01" + stream[2:]) == (7, 5, 3)
    assert stream_size(b"") is stream_size(stream[:20]) is stream_size(b"\xff\x4f\xff\x51") is None
