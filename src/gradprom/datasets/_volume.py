"""Single slices out of NIfTI and MetaImage files, which could hold whole volumes.

MetaImage is read here and not by ITK, which goes on with what it has when compressed pixels are corrupt.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS
from gradprom.images.image import UnreadableError

T = TypeVar("T")
_NIFTI_HEADER = 348
_MAX_TEXT = 1 << 16  # bytes of a MetaImage header: a real one has some hundred
_ELEMENTS = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_EITHER_ZLIB_OR_GZIP = 47  # zlib's wbits


@dataclass(frozen=True)
class _Slice:
    """What a header says: the size, and how to get the values as (height, width)."""

    height: int
    width: int
    read: Callable[[], NDArray[Any]]


def slice_size(path: Path) -> tuple[int, int]:
    """Height and width of the slice at ``path``, from its header alone.

    Raises:
        UserError: as `read_slice`, but for what lies in the pixels.
    """
    found = _guarded(path, lambda: _open(path))
    return found.height, found.width


def read_slice(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """The one slice in a NIfTI file (.nii.gz, .nii) or a MetaImage (.mhd and its .raw or .zraw).

    Of a file's axes the first is the width and the second the height, as ultrasound is stored: columns are lateral,
    rows go down from the probe. What the header says of directions is not looked at.

    Args:
        path: the file; of a MetaImage the header, whose pixels must lie in the same folder.
        max_pixels: larger slices are refused before any pixel is decoded.

    Returns:
        (height, width), of whole or floating numbers, all finite, scaled as a NIfTI header says.

    Raises:
        UserError: no such file, cut short or corrupt, too large, several slices, or complex or coloured values.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.raw").write_bytes(bytes(range(6)))
        >>> text = "DimSize = 3 2 1\\nElementType = MET_UCHAR\\nElementDataFile = a.raw\\n"
        >>> _ = (folder / "a.mhd").write_text(text)
        >>> read_slice(folder / "a.mhd")
        array([[0, 1, 2],
               [3, 4, 5]], dtype=uint8)
    """

    def read() -> NDArray[Any]:
        found = _open(path)
        pixels = found.height * found.width
        if pixels > max_pixels:
            raise UnreadableError(
                f"expected at most {max_pixels} pixels, found {found.width}×{found.height}; if the file is to be "
                f"trusted and memory allows, raise the limit with dataset.max_pixels {pixels}"
            )
        values = found.read()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UnreadableError("expected finite values, found NaN or infinity; copy the file again")
        return values

    return _guarded(path, read)


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        if not path.is_file():
            raise UnreadableError(
                f"expected a file, found {'a folder' if path.is_dir() else 'nothing'}; check the name"
            )
        return read()
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from (error.__cause__ or error)
    except PermissionError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # gzip, zlib, numpy and nibabel raise whatever broken files make them raise
        raise UserError(
            f"{path}: expected a whole file, found one that is cut short or corrupt; copy it again"
        ) from error


def _open(path: Path) -> _Slice:
    name = path.name.lower()
    if name.endswith((".nii.gz", ".nii")):
        return _open_nifti(path)
    if name.endswith(".mhd"):
        return _open_metaimage(path)
    raise UnreadableError("expected a name ending in .nii.gz, .nii or .mhd; convert the file to one of these")


def _open_nifti(path: Path) -> _Slice:
    from nibabel.nifti1 import Nifti1Header

    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            block = file.read(_NIFTI_HEADER)
    except gzip.BadGzipFile as error:
        raise UnreadableError("expected a gzip file, found another kind; compress it or copy it again") from error
    if len(block) < _NIFTI_HEADER:
        raise UnreadableError("expected a whole NIfTI file, found one that is cut short; copy it again")
    # nibabel's own checks would mend what they can, and print what they mended
    header: Any = Nifti1Header(block, check=False)
    if header["sizeof_hdr"] != _NIFTI_HEADER or header["magic"].item() != b"n+1" or header["vox_offset"] < 352:
        raise UnreadableError("expected a NIfTI-1 file that holds its own pixels, found something else; convert it")
    height, width = _height_and_width(header.get_data_shape())
    if header.get_data_dtype().kind not in "uif":
        raise UnreadableError(
            f"expected one real number a pixel, found {header.get_value_label('datatype')}; convert it"
        )

    def read() -> NDArray[Any]:
        with opened(path, "rb") as file:
            values: NDArray[Any] = header.data_from_fileobj(file)
            file.read(1)  # past the last pixel gzip holds its checksum against what it has read
        return np.ascontiguousarray(values.reshape(width, height).T)

    return _Slice(height, width, read)


def _open_metaimage(path: Path) -> _Slice:
    fields = _fields(path)
    height, width = _height_and_width(tuple(int(side) for side in fields["DimSize"].split()))
    element = fields["ElementType"]
    if element not in _ELEMENTS or int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise UnreadableError(f"expected one of {', '.join(_ELEMENTS)} a pixel, found {element}; convert it")
    if not _is_true(fields.get("BinaryData", "True")) or int(fields.get("HeaderSize", "0")) != 0:
        raise UnreadableError("expected pixels in a binary file without a header of its own, found others; convert it")
    big_endian = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    kind = np.dtype(_ELEMENTS[element]).newbyteorder(">" if _is_true(big_endian) else "<")
    compressed = _is_true(fields.get("CompressedData", "False"))
    name = fields["ElementDataFile"]
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise UnreadableError(f"expected ElementDataFile to name a file in the same folder, found {name!r}; mend it")
    pixels = path.with_name(name)
    if not pixels.is_file():
        raise UnreadableError(f"expected its pixels in {name!r} beside it, found no such file; copy it there")

    def read() -> NDArray[Any]:
        data = _pixel_bytes(pixels, height * width * kind.itemsize, compressed)
        return np.frombuffer(data, kind).reshape(height, width)

    return _Slice(height, width, read)


def _fields(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        text = file.read(_MAX_TEXT).decode("latin-1")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":  # by definition the last field
            break
    missing = [name for name in ("DimSize", "ElementType", "ElementDataFile") if name not in fields]
    if missing:
        raise UnreadableError(f"expected a MetaImage header, found no {missing[0]} in it; copy it again")
    return fields


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")


def _pixel_bytes(path: Path, expected: int, compressed: bool) -> bytes:
    """The bytes of the pixels, as many as ``expected``; of a file with more no more than that is unpacked."""
    if not compressed:
        size = path.stat().st_size
        if size != expected:
            raise UnreadableError(f"expected {expected} bytes in {path.name}, found {size}; copy both files again")
        return path.read_bytes()
    with path.open("rb") as file:
        data = file.read(expected + expected // 1000 + 1024)  # more than zlib needs for what cannot be compressed
    unpacker = zlib.decompressobj(_EITHER_ZLIB_OR_GZIP)
    unpacked = unpacker.decompress(data, expected)
    surplus = unpacker.decompress(unpacker.unconsumed_tail, 1)
    if len(unpacked) != expected or surplus or not unpacker.eof:
        found = "more" if surplus else "no whole file" if len(unpacked) == expected else str(len(unpacked))
        raise UnreadableError(
            f"expected {path.name} to unpack to {expected} bytes, found {found}; copy both files again"
        )
    return unpacked


def _height_and_width(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1 or math.prod(shape[2:]) != 1:
        raise UnreadableError(
            f"expected one slice, found axes of {'×'.join(map(str, shape))}; take its frames out one by one"
        )
    return int(shape[1]), int(shape[0])
