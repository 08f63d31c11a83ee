"""The measured runs of a plan, cell by cell: those that differ by their seeds together, and how two cells differ."""

from __future__ import annotations

import csv
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gradprom._chain import PRESETS, chain_scale, chain_sigma, describe_chain, parse_chain
from gradprom.experiments._axes import TASKS, parse_gate
from gradprom.experiments.plan import Plan
from gradprom.experiments.records import Measured, RunResult
from gradprom.experiments.statistics import (
    Interval,
    as_columns,
    average_over_seeds,
    bootstrap_difference,
    mean_std,
    paired_difference,
    verdict,
    with_seeds,
)
from gradprom.training.config import Config, StageConfig, TrainingConfig, differing

if TYPE_CHECKING:
    from torch import Tensor

MEASURES = ("psnr", "ssim", "independent_accuracy", "independent_miou")
"""What two groups are compared by."""
MEASURE_OF = {"diagnosis": "accuracy", "segmentation": "miou"}
"""What a task's recognition is measured by."""


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
    def config(self) -> Config:
        """The configuration, the seed aside."""
        return self.runs[0].run.config

    @property
    def name(self) -> str:
        """The strategy with what is not the paper's about it: another gate, or the cone."""
        gate = self.axes["gate"]
        return str(self.axes["strategy"]) + ("" if gate in (None, "hard") else f" {gate}")

    @property
    def method(self) -> str:
        """The same without the cone: a table's or picture's word where ρ stands by itself."""
        gate = parse_gate(self.axes["gate"] or "hard")[0]
        return str(self.axes["strategy"]) + ("" if gate == "hard" else f" {gate}")

    @property
    def seeds(self) -> frozenset[int]:
        """The seeds there are."""
        return frozenset(run.run.axes["seed"] for run in self.runs)

    def of(self, seeds: frozenset[int]) -> Group:
        """The runs of some of the seeds, in their order."""
        pairs = zip(self.runs, self.measured, strict=True)
        by_seed = {run.run.axes["seed"]: (run, measured) for run, measured in pairs}
        runs, measured = zip(*(by_seed[seed] for seed in sorted(seeds)), strict=True)
        return replace(self, runs=runs, measured=measured)

    def values(self, measure: str) -> list[dict[str, float]] | None:
        """For each seed a measure of the enhanced images by patient (by image where patients are not known).

        None where it was not taken, or is not finite: of an enhancer that diverged nothing can be said.
        """
        taken = [_values(measured.images, measure) for measured in self.measured]
        finite = all(values and all(map(math.isfinite, values.values())) for values in taken)
        return taken if finite and all(values.keys() == taken[0].keys() for values in taken) else None

    def matrices(self) -> list[dict[str, Tensor]] | None:
        """For each seed what the independent reader read of the pixels, by patient or image: confusion matrices."""
        taken = [_matrices(measured.images) for measured in self.measured]
        return taken if all(taken) and all(found.keys() == taken[0].keys() for found in taken) else None


def groups_of(plan: Plan, runs: Sequence[RunResult]) -> list[Group]:
    """The measured runs of a plan, those that differ by their seeds together.

    Where a plan tests on another dataset, its table is about that one: runs of other datasets are shown as measured
    there, and its own runs as they are.
    """
    texts = {str(result.run.axes["dataset"]) for result in runs}
    short = len({text.split()[0] for text in texts}) == len(texts)  # a name says enough, unless one comes twice
    found: dict[tuple[Any, ...], list[tuple[RunResult, Measured]]] = {}
    for result in runs:
        text = str(result.run.axes["dataset"])
        own = text.split()[0] if short else text
        places = {own: result.own} if not plan.test_on or text.split()[0] in plan.test_on else {}
        places |= {f"{own} to {name}": measured for name, measured in result.elsewhere.items()}
        for dataset, measured in places.items():
            if measured is not None:
                values = (value for axis, value in result.run.axes.items() if axis != "seed")
                found.setdefault((dataset, *values), []).append((result, measured))
    return [Group(key[0], *map(tuple, zip(*members, strict=True))) for key, members in found.items()]


def once(groups: Iterable[Group]) -> list[Group]:
    """Groups of several plans, those of the same cell as one, with all seeds that any of the plans has."""
    cells: dict[tuple[str, str], dict[str, tuple[RunResult, Measured]]] = {}
    for group in groups:
        config = replace(group.config, training=replace(group.config.training, seed=0))
        cell = cells.setdefault((group.dataset, repr(differing(config))), {})
        cell |= {pair[0].run.key: pair for pair in zip(group.runs, group.measured, strict=True)}
    return [Group(key[0], *map(tuple, zip(*cell.values(), strict=True))) for key, cell in cells.items()]


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
    return next((name for name in PRESETS if text == describe_chain(name)), text)


def alike(a: Group, b: Group) -> bool:
    """Whether two groups enhanced the same images with equal enhancers, trained for as long on the same views."""
    return a.dataset == b.dataset and setting_of(a) == setting_of(b)


def enhancer_alone(group: Group, groups: Iterable[Group]) -> Group | None:
    """The one among the groups whose enhancer was trained without a recognizer, all else the same."""
    return next((other for other in groups if other.axes["strategy"] == "enhancer_only" and alike(group, other)), None)


def setting_of(group: Group) -> dict[str, Any]:
    """What a fair comparison has in common: images, degradation, enhancer, and how long and on what it was trained."""
    training = replace(
        group.config.training,
        seed=0,
        pretrain=StageConfig(),
        consistency_loss=TrainingConfig.consistency_loss,
        target=TrainingConfig.target,
        stages=None,
    )
    config = group.config
    dataset = replace(config.dataset, root=None, max_pixels=0)
    parts = {"dataset": dataset, "enhancer": config.enhancer, "training": training}
    return {name: differing(part) for name, part in parts.items()} | {"degradation": config.degradation}


def task_of(group: Group) -> str | None:
    """What recognition is, for both tasks that of the pixels; None where there is no recognizer."""
    tasks = TASKS[group.axes["auxiliary"]]
    return tasks[-1] if tasks else None


def mean_of(summaries: Sequence[Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds of what all of them measured, or None."""
    values = [value for summary in summaries if (value := summary.get(name)) is not None]
    return mean_std(values) if len(values) == len(summaries) else (None, None)


def common_seeds(a: Group, b: Group) -> frozenset[int]:
    """The seeds whose runs in both groups began from the same warmed-up enhancer, as far as that is known."""
    begun = [{run.run.axes["seed"]: run.begun_from for run in group.runs} for group in (a, b)]
    return frozenset(seed for seed in a.seeds & b.seeds if begun[0][seed] == begun[1][seed])


def compare(a: Group, b: Group, measure: str) -> Interval | None:
    """A measure of ``a`` less that of ``b``, of the seeds that both have; None where one of them was not measured.

    Of a seed both must have begun from the same warmed-up enhancer. Where an experiment goes on on another machine with
    nothing but what was measured on the first, it is trained anew and differs by far more than strategies do.
    The bootstrap draws patients where they are known, and images where not: images of one patient are no independent
    samples. Accuracy and mIoU are the independent reader's; mIoU is pooled in each resample. Where there are several
    seeds, the interval is the wider the farther they lie apart.
    """
    common = common_seeds(a, b)
    if not common:
        return None
    a, b = a.of(common), b.of(common)
    if measure == "independent_miou":
        return _compare_mious(a.matrices(), b.matrices())
    left, right = a.values(measure), b.values(measure)
    if left is None or right is None or left[0].keys() != right[0].keys():
        return None
    of_seeds = [fmean(one.values()) - fmean(other.values()) for one, other in zip(left, right, strict=True)]
    return with_seeds(paired_difference(average_over_seeds(left), average_over_seeds(right)), of_seeds)


def _compare_mious(left: list[dict[str, Tensor]] | None, right: list[dict[str, Tensor]] | None) -> Interval | None:
    if left is None or right is None or left[0].keys() != right[0].keys():
        return None
    import torch

    from gradprom.measures import mean_ious

    # of each side: seeds, patients or images, and the two of a confusion matrix
    stacks = [torch.stack([torch.stack([of[unit] for unit in sorted(of)]) for of in side]) for side in (left, right)]
    ours, theirs = (mean_ious(stack.sum(1)) for stack in stacks)
    first, second = (stack.sum(0) for stack in stacks)
    return with_seeds(bootstrap_difference(first, second, mean_ious), (ours - theirs).tolist())


def differences_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """gradprom, with the cone and without, less each strategy it is compared with, where all else is the same."""
    rows = []
    for a, b in itertools.permutations(groups, 2):
        if a.axes["strategy"] != "gradprom" or not _comparable(a, b):
            continue
        for measure in MEASURES:
            interval = compare(a, b, measure)
            if interval is not None:
                rows.append(_difference(a, b, measure, interval))
    return rows


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
        "method": a.name,
        "less": b.name,
        "measure": measure,
        **as_columns(interval),
        "patients_or_images": interval.n,
        "seeds": len(common_seeds(a, b)),
        "verdict": verdict(interval),
    }


def _values(path: Path, measure: str) -> dict[str, float]:
    """A measure's mean over the images of each patient."""
    if measure == "independent_accuracy":
        return _by_unit(path, ("label", "independent_predicted"), lambda row: float(_is_right(row)))
    return _by_unit(path, (measure,), lambda row: float(row[measure]))


def _is_right(row: Mapping[str, str]) -> bool:
    return row["label"] == row["independent_predicted"]


def _by_unit(path: Path, columns: Sequence[str], value: Callable[[Mapping[str, str]], float]) -> dict[str, float]:
    taken: dict[str, list[float]] = {}
    for row in _enhanced(path):
        if all(row.get(column) for column in columns):
            taken.setdefault(row.get("group") or row["id"], []).append(value(row))
    return {unit: math.fsum(values) / len(values) for unit, values in taken.items()}


def _matrices(path: Path) -> dict[str, Tensor]:
    import torch

    found: dict[str, Tensor] = {}
    for row in _enhanced(path):
        if row.get("independent_matrix"):
            counts = torch.tensor([int(count) for count in row["independent_matrix"].split()])
            matrix = counts.reshape(math.isqrt(len(counts)), -1)
            unit = row.get("group") or row["id"]
            found[unit] = found[unit] + matrix if unit in found else matrix
    return found


def _enhanced(path: Path) -> list[dict[str, str]]:
    return _read_enhanced(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)  # each group is compared with several, by several measures
def _read_enhanced(path: Path, _changed: int) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["method"] == "enhanced"]
