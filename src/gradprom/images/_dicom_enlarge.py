"""What a DICOM object says of its pixels' size and places, for an image of more of them on the same ground."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST = 2**16 - 1  # rows and columns are counted in 16 bits
# Millimetres from one pixel's middle to the next one's
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Numbers of rows and columns, from 1
_PLACES = tuple(
    f"{kind}{name}"
    for kind in ("Shutter", "Collimator")
    for name in ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
) + tuple(
    name for kind in ("Shutter", "Collimator") for name in (f"CenterOfCircular{kind}", f"VerticesOfThePolygonal{kind}")
)
_LENGTHS = ("RadiusOfCircularShutter", "RadiusOfCircularCollimator")
_REGION_PLACES = ("RegionLocationMinX0", "RegionLocationMinY0", "ReferencePixelX0", "ReferencePixelY0")
_REGION_ENDS = ("RegionLocationMaxX1", "RegionLocationMaxY1")
# Objects whose pixels are placed in yet another way
_OTHERS = {
    "TotalPixelMatrixColumns": "a part of a larger image (a whole slide, for instance)",
    "RTImagePosition": "an RT image",
}


def check_enlargeable(source: Dataset, scale: int) -> None:
    """Refuse what cannot be enlarged, before any work.

    Raises:
        UnreadableError: too many rows or columns, or an object that states its geometry in another way.
    """
    for keyword, found in _OTHERS.items():
        if keyword in source:
            raise UnreadableError(f"expected a plain image to enlarge, found {found}; take a model that keeps the size")
    rows, columns = int(source.Rows) * scale, int(source.Columns) * scale
    if max(rows, columns) > _MOST:
        raise UnreadableError(
            f"expected at most {_MOST} rows and columns of the enlarged image, found {rows}×{columns}; take a "
            "model that enlarges less"
        )


def enlarge(target: Dataset, scale: int) -> None:
    """Say of an object, in place, that it has ``scale`` times as many rows and columns of the same ground.

    Spacings, the places of first pixels, overlays, shutters, collimators and regions of ultrasound are made to fit.
    """
    shared = target.get("SharedFunctionalGroupsSequence") or []
    common = shared[0] if shared else target
    places = [target, *shared, *(target.get("PerFrameFunctionalGroupsSequence") or [])]
    for place in places:  # first, as it goes by the old spacings
        _move_first_pixel(place, common, target, scale)
    for place in places:
        for holder in (place, *(place.get("PixelMeasuresSequence") or [])):
            _divide(holder, _SPACINGS, scale)
    _map(target, _PLACES, lambda number: round((number - 0.5) * scale + 0.5))
    _map(target, _LENGTHS, lambda number: number * scale)
    for region in target.get("SequenceOfUltrasoundRegions") or []:
        _map(region, _REGION_PLACES, lambda number: number * scale)
        _map(region, _REGION_ENDS, lambda number: (number + 1) * scale - 1)
        for name in ("PhysicalDeltaX", "PhysicalDeltaY"):
            if region.get(name) is not None:
                region[name].value = float(region[name].value) / scale
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x3000) in target:
            _enlarge_overlay(target, group, scale)
    target.Rows, target.Columns = int(target.Rows) * scale, int(target.Columns) * scale


def _move_first_pixel(place: Dataset, common: Dataset, target: Dataset, scale: int) -> None:
    """Move what is said of the first pixel's middle from the old one's to that of the new one in its corner."""
    for holder in (place, *(place.get("PlanePositionSequence") or [])):
        position = holder.get("ImagePositionPatient")
        spacing = _found("PixelSpacing", "PixelMeasuresSequence", place, common, target)
        directions = _found("ImageOrientationPatient", "PlaneOrientationSequence", place, common, target)
        if not (position and spacing and directions):
            continue
        between_rows, between_columns = map(float, spacing)
        along_row, along_column = np.array(directions, float).reshape(2, 3)
        shift = (1 / scale - 1) / 2 * (along_row * between_columns + along_column * between_rows)
        holder.ImagePositionPatient = _decimals(np.array(position, float) + shift)


def _found(keyword: str, sequence: str, *places: Dataset) -> Any:
    """The first value of an attribute that is found, in a place itself or in an item of a sequence of its."""
    for place in places:
        for holder in (place, *(place.get(sequence) or [])):
            if holder.get(keyword):
                return holder.get(keyword)
    return None


def _divide(holder: Dataset, keywords: Iterable[str], scale: int) -> None:
    for keyword in keywords:
        values = holder.get(keyword)
        if values:
            setattr(holder, keyword, _decimals(float(value) / scale for value in values))


def _map(holder: Dataset, keywords: Iterable[str], to: Callable[[int], int]) -> None:
    for keyword in keywords:
        values = holder.get(keyword)
        if isinstance(values, int):
            setattr(holder, keyword, to(values))
        elif values:
            setattr(holder, keyword, [to(int(value)) for value in values])


def _decimals(values: Iterable[float]) -> list[Any]:
    """Numbers as decimal strings of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _enlarge_overlay(target: Dataset, group: int, scale: int) -> None:
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
