"""Arrays of numbers in MATLAB files of version 5 to 7, read with care: see the note below on why not by scipy."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gradprom.errors import UserError
from gradprom.images.image import UnreadableError


def shapes_in(path: Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of numbers ``names`` in a MATLAB file, of which no more than the headers is read.

    Raises:
        UserError: when it is no whole MATLAB file of version 5 to 7, or lacks one of them as an array of real numbers.
    """
    return {name: array.shape for name, array in _find(path, names).items()}


def read_numbers(path: Path, names: Sequence[str], max_values: int) -> dict[str, NDArray[Any]]:
    """The arrays of numbers ``names`` in a MATLAB file, whatever else it holds, in the types they are stored in.

    Raises:
        UserError: as `shapes_in`, and when one has more than ``max_values`` values (before they are read) or is broken.

    Example:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> path = Path(tempfile.mkdtemp()) / "label.mat"
        >>> savemat(path, {"id": [[4], [7]], "note": "not read"})
        >>> read_numbers(path, ["id"], max_values=10)["id"].tolist()
        [[4], [7]]
    """
    arrays = _find(path, names)
    for name, array in arrays.items():
        if math.prod(array.shape) > max_values:
            shape = times(array.shape)
            raise UserError(f"{path}: expected at most {max_values} numbers in {name}, found {shape}: replace the file")
    with _opened(path) as file:
        return {name: array.read(file) for name, array in arrays.items()}


# scipy's reader ends the whole process on some damaged files (it does not check the codes of types), and it unpacks
# whatever is packed. These files hold plain arrays, so the little of the format that is needed is read here: a
# header of 128 bytes, then elements, each a type and a length and, perhaps compressed, flags, shape, name and numbers.
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = range(6, 16)  # classes of arrays: double, single and the whole numbers
_COMPLEX = 0x800
_HEAD = 512  # bytes in which an array's flags, shape and name find room


@dataclass(frozen=True)
class _Array:
    """Where an array lies in a file, and what its header says."""

    start: int
    size: int
    compressed: bool
    order: str
    shape: tuple[int, ...]
    is_real: bool

    def read(self, file: BinaryIO) -> NDArray[Any]:
        file.seek(self.start)
        content = _content(file, self.size, self.compressed, _HEAD + 8 * math.prod(self.shape))
        offset = _head(content, self.order)[-1]
        kind, data, _ = _element(content, offset, self.order)
        if kind not in _STORED:
            raise UnreadableError(f"numbers of an unknown type, {kind}")
        return np.frombuffer(data, self.order + _STORED[kind]).reshape(self.shape, order="F")


def _find(path: Path, names: Sequence[str]) -> dict[str, _Array]:
    with _opened(path) as file:
        found = dict(_arrays(file, path.stat().st_size))
    for name in names:
        if name not in found or not found[name].is_real:
            what = "something else" if name in found else f"only {', '.join(found) or 'nothing'}"
            raise UserError(f"{path}: expected an array of real numbers called {name}, found {what}: replace the file")
    return {name: found[name] for name in names}


def _arrays(file: BinaryIO, length: int) -> Iterator[tuple[str, _Array]]:
    header = file.read(128)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise UnreadableError("another kind of file")
    if 2 in header[124:126]:
        raise UnreadableError("version 7.3, which can be saved anew with -v7")
    while tag := file.read(8):
        kind, size = struct.unpack(order + "II", tag)
        start = file.tell()
        if start + size > length:
            raise UnreadableError("one that is cut short")
        if kind in (_MATRIX, _COMPRESSED):
            compressed = kind == _COMPRESSED
            flags, shape, name, _ = _head(_content(file, size, compressed, _HEAD), order)
            is_real = flags & 0xFF in _NUMBERS and not flags & _COMPLEX
            yield name, _Array(start, size, compressed, order, shape, is_real)
        file.seek(start + size)


def _content(file: BinaryIO, size: int, compressed: bool, limit: int) -> bytes:
    """Up to ``limit`` bytes of an element, unpacked; a whole one is held against its checksum by the way."""
    if not compressed:
        return file.read(min(size, limit))
    packed, stream = file.read(min(size, 2 * limit)), zlib.decompressobj()
    content = stream.decompress(packed, limit + 8)
    if len(packed) == size and len(content) < limit + 8 and not stream.eof:
        raise UnreadableError("one that is cut short")
    return content[8:]  # the element within has a tag of its own


def _head(content: bytes, order: str) -> tuple[int, tuple[int, ...], str, int]:
    """An array's flags (its class in the lowest byte), shape and name, and where its numbers begin."""
    _, flags, offset = _element(content, 0, order)
    _, dimensions, offset = _element(content, offset, order)
    _, name, offset = _element(content, offset, order)
    (flag,) = struct.unpack_from(order + "I", flags)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}I", dimensions)
    if len(shape) < 2:
        raise UnreadableError("an array without a shape")
    return flag, shape, name.decode("latin-1"), offset


def _element(content: bytes, offset: int, order: str) -> tuple[int, bytes, int]:
    """The type and the data of the element at ``offset``, and where the next one begins."""
    kind, size = struct.unpack_from(order + "II", content, offset)
    if kind >> 16:  # four bytes or less stand within the tag
        return kind & 0xFFFF, content[offset + 4 :][: kind >> 16], offset + 8
    return kind, content[offset + 8 :][:size], offset + 8 + size + -size % 8


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror}): see that it is there") from error
    except (UnreadableError, ValueError, struct.error, zlib.error) as error:
        found = error if isinstance(error, UnreadableError) else "one that is corrupt"
        raise UserError(f"{path}: expected a MATLAB file of version 5 to 7, found {found}: replace the file") from error


def times(shape: Sequence[int]) -> str:
    """A shape in words.

    Example:
        >>> times((3, 4))
        '3 x 4'
    """
    return " x ".join(map(str, shape))
