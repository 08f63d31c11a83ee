"""From a plan to its runs: every combination of its axes, each run once, named after what makes its result."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradprom._chain import describe_chain
from gradprom.datasets.about import ABOUT
from gradprom.errors import UserError
from gradprom.experiments._axes import TASKS, axis_values, choose, matches, options, parse_gate
from gradprom.experiments._plan_checks import check_apart, check_independent
from gradprom.experiments._plan_file import Grid, Plan, merge, read_plan, shipped_plans, with_seeds
from gradprom.training.check import check
from gradprom.training.config import Config, EnhancerConfig, PromotionConfig, StageConfig, TrainingConfig, differing

__all__ = [
    "Grid",
    "Plan",
    "PlannedRun",
    "dataset_root",
    "expand",
    "merged",
    "normalised",
    "read_plan",
    "run_key",
    "run_name",
    "shipped_plans",
    "with_seeds",
]

READER_SEED = 1000
"""Added to the base's seed: with the same one a reader would be the recognizer that it is to be independent of."""
_NO_EFFECT = {
    "dataset": ("max_pixels",),
    "training": ("stages", "cache_gb", "checkpoint_every", "max_skipped"),
}
"""Options that do not change what comes out of a run."""
_LONGEST = 100  # characters of a name before its hash; file systems allow 255


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        key: SHA-256 of its configuration, less what does not change its result: equal for equal runs.
        name: its folder's.
        config: complete and normalised.
        axes: its value on every axis, None where the axis means nothing to it.
        plans: names of the plans that it belongs to.
        reader: the run that trains the reader which judges it, or None.
        test_on: datasets that it is measured on beside its own, each with its folder.
    """

    key: str
    name: str
    config: Config
    axes: Mapping[str, Any]
    plans: tuple[str, ...]
    reader: PlannedRun | None = None
    test_on: Mapping[str, str | None] = field(default_factory=dict)


def expand(plan: Plan, scale: str = "laptop", data: Path | None = None) -> list[PlannedRun]:
    """The runs of a plan in its order, each once; nothing is read or written.

    Combinations that mean the same run are one: enhancer_only has no recognizer, no supervision and nothing to promote;
    recognizer_only has no enhancer and nothing to promote; joint and frozen have no gate, though there may be a cone
    around them. Those with a gate that is gradprom's alone are left out, and where the axis auxiliary says none, so are
    the strategies that need a recognizer.

    Args:
        plan: as read.
        scale: laptop or paper.
        data: the folder that holds the datasets, each under its name; None: the plan says where they are.

    Raises:
        UserError: a configuration cannot work, or no combination is left.

    Example:
        >>> axes = {"strategy": ("enhancer_only", "joint"), "weight": (1e-4, 1e-2)}
        >>> plan = Plan("weights", "Weights", None, {"segmentation": {"encoder": "resnet18"}}, {}, (Grid(axes),))
        >>> [(run.axes["strategy"], run.axes["weight"]) for run in expand(plan)]
        [('enhancer_only', None), ('joint', 0.0001), ('joint', 0.01)]
    """
    if plan.scales and scale not in plan.scales:
        raise UserError(f"plan {plan.name} has no scale {scale!r}: it has {', '.join(plan.scales)}")
    to_config = _Parser(data)
    runs: dict[str, PlannedRun] = {}
    for base, combination in _bases_and_combinations(plan, scale):
        try:
            config = to_config(merge(base, options(base, combination)))
            choose(config, combination)
            if not _is_meant(config.strategy, combination):
                continue
            run = _planned(config, combination, plan.name)
            if plan.reader is not None:
                reader = _reader(plan, scale, base, combination, to_config)
                check_independent(reader.config, run.config)
                run = replace(run, reader=reader)
        except UserError as error:
            values = "".join(f", {axis} {value}" for axis, value in combination.items())
            raise UserError(f"plan {plan.name}{values}: {error}") from error
        own = run.config.dataset.name
        elsewhere = {name: dataset_root(name, None, data) for name in plan.test_on if name != own}
        runs.setdefault(run.key, replace(run, test_on=elsewhere))
    check_apart(plan.name, runs.values())
    if not runs:
        raise UserError(f"plan {plan.name} has no run: every combination of its axes is excluded or means nothing")
    return list(runs.values())


def merged(plans: Iterable[Sequence[PlannedRun]]) -> list[PlannedRun]:
    """The runs of several plans, each once, in order; a run that is in two is measured as both ask for.

    Raises:
        UserError: two plans have a run judged by different readers.
    """
    runs: dict[str, PlannedRun] = {}
    for run in itertools.chain.from_iterable(plans):
        known = runs.setdefault(run.key, run)
        if known is run:
            continue
        if known.reader and run.reader and known.reader.key != run.reader.key:
            raise UserError(
                f"plans {known.plans[0]} and {run.plans[0]} have run {run.name} judged by different readers: give both "
                "plans one reader, or run them into different folders"
            )
        runs[run.key] = replace(
            known,
            plans=tuple(dict.fromkeys(known.plans + run.plans)),
            reader=known.reader or run.reader,
            test_on={**known.test_on, **run.test_on},
        )
    return list(runs.values())


def normalised(config: Config) -> Config:
    """The configuration with what its strategy does not look at as it is by default, and stages that it lacks left out.

    >>> one = normalised(Config(strategy="enhancer_only", promotion=PromotionConfig(weight=1.0)))
    >>> one.promotion.weight, one.training.pretrain.steps, one.training.warmup.steps
    (0.0001, 0, 1000)
    """
    config = copy.deepcopy(config)
    training = config.training
    config.degradation = describe_chain(config.degradation)
    if not _promotes(config):
        config.promotion, config.supervision = PromotionConfig(), "supervised"
    if config.strategy != "gradprom":
        config.promotion.gate = PromotionConfig.gate
    if config.strategy != "gradprom" or len(config.tasks) < 2:
        config.promotion.combine = PromotionConfig.combine
    if config.strategy == "enhancer_only":
        config.diagnosis = config.segmentation = None
        training.pretrain = StageConfig(steps=0)
    if config.strategy == "recognizer_only":
        config.enhancer = EnhancerConfig()
        training.warmup, training.enhancement_loss = StageConfig(steps=0), TrainingConfig.enhancement_loss
    for name in ("warmup", "pretrain", "cascade"):
        stage = getattr(training, name)
        if not stage.steps:  # its view says still how images are read
            setattr(training, name, StageConfig(steps=0, view=stage.view, size=stage.size))
    if config.supervision == "supervised":
        training.consistency_loss, training.target = TrainingConfig.consistency_loss, TrainingConfig.target
    return config


def run_key(config: Config) -> str:
    """SHA-256, as hexadecimal digits, of what makes the result of a normalised configuration.

    Where the images lie is no part of it, save for a folder of one's own, which has no other name. Of a file with a
    split what it says counts, and not where it lies.
    """
    kept = differing(config)
    split = Path(config.dataset.split or "random")
    if split.is_file():
        kept["dataset"]["split"] = hashlib.sha256(split.read_bytes()).hexdigest()
    for section, names in _NO_EFFECT.items():
        for name in names:
            kept.get(section, {}).pop(name, None)
    if config.dataset.name != "folder":
        kept.get("dataset", {}).pop("root", None)
    kept = {name: value for name, value in kept.items() if value != {} or name in TASKS["both"]}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def run_name(config: Config) -> str:
    """A folder's name that people can read, and the first 12 digits of the key.

    >>> run_name(Config(strategy="enhancer_only")).rpartition("-")[0]
    'brain_mr-gaussian0.1-enhancer_only-s0'
    """
    dataset = config.dataset.name if config.dataset.name != "folder" else Path(config.dataset.root or "folder").name
    parts = [dataset, describe_chain(config.degradation).replace(" + ", "+").replace(" ", ""), config.strategy]
    parts += [{"diagnosis": "diag", "segmentation": "seg"}[task] for task in config.tasks]
    if _promotes(config):
        parts += [config.supervision.removesuffix("ervised"), f"w{_short(config.promotion.weight)}"]
        parts += [config.promotion.gate] if config.promotion.gate != "hard" else []
        parts += [f"cone{config.promotion.max_ratio:g}"] if config.promotion.max_ratio is not None else []
    text = "-".join([*parts, f"s{config.training.seed}"])
    return f"{re.sub(r'[^A-Za-z0-9_.+-]', '_', text)[:_LONGEST]}-{run_key(config)[:12]}"


def dataset_root(name: str, given: str | None, data: Path | None) -> str | None:
    """Where a dataset lies: under its name in the folder of datasets, or where the plan says.

    >>> dataset_root("camus", "elsewhere", Path("data")), dataset_root("camus", "elsewhere", None)
    ('data/camus', 'elsewhere')
    """
    if name == "brain_mr" or name == "folder" or data is None:
        return given
    return str(data / name)


class _Parser:
    """Nested options to a typed configuration with its dataset's folder filled in; equal options are read once."""

    def __init__(self, data: Path | None) -> None:
        from gradprom.training._parse import make_parser

        self._data = data
        self._parser = make_parser(prog="gradprom experiment")
        self._parser.add_class_arguments(Config, fail_untyped=True)
        self._known: dict[str, Config] = {}

    def __call__(self, nested: Mapping[str, Any]) -> Config:
        from gradprom.training._parse import to_config

        text = json.dumps(nested, sort_keys=True, default=str)
        if text not in self._known:
            config = to_config(self._parser, self._parser.parse_object(dict(nested)))
            config.dataset.root = dataset_root(config.dataset.name, config.dataset.root, self._data)
            self._known[text] = config
        return copy.deepcopy(self._known[text])


def _bases_and_combinations(plan: Plan, scale: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for grid in plan.grids:
        layers = (plan.base, plan.scales.get(scale, {}), grid.base, grid.scales.get(scale, {}))
        base = functools.reduce(merge, layers)
        for combination in _combinations(grid):
            yield base, combination


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.axes.values()):
        combination = dict(zip(grid.axes, values, strict=True))
        if not any(all(matches(axis, combination[axis], rule[axis]) for axis in rule) for rule in grid.exclude):
            yield combination


def _is_meant(strategy: str, combination: Mapping[str, Any]) -> bool:
    """Whether a combination is more than the grid's way of filling all its cells."""
    if strategy in ("joint", "frozen") and parse_gate(combination.get("gate", "hard"))[0] != "hard":
        return False
    return strategy == "enhancer_only" or combination.get("auxiliary") != "none"


def _planned(config: Config, combination: Mapping[str, Any], plan: str) -> PlannedRun:
    config = normalised(config)
    check(config)
    for task in config.tasks:
        if task not in ABOUT[config.dataset.name].tasks:
            raise UserError(
                f"dataset {config.dataset.name} has no truths for {task}: exclude that, or set {task} to null"
            )
    if config.training.processes > 1:
        raise UserError(
            f"training.devices is {config.training.devices} and training.nodes {config.training.nodes}: an experiment "
            "trains each run on one device, several runs at a time with --workers"
        )
    return PlannedRun(run_key(config), run_name(config), config, axis_values(config, combination), (plan,))


def _reader(
    plan: Plan, scale: str, base: Mapping[str, Any], combination: Mapping[str, Any], to_config: _Parser
) -> PlannedRun:
    """The independent reader of a dataset: trained on its clean images, whatever is done to those of the runs."""
    own = dict(plan.reader or {})
    scales = own.pop("scales", {})
    own = merge(own, scales.get(scale, {}))
    dataset = {axis: value for axis, value in combination.items() if axis == "dataset"}
    nested = merge(base, options(base, dataset))
    seed = int(nested.get("training", {}).get("seed", 0)) + READER_SEED
    fixed = {"strategy": "recognizer_only", "supervision": "supervised", "degradation": "none"}
    try:
        config = to_config(merge(merge(merge(nested, {"training": {"seed": seed}}), own), fixed))
        # one plan may have datasets of different tasks
        known = ABOUT[config.dataset.name].tasks
        config.diagnosis = config.diagnosis if "diagnosis" in known else None
        config.segmentation = config.segmentation if "segmentation" in known else None
        return _planned(config, {}, plan.name)
    except UserError as error:
        raise UserError(f"its reader: {error}") from error


def _promotes(config: Config) -> bool:
    return config.strategy not in ("enhancer_only", "recognizer_only")


def _short(number: float) -> str:
    """A number in few characters.

    >>> _short(1e-4), _short(0.25), _short(1.0), _short(2.5e-5)
    ('1e-4', '0.25', '1', '2.5e-5')
    """
    if 1e-3 < number < 1e4 or number == 0:
        return f"{number:g}"
    mantissa, exponent = f"{number:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
