"""What concerns the whole process: its memory, its processors, and Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def tune_malloc() -> bool:
    """Let glibc keep freed memory, instead of giving large tensors' pages back and faulting them in again at each step.

    To be called before PyTorch allocates. Returns whether it applied: elsewhere than on glibc it does nothing.

    Example:
        >>> tune_malloc() in (True, False)
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    return all(libc.mallopt(name, value) for name, value in settings.items())


def processors() -> int:
    """How many this process may run on.

    Example:
        >>> processors() > 0
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted, and asked for when it suits; a second one raises KeyboardInterrupt at once.

    Example:
        >>> with interruptible() as interrupted:
        ...     interrupted()
        False
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
