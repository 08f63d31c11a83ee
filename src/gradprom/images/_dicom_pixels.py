"""The pixels of DICOM objects: grey as stored, colour of every kind as RGB."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradprom.images._dicom_streams import check_streams
from gradprom.images._intensities import Intensities
from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
# YBR_ICT and YBR_RCT are JPEG 2000's own transforms, which its decoders undo; pydicom undoes the others
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
_PALETTE = "PALETTE COLOR"
# They decode the same as gdcm, which comes first for pydicom and prints what it finds odd
_PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
}
_HOUNSFIELD = (-1024.0, 3071.0)
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


@dataclass(frozen=True)
class Decoded:
    """All frames of an object.

    Attributes:
        values: (frames, height, width, 1 or 3), whole numbers.
        bits: how many bits of each are used.
        photometric: MONOCHROME1, MONOCHROME2 or RGB.
    """

    values: NDArray[Any]
    bits: int
    photometric: str

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the most that can be stored; wider where the file itself breaks its promise."""
        signed = self.values.dtype.kind == "i"
        low, high = (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if signed else (0, 2**self.bits - 1)
        return min(low, int(self.values.min())), max(high, int(self.values.max()))


def decode(source: Dataset, check_size: Callable[[tuple[int, ...]], None]) -> Decoded:
    """Decode the pixels of an object.

    Args:
        source: as read, with its file meta information.
        check_size: is called with (frames, rows, columns) before any pixel is decoded, and raises if that is too much;
            compressed frames that are of another size than the object says are refused then as well.

    Raises:
        UnreadableError: a kind that is not supported, or compressed in a way that no decoder here knows; pydicom and
            its decoders raise errors of their own for broken files.
    """
    from pydicom.pixels.processing import apply_color_lut

    photometric, bits = _check_kind(source)
    shape = (_frames(source), int(source.Rows), int(source.Columns))
    check_size(shape)
    if source.file_meta.TransferSyntaxUID == _JPEG_EXTENDED and photometric in _GREY and source.BitsAllocated == 16:
        check_streams(source, shape)
        return Decoded(_jpeg_of_12_bits(source, shape), bits, photometric)
    decoder = _decoder(source)
    check_streams(source, shape)
    plugin = _PLUGINS.get(source.file_meta.TransferSyntaxUID, "")
    array, info = decoder.as_array(source, decoding_plugin=plugin if plugin in decoder.available_plugins else "")
    values = np.ascontiguousarray(array).reshape(*shape, int(source.SamplesPerPixel))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if photometric == _PALETTE:
        values = apply_color_lut(values[..., 0], source)
        bits = values.dtype.itemsize * 8
        if bits == 16 and source.BitsAllocated == 8:
            values, bits = (values >> 8).astype(np.uint8), 8
    colour = photometric not in _GREY
    if colour and info["photometric_interpretation"] not in ("RGB", _PALETTE, "YBR_ICT", "YBR_RCT"):
        raise UnreadableError(f"expected colours that become RGB, found {photometric}; convert it to RGB")
    return Decoded(values, bits, "RGB" if colour else photometric)


def find_padding(source: Dataset, values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Tell which of the values (any shape) stand for no image at all, or None if the object names none."""
    first = source.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = source.get("PixelPaddingRangeLimit")
    limits = sorted((first, last if isinstance(last, int) else first))
    found: NDArray[np.bool_] = (values >= limits[0]) & (values <= limits[1])
    return found if found.any() else None


def is_ranged(source: Dataset) -> bool:
    """Tell whether what 0 and 1 stand for must be looked for in the values of an object (or of only its header).

    It need not be for colours and unsigned grey of up to 8 bits, whose bits tell, nor for Hounsfield units.
    """
    if str(source.get("PhotometricInterpretation")) not in _GREY:
        return False
    return not (_is_plain(source) or _is_hounsfield(source))


def find_range(source: Dataset, decoded: Decoded) -> tuple[float, float] | None:
    """The least and the greatest value in all frames of a grey object after rescale; None if all is padding."""
    padding = find_padding(source, decoded.values)
    ends = []
    for index, values in enumerate(decoded.values):
        kept = values if padding is None else values[~padding[index]]
        slope, shift = _rescale(source, index)
        if kept.size:
            ends += [float(kept.min()) * slope + shift, float(kept.max()) * slope + shift]
    return (min(ends), max(ends)) if ends else None


def intensities(
    source: Dataset, decoded: Decoded, window: tuple[float, float] | None, shared: tuple[float, float] | None = None
) -> list[Intensities]:
    """The map of each frame's stored values to [0, 1].

    Colours and unsigned grey of up to 8 bits: the range of the bits, as for PNG. Hounsfield units: -1024 to 3071, what
    12 bits of a CT hold. Other grey: that of the series, or else as `find_range` finds it. Where low values are shown
    bright (MONOCHROME1), so they are here.

    Args:
        source: the object.
        decoded: its pixels.
        window: the two values that become 0 and 1 instead, after rescale slope and intercept; only for grey.
        shared: the range of its series, if its objects share one, likewise.
    """
    frames = len(decoded.values)
    bits_range = (0.0, float(2**decoded.bits - 1))
    if decoded.photometric == "RGB":
        return [Intensities(*bits_range)] * frames
    scales = [_rescale(source, index) for index in range(frames)]
    if window is None and not _is_plain(source):
        window = _HOUNSFIELD if _is_hounsfield(source) else shared or find_range(source, decoded) or (0.0, 0.0)
    ends = window or [end * slope + shift for slope, shift in scales for end in bits_range]
    black, white = min(ends), max(ends)
    if decoded.photometric == "MONOCHROME1":
        black, white = white, black
    return [Intensities((black - shift) / slope, (white - shift) / slope) for slope, shift in scales]


def _check_kind(source: Dataset) -> tuple[str, int]:
    """Give photometric interpretation and bits stored, if they are of a kind that can be enhanced."""
    needed = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "SamplesPerPixel")
    missing = [name for name in needed if source.get(name) in (None, "")]
    if missing:
        raise UnreadableError(f"expected an image with {', '.join(missing)}, found none of it; copy it again")
    photometric = str(source.PhotometricInterpretation)
    samples = {**dict.fromkeys((*_GREY, _PALETTE), 1), **dict.fromkeys(_COLOUR, 3)}.get(photometric)
    if samples is None or source.SamplesPerPixel != samples:
        raise UnreadableError(
            f"expected grey, RGB, YBR or palette colours, found {photometric} with {source.SamplesPerPixel} samples a "
            "pixel; convert it to RGB"
        )
    bits = source.get("BitsStored") or source.BitsAllocated
    if source.BitsAllocated not in (8, 16, 32) or not 1 <= bits <= source.BitsAllocated:
        raise UnreadableError(
            f"expected 8, 16 or 32 bits a sample, found {source.BitsAllocated} of which {bits} are used; convert it"
        )
    return photometric, int(bits)


def _frames(source: Dataset) -> int:
    count = source.get("NumberOfFrames")
    if count in (None, ""):
        return 1
    try:
        number = int(count)
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"expected a whole number of frames, found {count!r}; copy it again") from error
    if number < 1:
        raise UnreadableError(f"expected at least one frame, found {number} named; correct the number of frames")
    return number


def _jpeg_of_12_bits(source: Dataset, shape: tuple[int, ...]) -> NDArray[Any]:
    """What pydicom's decoders refuse, unless one under the GPL is installed."""
    import imagecodecs
    from pydicom.encaps import generate_frames

    frames = generate_frames(source.PixelData, number_of_frames=shape[0])
    values = np.stack([imagecodecs.jpeg_decode(frame) for frame in frames]).reshape(*shape, 1)
    return values.astype(np.int16 if source.get("PixelRepresentation") else np.uint16, copy=False)


def _decoder(source: Dataset) -> Any:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = source.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
        missing = None if decoder.is_available else "; ".join(decoder.missing_dependencies)
    except NotImplementedError:
        missing = "it is not supported"
    if missing is not None:
        raise UnreadableError(
            f"expected pixels that can be decompressed here, found {syntax.name} ({missing}); "
            "decompress it with another program"
        )
    return decoder


def _rescale(source: Dataset, frame: int) -> tuple[float, float]:
    """Slope and intercept of a frame; 1 and 0 where there are none, or a lookup table in their place."""
    place = _rescaling(source, frame)
    return (1.0, 0.0) if place is None else (float(place.RescaleSlope), float(place.RescaleIntercept))


def _rescaling(source: Dataset, frame: int) -> Dataset | None:
    """What holds slope and intercept of a frame: the object itself, or an item of its functional groups."""
    places = [source]
    for name, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = source.get(name) or []
        if index < len(groups):
            places += groups[index].get("PixelValueTransformationSequence") or []
    for place in reversed(places):
        slope, intercept = place.get("RescaleSlope"), place.get("RescaleIntercept")
        if slope is not None and intercept is not None:
            values = float(slope), float(intercept)
            if all(map(math.isfinite, values)) and values[0] != 0:
                return place
    return None


def _is_plain(source: Dataset) -> bool:
    return bool((source.get("BitsStored") or source.BitsAllocated) <= 8 and not source.get("PixelRepresentation"))


def _is_hounsfield(source: Dataset) -> bool:
    """Tell whether values are those of a CT; a CT's object can hold others (maps of iodine), and then says which."""
    place = _rescaling(source, 0)
    return place is not None and source.get("Modality") == "CT" and (place.get("RescaleType") or "HU") == "HU"
