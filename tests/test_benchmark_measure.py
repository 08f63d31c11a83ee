"""What the benchmarks' figures are made of."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def measure(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/_measure.py")


def test_functions_take_turns_and_the_first_round_is_not_measured(measure: ModuleType) -> None:
    calls: list[str] = []
    functions = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = measure.interleaved(functions, 3, prepare=lambda: calls.append("-"))
    rounds = "".join(calls).split("-")[1:]
    assert len(rounds) == 3 * (1 + 3)
    by_round = ["".join(rounds[i : i + 3]) for i in range(0, 12, 3)]
    assert by_round[1:] == ["abc", "bca", "cab"]
    assert all(sorted(one) == list("abc") for one in by_round)
    assert {name: (len(t.wall), len(t.cpu)) for name, t in times.items()} == dict.fromkeys("abc", (3, 3))


def test_ratio_is_taken_within_a_repeat(measure: ModuleType) -> None:
    # the machine was ten times slower in the second repeat
    found = measure.ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])
    assert (found.median, found.spread) == pytest.approx((2, 0.05))
    alone = measure.ratio([3.0], [2.0])
    assert (alone.median, alone.spread) == (1.5, 0)


def test_excess_is_taken_within_a_repeat(measure: ModuleType) -> None:
    found = measure.excess([1.5, 10.5, 1.6], [1.0, 10.0, 1.0])
    assert (found.median, found.spread) == pytest.approx((0.5, 0.025))


def test_the_processor_time_of_child_processes_counts(measure: ModuleType) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    times = measure.interleaved({"child": lambda: subprocess.run([sys.executable, "-c", busy], check=True)}, 1)
    assert times["child"].cpu[0] > 0.25  # a little coarser than the child's own clock


def test_peak_memory_counts_what_lives_at_one_time(measure: ModuleType) -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.zeros(1 << 20, dtype=torch.uint8)

    def together() -> list[torch.Tensor]:
        return [torch.zeros(1 << 20, dtype=torch.uint8) for _ in range(3)]

    held = torch.zeros(1 << 20, dtype=torch.uint8)  # was there before, and does not count
    assert measure.peak_memory(one_after_the_other) == 1 << 20
    assert measure.peak_memory(together) == 3 << 20
    assert held.numel() == 1 << 20


def test_rows_of_the_same_name_are_replaced_and_others_kept(measure: ModuleType, tmp_path: Path) -> None:
    path, pins = tmp_path / "results.json", {"threads": 1}
    measure.write_rows([measure.row("b", 1.23456, "<= 1.05", pins), measure.row("a", 2.0, None, pins)], path)
    measure.write_rows([measure.row("b", measure.Ratio(3.0, 0.5), "<= 1.05", pins)], path)
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"name": "a", "ratio": 2.0, "spread": 0.0, "goal": None, "pinned": pins},
        {"name": "b", "ratio": 3.0, "spread": 0.5, "goal": "<= 1.05", "pinned": pins},
    ]
