"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("gradprom", "torch", "torchvision", "timm", "segmentation-models-pytorch", "torchmetrics", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on.

    Example:
        >>> "torch" in versions()
        True
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
