"""Where bfloat16 pays off."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def has_bf16(device: str) -> bool:
    """Whether a kind of device ("cpu", "cuda") computes in bfloat16 faster than in float32.

    Example:
        >>> has_bf16("meta")
        False
    """
    if device == "cuda":
        import torch

        return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if device == "cpu" and cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
