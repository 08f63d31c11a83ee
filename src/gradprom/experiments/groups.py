"""The measured runs of a plan, cell by cell: those that differ by their seeds together."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradprom._chain import PRESETS, chain_scale, chain_sigma, describe_chain, parse_chain
from gradprom.experiments.plan import Plan
from gradprom.experiments.records import Measured, RunResult
from gradprom.experiments.statistics import Interval, average_over_seeds, paired_difference, verdict
from gradprom.training.config import StageConfig, TrainingConfig


@dataclass(frozen=True)
class Group:
    """The runs of one cell, which differ by their seeds.

    Attributes:
        dataset: what they were tested on, as a table names it.
        runs: one a seed.
        measured: what each of them measured there.
    """

    dataset: str
    runs: tuple[RunResult, ...]
    measured: tuple[Measured, ...]

    @property
    def axes(self) -> Mapping[str, Any]:
        """The value on every axis, the seed's aside."""
        return self.runs[0].run.axes

    @property
    def setting(self) -> TrainingConfig:
        """How the enhancer was trained, whatever it was trained through: what a fair comparison has in common."""
        return replace(
            self.runs[0].run.config.training,
            seed=0,
            pretrain=StageConfig(),
            consistency_loss=TrainingConfig.consistency_loss,
            target=TrainingConfig.target,
        )

    def images(self, column: str) -> dict[str, float] | None:
        """A measure of every enhanced image, averaged over the seeds; None where it was not taken."""
        return average_over_seeds(taken) if all(taken := [_images(m.images, column) for m in self.measured]) else None


def groups_of(plan: Plan, runs: Sequence[RunResult]) -> list[Group]:
    """The measured runs of a plan, those that differ by their seeds together.

    Where a plan tests on another dataset, its table is about that one: runs of other datasets are shown as measured
    there, and its own runs as they are.
    """
    found: dict[tuple[Any, ...], list[tuple[RunResult, Measured]]] = {}
    for result in runs:
        own = str(result.run.axes["dataset"]).split()[0]
        places = {own: result.own} if not plan.test_on or own in plan.test_on else {}
        places |= {f"{own} to {name}": measured for name, measured in result.elsewhere.items()}
        for dataset, measured in places.items():
            if measured is not None:
                values = (value for axis, value in result.run.axes.items() if axis != "seed")
                found.setdefault((dataset, *values), []).append((result, measured))
    return [Group(key[0], *map(tuple, zip(*members, strict=True))) for key, members in found.items()]


def level_of(degradation: str) -> str:
    """A degradation as a table names it: σ, γ, the name of a preset, or itself.

    >>> level_of("gaussian 0.10"), level_of("downsample 2"), level_of(PRESETS["challenging"]), level_of("blur 3 1")
    ('0.1', '2', 'challenging', 'blur 3 1')
    """
    sigma, text = chain_sigma(degradation), describe_chain(degradation)
    if sigma is not None:
        return f"{sigma:g}"
    if len(parse_chain(text)) == 1 and chain_scale(text) > 1:
        return str(chain_scale(text))
    return next((name for name, chain in PRESETS.items() if text == describe_chain(chain)), text)


def differences_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """gradprom, with the cone and without, less each strategy it is compared with, where all else is the same.

    Of every pair the difference in PSNR, SSIM and, where it was read, in the independent reader's mean IoU or accuracy,
    per image, with a 95 % interval of a bootstrap over the images.
    """
    rows = []
    for a, b in itertools.permutations(groups, 2):
        if a.axes["strategy"] != "gradprom" or not _comparable(a, b):
            continue
        for measure in ("psnr", "ssim", "independent_iou", "independent_correct"):
            mine, others = a.images(measure), b.images(measure)
            if not mine or not others or mine.keys() != others.keys():
                continue
            interval = paired_difference(mine, others)
            rows.append(_difference(a, b, measure, interval))
    return rows


def alike(a: Group, b: Group) -> bool:
    """Whether two groups enhanced the same images with equal enhancers, trained for as long on the same views."""
    axes = ("degradation", "enhancer", "dataset")
    same = a.dataset == b.dataset and all(a.axes[axis] == b.axes[axis] for axis in axes)
    return same and a.setting == b.setting


def _comparable(a: Group, b: Group) -> bool:
    """Whether two groups differ in what is to be compared alone: the strategy, and the cone or the gate."""
    if not alike(a, b) or b.axes["strategy"] == "recognizer_only":
        return False
    if b.axes["strategy"] == "enhancer_only":
        return True
    if b.axes["strategy"] == "gradprom" and b.axes["gate"] != "hard":
        return False  # it is the paper's own rule that others are compared with
    return all(a.axes[axis] == b.axes[axis] for axis in ("supervision", "auxiliary", "weight", "recognizer"))


def _difference(a: Group, b: Group, measure: str, interval: Interval) -> dict[str, Any]:
    return {
        "dataset": a.dataset,
        "level": level_of(a.axes["degradation"]),
        **{axis: a.axes[axis] for axis in ("supervision", "auxiliary", "weight")},
        "method": _name(a),
        "less": _name(b),
        "measure": measure,
        "difference": f"{interval.mean:.6g}",
        "low": "" if interval.low is None else f"{interval.low:.6g}",
        "high": "" if interval.high is None else f"{interval.high:.6g}",
        "images": interval.n,
        "seeds": min(len(a.runs), len(b.runs)),
        "verdict": verdict(interval),
    }


def _name(group: Group) -> str:
    gate = group.axes["gate"]
    return str(group.axes["strategy"]) + ("" if gate in (None, "hard") else f" {gate}")


def _images(path: Path, column: str) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "enhanced"]
    if column == "independent_correct":
        return {
            row["id"]: float(row["label"] == row["independent_predicted"])
            for row in rows
            if row.get("independent_predicted")
        }
    return {row["id"]: float(row[column]) for row in rows if row.get(column)}
