"""Writing files so that none is ever half-written."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, with its suffix; rename it to ``path`` on success, remove it on failure.

    Args:
        path: the file to appear, whole, when the block ends without an exception. Its folder is created.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "note.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_path(path)
    # not by mkstemp, which makes files private to their owner: what users get follows their umask, as any other file
    # does, and to ask for that would be to change it, under other threads that write as well
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Give a name beside ``path`` that nobody has, with its suffix, for what is not whole yet.

    Example:
        >>> partial_path(Path("runs/brain.nii.gz")).match("runs/.partial-*.nii.gz")
        True
    """
    return path.with_name(f".partial-{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")


def in_memory(save: Callable[[BinaryIO], object]) -> memoryview:
    """What ``save`` writes, to be written by us: PyTorch's own writer ends the process where a disk is full.

    Example:
        >>> bytes(in_memory(lambda file: file.write(b"weights")))
        b'weights'
    """
    content = io.BytesIO()
    save(content)
    return content.getbuffer()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; names of files that are no text keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
