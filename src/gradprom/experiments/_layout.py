"""What the tables of an experiment show, whatever they are written in: rows, columns, cells and the notes below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradprom._evaluation import plus_minus
from gradprom.experiments._result import Result
from gradprom.experiments.statistics import Interval, verdict

_METHODS = (
    "input",
    "bicubic",
    "non-local means",
    "clean",
    "enhancer_only",
    "recognizer_only",
    "joint",
    "frozen",
    "gradprom",
)
_WITHOUT_CASCADE = _METHODS[:6]
_AUXILIARIES = (None, "none", "diagnosis", "segmentation", "both")
_KEYS = {"supervision": "supervision", "auxiliary": "auxiliary", "weight": "λ", "max_ratio": "cone ρ"}
_SETTINGS = ("enhancer", "recognizer")  # columns where they differ, else a sentence below
_COUNTS = {"images": "Test images", "seeds": "Seeds", "steps": "Training steps"}
_SYMBOLS = {"denoise": "σ ", "superresolution": "γ "}
_MISSING = "–"
_QUALITY = (
    "Means over the test images, ± the sample standard deviation over seeds where there are several. Bold: the highest "
    "PSNR of a column as it is printed, which by itself tells no difference."
)
_PAPER = " In brackets: the paper's own figures, from its own setting."
_RECOGNITION = (
    "Accuracy for diagnosis, mIoU for segmentation and for both, as the method's own recognizer reads the images, ± "
    "the sample standard deviation over seeds where there are several. Paper: its own figure. "
    "Independent: as a recognizer reads them that had no part in the training. Balanced: balanced accuracy. Majority: "
    "the accuracy of a constant answer."
)
_DIFFERENCE = (
    "Paired over the test images, each image averaged over the seeds first. In brackets: the interval of a bootstrap "
    "over the patients, or over the images where patients are not known, at a confidence of {}. With one seed it says "
    "nothing of other trainings; several widen it by how far they lie apart. No difference told: the interval holds 0, "
    "or there are too few for one."
)


@dataclass(frozen=True)
class Cell:
    """What a cell shows: a bold beginning, what goes on from it, and what stands below where there is room."""

    text: str
    bold: str = ""
    below: str = ""


@dataclass(frozen=True)
class Block:
    """One table: a row begins with what tells it from the others (``keys``) and has a cell for each level."""

    caption: str
    keys: tuple[str, ...]
    levels: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    note: str


def blocks_of(results: Sequence[Result]) -> list[Block]:
    """Tables of image quality, of recognition and of differences; those that would hold nothing are left out.

    Raises:
        ValueError: there is nothing to show, or there are two results of one method at one level.
    """
    rows: dict[tuple[object, ...], dict[tuple[str, ...], Result]] = {}
    for result in sorted(results, key=_order):
        row = rows.setdefault((result.method, *(getattr(result, name) for name in (*_KEYS, *_SETTINGS))), {})
        if row.setdefault(_column(result), result) is not result:
            raise ValueError(f"two results of {_label(result)} at level {result.level} of {result.dataset}")
    columns = sorted(set(map(_column, results)), key=lambda column: (*column[:2], _number(column[2]), column[2]))
    several_datasets = len(_distinct(results, "dataset")) > 1
    levels = tuple(_heading(column, several_datasets) for column in columns)
    shown = {name: heading for name, heading in _KEYS.items() if _distinct(results, name)}
    shown |= {name: name for name in _SETTINGS if len(_distinct(results, name)) > 1}
    best = {column: _best(row[column] for row in rows.values() if column in row) for column in columns}

    def block(caption: str, note: str, show: Callable[[Result], Cell | None]) -> Iterator[Block]:
        lines = []
        for row in rows.values():
            cells = [show(row[column]) if column in row else None for column in columns]
            if any(cells):
                first = next(iter(row.values()))
                keys = (_label(first), *(_key(getattr(first, name)) for name in shown))
                lines.append((keys, tuple(cell or Cell(_MISSING) for cell in cells)))
        if lines:
            yield Block(caption, ("method", *shown.values()), levels, tuple(lines), note)

    def less(reference: str) -> Callable[[Result], Cell | None]:
        return lambda result: _difference(result.difference) if result.reference == reference else None

    beside = _distinct(results, "paper_psnr") or _distinct(results, "paper_ssim")
    quality = _QUALITY + _PAPER if beside else _QUALITY
    blocks = [
        *block("Image quality: PSNR in dB / SSIM", quality, lambda result: _quality(result, best[_column(result)])),
        *block("Recognition", _RECOGNITION, _recognition),
    ]
    confidences = {f"{interval.confidence:.0%}" for interval in _distinct(results, "difference")}
    note = _DIFFERENCE.format(" or ".join(sorted(confidences)))
    for reference in _distinct(results, "reference"):
        blocks += block(f"PSNR less that of {reference}, in dB", note, less(reference))
    if not blocks:
        raise ValueError("there are no results to show")
    return blocks


def about(results: Sequence[Result]) -> list[str]:
    """What holds for all cells, in one paragraph, if there is anything to say."""
    facts = [f"{name}: {_span(taken)}." for field, name in _COUNTS.items() if (taken := _distinct(results, field))]
    settings = {name: taken[0] for name in _SETTINGS if len(taken := _distinct(results, name)) == 1}
    facts += [f"{name.capitalize()}: {value}." for name, value in settings.items()]
    return [" ".join(facts)] if facts else []


def _quality(result: Result, best: str) -> Cell | None:
    paper = (result.paper_psnr, result.paper_ssim)
    if (result.psnr, result.ssim, *paper) == (None,) * 4:
        return None
    psnr = plus_minus(result.psnr, result.psnr_std, 2)
    ssim = plus_minus(result.ssim, result.ssim_std, 3)
    below = (
        "" if paper == (None, None) else f"(paper {plus_minus(paper[0], None, 3)} / {plus_minus(paper[1], None, 3)})"
    )
    if result.psnr is not None and f"{result.psnr:.2f}" == best:
        return Cell(f" / {ssim}", psnr, below)
    return Cell(f"{psnr} / {ssim}", below=below)


def _best(results: Iterable[Result]) -> str:
    """The highest PSNR as it is printed, so that what looks equal is marked alike."""
    taken = [result.psnr for result in results if result.psnr is not None and not math.isnan(result.psnr)]
    return f"{max(taken):.2f}" if taken else ""


def _recognition(result: Result) -> Cell | None:
    beside = {
        "paper": result.paper_recognition,
        "independent": result.independent_recognition,
        "balanced": result.balanced_accuracy,
        "majority": result.majority,
    }
    known = [f"{name} {value:.3f}" for name, value in beside.items() if value is not None]
    if result.recognition is None and not known:
        return None
    return Cell(
        plus_minus(result.recognition, result.recognition_std, 3), below=f"({', '.join(known)})" if known else ""
    )


def _difference(interval: Interval | None) -> Cell | None:
    if interval is None:
        return None
    between = _MISSING if interval.low is None else f"{interval.low:+.3f}, {interval.high:+.3f}"
    return Cell(f"{interval.mean:+.3f} [{between}]", below=verdict(interval))


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _distinct(results: Iterable[Result], name: str) -> list[Any]:
    return list(dict.fromkeys(value for result in results if (value := getattr(result, name)) is not None))


def _column(result: Result) -> tuple[str, str, str]:
    return result.dataset, result.task, result.level


def _heading(column: tuple[str, str, str], with_dataset: bool) -> str:
    dataset, task, level = column
    heading = level if math.isinf(_number(level)) else f"{_SYMBOLS.get(task, '')}{level}"
    return f"{dataset}, {heading}" if with_dataset else heading


def _number(level: str) -> float:
    """For the order of levels: words come after numbers."""
    try:
        return float(level)
    except ValueError:
        return math.inf


def _label(result: Result) -> str:
    return f"{result.method} + cone" if result.max_ratio is not None else result.method


def _key(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _order(result: Result) -> tuple[Any, ...]:
    """Baselines and benchmarks, then what was trained through a recognizer: unsupervised first, both tasks last."""
    cascade = result.method not in _WITHOUT_CASCADE
    method = _METHODS.index(result.method) if result.method in _METHODS else len(_METHODS)
    auxiliary = _AUXILIARIES.index(result.auxiliary) if result.auxiliary in _AUXILIARIES else len(_AUXILIARIES)
    return (
        cascade,
        cascade and result.auxiliary == "both",
        cascade and result.supervision == "supervised",
        cascade and auxiliary,
        method,
        result.method,
        result.max_ratio is not None,
        result.weight or 0.0,
        result.max_ratio or 0.0,
        *(getattr(result, name) or "" for name in _SETTINGS),
    )
