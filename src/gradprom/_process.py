"""Settings of the whole process that cost nothing and help a lot."""

from __future__ import annotations

import ctypes
import platform

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
