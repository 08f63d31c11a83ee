"""What the paper prints in its Tables 1 to 8, to stand beside what is measured here.

The cells lie in ``paper.csv``, as printed; its column ``note`` says where the paper contradicts itself. They come from
another setting (images, training, an SSIM whose window is not stated): beside ours, not against ours.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_WITHOUT_RECOGNIZER_TO_CHOOSE = ("enhancer_only", "recognizer_only")
_MISPRINT = "misprint"


@dataclass(frozen=True)
class Cell:
    """One cell of the paper's tables, as printed; None where it prints nothing.

    Attributes:
        table: "1" to "8".
        dataset: by its name here; "isic2018 to lizard" where Table 4 trains on the one and tests on the other.
        task: denoise or superresolution.
        level: the noise's σ, the scale γ, or "challenging" (Table 3).
        method: ``enhancer_only`` (Benchmark-i, SR-ResNet), ``recognizer_only`` (Benchmark-ii and -iii), ``joint``,
            ``frozen`` (ESTR), ``gradprom``, or a method of others by its printed name.
        supervision: supervised or unsupervised; empty where the paper does not say.
        auxiliary: none, diagnosis, segmentation or both; empty where the paper does not say.
        backbone: as printed; of the recognizer in Tables 1 and 2.
        psnr: dB.
        psnr_std: over three runs, as the paper has it.
        ssim: in [0, 1].
        ssim_std: as for PSNR.
        recognition: accuracy in Table 1, mIoU in Table 2, in [0, 1].
        note: what to know about this cell; begins with "misprint" where its figures cannot be meant.
    """

    table: str
    dataset: str
    task: str
    level: str
    method: str
    supervision: str
    auxiliary: str
    backbone: str
    psnr: float | None
    psnr_std: float | None
    ssim: float | None
    ssim_std: float | None
    recognition: float | None
    note: str


@functools.cache
def cells() -> tuple[Cell, ...]:
    """Every cell, in the paper's order.

    Example:
        >>> len(cells()), cells()[0].method, cells()[0].recognition
        (183, 'recognizer_only', 0.803)
    """
    text = (files("gradprom.experiments") / "paper.csv").read_text(encoding="utf-8")
    return tuple(_cell(row) for row in csv.DictReader(text.splitlines()))


def _cell(row: dict[str, str]) -> Cell:
    figures = ("psnr", "psnr_std", "ssim", "ssim_std", "recognition")
    values: dict[str, Any] = {**row, **{name: float(row[name]) if row[name] else None for name in figures}}
    return Cell(**values)


def cell(
    table: str | int,
    *,
    level: str,
    method: str,
    supervision: str | None = None,
    auxiliary: str | None = None,
    dataset: str | None = None,
) -> Cell | None:
    """The cell that belongs beside a result; that of the largest backbone where the paper prints several.

    What the paper does not say of a cell (the supervision in Tables 5 to 8, the auxiliary of ESTR there) fits every
    request, and so do both for the benchmarks, which train nothing through a recognizer.

    Args:
        table: 1 to 8.
        level: as :attr:`Cell.level`.
        method: as :attr:`Cell.method`.
        supervision: supervised or unsupervised; None where it does not matter.
        auxiliary: diagnosis, segmentation or both; None where it does not matter.
        dataset: by default the table's own; Table 4's is "isic2018 to lizard", its "Base" rows are "lizard".

    Returns:
        None where the paper has no such cell.

    Example:
        >>> cell(2, level="0.1", method="gradprom", supervision="supervised", auxiliary="segmentation").psnr
        34.82
        >>> cell(5, level="0.1", method="gradprom", auxiliary="segmentation").backbone
        'ResNet-101'
        >>> cell(6, level="0.1", method="gradprom", auxiliary="segmentation") is None
        True
    """
    found = [
        candidate
        for candidate in _at(table, level, dataset)
        if candidate.method == method
        and (
            method in _WITHOUT_RECOGNIZER_TO_CHOOSE
            or (_fits(candidate.supervision, supervision) and _fits(candidate.auxiliary, auxiliary))
        )
    ]
    return max(found, key=lambda candidate: _depth(candidate.backbone), default=None)


def best(table: str | int, level: str, *, dataset: str | None = None) -> tuple[float, float] | None:
    """The best PSNR and the best SSIM that the paper prints at a level, each of any method; misprints are left out.

    Args:
        table: 1 to 8.
        level: as :attr:`Cell.level`.
        dataset: as for :func:`cell`.

    Returns:
        PSNR in dB and SSIM; None where the paper prints neither.

    Example:
        >>> best(5, "0.1"), best(8, "0.3")
        ((36.173, 0.971), (21.055, 0.599))
    """
    found = [candidate for candidate in _at(table, level, dataset) if not candidate.note.startswith(_MISPRINT)]
    psnr = [candidate.psnr for candidate in found if candidate.psnr is not None]
    ssim = [candidate.ssim for candidate in found if candidate.ssim is not None]
    return (max(psnr), max(ssim)) if psnr and ssim else None


def _at(table: str | int, level: str, dataset: str | None) -> Sequence[Cell]:
    rows = [candidate for candidate in cells() if candidate.table == str(table)]
    # of Table 4's two, the one that the table is about is listed first
    dataset = dataset or (rows[0].dataset if rows else None)
    return [row for row in rows if row.level == level and row.dataset == dataset]


def _fits(printed: str, wanted: str | None) -> bool:
    return not printed or wanted is None or printed == wanted


def _depth(backbone: str) -> int:
    """The number a backbone's name ends with, -1 without one.

    >>> _depth("ResNet-101"), _depth("SADNet"), _depth("")
    (101, -1, -1)
    """
    number = re.search(r"\d+$", backbone)
    return int(number.group()) if number else -1
