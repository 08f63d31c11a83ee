"""Put the rows of results.json into docs/performance.md, below its marker.

    make bench                               (or the scripts one by one)
    python benchmarks/docs_performance.py

What stands above the marker in docs/performance.md is written by hand and left alone.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _measure import RESULTS

MARKER = "<!-- below: made by benchmarks/docs_performance.py -->"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SECTIONS = (
    ("The cost of a promoted step", "step_cost.py", r"/ floor|own passes|/ joint, cpu|/ \(F \+ B"),
    ("Its memory", "step_cost.py", r"peak memory (beyond|, )|peak memory, "),
    ("Against what one would write or take instead", "alternatives.py", r"ours / "),
    ("Cheaper gates: how often they decide as the exact one, and PSNR", "interface_gate.py", r"^interface gate"),
    ("Training", "training.py", r"^training"),
    ("Quality of what was trained", "training.py --quality", r"^training.* PSNR"),
    ("Enhancement", "enhancement.py", r"^enhancement"),
    ("PyTorch and ONNX Runtime", "runtimes.py", r"^runtimes"),
    ("How cost grows", "growth.py", r"^growth"),
    ("Start-up", "startup.py", r"^start-up"),
)
"""Each row of the results goes into the last of these whose pattern is in its name."""
_LIMITS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


def is_met(value: float, goal: str) -> bool:
    """Whether a figure reaches a goal such as ``< 1``, ``>= 1.5`` or ``-0.05 to 0.05``.

    >>> is_met(1.04, "<= 1.05"), is_met(0.1, "-0.05 to 0.05")
    (True, False)
    """
    low, between, high = goal.partition(" to ")
    if between:
        return float(low) <= value <= float(high)
    sign, _, limit = goal.partition(" ")
    return bool(_LIMITS[sign](value, float(limit)))


def split(name: str) -> tuple[str, str]:
    """A row's name, less the script's, as what was measured on, and what was measured.

    >>> split("step cost, unet, 64 px: exact / floor, cpu"), split("step cost, unet, 64 px: peak memory, exact / joint")
    (('unet, 64 px', 'exact / floor'), ('unet, 64 px', 'peak memory, exact / joint'))
    """
    case, _, what = name.partition(", ")[2].rpartition(": ")
    return case, re.sub(r", (cpu|cpu of the main process|wall)$", "", what)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each case, a column for each thing that was measured, and one for the processor where that differs."""
    columns = list(dict.fromkeys(split(row["name"])[1] for row in rows))
    cells: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        case, what = split(row["name"])
        cells.setdefault(case, {})[what] = row
    goals = {
        what: next((c[what]["goal"] for c in cells.values() if what in c and c[what]["goal"]), None) for what in columns
    }
    heads = [what + _goal(goals[what]) for what in columns]
    differ = len({row["pinned"]["processor"] for row in rows}) > 1
    heads += ["processor"] * differ
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for case, found in cells.items():
        texts = [case, *(cell(found.get(what), goals[what]) for what in columns)]
        if differ:
            texts.append(" and ".join(dict.fromkeys(row["pinned"]["processor"] for row in found.values())))
        lines.append(f"| {' | '.join(texts)} |")
    return lines


def cell(row: Mapping[str, Any] | None, goal: str | None = None) -> str:
    """A figure with its spread and interval, its goal if not the column's, and a cross where it is missed."""
    if row is None:
        return ""
    text = f"{row['ratio']:.3g}" if abs(row["ratio"]) < 0.1 else f"{row['ratio']:.3f}"
    text += f" ± {row['spread']:.3f}" if row["spread"] else ""
    text += " ({:.3f} to {:.3f})".format(*row["interval"]) if row.get("interval") else ""
    text += _goal(row["goal"]) if row["goal"] != goal else ""
    return text + (" ✗" if row["goal"] and not is_met(row["ratio"], row["goal"]) else "")


def _goal(goal: str | None) -> str:
    return f" (goal {goal.replace('<', '&lt;')})" if goal else ""


def pins(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was the same for all rows, in words."""
    common = {k: v for k, v in rows[0]["pinned"].items() if v and all(r["pinned"].get(k) == v for r in rows)}
    return "; ".join(f"{key} {value}" for key, value in common.items())


def main() -> None:
    """Write the page."""
    every = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = [MARKER, ""]
    taken: dict[str, list[Mapping[str, Any]]] = {title: [] for title, _, _ in SECTIONS}
    for row in every:
        if row["name"].endswith(", wall") and not row["name"].startswith("training"):
            continue  # in results.json
        if row["name"].endswith(", cpu of the main process"):
            continue
        title = [title for title, _, pattern in SECTIONS if re.search(pattern, row["name"])][-1]
        taken[title].append(row)
    for title, script, _ in SECTIONS:
        if taken[title]:
            parts += [f"## {title}", "", f"`python benchmarks/{script}`; {pins(taken[title])}.", ""]
            parts += [*table(taken[title]), ""]
    head = PAGE.read_text(encoding="utf-8").partition(MARKER)[0]
    PAGE.write_text(head + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
