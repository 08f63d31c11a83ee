"""Files that hold many images, or intensities that are no plain 8 or 16 bits: read and written frame by frame."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradprom.errors import UserError
from gradprom.images.image import Pixels, UnreadableError

FrameFormat = Literal["dicom", "nifti", "tiff"]


class NoImageError(UserError):
    """A file which is whole and well, and holds no image to enhance: a report, a plan, a mask.

    Attributes:
        found: what it holds, for a list.
    """

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path}: expected an image, found {found}; leave it out")
        self.found = found


@dataclass(frozen=True)
class Frames:
    """The images of a file in their order, and how to write others in their place.

    Attributes:
        format: what kind of file it is.
        count: how many images.
        read: gives the image of an index: (height, width, 1 or 3), float32 in [0, 1], or uint8 or uint16 of full range.
        write: takes a path and ``count`` images of the same types in the same order, of the same size or all enlarged
            by one whole number, and writes the file with them, whole or not at all; images are taken one by one, as
            they are needed. What the file says of sizes and places is made to fit: enlarged, it covers the same ground.
            Raises UserError.
        check: is given by how much images are to be enlarged, and raises UserError where ``write`` could not do it.
    """

    format: FrameFormat
    count: int
    read: Callable[[int], Pixels]
    write: Callable[[Path, Iterable[Pixels]], None]
    check: Callable[[int], None] = lambda scale: None


def with_scale(frames: Iterable[Pixels], height: int) -> tuple[int, Iterator[Pixels]]:
    """By how much images are enlarged, as the first of them tells, and all of them.

    Args:
        frames: the images.
        height: before.

    Example:
        >>> import numpy as np
        >>> scale, frames = with_scale([np.zeros((6, 4, 1))], 3)
        >>> scale, len(list(frames))
        (2, 1)
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        return 1, iterator
    return first.shape[0] // height, itertools.chain([first], iterator)


def check_size(shape: tuple[int, ...], max_pixels: int, option: str) -> None:
    """Refuse a file with too many pixels, all its frames together.

    Args:
        shape: of all frames, without channels.
        max_pixels: how many pixels are allowed.
        option: what the user is told to raise.

    Raises:
        UnreadableError: there are more, or none.

    Example:
        >>> check_size((3, 20, 20), 1000, "--max-pixels")
        Traceback (most recent call last):
        ...
        gradprom.images.image.UnreadableError: expected at most 1000 pixels in all frames, found 3×20×20; ...
    """
    total = 1
    for side in shape:
        total *= side
    size = "×".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise UnreadableError(f"expected an image, found one of {size} pixels; copy it again")
    if total > max_pixels:
        raise UnreadableError(
            f"expected at most {max_pixels} pixels in all frames, found {size}; if the file is to be trusted "
            f"and memory allows, raise the limit with {option} {total}"
        )


class PlainWriter(io.FileIO):
    """A file for writing that numpy takes for no real one: what numpy writes by itself fails without saying why."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")

    def fileno(self) -> int:
        """Raise io.UnsupportedOperation, as a file in memory does."""
        raise io.UnsupportedOperation("fileno")

    def write(self, data: Any, /) -> int:
        """Write all of ``data``, or raise OSError with its number."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[super().write(rest) :]
        return memoryview(data).nbytes


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a broken file makes its decoder raise into one sentence, and refuse what would keep it waiting.

    Args:
        path: the file, for the sentence.
        kind: "DICOM", "NIfTI" or "TIFF".

    Raises:
        UserError: for every exception that leaves the block.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UnreadableError("expected a file, found a pipe or a device, which has no end; name a file")
        yield
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from (error.__cause__ or error)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: expected to fit into memory, found too little; free some") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(
            f"{path}: the file cannot be read ({error.strerror}); check the name and its permissions"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path}: expected a whole {kind} file, found one that is cut short or corrupt; copy it again"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into one sentence; other errors pass.

    Raises:
        UserError: for an OSError (which is then its cause) and an UnreadableError that leave the block.
    """
    try:
        yield
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(
            f"{path}: the file cannot be written ({error.strerror or error}); check the folder's permissions and the "
            "free space"
        ) from error
