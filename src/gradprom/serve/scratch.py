"""A temporary folder that is gone when its process is: at once if that ends well, else when the next one begins."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

_PREFIX = "gradprom-serve-"
_LOCK = ".lock"


class Scratch:
    """A folder below the system's temporary one, for its owner's eyes only.

    Attributes:
        path: the folder.

    Example:
        >>> scratch = Scratch()
        >>> scratch.path.is_dir()
        True
        >>> scratch.remove()
        >>> scratch.path.exists()
        False
    """

    def __init__(self) -> None:
        remove_orphans()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _create_lock(self.path)

    def remove(self) -> None:
        """Delete it with all it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def remove_orphans() -> None:
    """Delete what processes left behind that were killed before they could do it themselves.

    The lock of a process goes with it, however it ends. Where the system has none, nothing is deleted.
    """
    try:
        import fcntl
    except ImportError:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is another user's, or its process lives
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _create_lock(folder: Path) -> IO[bytes] | None:
    """Hold a file in the folder locked as long as this process lives."""
    try:
        import fcntl
    except ImportError:
        return None
    early = folder / f"{_LOCK}-early"
    file = early.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # it gets the name by which others look for it when it is locked already
    early.rename(folder / _LOCK)
    return file
