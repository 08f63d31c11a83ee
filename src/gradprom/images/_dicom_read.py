"""Reading of DICOM objects: what is whole, what is DICOM at all, and what holds an image."""

from __future__ import annotations

import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradprom.images.frames import NoImageError
from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset
    from pydicom.uid import UID

SUFFIXES = (".dcm", ".dicom")
_DIRECTORY = "1.2.840.10008.1.3.10"
# They have pixels, but each is a number that means something else than brightness
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
}
_HEADER_BYTES = 64 * 2**20  # of a deflated object, beside its pixels


def is_dicom(path: Path) -> bool:
    """Tell by the preamble whether a file is DICOM; False where it cannot be read.

    Example:
        >>> is_dicom(Path("/nowhere"))
        False
    """
    try:
        if not path.is_file():  # a pipe would keep its reader waiting
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_object(path: Path, max_pixels: int, *, header_only: bool = False) -> Dataset:
    """Read an object that is whole, with a preamble or without.

    Args:
        path: the file.
        max_pixels: deflated objects of more bytes than so many pixels and a header take are refused.
        header_only: leave out the pixels.

    Raises:
        UnreadableError: no DICOM, cut short, or too large; pydicom raises errors of its own for broken objects.
    """
    from pydicom import dcmread

    if path.is_file() and not path.stat().st_size:
        raise UnreadableError("expected a DICOM file, found an empty file; copy it again")
    with_preamble = is_dicom(path)
    if not with_preamble and path.suffix.lower() not in SUFFIXES:
        raise UnreadableError("expected a DICOM file, found another kind of file; check the name")
    if with_preamble:
        _check_deflated(path, max_pixels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = dcmread(path, force=not with_preamble, stop_before_pixels=header_only)
        if not with_preamble and "SOPClassUID" not in source:
            raise UnreadableError("expected a DICOM file, found another kind of file; check it")
        # an object that ends early is one for pydicom: with a warning where a delimiter is missing, else without a word
        if any("end of file" in str(warning.message).lower() for warning in caught) or _is_shortened(source):
            raise UnreadableError("expected a whole DICOM file, found one that is cut short; copy it again")
    if not source.file_meta.get("TransferSyntaxUID"):
        source.file_meta.TransferSyntaxUID = _plain_syntax(source)
    return source


def _is_shortened(source: Dataset) -> bool:
    """Tell whether an element has fewer bytes than it promises."""
    from pydicom.dataelem import RawDataElement

    undefined = 0xFFFFFFFF
    return any(
        isinstance(item, RawDataElement) and item.length != undefined and len(item.value or b"") < item.length
        for item in source.elements()
    )


def check_image(path: Path, source: Dataset) -> None:
    """Refuse an object without pixels to enhance.

    Raises:
        NoImageError: it is whole, and never had any.
        UnreadableError: it is not whole, or its pixels are floating point.
    """
    if not len(source):
        # cut within its meta information, or right behind it
        raise UnreadableError("expected a whole DICOM file, found one that is cut short; copy it again")
    kind: Any = source.get("SOPClassUID") or source.file_meta.get("MediaStorageSOPClassUID")
    if kind == _DIRECTORY:
        raise NoImageError(path, "a DICOMDIR")
    if kind in _NO_IMAGES:
        raise NoImageError(path, _NO_IMAGES[kind])
    name = kind.name if kind else "an object that names no class"
    if "FloatPixelData" in source or "DoubleFloatPixelData" in source:
        raise UnreadableError(f"expected whole numbers as pixels, found floating point ({name}); convert it")
    if "PixelData" not in source:
        # a name which promises an image
        if name.endswith("Image Storage"):
            raise UnreadableError(f"expected pixels, found none ({name}); copy it again, or leave it out")
        raise NoImageError(path, name)
    if not source.get("SOPInstanceUID"):
        raise UnreadableError("expected an object with a SOPInstanceUID, by which others refer to it; give it one")


def _plain_syntax(source: Dataset) -> UID:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = source.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_deflated(path: Path, max_pixels: int) -> None:
    """Refuse a deflated object that unpacks to more than its pixels could be: pydicom unpacks it whole."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    limit = _HEADER_BYTES + 8 * max_pixels
    unpacker, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        rest = file.read()
    while rest and not unpacker.eof:
        length += len(unpacker.decompress(rest, 2**20))
        rest = unpacker.unconsumed_tail
        if length > limit:
            raise UnreadableError(f"expected at most {limit} bytes, found a deflated object of more; leave it out")
    if not unpacker.eof:
        raise UnreadableError("expected a whole DICOM file, found one that is cut short; copy it again")


@contextmanager
def quiet() -> Iterator[None]:
    """Take an object as it is: what breaks the standard in it broke it before, and is none of the user's business."""
    import logging

    from pydicom.config import disable_value_validation

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
