"""What a DICOM object says of its pixels' size and places, for an image of more of them on the same ground."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST = 2**16 - 1  # rows and columns are counted in 16 bits
_MOST_BYTES = 2**32 - 2  # what the length of an element can say
# Millimetres from one pixel's middle to the next one's
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "ObjectPixelSpacingInCenterOfBeam")
# Rows and columns, from 1: of edges, those of pixels that are seen; of all else, of a pixel's middle
_KINDS = ("Shutter", "Collimator", "ExposureControlSensingRegion")
_FIRST_EDGES = tuple(f"{kind}{name}Edge" for kind in _KINDS for name in ("LeftVertical", "UpperHorizontal"))
_LAST_EDGES = tuple(f"{kind}{name}Edge" for kind in _KINDS for name in ("RightVertical", "LowerHorizontal"))
_MIDDLES = tuple(f"{name}{kind}" for kind in _KINDS for name in ("CenterOfCircular", "VerticesOfThePolygonal"))
_LENGTHS = (*(f"RadiusOfCircular{kind}" for kind in _KINDS), "MaskSubPixelShift")
# Columns and rows from 0, in regions of ultrasound
_REGION_STARTS = ("RegionLocationMinX0", "RegionLocationMinY0")
_REGION_ENDS = ("RegionLocationMaxX1", "RegionLocationMaxY1")
_REGION_MIDDLES = (
    *("ReferencePixelX0", "ReferencePixelY0", "DopplerSampleVolumeXPosition", "DopplerSampleVolumeYPosition"),
    *(f"TMLinePosition{end}" for end in ("X0", "Y0", "X1", "Y1")),
)
# Where the first pixel lies, and along what rows and columns run; each can stand in a sequence of its own
_PLACED = (
    ("ImagePositionPatient", "PlanePositionSequence", "ImageOrientationPatient", "PlaneOrientationSequence"),
    ("ImagePositionVolume", "PlanePositionVolumeSequence", "ImageOrientationVolume", "PlaneOrientationVolumeSequence"),
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DetectorInformationSequence")
# What tells of other images, or of what was once said of this one
_NOT_OF_THIS = (
    "SourceImageSequence",
    "DerivationImageSequence",
    "ReferencedImageSequence",
    "OriginalAttributesSequence",
)
# Objects whose pixels are placed in yet another way
_OTHERS = {
    "TotalPixelMatrixColumns": "a part of a larger image (a whole slide, for instance)",
    "RTImagePosition": "an RT image",
    "ImagePlanePixelSpacing": "an RT image",
}


def enlarge(target: Dataset, scale: int, plain_bytes: int) -> None:
    """Say of an object, in place, that it has ``scale`` times as many rows and columns of the same ground.

    Spacings, the places of first pixels, overlays, shutters, collimators, shifts of masks and regions of ultrasound are
    made to fit.

    Args:
        target: the object; its pixels are not looked at.
        scale: by how much it is enlarged.
        plain_bytes: how many bytes its pixels take before.

    Raises:
        UnreadableError: too many pixels, or an object that states its geometry in another way or not wholly.
    """
    _check(target, scale, plain_bytes)
    groups = [item for name in _GROUPS for item in target.get(name) or []]
    common = (target.get(_GROUPS[0]) or [target])[0]
    for place in (target, *groups):  # first, as it goes by the old spacings
        for keywords in _PLACED:
            _move_first_pixel(place, common, target, keywords, scale)
    for place in (target, *groups):
        for holder in _with_items(place):
            _map(holder, _SPACINGS, lambda value: value / scale)
            _map(holder, _FIRST_EDGES, lambda value: max((value - 1) * scale + 1, min(value, 0)))
            _map(holder, _LAST_EDGES, lambda value: value * scale)
            _map(holder, _MIDDLES, lambda value: math.floor((value - 0.5) * scale + 1))
            _map(holder, _LENGTHS, lambda value: value * scale)
    for region in target.get("SequenceOfUltrasoundRegions") or []:
        _map(region, _REGION_STARTS, lambda value: value * scale)
        _map(region, _REGION_ENDS, lambda value: (value + 1) * scale - 1)
        _map(region, _REGION_MIDDLES, lambda value: value * scale + scale // 2)
        _map(region, ("PhysicalDeltaX", "PhysicalDeltaY"), lambda value: value / scale)
    for group in range(0x6000, 0x6020, 2):
        if target.get((group, 0x3000)) is not None and target[group, 0x3000].value:
            _enlarge_overlay(target, group, scale)
    target.Rows, target.Columns = int(target.Rows) * scale, int(target.Columns) * scale


def _check(source: Dataset, scale: int, plain_bytes: int) -> None:
    for keyword, found in _OTHERS.items():
        if keyword in source:
            raise UnreadableError(f"expected a plain image to enlarge, found {found}; take a model that keeps the size")
    rows, columns = int(source.Rows) * scale, int(source.Columns) * scale
    if max(rows, columns) > _MOST:
        raise UnreadableError(
            f"expected at most {_MOST} rows and columns of the enlarged image, found {rows}×{columns}; take a "
            "model that enlarges less"
        )
    if plain_bytes * scale**2 > _MOST_BYTES:
        raise UnreadableError(
            f"expected at most {_MOST_BYTES} bytes of enlarged pixels, as many as DICOM can hold without compression, "
            f"found {plain_bytes * scale**2}; split the object, or take a model that enlarges less"
        )


def _with_items(place: Dataset) -> Iterator[Dataset]:
    """The dataset, and all items of its own sequences that tell of this image, but for those of groups of frames."""
    yield place
    for element in place:
        if element.VR == "SQ" and element.keyword not in (*_GROUPS, *_NOT_OF_THIS):
            yield from element.value or ()


def _move_first_pixel(
    place: Dataset, common: Dataset, target: Dataset, keywords: tuple[str, str, str, str], scale: int
) -> None:
    """Move what is said of the first pixel's middle from the old one's to that of the new one in its corner."""
    position_name, its_sequence, directions_name, their_sequence = keywords
    for holder in (place, *(place.get(its_sequence) or [])):
        position = _numbers(holder.get(position_name))
        if not position:
            continue
        spacing = _found("PixelSpacing", "PixelMeasuresSequence", place, common, target)
        directions = _found(directions_name, their_sequence, place, common, target)
        if (len(position), len(spacing), len(directions)) != (3, 2, 6):
            raise UnreadableError(
                f"expected {position_name} of three numbers with PixelSpacing of two and {directions_name} of six, "
                f"found {len(position)}, {len(spacing)} and {len(directions)}; mend the object first, or take a model "
                "that keeps the size"
            )
        between_rows, between_columns = spacing
        along_row, along_column = np.reshape(directions, (2, 3))
        shift = (1 / scale - 1) / 2 * (along_row * between_columns + along_column * between_rows)
        _set(holder, position_name, position + shift)


def _found(keyword: str, sequence: str, *places: Dataset) -> list[float]:
    """The first value of an attribute that is found, in a place itself or in an item of a sequence of its."""
    for place in places:
        for holder in (place, *(place.get(sequence) or [])):
            if holder.get(keyword):
                return _numbers(holder.get(keyword))
    return []


def _map(holder: Dataset, keywords: Iterable[str], to: Callable[[float], float]) -> None:
    for keyword in keywords:
        values = _numbers(holder.get(keyword))
        if values:
            _set(holder, keyword, [to(value) for value in values])


def _numbers(value: Any) -> list[float]:
    """The values of an element, one or several or none."""
    if value is None or value == "":
        return []
    return [float(one) for one in (value if isinstance(value, Iterable) else (value,))]


def _set(holder: Dataset, keyword: str, values: Iterable[float]) -> None:
    """Write numbers in the type of the element that held such before."""
    element = holder[keyword]
    convert = _CONVERT.get(element.VR, int)
    converted = [convert(value) for value in values]
    element.value = converted if len(converted) > 1 else converted[0]


def _decimal(value: float) -> Any:
    """A decimal string of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)


_CONVERT: dict[str, Callable[[float], Any]] = {"DS": _decimal, "FL": float, "FD": float}


def _enlarge_overlay(target: Dataset, group: int, scale: int) -> None:
    if not (target.get((group, 0x0010)) and target.get((group, 0x0011))):
        raise UnreadableError(
            "expected an overlay with OverlayRows and OverlayColumns, found none; mend the object first"
        )
    rows, columns = int(target[group, 0x0010].value), int(target[group, 0x0011].value)
    frames = int(target[group, 0x0015].value) if (group, 0x0015) in target else 1
    count = frames * rows * columns
    bits = np.unpackbits(np.frombuffer(target[group, 0x3000].value, np.uint8), bitorder="little", count=count)
    larger = bits.reshape(frames, rows, columns).repeat(scale, 1).repeat(scale, 2)
    data = np.packbits(larger, bitorder="little").tobytes()
    target[group, 0x3000].value = data + b"\0" * (len(data) % 2)
    target[group, 0x0010].value, target[group, 0x0011].value = rows * scale, columns * scale
    if (group, 0x0050) in target:
        target[group, 0x0050].value = [(int(place) - 1) * scale + 1 for place in target[group, 0x0050].value]
    if (group, 0x1301) in target and target[group, 0x1301].value:  # ROI Area, in pixels
        target[group, 0x1301].value = int(target[group, 0x1301].value) * scale**2
