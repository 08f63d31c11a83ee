"""How the rows of the benchmarks become tables of docs."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return load_script("benchmarks/docs_performance.py")


def row(name: str, ratio: float, processor: str, goal: str | None = "< 1") -> dict[str, object]:
    return {"name": name, "ratio": ratio, "spread": 0.01, "goal": goal, "pinned": {"processor": processor}}


def test_a_missed_goal_has_a_cross(script: ModuleType) -> None:
    rows = [row("alternatives, unet: a / b, cpu", 0.9, "x"), row("alternatives, unet: a / c, cpu", 1.25, "x")]
    assert script.table(rows) == [
        "| | a / b (goal &lt; 1) | a / c (goal &lt; 1) |",
        "| --- | --- | --- |",
        "| unet | 0.900 ± 0.010 | 1.250 ± 0.010 ✗ |",
    ]


def test_where_processors_differ_each_case_says_of_which_its_figures_are(script: ModuleType) -> None:
    rows = [
        row("alternatives, unet: a / b, cpu", 0.9, "Xeon", None),
        row("alternatives, estr: a / b, cpu", 0.9, "EPYC", None),
        row("alternatives, estr: a / c, cpu", 0.8, "Xeon", None),
    ]
    assert script.table(rows) == [
        "| | a / b | a / c | processor |",
        "| --- | --- | --- | --- |",
        "| unet | 0.900 ± 0.010 |  | Xeon |",
        "| estr | 0.900 ± 0.010 | 0.800 ± 0.010 | EPYC and Xeon |",
    ]
