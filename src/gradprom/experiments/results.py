"""From what the runs of an experiment measured to its tables: means over seeds, the paper's cells, differences."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradprom._chain import chain_scale
from gradprom._files import write_text
from gradprom.experiments import paper
from gradprom.experiments._axes import parse_gate
from gradprom.experiments.claims import claims_of, write_claims
from gradprom.experiments.claims import markdown as claims_markdown
from gradprom.experiments.groups import (
    MEASURE_OF,
    Group,
    compare,
    differences_of,
    enhancer_alone,
    groups_of,
    level_of,
    mean_of,
    once,
    task_of,
)
from gradprom.experiments.plan import Plan, expand
from gradprom.experiments.planes import planes_of
from gradprom.experiments.records import summarise
from gradprom.experiments.tables import Result, latex, markdown, write_results
from gradprom.experiments.tradeoff import tradeoff_figure

TABLES, RESULTS, CLAIMS = "tables", "results.csv", "claims"
STANDS_FOR = {"crchisto": "lizard", "tnbc": "lizard"}
"""Whose cells of the paper stand beside these datasets, which are no part of it."""
_BASELINES = ("input", "bicubic", "non-local means", "clean")


def write(directory: str | Path, plans: Sequence[Plan], scale: str, data: Path | None) -> list[Result]:
    """Write the tables of all that is measured so far.

    ``results.csv`` holds a row for each cell; ``tables/`` holds for each plan a CSV, a Markdown and a LaTeX file and
    the paired differences between strategies (``NAME-differences.csv``), and a picture of the trade-off between image
    quality and independent recognition, with its figures as CSV, wherever strategies were trained at several weights,
    by any of the plans.
    ``claims.md`` says of each claim of the paper whether it held, and how our best stands to the paper's; the
    comparisons it rests on are rows of ``claims.csv``.

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
        results = results_of(plan, groups)
        if not results:  # what an earlier state of the folder had to tell
            for stale in (directory / TABLES).glob(f"{plan.name}[.-]*"):
                if stale.stem in (plan.name, f"{plan.name}-differences"):
                    stale.unlink()
            continue
        tested += groups
        everything += results
        path = directory / TABLES / plan.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_results(results, path.with_suffix(".csv"))
        write_text(path.with_suffix(".md"), markdown(results, plan.title))
        write_text(path.with_suffix(".tex"), latex(results, plan.title, f"tab:{plan.name}"))
        write_text(path.with_name(f"{plan.name}-differences.csv"), _csv(differences_of(groups)))
    if everything:
        write_results(everything, directory / RESULTS)
        cells = once(tested)
        for plane in planes_of(cells):
            path = directory / TABLES / f"tradeoff-{plane.name}"
            tradeoff_figure(plane.points, Path(f"{path}.png"), plane.title, ylabel=plane.read)
            write_text(Path(f"{path}.csv"), _csv(plane.rows()))
        claims, against = claims_of(cells), against_paper(everything)
        write_claims(claims, directory / f"{CLAIMS}.csv")
        write_text(directory / f"{CLAIMS}.md", claims_markdown(claims) + (f"\n{against}" if against else ""))
    return everything


def results_of(plan: Plan, groups: Sequence[Group]) -> list[Result]:
    """A row for each group, and one for what needs no training at each of its levels.

    What has no recognizer of its own has a row for each task of the plan's others, for an independent reader may read
    them all.
    """
    tasks = list(dict.fromkeys(task_of(group) for group in groups if task_of(group) is not None))
    results, baselines = [], {}
    for group in groups:
        own = task_of(group)
        known = group.measured[0].summary
        for task in [own] if own else tasks or [None]:
            if own is None and len(tasks) > 1 and not _was_read(known["enhanced"], task):
                continue  # another dataset's task
            ours = _result(plan, group, "enhanced", task, name_task=len(tasks) > 1)
            reference = _reference(group, groups)
            difference = None if reference is None else compare(group, reference, "psnr")
            results.append(replace(ours, difference=difference))
            if own is None:
                first = group.of(frozenset({min(group.seeds)}))  # the noise of test images is the same for all seeds
                for method in _BASELINES:
                    if method in known:
                        row = _baseline(_result(plan, first, method, task, name_task=len(tasks) > 1), method)
                        baselines[row.dataset, row.level, row.auxiliary, method] = row
    return [*results, *baselines.values()]


def against_paper(results: Iterable[Result]) -> str:
    """Our best PSNR at each level of the paper's comparisons with others (Tables 5 to 8) beside the best it prints."""
    ours: dict[tuple[str, str, str], Result] = {}
    for result in results:
        number = re.match(r"[5-8]", result.table)
        if number and result.psnr is not None and result.method not in _BASELINES:
            key = (number.group(), result.dataset, result.level)
            ours[key] = max(ours.get(key, result), result, key=lambda one: one.psnr or 0.0)
    lines = []
    for (table, dataset, level), best in sorted(ours.items()):
        printed = paper.best(table, level)
        if printed is not None and best.psnr is not None:
            method = best.method if best.max_ratio is None else f"{best.method} with the cone"
            lines.append(
                f"| {table} | {dataset} | {level} | {best.psnr:.3f} ({method}) | {printed[0]:.3f} | "
                f"{best.psnr - printed[0]:+.3f} |"
            )
    if not lines:
        return ""
    head = ["Our best PSNR in dB beside the best that the paper prints of any method, from its own setting:", ""]
    head += ["| table | dataset | level | ours | paper | difference |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *lines]) + "\n"


def _result(plan: Plan, group: Group, method: str, task: str | None, *, name_task: bool) -> Result:
    axes, summaries = group.axes, [measured.summary for measured in group.measured]
    strategy = axes["strategy"]
    enhances = strategy != "recognizer_only"
    read = [summary[method if enhances else _start(summary)] for summary in summaries]
    gate, ratio = parse_gate(axes["gate"] or "hard")
    psnr, psnr_std = mean_of(read, "psnr") if enhances else (None, None)
    ssim, ssim_std = mean_of(read, "ssim") if enhances else (None, None)
    measure = MEASURE_OF.get(task or "", "miou")
    recognition, recognition_std = mean_of(read, measure)
    level = level_of(axes["degradation"])
    supervision = axes["supervision"] if strategy in ("joint", "frozen", "gradprom") else None
    auxiliary = axes["auxiliary"]
    if strategy == "enhancer_only" and name_task:
        auxiliary = task  # whose reader reads it
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
        table=plan.name.removeprefix("table"),
        dataset=group.dataset,
        task="superresolution" if chain_scale(axes["degradation"]) > 1 else "denoise",
        level=level,
        method=group.method,
        supervision=supervision,
        auxiliary=auxiliary,
        weight=axes["weight"],
        max_ratio=ratio,
        psnr=psnr,
        psnr_std=psnr_std,
        ssim=ssim,
        ssim_std=ssim_std,
        recognition=recognition,
        independent_recognition=mean_of(read, f"independent_{measure}")[0],
        paper_psnr=printed.psnr if printed else None,
        paper_ssim=printed.ssim if printed else None,
        images=int(read[0]["images"] or 0),
        seeds=len(group.runs),
        steps=group.runs[0].steps,
        enhancer=axes["enhancer"],
        recognizer=axes["recognizer"],
        recognition_std=recognition_std,
        paper_recognition=printed.recognition if printed else None,
        balanced_accuracy=mean_of(read, "balanced_accuracy")[0] if task == "diagnosis" else None,
        majority=mean_of(read, "majority")[0] if task == "diagnosis" else None,
    )


def _baseline(row: Result, method: str) -> Result:
    names = ("paper_psnr", "paper_ssim", "steps", "enhancer", "psnr_std", "ssim_std", "seeds", "paper_recognition")
    nothing: dict[str, Any] = dict.fromkeys(names)
    return replace(row, method=method, **nothing)


def _start(summary: Mapping[str, Any]) -> str:
    return "input" if "input" in summary else "bicubic"


def _was_read(summary: Mapping[str, float | None], task: str | None) -> bool:
    return summary.get(f"independent_{MEASURE_OF[task or 'segmentation']}") is not None


def _paper_dataset(plan: Plan, dataset: str) -> str | None:
    words = [STANDS_FOR.get(word, word) for word in dataset.split()]
    return " ".join(words) if plan.test_on else None


def _reference(group: Group, groups: Sequence[Group]) -> Group | None:
    """The enhancer trained without a recognizer, all else the same."""
    if group.axes["strategy"] in ("enhancer_only", "recognizer_only"):
        return None
    return enhancer_alone(group, groups)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
