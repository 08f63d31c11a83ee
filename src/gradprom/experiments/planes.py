"""The planes of image quality and independent recognition: which groups are in one, and what can be told of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradprom.experiments._axes import parse_gate
from gradprom.experiments.groups import (
    MEASURE_OF,
    Group,
    common_seeds,
    compare,
    enhancer_alone,
    level_of,
    mean_of,
    setting_of,
    task_of,
)
from gradprom.experiments.statistics import Interval, as_columns, verdict
from gradprom.experiments.tradeoff import Point, front

LEAST_WEIGHTS = 3
"""Of fewer weights no plane is made."""
_MEASURES = {"accuracy": "accuracy", "miou": "mIoU"}


@dataclass(frozen=True)
class Plane:
    """Strategies at several weights, all of the same dataset, level, task, supervision, setting and seeds.

    Attributes:
        name: what its files are named after.
        words: dataset, level, task and supervision.
        measure: what the independent reader is measured by, ``accuracy`` or ``miou``.
        read: the same in words, with the size of the images that it read.
        groups: the enhancer that was trained alone, where there is one, and all others.
    """

    name: str
    words: tuple[str, ...]
    measure: str
    read: str
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        """Of its picture."""
        seeds = len(self.groups[0].seeds)
        return ", ".join((*self.words, "one training" if seeds == 1 else f"{seeds} trainings"))

    @cached_property
    def points(self) -> list[Point]:
        """One a group; the error bars are the intervals of its differences from the enhancer alone."""
        found = []
        for group, differences in zip(self.groups, self._differences, strict=True):
            ratio = parse_gate(group.axes["gate"] or "hard")[1]
            psnr, recognition = figures_of(group, self.measure) or (math.nan, math.nan)
            bars = (_arms(interval) for interval in differences.values())
            found.append(Point(group.method, group.axes["weight"], ratio, psnr, recognition, *bars))
        return found

    def rows(self) -> list[dict[str, str]]:
        """One a group, for a CSV: its figures, and how far they lie from those of the enhancer alone."""
        best, rows = front(self.points), []
        for group, point, differences in zip(self.groups, self.points, self._differences, strict=True):
            row = {
                "method": point.strategy,
                "weight": "" if point.weight is None else f"{point.weight:g}",
                "max_ratio": "" if point.max_ratio is None else f"{point.max_ratio:g}",
                "seeds": str(len(group.seeds)),
                "psnr": f"{point.psnr:.6g}",
                "recognition": f"{point.recognition:.6g}",
            }
            for name, interval in differences.items():
                columns = as_columns(interval) if interval else dict.fromkeys(("difference", "low", "high"), "")
                row |= {f"{name}_{column}": text for column, text in columns.items()}
                row[f"{name}_verdict"] = verdict(interval) if interval else ""
            rows.append(row | {"front": "yes" if point in best else "no"})
        return rows

    @cached_property
    def _differences(self) -> list[dict[str, Interval | None]]:
        measures = {"psnr": "psnr", "recognition": f"independent_{self.measure}"}
        alone = self.groups[0]
        return [
            {
                name: compare(group, alone, measure)
                if alone.axes["strategy"] == "enhancer_only"
                and group is not alone
                and common_seeds(group, alone) == group.seeds  # what is shown is of all of them
                else None
                for name, measure in measures.items()
            }
            for group in self.groups
        ]


def planes_of(groups: Sequence[Group]) -> list[Plane]:
    """One for each dataset, level, task, supervision and setting in which there are at least three weights.

    The enhancer that was trained alone is in each that it can be compared in. All points of a plane are of the same
    seeds, for trainings differ by more than many strategies do: of those that most of them have, and who lacks one is
    left out.
    """
    members: dict[tuple[tuple[str, str, str, str], str], list[Group]] = {}
    for group in groups:
        task = task_of(group)
        if task and group.axes["strategy"] != "recognizer_only" and group.axes["auxiliary"] != "both":
            level = level_of(group.axes["degradation"])
            words = (group.dataset, level, str(group.axes["auxiliary"]), str(group.axes["supervision"]))
            members.setdefault((words, repr(setting_of(group))), []).append(group)
    planes: list[Plane] = []
    for (words, _), found in members.items():
        if len({group.axes["weight"] for group in found}) < LEAST_WEIGHTS:
            continue
        measure = MEASURE_OF[str(task_of(found[0]))]
        alone = enhancer_alone(found[0], groups)
        comparable = _of_same_seeds(found if alone is None else [alone, *found])
        drawn = [group for group in comparable if figures_of(group, measure) is not None]
        names = list(dict.fromkeys(group.name for group in drawn))
        drawn.sort(key=lambda group: (names.index(group.name), group.axes["weight"] or 0))
        name = plane_name(*words)
        while any(plane.name == name for plane in planes):  # the same in another setting
            name += "-b"
        whole = found[0].config.view_of("cascade") == "whole"
        size = f", images of {found[0].config.size_of('cascade')} pixels" if whole else ""
        if drawn:
            read = f"{_MEASURES[measure]} of the independent reader{size}"
            planes.append(Plane(name, words, measure, read, tuple(drawn)))
    return planes


def plane_name(dataset: str, level: str, auxiliary: str | None, supervision: str | None) -> str:
    """What a plane's files are named after.

    >>> plane_name("isic2018 to crchisto", "0.2", "segmentation", "supervised")
    'isic2018-to-crchisto-0.2-segmentation-supervised'
    """
    return re.sub(r"[^\w.]+", "-", f"{dataset}, {level}, {auxiliary}, {supervision}")


def plane_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A plane's rows, as :meth:`Plane.rows` or a CSV holds them, as a table; in bold what several trainings tell.

    >>> figures = {"method": "joint", "weight": "1", "max_ratio": "", "seeds": "3", "front": "no"}
    >>> psnr = {"psnr": "30.75", "psnr_difference": "-2.4", "psnr_low": "-4.2", "psnr_high": "-0.5"}
    >>> read = {"recognition": "0.85", "recognition_difference": "", "recognition_low": "", "recognition_high": ""}
    >>> verdicts = {"psnr_verdict": "worse", "recognition_verdict": ""}
    >>> print(plane_markdown([figures | psnr | read | verdicts]).splitlines()[-1])
    | joint | 1 |  | 30.750 | **-2.4000 [-4.2000, -0.5000]** | 0.8500 |  |  |
    """
    lines = [
        "| method | λ | ρ | PSNR, dB | less the enhancer alone | recognition | less the enhancer alone | front |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row["method"], row["weight"], row["max_ratio"], f"{float(row['psnr']):.3f}", _cell(row, "psnr")]
        cells += [f"{float(row['recognition']):.4f}", _cell(row, "recognition"), "yes" if row["front"] == "yes" else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, str], name: str) -> str:
    if not row[f"{name}_difference"]:
        return ""
    text = f"{float(row[f'{name}_difference']):+.4f}"
    if row[f"{name}_low"]:
        text += f" [{float(row[f'{name}_low']):+.4f}, {float(row[f'{name}_high']):+.4f}]"
    told = int(row["seeds"]) > 1 and row[f"{name}_verdict"] in ("better", "worse")
    return f"**{text}**" if told else text


def figures_of(group: Group, measure: str) -> tuple[float, float] | None:
    """PSNR in dB and what the independent reader read, means over the seeds; None where one of them was not taken."""
    read = [measured.summary["enhanced"] for measured in group.measured]
    psnr, recognition = mean_of(read, "psnr")[0], mean_of(read, f"independent_{measure}")[0]
    return None if psnr is None or recognition is None else (psnr, recognition)


def _of_same_seeds(groups: Sequence[Group]) -> list[Group]:
    times = Counter(group.seeds for group in groups)
    seeds = max(times, key=lambda one: (times[one], len(one)))
    return [group.of(seeds) for group in groups if seeds <= group.seeds]


def _arms(interval: Interval | None) -> tuple[float, float] | None:
    """How far an interval reaches down and up."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.mean - interval.low, interval.high - interval.mean
