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
    "evaluate_run": "gradprom.experiments.evaluate",
    "activation_map": "gradprom.explain",
    "load": "gradprom.inference.load",
    "load_reader": "gradprom.inference.reader",
    "load_recognizers": "gradprom.inference.load",
    "parse": "gradprom.training.config",
    "resume": "gradprom.training.run",
    "saliency": "gradprom.explain",
    "UserError": "gradprom.errors",
}

if TYPE_CHECKING:
    from gradprom.errors import UserError
    from gradprom.experiments.evaluate import evaluate_run
    from gradprom.explain import activation_map, saliency
    from gradprom.inference.load import load, load_recognizers
    from gradprom.inference.reader import load_reader
    from gradprom.promotion import GradientPromotion, Step, average_over_processes
    from gradprom.training.config import Config, parse
    from gradprom.training.run import resume, train

__all__ = [
    "Config",
    "GradientPromotion",
    "Step",
    "UserError",
    "activation_map",
    "average_over_processes",
    "evaluate_run",
    "load",
    "load_reader",
    "load_recognizers",
    "parse",
    "resume",
    "saliency",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradprom' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
