"""NIfTI volumes, slice by slice; the header is written back bit by bit, or with smaller voxels."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gradprom._files import atomic_path
from gradprom.images._intensities import Intensities, repeated
from gradprom.images._nifti_enlarge import enlarge
from gradprom.images.frames import Frames, NoImageError, check_size, reading, with_scale, writing
from gradprom.images.image import Pixels, UnreadableError
from gradprom.images.raster import MAX_PIXELS

SUFFIXES = (".nii", ".nii.gz")
_LABEL = 1002  # NIFTI_INTENT_LABEL
# What must be said of class numbers in one byte; the rest of a header tells where they lie
_OF_LABELS = {
    "datatype": 2,
    "bitpix": 8,
    "scl_slope": 1,
    "scl_inter": 0,
    "cal_min": 0,
    "cal_max": 0,
    "intent_code": _LABEL,
    "intent_name": b"",
}
_MAX_HEADER = 64 * 2**20  # bytes: a vox_offset can claim any number
_EXACT = 2**53  # up to which float64 holds every whole number


@dataclass(frozen=True)
class _Volume:
    """A file's header, with its extensions, as it lies there, and its values.

    Attributes:
        head: all bytes in front of the values.
        values: as stored, of the header's shape and byte order.
        spacing: along each axis.
        slope: values mean ``slope * stored + shift``.
        shift: see ``slope``.
    """

    head: bytes
    values: NDArray[Any]
    spacing: tuple[float, ...]
    slope: float
    shift: float


def is_nifti(path: Path) -> bool:
    """Tell by its name whether a file is a NIfTI volume.

    Example:
        >>> is_nifti(Path("T1.NII.gz")), is_nifti(Path("notes.gz"))
        (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def open_nifti(
    path: str | Path,
    *,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    option: str = "--max-pixels",
) -> Frames:
    """Read a NIfTI file of 2, 3 or more dimensions.

    A volume is enhanced slice by slice across one axis: one that is a single voxel long, else the one with the coarsest
    spacing, else (and where several are the coarsest) the last of the three. Of the two others the first is the width
    and the second the height; nothing is turned. Further dimensions (time, echoes) are enhanced volume by volume.

    Values are mapped to [0, 1] from the least to the greatest of the whole file, unsigned values of 8 bits from 0 to
    255. The change the enhancer makes is mapped back by the same rule and added to the stored values, whose type, slope
    and intercept stay. Header, affines and extensions are written back as they are; where slices are enlarged, sizes
    and affines are those of smaller voxels on the same ground.

    Args:
        path: ends in .nii or .nii.gz, NIfTI-1 or NIfTI-2.
        window: the two values that become 0 and 1 instead, scaled as the header says; values beyond are not cut off.
        max_pixels: files with more voxels are refused before any is read.
        option: what the user is told to raise then.

    Raises:
        NoImageError: a map of labels, by its header.
        UserError: no NIfTI, cut short, too large, complex or coloured values, or values that are not finite.
    """
    path = Path(path)
    with reading(path, "NIfTI"):
        volume = _read(path, max_pixels, option)
        intensities = _intensities(volume, window)
        axis = slice_axis(volume.values.shape, volume.spacing)
        planes = _planes(volume.values, axis)
        indices = list(np.ndindex(planes.shape[:-2]))

    def read(index: int) -> Pixels:
        return intensities.to_unit(planes[indices[index]])[..., np.newaxis]

    def enlarged(scale: int) -> tuple[bytes, tuple[int, ...]]:
        if scale == 1:
            return volume.head, volume.values.shape
        with reading(path, "NIfTI"):
            header, head = _read_head(io.BytesIO(volume.head))
            enlarge(header, _plane_axes(axis), scale)
            check_size(_shape(header), max_pixels, option)
            block = header.binaryblock
            return block + head[len(block) :], _shape(header)

    def write(target: Path, frames: Iterable[Pixels]) -> None:
        scale, frames = with_scale(frames, planes.shape[-2])
        head, shape = enlarged(scale)
        result = np.empty(shape, volume.values.dtype, order="F")
        written = _planes(result, axis)
        kind = result.dtype
        limits = (float(np.iinfo(kind).min), float(np.iinfo(kind).max)) if kind.kind in "iu" else (-np.inf, np.inf)
        for index, enhanced in zip(indices, frames, strict=True):
            written[index] = intensities.changed(repeated(planes[index], scale), enhanced[..., 0], *limits)
        with writing(target), atomic_path(target) as temporary, _create(temporary) as file:
            file.write(head)
            file.write(result.T.data)

    def check(scale: int) -> None:
        enlarged(scale)

    return Frames("nifti", len(indices), read, write, check)


def write_slice_masks(path: Path, of: Path, masks: Sequence[NDArray[np.uint8]]) -> None:
    """Write the masks of a volume's slices as a NIfTI file of labels in the same place: all affines stay.

    Args:
        path: where to; ends in .nii or .nii.gz.
        of: a file that `open_nifti` reads.
        masks: a mask for each slice, in the order of its frames, (H, W) of class numbers.

    Raises:
        UserError: it cannot be written (then the ``OSError`` is the cause).
        ValueError: there are more or fewer masks than slices.
    """
    with reading(of, "NIfTI"), _open(of) as file:
        header, head = _read_head(file)
    for name, value in _OF_LABELS.items():
        header[name] = value
    shape = _shape(header)
    result = np.empty(shape, np.uint8, order="F")
    planes = _planes(result, slice_axis(shape, _spacing(header)))
    for index, mask in zip(np.ndindex(planes.shape[:-2]), masks, strict=True):
        planes[index] = mask
    block = header.binaryblock
    with writing(path), atomic_path(path) as temporary, _create(temporary) as output:
        output.write(block)
        output.write(head[len(block) :])
        output.write(result.T.data)


def slice_axis(shape: tuple[int, ...], spacing: tuple[float, ...]) -> int | None:
    """Tell across which axis a volume is cut into slices; None for an image of two dimensions.

    Args:
        shape: of two dimensions or more; only the first three are looked at.
        spacing: between voxels, along each axis.

    Example:
        >>> slice_axis((512, 40, 512), (0.5, 3.0, 0.5)), slice_axis((64, 64, 64), (1.0, 1.0, 1.0))
        (1, 2)
    """
    if len(shape) < 3:
        return None
    single = [axis for axis in range(3) if shape[axis] == 1]
    if single:
        return single[-1]
    coarsest = max(spacing[:3])
    # spacings that were meant to be equal differ in their last digits
    return max(axis for axis in range(3) if spacing[axis] >= 0.999 * coarsest)


def _plane_axes(axis: int | None) -> list[int]:
    """The axes of a slice, width and height, in a volume that is cut across ``axis``; of an image its two."""
    return [other for other in range(3) if other != axis][:2]


def _planes(values: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Give a view of the values as (..., height, width)."""
    if axis is None:
        return values.T
    width, height = _plane_axes(axis)
    return values.transpose(*range(values.ndim - 1, 2, -1), axis, height, width)


def _intensities(volume: _Volume, window: tuple[float, float] | None) -> Intensities:
    if window is not None:
        black, white = ((end - volume.shift) / volume.slope for end in window)
    elif volume.values.dtype == np.uint8:
        black, white = 0.0, 255.0
    else:
        black, white = float(volume.values.min()), float(volume.values.max())
        if volume.slope < 0:
            black, white = white, black
    return Intensities(black, white)


def _read(path: Path, max_pixels: int, option: str) -> _Volume:
    with _open(path) as file:
        header, head = _read_head(file)
        shape = _shape(header)
        if len(shape) < 2:
            raise UnreadableError(f"expected 2 dimensions or more, found {len(shape)}; convert it")
        check_size(shape, max_pixels, option)
        kind = header.get_data_dtype()
        if kind.kind not in "uif" or kind.itemsize > 8:
            raise UnreadableError(
                f"expected one real number of up to 64 bits a voxel, found {header.get_value_label('datatype')}; "
                "convert it"
            )
        if int(header["intent_code"]) == _LABEL:
            raise NoImageError(path, "a map of labels")
        data = file.read(int(np.prod(shape)) * kind.itemsize)
        file.read(1)  # lets gzip find out whether what it gave was right
    values = np.frombuffer(data, kind).reshape(shape, order="F")
    if kind.kind == "f" and not np.isfinite(values).all():
        count = values.size - int(np.isfinite(values).sum())
        raise UnreadableError(
            f"expected finite values, found {count} that are NaN or infinite; replace them first, for example by 0"
        )
    if kind.itemsize == 8 and kind.kind in "iu" and (values.max() > _EXACT or values.min() < -_EXACT):
        raise UnreadableError("expected whole numbers up to 2⁵³, found greater ones; convert it to floating point")
    slope, shift = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite([slope, shift]).all():
        slope, shift = 1.0, 0.0
    return _Volume(head, values, _spacing(header), slope, shift)


def _read_head(file: IO[bytes] | gzip.GzipFile) -> tuple[Any, bytes]:
    """Give the header, and all bytes in front of the values."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = file.read(4)
    version = next((n for n in (348, 540) for order in ("little", "big") if start == n.to_bytes(4, order)), None)
    if version is None:
        found = "another kind of file; check the name" if start else "an empty file; copy it again"
        raise UnreadableError(f"expected a NIfTI file, found {found}")
    block = start + file.read(version - 4)
    # nibabel's own checks would mend what they can, and print what they mended
    header: Any = (Nifti1Header if version == 348 else Nifti2Header)(block, check=False)
    offset = float(header["vox_offset"])
    if header["magic"].item()[:3] not in (b"n+1", b"n+2") or not version + 4 <= offset <= _MAX_HEADER:
        raise UnreadableError("expected a NIfTI file that holds its own voxels, found something else; convert it")
    return header, block + file.read(int(offset) - version)


def _shape(header: Any) -> tuple[int, ...]:
    return tuple(int(length) for length in header.get_data_shape())


def _spacing(header: Any) -> tuple[float, ...]:
    return tuple(float(length) for length in np.nan_to_num(np.abs(header.get_zooms())))


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(path, "rb") as file:
                yield file
        except gzip.BadGzipFile as error:
            raise UnreadableError("expected a gzip file, found one that is corrupt or another kind") from error
    else:
        with path.open("rb") as plain:
            yield plain


@contextmanager
def _create(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as plain:
        if not path.name.lower().endswith(".gz"):
            yield plain
            return
        # neither its name, which is a temporary one, nor the time: the same volume is the same file
        with gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=plain, mtime=0) as file:
            yield file
