"""Task-driven medical image quality enhancement with gradient promotion.

Names are resolved when they are first used (PEP 562), so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "GradientPromotion": "gradprom.promotion",
    "Step": "gradprom.promotion",
    "average_over_processes": "gradprom.promotion",
    "Config": "gradprom.training.config",
    "train": "gradprom.training.run",
    "evaluate_run": "gradprom.training.run",
    "load": "gradprom.inference.load",
    "UserError": "gradprom.errors",
}

if TYPE_CHECKING:
    from gradprom.errors import UserError
    from gradprom.inference.load import load
    from gradprom.promotion import GradientPromotion, Step, average_over_processes
    from gradprom.training.config import Config
    from gradprom.training.run import evaluate_run, train

__all__ = [
    "Config",
    "GradientPromotion",
    "Step",
    "UserError",
    "average_over_processes",
    "evaluate_run",
    "load",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradprom' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
