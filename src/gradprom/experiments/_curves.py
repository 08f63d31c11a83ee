"""Which curves a report shows of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradprom.experiments.figures import Array, Curve, auxiliaries, draw, numbers, read_columns, smoothed, window_of

_TRAINS_ENHANCER = ("warmup", "cascade")


@dataclass(frozen=True)
class Plot:
    """A drawn figure: PNG bytes and the caption that says what it shows."""

    png: bytes
    caption: str


def training_plots(runs: Sequence[tuple[str, Path | None]]) -> list[Plot]:
    """Losses and validation PSNR of all runs, one line a run.

    Args:
        runs: name and ``metrics.csv`` of each.
    """
    tables = [(name, read_columns(path)) for name, path in runs]
    losses, scores, recognizers = [], [], []
    for name, columns in tables:
        stages = np.array(columns.get("stage", []), dtype=object)
        steps, loss = numbers(columns, "step"), numbers(columns, "loss")
        if not len(stages):
            stages = np.full(len(steps), _TRAINS_ENHANCER[-1], dtype=object)
        enhancing = np.isin(stages, _TRAINS_ENHANCER)
        x = _continuous(steps[enhancing], list(stages[enhancing]))
        losses.append(smoothed(name, x, loss[enhancing]))
        score = numbers(columns, "validation_psnr")[enhancing]
        scored = np.isfinite(score)
        scores.append(Curve(name, x[scored], score[scored]))
        tasks = [stage for stage in dict.fromkeys(stages) if str(stage).startswith("pretrain")]
        for stage in tasks:
            label = name if len(tasks) == 1 else f"{name}, {str(stage).removeprefix('pretrain_')}"
            recognizers.append(smoothed(label, steps[stages == stage], loss[stages == stage]))
    return _drawn(
        Plot(
            draw(losses, ylabel="enhancement loss", log=True), "Enhancement loss, smoothed: warm-up, then the cascade."
        ),
        Plot(draw(scores, ylabel="PSNR (dB)"), "PSNR on validation images."),
        Plot(draw(recognizers, ylabel="recognition loss", log=True), "Pretraining of the recognizer on clean images."),
    )


def promotion_plots(path: Path | None) -> list[Plot]:
    """What promotion did in one run, one line an auxiliary.

    Args:
        path: the run's ``promotion.csv``.
    """
    columns = read_columns(path)
    names = auxiliaries(columns)
    steps, main = numbers(columns, "step"), numbers(columns, "main_norm")
    window = f"over {window_of(len(steps))} steps"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [smoothed(name, steps, numbers(columns, f"norm_{name}") / main) for name in names]
    ratios.append(smoothed("what was promoted", steps, numbers(columns, "ratio")))
    return _drawn(
        Plot(
            draw(_each(columns, names, "alignment", raw=True), ylabel="alignment s"),
            f"Alignment of the gradients, cos(G, the recognizer's): each step faint, mean {window} on top.",
        ),
        Plot(
            draw(_each(columns, names, "promoted"), ylabel="share promoted", limits=(-0.02, 1.02)),
            f"Promotion rate {window}.",
        ),
        Plot(
            draw(ratios, ylabel="length / ‖G‖", log=True),
            f"Length of the recognizers' gradients, and of what was promoted of them, relative to ‖G‖: mean {window}.",
        ),
        Plot(
            draw(_each(columns, names, "loss"), ylabel="recognition loss", log=True), f"Auxiliary loss, mean {window}."
        ),
    )


def promotion_summary(path: Path | None) -> list[str]:
    """What promotion did in one run, in a sentence for each auxiliary."""
    columns = read_columns(path)
    skipped = int(np.nansum(numbers(columns, "skipped"))) if columns else 0
    sentences = []
    for name in auxiliaries(columns):
        promoted, alignment = numbers(columns, f"promoted_{name}"), numbers(columns, f"alignment_{name}")
        promoted, alignment = promoted[np.isfinite(promoted)], alignment[np.isfinite(alignment)]
        if promoted.size:
            mean = f"{alignment.mean():.3f}" if alignment.size else "undefined"
            sentences.append(
                f"{name}: promoted in {promoted.mean():.1%} of {promoted.size} steps, mean alignment {mean}."
            )
    if skipped:
        sentences.append(f"Steps skipped because the enhancement gradient was not finite: {skipped}.")
    return sentences


def _each(columns: Mapping[str, Sequence[str]], names: Sequence[str], prefix: str, raw: bool = False) -> list[Curve]:
    steps = numbers(columns, "step")
    return [smoothed(name, steps, numbers(columns, f"{prefix}_{name}"), raw=raw) for name in names]


def _drawn(*plots: Plot) -> list[Plot]:
    return [plot for plot in plots if plot.png]


def _continuous(steps: Array, stages: Sequence[object]) -> Array:
    """Steps that run on from stage to stage, whether or not each stage counts from the beginning.

    >>> _continuous(np.array([1.0, 2.0, 1.0, 2.0]), ["warmup", "warmup", "cascade", "cascade"])
    array([1., 2., 3., 4.])
    """
    moved, offset, last = [], 0.0, -math.inf
    for index, step in enumerate(steps):
        if index and stages[index] != stages[index - 1]:
            offset = last if step + offset <= last else offset
        moved.append(step + offset)
        last = moved[-1] if math.isfinite(moved[-1]) else last
    return np.array(moved, dtype=np.float64)
