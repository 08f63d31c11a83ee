"""Plan files: YAML, with what it extends, to a :class:`Plan` whose every word is known to be one that is understood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gradprom.errors import UserError
from gradprom.experiments._axes import AXES, canonical

SCALES = ("laptop", "paper")
KEYS = ("name", "title", "paper", "extends", "base", "scales", "axes", "exclude", "extra", "test_on", "reader")
_BLOCK = ("axes", "exclude", "base", "scales")
SHIPPED = Path(__file__).parents[1] / "plans"


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values, less those that are excluded.

    Attributes:
        axes: values by axis, in the plan's order; the last axis varies fastest.
        exclude: a combination is left out if, for every axis of one of these, its value is among those named.
        base, scales: what differs from the plan's own in these runs.
    """

    axes: dict[str, tuple[Any, ...]]
    exclude: tuple[dict[str, tuple[Any, ...]], ...] = ()
    base: dict[str, Any] = field(default_factory=dict)
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A plan of runs, as written.

    Attributes:
        name: names its tables.
        title: stands above them.
        paper: the table of the paper whose cells stand beside, or None.
        base: what the configurations of all its runs have in common, nested as in a configuration file.
        scales: what differs from ``base`` at a scale.
        grids: the runs.
        test_on: datasets on which each run is measured too, beside its own.
        reader: what differs from ``base`` in the run that trains the independent reader, with ``scales`` of its own;
            None: there is none.
    """

    name: str
    title: str
    paper: str | None
    base: dict[str, Any]
    scales: dict[str, dict[str, Any]]
    grids: tuple[Grid, ...]
    test_on: tuple[str, ...] = ()
    reader: dict[str, Any] | None = None


def read_plan(plan: str | Path) -> Plan:
    """Read a plan from its file, or one that comes with gradprom by its name.

    Raises:
        UserError: there is no such plan, it is not YAML, it extends itself, or something in it is not understood.
    """
    path = _find(str(plan), [Path()])
    content = _read(path, ())
    try:
        return _to_plan(content, path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def shipped_plans() -> list[Plan]:
    """The plans that come with gradprom, by name, without those that are there to be extended."""
    return [read_plan(path) for path in _shipped()]


def with_seeds(plan: Plan, seeds: Sequence[int]) -> Plan:
    """The plan with other seeds, in every grid.

    >>> with_seeds(Plan("a", "a", None, {}, {}, (Grid({"weight": (1.0,)}),)), [0, 1]).grids[0].axes
    {'weight': (1.0,), 'seed': (0, 1)}
    """
    return replace(plan, grids=tuple(replace(grid, axes=grid.axes | {"seed": tuple(seeds)}) for grid in plan.grids))


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options, those of ``high`` in place of those of ``low``.

    Another enhancer brings its own options, and another dataset its own folder: neither takes over those of the first.

    >>> merge({"enhancer": {"name": "estr", "blocks": 1}, "training": {"size": 8, "seed": 1}},
    ...       {"enhancer": {"name": "unet"}, "training": {"size": 9}})
    {'enhancer': {'name': 'unet'}, 'training': {'size': 9, 'seed': 1}}
    """
    merged = dict(low)
    for key, value in high.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if "name" in value and value["name"] != before.get("name"):
                gone = {"enhancer": set(before), "dataset": {"root"}}.get(key, set())
                before = {name: option for name, option in before.items() if name not in gone}
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def _shipped() -> list[Path]:
    return sorted(path for path in SHIPPED.glob("*.yaml") if not path.name.startswith("_"))


def _find(text: str, folders: Sequence[Path]) -> Path:
    """A plan's file: by its path, as seen from one of the folders, or by the name of a shipped plan."""
    candidates = [folder / name for folder in folders for name in (text, f"{text}.yaml")]
    if re.fullmatch(r"[\w-]+", text):
        candidates.append(SHIPPED / f"{text}.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(path.stem for path in _shipped()) or "none"
    raise UserError(f"{text}: no such plan: give the path of a plan file, or the name of a shipped plan ({names})")


def _read(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a plan file, laid over that of the plan it extends."""
    from gradprom.training._parse import _load_yaml

    if path.resolve() in before:
        chain = " extends ".join(file.name for file in (*before, path))
        raise UserError(f"{before[0]}: extends itself ({chain}): take one of the extends out")
    try:
        content = _load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is not a plan in YAML ({reason}): mend that place") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no plan: expected lines such as base: and axes:")
    for key in content:
        if key not in KEYS:
            raise UserError(f"{path}: {key!r} is not part of a plan: expected one of {', '.join(KEYS)}")
    for key in ("base", "scales", "axes"):
        if not isinstance(content.get(key, {}), dict):
            raise UserError(f"{path}: {key} holds {content[key]!r}: expected names and their values")
    parent = content.pop("extends", None)
    if parent is None:
        return content
    low = _read(_find(str(parent), [path.parent]), (*before, path.resolve()))
    named = {key: value for key, value in low.items() if key not in ("name", "title")}
    whole = {key: merge(low.get(key, {}), content.get(key, {})) for key in ("base", "scales")}
    return named | content | whole | {"axes": low.get("axes", {}) | content.get("axes", {})}


def _to_plan(content: dict[str, Any], stem: str) -> Plan:
    name = content.get("name", stem)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"name is {name!r}: expected letters, digits, - and _, for it names files")
    extra = content.get("extra", [])
    if not isinstance(extra, list) or not all(isinstance(block, dict) and set(block) <= set(_BLOCK) for block in extra):
        raise UserError(f"extra is not understood: expected a list of blocks with {', '.join(_BLOCK)}")
    grids = tuple(_to_grid(block, _to_options(block)) for block in extra)
    base, scales = _to_options(content)
    if content.get("axes") or not grids:
        grids = (_to_grid(content, ({}, {})), *grids)
    reader = content.get("reader")
    if reader is not None and not isinstance(reader, dict):
        raise UserError(f"reader is {reader!r}: expected options of the run that trains it, such as diagnosis")
    paper = content.get("paper")
    return Plan(
        name=name,
        title=str(content.get("title", name)),
        paper=None if paper is None else str(paper),
        base=base,
        scales=scales,
        grids=grids,
        test_on=_to_names(content.get("test_on", [])),
        reader=reader,
    )


def _to_options(block: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """``base`` and ``scales`` of a plan or of one of its blocks."""
    base, scales = block.get("base", {}), block.get("scales", {})
    for name, options in (("base", base), ("scales", scales)):
        if not isinstance(options, dict):
            raise UserError(f"{name} holds {options!r}: expected names and their values")
    for scale, options in scales.items():
        if scale not in SCALES or not isinstance(options, dict):
            raise UserError(f"scales has {scale!r}: expected {' or '.join(SCALES)}, each with options of a run")
    return base, scales


def _to_grid(block: Mapping[str, Any], options: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> Grid:
    axes, exclude = block.get("axes", {}), block.get("exclude", [])
    if not isinstance(axes, dict):
        raise UserError(f"axes holds {axes!r}: expected names of axes with lists of values")
    for axis in axes:
        if axis not in AXES:
            raise UserError(f"there is no axis {axis!r}: expected some of {', '.join(AXES)}")
    grid = {axis: _values(axis, values) for axis, values in axes.items()}
    if not isinstance(exclude, list) or not all(isinstance(rule, dict) and rule for rule in exclude):
        raise UserError("exclude is not understood: expected a list of combinations such as {strategy: joint}")
    for rule in exclude:
        for axis in rule:
            if axis not in grid:
                raise UserError(
                    f"exclude names axis {axis!r}, which the plan has not: it has {', '.join(grid) or 'none'}"
                )
    rules = tuple({axis: _values(axis, values) for axis, values in rule.items()} for rule in exclude)
    return Grid(grid, rules, *options)


def _values(axis: str, values: Any) -> tuple[Any, ...]:
    """A list of values, or a single one."""
    if values in (None, []):
        raise UserError(f"axis {axis!r} is empty: give it values, or take it out and the base's value holds")
    listed = values if isinstance(values, list) else [values]
    return tuple(canonical(axis, value) for value in listed)


def _to_names(datasets: Any) -> tuple[str, ...]:
    from gradprom.datasets import DATASET_NAMES

    listed = datasets if isinstance(datasets, list) else [datasets]
    for name in listed:
        if name not in DATASET_NAMES or name == "folder":
            raise UserError(f"test_on has {name!r}: expected names of datasets, of {', '.join(DATASET_NAMES)}")
    return tuple(listed)
