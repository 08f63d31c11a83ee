"""From what the runs of an experiment measured to its tables: means over seeds, the paper's cells, differences."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradprom._chain import chain_scale
from gradprom._files import write_text
from gradprom.experiments import paper
from gradprom.experiments._axes import parse_gate
from gradprom.experiments.claims import claims_of
from gradprom.experiments.claims import markdown as claims_markdown
from gradprom.experiments.groups import Group, alike, differences_of, groups_of, level_of
from gradprom.experiments.plan import Plan, expand
from gradprom.experiments.records import summarise
from gradprom.experiments.statistics import mean_std, paired_difference
from gradprom.experiments.tables import Result, latex, markdown, write_results
from gradprom.experiments.tradeoff import Point, tradeoff_figure

TABLES, RESULTS, CLAIMS = "tables", "results.csv", "claims.md"
STANDS_FOR = {"crchisto": "lizard", "tnbc": "lizard"}
"""Whose cells of the paper stand beside these datasets, which are no part of it."""
_BASELINES = ("input", "bicubic", "non-local means")


def write(directory: str | Path, plans: Sequence[Plan], scale: str, data: Path | None) -> list[Result]:
    """Write the tables of all that is measured so far.

    ``results.csv`` holds a row for each cell; ``tables/`` holds for each plan a CSV, a Markdown and a LaTeX file, the
    paired differences between strategies (``NAME-differences.csv``), and, where strategies were trained at several
    weights and judged by an independent reader, the picture of the trade-off. ``claims.md`` says of each claim of the
    paper whether it held.

    Args:
        directory: of the experiment.
        plans: what was to be done.
        scale, data: as for :func:`gradprom.experiments.plan.expand`.

    Returns:
        The rows of ``results.csv``.
    """
    directory = Path(directory)
    everything: list[Result] = []
    tested: list[Group] = []
    for plan in plans:
        groups = groups_of(plan, summarise(directory, expand(plan, scale, data)))
        tested += groups
        results = results_of(plan, groups)
        if not results:
            continue
        everything += results
        path = directory / TABLES / plan.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_results(results, path.with_suffix(".csv"))
        write_text(path.with_suffix(".md"), markdown(results, plan.title))
        write_text(path.with_suffix(".tex"), latex(results, plan.title, f"tab:{plan.name}"))
        write_text(path.with_name(f"{plan.name}-differences.csv"), _csv(differences_of(groups)))
        for (dataset, level), points in points_of(results).items():
            name = f"{plan.name}-{dataset}-{level}".replace(" ", "_")
            tradeoff_figure(points, path.with_name(f"{name}.png"), f"{dataset}, {level}")
    if everything:
        write_results(everything, directory / RESULTS)
        write_text(directory / CLAIMS, claims_markdown(claims_of(_once(tested))))
    return everything


def results_of(plan: Plan, groups: Sequence[Group]) -> list[Result]:
    """A row for each group, and one for what needs no training at each of its levels."""
    results = []
    for group in groups:
        ours = _result(plan, group, "enhanced")
        reference = _reference(group, groups)
        if reference is not None and (a := group.images("psnr")) and (b := reference.images("psnr")):
            ours = replace(ours, difference=paired_difference(a, b))
        results.append(ours)
        if group.axes["strategy"] == "enhancer_only":
            first = replace(group, runs=group.runs[:1], measured=group.measured[:1])  # their noise does not change
            known = group.measured[0].summary
            results += [_baseline(plan, first, method) for method in _BASELINES if method in known]
    unique = {_identity(result): result for result in reversed(results)}
    return list(reversed(unique.values()))


def points_of(results: Iterable[Result]) -> dict[tuple[str, str], list[Point]]:
    """The plane of image quality and independent recognition, by dataset and level, where there is more than one λ."""
    planes: dict[tuple[str, str], list[Point]] = {}
    for result in results:
        if result.psnr is None or result.independent_recognition is None or result.method in _BASELINES:
            continue
        name = result.method if result.gate in (None, "hard") else f"{result.method} {result.gate}"
        point = Point(name, result.weight, result.max_ratio, result.psnr, result.independent_recognition)
        planes.setdefault((result.dataset, result.level), []).append(point)
    return {plane: points for plane, points in planes.items() if len({point.weight for point in points}) > 2}


def _result(plan: Plan, group: Group, method: str) -> Result:
    axes, summaries = group.axes, [measured.summary for measured in group.measured]
    strategy, task = axes["strategy"], _task(plan, group)
    trained = strategy != "recognizer_only"
    read = [summary[method if trained else _start(summary)] for summary in summaries]
    gate, ratio = parse_gate(axes["gate"] or "hard")
    psnr, psnr_std = _mean(read, "psnr") if trained else (None, None)
    ssim, ssim_std = _mean(read, "ssim") if trained else (None, None)
    measure = "accuracy" if task == "diagnosis" else "miou"
    level = level_of(axes["degradation"])
    supervision = axes["supervision"] if strategy in ("joint", "frozen", "gradprom") else None
    auxiliary = None if strategy == "enhancer_only" else axes["auxiliary"]
    printed = None
    # the cone, other gates and other weights are no part of the paper
    if plan.paper and ratio is None and gate == "hard" and axes["weight"] in (None, 1e-4):
        printed = paper.cell(
            plan.paper.removeprefix("table"),
            level=level,
            method=strategy,
            supervision=supervision,
            auxiliary=auxiliary,
            dataset=_paper_dataset(plan, group.dataset),
        )
    return Result(
        table=(plan.paper or plan.name).removeprefix("table"),
        dataset=group.dataset,
        task="superresolution" if chain_scale(axes["degradation"]) > 1 else "denoise",
        level=level,
        method=strategy,
        supervision=supervision,
        auxiliary=auxiliary,
        weight=axes["weight"],
        max_ratio=ratio,
        psnr=psnr,
        psnr_std=psnr_std,
        ssim=ssim,
        ssim_std=ssim_std,
        recognition=_mean(read, measure)[0],
        independent_recognition=_mean(read, f"independent_{measure}")[0],
        paper_psnr=printed.psnr if printed else None,
        paper_ssim=printed.ssim if printed else None,
        images=int(read[0]["images"] or 0),
        seeds=len(group.runs),
        steps=group.runs[0].steps,
        gate=gate if strategy == "gradprom" else None,
        enhancer=axes["enhancer"],
        balanced_accuracy=_mean(read, "balanced_accuracy")[0] if task == "diagnosis" else None,
        majority=_mean(read, "majority")[0] if task == "diagnosis" else None,
    )


def _baseline(plan: Plan, group: Group, method: str) -> Result:
    row = _result(plan, group, method)
    nothing: dict[str, Any] = dict.fromkeys(("paper_psnr", "paper_ssim", "steps", "enhancer", "psnr_std", "ssim_std"))
    return replace(row, method=method, seeds=None, **nothing)


def _once(groups: Sequence[Group]) -> list[Group]:
    """Groups of several plans, those of the same runs once."""
    return list({(group.dataset, *(run.run.key for run in group.runs)): group for group in groups}.values())


def _mean(summaries: Sequence[Mapping[str, float | None]], name: str) -> tuple[float | None, float | None]:
    values = [value for summary in summaries if (value := summary.get(name)) is not None]
    return mean_std(values) if len(values) == len(summaries) else (None, None)


def _start(summary: Mapping[str, Any]) -> str:
    return "input" if "input" in summary else "bicubic"


def _task(plan: Plan, group: Group) -> str:
    """What recognition is in a row: of enhancer_only, which has no task, that of the plan's other runs."""
    auxiliary = group.axes["auxiliary"]
    if auxiliary == "none":
        named = [value for grid in plan.grids for value in grid.axes.get("auxiliary", ())]
        auxiliary = next((value for value in named if value != "none"), "segmentation")
        # a plan may have another task on another dataset
        read = group.measured[0].summary["enhanced"]
        if auxiliary == "diagnosis" and read.get("independent_accuracy") is None:
            auxiliary = "segmentation"
        elif auxiliary != "diagnosis" and read.get("independent_miou") is None:
            auxiliary = "diagnosis"
    return "diagnosis" if auxiliary == "diagnosis" else "segmentation"


def _paper_dataset(plan: Plan, dataset: str) -> str | None:
    words = [STANDS_FOR.get(word, word) for word in dataset.split()]
    return " ".join(words) if plan.test_on else None


def _reference(group: Group, groups: Sequence[Group]) -> Group | None:
    """The enhancer trained without a recognizer, all else the same."""
    if group.axes["strategy"] in ("enhancer_only", "recognizer_only"):
        return None
    same = [other for other in groups if other.axes["strategy"] == "enhancer_only" and alike(group, other)]
    return same[0] if same else None


def _identity(result: Result) -> tuple[Any, ...]:
    names = (
        "table",
        "dataset",
        "level",
        "method",
        "supervision",
        "auxiliary",
        "weight",
        "max_ratio",
        "gate",
        "enhancer",
    )
    return tuple(getattr(result, name) for name in names)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
