"""Derived DICOM objects: what is new in them, what must change, and all the rest as it was.

They are built by hand from a copy of their source: highdicom has classes for new objects of a few kinds, and none for
"the same object with other pixels".
"""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradprom import __version__
from gradprom._files import atomic_path
from gradprom.errors import first_line
from gradprom.images._dicom_derivation import Derivation
from gradprom.images._dicom_pixels import Decoded
from gradprom.images.frames import writing
from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

# What told of the old pixels, and would be wrong of the new ones
_STALE = (
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelDataProviderURL",
    "IconImageSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
)
_PALETTE = (
    *(f"{c}PaletteColorLookupTable{part}" for c in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
    "PaletteColorLookupTableUID",
)
_LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}
_NUMBERS_LATER = 1000
_GREATEST_NUMBER = 2**31 - 1
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def strip(source: Dataset, plain_bytes: int) -> None:
    """Take the pixels out of an object as read, in place, and what depends on how they and it were encoded.

    Args:
        source: as read.
        plain_bytes: how many bytes its pixels take without compression.

    Raises:
        UnreadableError: an overlay lies among compressed pixels.
    """
    if not source.original_encoding[1]:
        source.walk(_swap_words)
    elif not source.original_encoding[0] and any(getattr(item, "VR", "") is None for item in source.elements()):
        # implicit in spite of its meta information: each element's type must be looked up
        source.walk(lambda dataset, element: None)
    _free_overlays(source)
    lossy = _LOSSY.get(source.file_meta.TransferSyntaxUID)
    if lossy is not None and source.get("LossyImageCompression") != "01":
        source.LossyImageCompression, source.LossyImageCompressionMethod = "01", lossy
        source.LossyImageCompressionRatio = round(plain_bytes / len(source.PixelData), 2)
    for name in ("PixelData", *_STALE, *(_PALETTE if source.PhotometricInterpretation == "PALETTE COLOR" else ())):
        if name in source:
            del source[name]


def save(path: Path, source: Dataset, decoded: Decoded, derivation: Derivation, scale: int = 1) -> None:
    """Write an object with other pixels, whole or not at all.

    Args:
        path: where to.
        source: the object they come from, after `strip`, with the geometry of the new pixels; it stays as it is.
        decoded: the new pixels.
        derivation: what all objects of the call share.
        scale: by how much they are enlarged.

    Raises:
        UserError: it cannot be written (then the ``OSError`` is the cause), or not de-identified.
    """
    from pydicom import dcmwrite

    with writing(path), atomic_path(path) as temporary:
        try:
            target = deepcopy(source)
            if derivation.deidentify is not None:
                derivation.deidentify(target)
            original = _reference(target)  # with its UID, before it is replaced
            _set_pixels(target, decoded)
            _set_identity(target, derivation.series(str(target.get("SeriesInstanceUID") or "")))
            _set_history(target, original, derivation.model, scale)
            # not save_as, which refuses to turn big-endian objects into little-endian ones
            dcmwrite(temporary, target, enforce_file_format=True)
        except (UnreadableError, MemoryError):
            raise
        except OSError as error:
            # pydicom wraps what the system says into an error of the same type without its number
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise
        except Exception as error:  # pydicom raises whatever broken elements make it raise
            raise UnreadableError(
                f"expected attributes that can be written again, found others ({first_line(error)}); mend the "
                "object first"
            ) from error


def _set_pixels(target: Dataset, decoded: Decoded) -> None:
    values = decoded.values
    target.PhotometricInterpretation = decoded.photometric
    target.SamplesPerPixel = values.shape[-1]
    if values.shape[-1] == 3:
        target.PlanarConfiguration = 0
    target.BitsAllocated = values.dtype.itemsize * 8
    target.BitsStored, target.HighBit = decoded.bits, decoded.bits - 1
    target.PixelRepresentation = int(values.dtype.kind == "i")
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    target.PixelData = data + b"\0" * (len(data) % 2)
    target["PixelData"].VR = "OB" if target.BitsAllocated == 8 else "OW"
    target["PixelData"].is_undefined_length = False


def _set_identity(target: Dataset, series: str) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    target.SOPInstanceUID = generate_uid(prefix=None)
    target.SeriesInstanceUID = series
    _number_series(target)
    now = datetime.now()
    target.InstanceCreationDate, target.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    if "InstanceCreatorUID" in target:
        del target.InstanceCreatorUID
    target.preamble = bytes(128)  # it can be the header of another format, for pixels that are no longer there
    target.file_meta = FileMetaDataset()
    target.file_meta.MediaStorageSOPClassUID = target.SOPClassUID
    target.file_meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    target.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _number_series(target: Dataset) -> None:
    """Give the new series a number of its own, by which viewers tell it from its source."""
    try:
        number = int(target.SeriesNumber) + _NUMBERS_LATER
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        return  # it has none, or none that is a number
    if number <= _GREATEST_NUMBER:
        target.SeriesNumber = number


def _set_history(target: Dataset, original: Dataset, model: str, scale: int) -> None:
    from pydicom import Dataset

    target.ImageType = _derived(target.get("ImageType"), "SECONDARY")
    for groups in _functional_groups(target):
        for element in groups:
            for item in element.value if element.VR == "SQ" else ():
                if "FrameType" in item:
                    item.FrameType = _derived(item.FrameType, "SECONDARY")
    what = f"Enlarged {scale} times and enhanced" if scale > 1 else "Enhanced"
    text = f"{what} by gradprom {__version__} with the trained neural network {model}"
    earlier = str(target.get("DerivationDescription") or "")
    target.DerivationDescription = f"{earlier}; {text}"[-1024:] if earlier else text[:1024]
    target.DerivationCodeSequence = [
        *(target.get("DerivationCodeSequence") or []),
        _code("ENHANCE", "99GRADPROM", "Enhancement by a trained neural network"),
    ]
    target.SourceImageSequence = [original]
    _tell_frames(target, original)
    description = str(target.get("SeriesDescription") or "")
    mark = "enhanced by gradprom"
    target.SeriesDescription = f"{description[: 64 - len(mark) - 2]}, {mark}" if description else mark
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    equipment.Manufacturer = "gradprom"
    equipment.ManufacturerModelName = model[:64]
    equipment.SoftwareVersions = __version__
    equipment.ContributionDateTime = datetime.now().strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = text[:1024]
    target.ContributingEquipmentSequence = [*(target.get("ContributingEquipmentSequence") or []), equipment]


def _tell_frames(target: Dataset, original: Dataset) -> None:
    """Say of each frame of an enhanced multi-frame object which frame it comes from, where these objects say it."""
    from pydicom import Dataset

    shared = target.get("SharedFunctionalGroupsSequence") or []
    if any("DerivationImageSequence" in group for group in shared):
        return  # a group is either shared or each frame's own
    for number, group in enumerate(target.get("PerFrameFunctionalGroupsSequence") or [], 1):
        item = Dataset()
        item.DerivationDescription = target.DerivationDescription
        item.DerivationCodeSequence = [target.DerivationCodeSequence[-1]]
        frame = deepcopy(original)
        frame.ReferencedFrameNumber = number
        item.SourceImageSequence = [frame]
        group.DerivationImageSequence = [item]


def _reference(source: Dataset) -> Dataset:
    """The item of SourceImageSequence that names an object."""
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [
        _code("121322", "DCM", "Source image for image processing operation"),
    ]
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _derived(image_type: Any, examination: str) -> list[str]:
    """The same type of image but derived, and made after the examination."""
    old = [image_type] if isinstance(image_type, str) else list(image_type or [])
    return ["DERIVED", examination, *old[2:]]


def _functional_groups(target: Dataset) -> list[Dataset]:
    shared, each = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
    return [*(target.get(shared) or []), *(target.get(each) or [])]


def _swap_words(dataset: Dataset, element: Any) -> None:
    """Turn the bytes of words around: pydicom leaves them as they lie in a big-endian file."""
    size = _WORDS.get(element.VR)
    if size is not None and element.keyword != "PixelData" and isinstance(element.value, bytes):
        element.value = np.frombuffer(element.value, f">u{size}").astype(f"<u{size}").tobytes()


def _free_overlays(target: Dataset) -> None:
    """Move overlays out of the pixels' unused bits, where new pixels have no place for them, into their own element."""
    for group in range(0x6000, 0x6020, 2):
        position = target.get((group, 0x0102))
        if position is None or not position.value or (group, 0x3000) in target:
            continue
        if target.file_meta.TransferSyntaxUID.is_encapsulated:
            raise UnreadableError(
                "expected overlays beside the pixels, found one among their compressed bits; decompress it with "
                "another program"
            )
        order = "<" if target.original_encoding[1] else ">"
        words = np.frombuffer(target.PixelData, f"{order}u{target.BitsAllocated // 8}")
        bits = np.packbits(words >> int(position.value) & 1, bitorder="little").tobytes()
        position.value = 0
        target.add_new((group, 0x0100), "US", 1)
        frames = int(target.get("NumberOfFrames") or 1)
        if frames > 1 and (group, 0x0015) not in target:
            target.add_new((group, 0x0015), "IS", frames)
            target.add_new((group, 0x0051), "US", 1)
        target.add_new((group, 0x3000), "OW", bits + b"\0" * (len(bits) % 2))
