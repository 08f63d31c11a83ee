"""One cell of our own tables, and the CSV file that such cells are kept in."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gradprom._files import atomic_path
from gradprom.errors import UserError
from gradprom.experiments.statistics import Interval


@dataclass(frozen=True)
class Result:
    """One method at one level; None where something does not apply or was not measured.

    ``results.csv`` holds the attributes up to ``steps``, in this order.

    Attributes:
        table: the paper's table this belongs to, or any other name.
        dataset: what was tested on.
        task: denoise or superresolution.
        level: the noise's σ, the scale γ, or a name such as "challenging".
        method: a strategy, with its gate where that is not the hard one, or what needed no training: ``input``,
            ``bicubic``, ``non-local means``, or the ``clean`` image, which is only read.
        supervision: supervised or unsupervised.
        auxiliary: none, diagnosis, segmentation or both.
        weight: λ.
        max_ratio: the cone's ρ.
        psnr: dB, mean over the test images and then over the seeds.
        psnr_std: sample standard deviation over the seeds; None for a single one.
        ssim: as for PSNR.
        ssim_std: as for PSNR.
        recognition: accuracy for diagnosis, mIoU for segmentation, as the method's own recognizer reads the images.
        independent_recognition: the same as read by a recognizer that had no part in the training.
        paper_psnr: the paper's own figure for this cell.
        paper_ssim: likewise.
        images: number of test images.
        seeds: number of seeds.
        steps: of training.
        enhancer: the enhancer's name.
        recognizer: the recognizer's name.
        recognition_std: sample standard deviation over the seeds.
        paper_recognition: the paper's own figure.
        balanced_accuracy: beside ``recognition`` where that is an accuracy.
        majority: the accuracy that a constant answer reaches.
        difference: PSNR less that of ``reference``, paired over the images.
        reference: the method that was subtracted.
    """

    table: str
    dataset: str
    task: str
    level: str
    method: str
    supervision: str | None = None
    auxiliary: str | None = None
    weight: float | None = None
    max_ratio: float | None = None
    psnr: float | None = None
    psnr_std: float | None = None
    ssim: float | None = None
    ssim_std: float | None = None
    recognition: float | None = None
    independent_recognition: float | None = None
    paper_psnr: float | None = None
    paper_ssim: float | None = None
    images: int | None = None
    seeds: int | None = None
    steps: int | None = None
    enhancer: str | None = None
    recognizer: str | None = None
    recognition_std: float | None = None
    paper_recognition: float | None = None
    balanced_accuracy: float | None = None
    majority: float | None = None
    difference: Interval | None = None
    reference: str = "enhancer_only"


_NAMES = [field.name for field in fields(Result)]
COLUMNS = tuple(_NAMES[: _NAMES.index("steps") + 1])
"""The columns of ``results.csv``."""
_WORDS = COLUMNS[: COLUMNS.index("weight")]
_COUNTS = ("images", "seeds", "steps")


def write_results(results: Iterable[Result], path: str | Path) -> None:
    """Write ``results.csv``, whole or not at all: :data:`COLUMNS`, six significant digits, an empty field for None.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "results.csv"
        >>> results = [Result("5", "isic2018", "denoise", "0.1", "gradprom", weight=1e-4, psnr=36.1934, images=111)]
        >>> write_results(results, path)
        >>> read_results(path) == results
        True
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for result in results:
            values = (getattr(result, name) for name in COLUMNS)
            writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)


def read_results(path: str | Path) -> list[Result]:
    """Read what :func:`write_results` wrote.

    Raises:
        UserError: the file cannot be read, has other columns, or has no number where one belongs.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a table of results, but it cannot be read ({error})") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        found = ",".join(lines[0])[:200] if lines else "nothing"
        raise UserError(f"{path}: expected the columns {','.join(COLUMNS)}, found {found}: give a results.csv")
    return [_result(f"{path}, row {number}", line) for number, line in enumerate(lines[1:], start=1)]


def _result(place: str, line: Sequence[str]) -> Result:
    if len(line) != len(COLUMNS):
        raise UserError(f"{place}: expected {len(COLUMNS)} values, found {len(line)}: write the table anew")
    values: dict[str, Any] = {}
    for name, text in zip(COLUMNS, line, strict=True):
        read: Callable[[str], Any] = str if name in _WORDS else int if name in _COUNTS else float
        try:
            values[name] = read(text) if text else None
        except ValueError as error:
            raise UserError(f"{place}: expected a number in column {name}, found {text!r}: mend it") from error
    return Result(**values)
