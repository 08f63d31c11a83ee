"""DICOM objects: what is in them decides, and what comes of them is a valid derived object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradprom.images._dicom_derivation import Derivation
from gradprom.images._dicom_enlarge import enlarge
from gradprom.images._dicom_pixels import Decoded, decode, find_padding, find_range, intensities, is_ranged
from gradprom.images._dicom_read import SUFFIXES, check_image, is_dicom, quiet, read_object
from gradprom.images._dicom_segment import load_highdicom, save_segmentation
from gradprom.images._dicom_write import save, strip
from gradprom.images._intensities import repeated
from gradprom.images.frames import Frames, check_size, reading, with_scale
from gradprom.images.image import Pixels, UnreadableError
from gradprom.images.raster import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["SUFFIXES", "Derivation", "find_ranges", "is_dicom", "load_highdicom", "open_dicom", "write_segmentation"]


def open_dicom(
    path: str | Path,
    derivation: Derivation,
    *,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    option: str = "--max-pixels",
) -> Frames:
    """Read a DICOM object with an image, of one frame or many.

    What is mapped to [0, 1]: of a CT in Hounsfield units -1024 to 3071; of other grey of more than 8 bits, or signed,
    the range of its series if ``derivation`` knows it, else the least to the greatest value of all its frames, pixel
    padding left out; of other grey and all colours 0 to the most their bits can hold. MONOCHROME1 is shown to the
    enhancer as a viewer shows it, bright where values are low. The change the enhancer makes is mapped back by
    the same rule and added to the stored values: rescale slope, intercept and window settings keep their meaning.
    YBR and palette colours become RGB.

    What is written is an object of its own: Explicit VR Little Endian without compression, ImageType DERIVED and
    SECONDARY, with references to its source; see `Derivation`. Patient, study and geometry are kept; enlarged, it has
    smaller pixels on the same ground.

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
    with reading(path, "DICOM"), quiet():
        source = read_object(path, max_pixels)
        check_image(path, source)
        decoded = decode(source, lambda shape: check_size(shape, max_pixels, option))
        shared = derivation.ranges.get(str(source.get("SeriesInstanceUID")))
        maps = intensities(source, decoded, window, shared)
        padding = find_padding(source, decoded.values) if decoded.photometric != "RGB" else None
        strip(source, decoded.values.nbytes)

    def read(index: int) -> Pixels:
        return maps[index].to_unit(decoded.values[index])

    def enlarged(scale: int) -> Dataset:
        """What the object says but of its pixels, once they are enlarged."""
        if scale == 1:
            return source
        target = deepcopy(source)
        with reading(path, "DICOM"), quiet():
            count, height, width, _ = decoded.values.shape
            check_size((count, height * scale, width * scale), max_pixels, option)
            try:
                enlarge(target, scale, decoded.values.nbytes)
            except (ValueError, TypeError, AttributeError) as error:  # of elements that hold something else
                raise UnreadableError(
                    f"expected sizes and places in pixels, found others ({error}); correct or remove them"
                ) from error
        return target

    def write(target: Path, frames: Iterable[Pixels]) -> None:
        count, height, width, samples = decoded.values.shape
        scale, frames = with_scale(frames, height)
        limits, written = decoded.limits, enlarged(scale)
        values = np.empty((count, height * scale, width * scale, samples), decoded.values.dtype)
        for index, (enhanced, old) in enumerate(zip(frames, decoded.values, strict=True)):
            stored = repeated(old, scale)
            changed = maps[index].changed(stored, enhanced, *limits)
            values[index] = changed if padding is None else np.where(repeated(padding[index], scale), stored, changed)
        with quiet():
            save(target, written, Decoded(values, decoded.bits, decoded.photometric), derivation, scale)

    def check(scale: int) -> None:
        enlarged(scale)

    return Frames("dicom", len(decoded.values), read, write, check)


def find_ranges(
    paths: Iterable[Path],
    *,
    max_pixels: int = MAX_PIXELS,
    track: Callable[[Sequence[Path], str], Iterable[Path]] = lambda paths, _: paths,
) -> dict[str, tuple[float, float]]:
    """Find a range of intensities for each series of several objects, so that all of one are mapped alike.

    Colours, unsigned grey of up to 8 bits and Hounsfield units need none. Files that are no DICOM or cannot be read are
    left out: who opens them says why.

    Args:
        paths: some files, of any kinds.
        max_pixels: larger objects are left out.
        track: is given files and what is done with them, and gives the files back one by one.

    Returns:
        The least and the greatest value, after rescale and without padding, by SeriesInstanceUID.

    Example:
        >>> find_ranges([Path("/nowhere/1.dcm"), Path("/nowhere/2.dcm")])
        {}
    """
    objects = [path for path in paths if path.is_file() and (path.suffix.lower() in SUFFIXES or is_dicom(path))]
    series: dict[str, list[Path]] = {}
    for path in track(objects, "sorting") if len(objects) > 1 else ():
        with suppress(Exception), quiet():  # pydicom raises whatever broken files make it raise
            header = read_object(path, max_pixels, header_only=True)
            if is_ranged(header):
                series.setdefault(str(header.SeriesInstanceUID), []).append(path)
    several = {path: name for name, members in series.items() if len(members) > 1 for path in members}
    ranges: dict[str, tuple[float, float]] = {}
    for path in track(list(several), "finding ranges") if several else ():
        with suppress(Exception), quiet():
            source = read_object(path, max_pixels)
            check_image(path, source)
            found = find_range(source, decode(source, lambda shape: check_size(shape, max_pixels, "")))
            if found is not None:
                earlier = ranges.get(several[path], found)
                ranges[several[path]] = min(found[0], earlier[0]), max(found[1], earlier[1])
    return ranges


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

    It stands in the study of ``of`` and in its frame of reference, in one new series for each series; every
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

    with reading(of, "DICOM"), quiet():
        header = dcmread(of, stop_before_pixels=True, force=True)
        if derivation.deidentify is not None and when == "before":
            derivation.deidentify(header)
        save_segmentation(path, header, np.stack(masks), names, derivation, when)
