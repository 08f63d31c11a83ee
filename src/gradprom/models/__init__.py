"""Ready-made enhancers, each a small folder beside this file, used by its name where a run folder is expected.

Such a folder holds ``config.yaml`` and ``run.json`` as a run has them, ``enhancer.safetensors``, ``images.csv`` (which
images it learnt from and which it was tested on), ``measures.json`` and ``card.md``. Recognizers are not among them:
each is many times as large as the enhancer.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradprom.errors import UserError

ROOT = Path(__file__).parent
MEASURES, CARD, IMAGES = "measures.json", "card.md", "images.csv"


@dataclass(frozen=True)
class Measures:
    """``measures.json``: what a shipped model is for, and how it did on images that it never saw.

    Attributes:
        what: a line for people.
        images: how many it was measured on.
        lowest_clean: PSNR in dB of that clean image which came back the most changed.
        evaluations: the contents of an ``evaluation.json`` for each degradation.
    """

    what: str
    images: int
    lowest_clean: float
    evaluations: list[dict[str, Any]]

    def psnr(self, degradation: str, method: str) -> float | None:
        """Mean PSNR in dB of a method at a degradation; None where it was not measured, or is infinite."""
        for evaluation in self.evaluations:
            if evaluation["degradation"] == degradation and method in evaluation["summary"]:
                value: float | None = evaluation["summary"][method]["psnr"]
                return value
        return None


def shipped() -> tuple[str, ...]:
    """The names of the models that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in ROOT.glob("*/config.yaml")))


def is_shipped(folder: str | Path) -> bool:
    """Whether a folder is that of a model which comes with the package.

    Example:
        >>> is_shipped(ROOT / "dermoscopy"), is_shipped("dermoscopy")
        (True, False)
    """
    return Path(folder).resolve().parent == ROOT.resolve()


def find_model(model: str | Path) -> Path:
    """The folder that ``MODEL`` stands for: a run folder, or where there is none of that path, a shipped model's.

    A run folder that goes by a shipped model's name is taken, and stderr told so.

    Args:
        model: a path, or one of :func:`shipped`.

    Raises:
        UserError: there is neither.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> str(find_model(folder)) == folder
        True
    """
    path = Path(model)
    names = shipped()
    is_name = path.name in names and len(path.parts) == 1
    if is_name and not (path / "config.yaml").is_file():
        return ROOT / path.name
    if is_name:
        _tell(path.name)
    if path.exists() or not names:
        return path
    raise UserError(
        f"{model}: is not a run folder (there is nothing of that name), nor one of the shipped models, which are "
        f"{' and '.join(names)}: give a folder made by gradprom train, or one of these names"
    )


@functools.cache  # once is enough, however often a command asks
def _tell(name: str) -> None:
    print(f"gradprom: {name}: the run folder of that name is used, not the shipped model", file=sys.stderr)


def read_measures(name: str) -> Measures:
    """The measures of a shipped model.

    Raises:
        UserError: there is no such model, or its file is damaged.
    """
    if name not in shipped():
        raise UserError(f"{name}: is not a shipped model: gradprom models lists them")
    path = ROOT / name / MEASURES
    try:
        return Measures(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is missing or damaged, install gradprom again") from error
