"""DICOM objects: what is in them decides, and what comes of them is a valid derived object."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradprom.images._dicom_pixels import Decoded, decode, find_padding, intensities
from gradprom.images._dicom_segment import load_highdicom, save_segmentation
from gradprom.images._dicom_write import Derivation, save, strip
from gradprom.images.frames import Frames, NoImageError, check_size, reading
from gradprom.images.image import Pixels, UnreadableError
from gradprom.images.raster import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["SUFFIXES", "Derivation", "is_dicom", "load_highdicom", "open_dicom", "write_segmentation"]

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
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_dicom(
    path: str | Path,
    derivation: Derivation,
    *,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    option: str = "--max-pixels",
) -> Frames:
    """Read a DICOM object with an image, of one frame or many.

    Grey of more than 8 bits, or signed, is mapped to [0, 1] from the least to the greatest value of all its frames,
    pixel padding left out; other grey and all colours from 0 to the most their bits can hold. MONOCHROME1 is shown to
    the enhancer as a viewer shows it, bright where values are low. The change the enhancer makes is mapped back by
    the same rule and added to the stored values: rescale slope, intercept and window settings keep their meaning.
    YBR and palette colours become RGB.

    What is written is an object of its own: Explicit VR Little Endian without compression, ImageType DERIVED and
    SECONDARY, with references to its source; see `Derivation`. Patient, study and geometry are kept.

    Args:
        path: with a preamble, or without and a name that ends in .dcm or .dicom.
        derivation: what all objects of one call share.
        window: the two values that become 0 and 1 instead, after rescale slope and intercept: the same for each object
            of a series, as Hounsfield units allow it. Only for grey; values beyond them are not cut off.
        max_pixels: files with more, in all frames, are refused before any pixel is decoded.
        option: what the user is told to raise then.

    Raises:
        NoImageError: a whole object without an image, for example a report, a directory, a segmentation or a dose.
        UserError: no DICOM, cut short, too large, compressed in an unknown way, or of an unsupported kind.
    """
    path = Path(path)
    with reading(path, "DICOM"), _quiet():
        source = _read(path, max_pixels)
        _check_image(path, source)
        decoded = decode(source, lambda shape: check_size(shape, max_pixels, option))
        maps = intensities(source, decoded, window)
        padding = find_padding(source, decoded.values) if decoded.photometric != "RGB" else None
        strip(source, decoded.values.nbytes)

    def read(index: int) -> Pixels:
        return maps[index].to_unit(decoded.values[index])

    def write(target: Path, frames: Iterable[Pixels]) -> None:
        values, limits = np.empty_like(decoded.values), decoded.limits
        for index, (enhanced, stored) in enumerate(zip(frames, decoded.values, strict=True)):
            changed = maps[index].changed(stored, enhanced, *limits)
            values[index] = changed if padding is None else np.where(padding[index], stored, changed)
        with _quiet():
            save(target, source, Decoded(values, decoded.bits, decoded.photometric), derivation)

    return Frames("dicom", len(decoded.values), read, write)


def write_segmentation(
    path: Path,
    of: Path,
    masks: Sequence[NDArray[np.uint8]],
    *,
    names: Sequence[str],
    derivation: Derivation,
    when: Literal["before", "after"],
) -> None:
    """Write the masks of an object's frames as a DICOM segmentation that refers to it, by highdicom.

    It stands in the study of ``of`` and in its frame of reference, in one new series for each series of a call; every
    class but the first, the background, is a segment. With ``derivation.deidentify`` an object that is not enhanced
    (``when`` is "before") is referred to by the UIDs that it is given there.

    Args:
        path: where to.
        of: a file that `open_dicom` reads.
        masks: a mask for each frame, (H, W) of class numbers.
        names: of the classes.
        derivation: what all objects of one call share.
        when: whether ``of`` is the image before enhancement or after it.

    Raises:
        UserError: highdicom is not installed, no segmentation can be made of ``of`` (several frames without a frame of
            reference, for instance), or it cannot be written (then the ``OSError`` is the cause).
    """
    from pydicom import dcmread

    with reading(of, "DICOM"), _quiet():
        header = dcmread(of, stop_before_pixels=True, force=True)
        if derivation.deidentify is not None and when == "before":
            derivation.deidentify(header)
        save_segmentation(path, header, np.stack(masks), names, derivation, when)


def _read(path: Path, max_pixels: int) -> Dataset:
    from pydicom import dcmread

    with_preamble = is_dicom(path)
    if not with_preamble and path.suffix.lower() not in SUFFIXES:
        raise UnreadableError("expected a DICOM file, found another kind of file; check the name")
    if with_preamble:
        _check_deflated(path, max_pixels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = dcmread(path, force=not with_preamble)
        # an object that ends early is one for pydicom: with a warning where a delimiter is missing, else without a word
        if any("end of file" in str(warning.message).lower() for warning in caught) or _is_shortened(source):
            raise UnreadableError("expected a whole DICOM file, found one that is cut short; copy it again")
    if not with_preamble and "SOPClassUID" not in source:
        raise UnreadableError("expected a DICOM file, found another kind of file; check it")
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


def _check_image(path: Path, source: Dataset) -> None:
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
def _quiet() -> Iterator[None]:
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
