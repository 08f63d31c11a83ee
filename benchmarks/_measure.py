"""How the benchmarks measure: interleaved repeats, ratios within a repeat, medians and their spread.

A row of ``results.json`` has a ``name``, a ``ratio`` (of ours to what it is held against, or what else its name says;
a median over repeats), its ``spread`` (half the distance between the quartiles), from six repeats on an ``interval``
(95 % confidence, of the median), the ``goal`` (or null) and what was ``pinned``: threads, sizes, precision, versions,
processor. Ratios of memory and counts need no repeats: their spread is 0. All scripts write their rows by
:func:`write_rows`, to the file that ``--results`` names.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"


@dataclass
class Times:
    """Seconds of each repeat, of the wall clock and of the processor (which other processes disturb less).

    The processor's include those of child processes that ended in it.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Ratio:
    """A median over repeats, half the distance between the quartiles, and an interval of 95 % confidence."""

    median: float
    spread: float
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = f"{self.median:.3f} ± {self.spread:.3f}"
        return text if self.interval is None else f"{text} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"


def rotated(names: list[str], turn: int) -> list[str]:
    """Another one comes first each turn.

    >>> rotated(["a", "b", "c"], 4)
    ['b', 'c', 'a']
    """
    first = turn % len(names)
    return names[first:] + names[:first]


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    prepare: Callable[[], object] = lambda: None,
    *,
    warm: bool = False,
) -> dict[str, Times]:
    """Call all functions once unmeasured, then in turn, each time from another beginning, ``repeats`` times.

    ``prepare`` comes before every call and is not measured. ``warm``: they were called already.
    """
    times = {name: Times() for name in functions}
    for repeat in range(0 if warm else -1, repeats):
        for name in rotated(list(functions), repeat):
            prepare()
            gc.collect()
            wall, cpu = time.perf_counter(), _processor_seconds()
            functions[name]()
            wall, cpu = time.perf_counter() - wall, _processor_seconds() - cpu
            if repeat >= 0:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
    return times


def _processor_seconds() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def median_of(values: Sequence[float]) -> Ratio:
    """Over repeats.

    >>> print(median_of([1.0, 5.0, 2.0]))
    2.000 ± 1.000
    >>> print(median_of([1.0, 5.0, 2.0, 3.0, 2.5, 2.2]))
    2.350 ± 0.413 (1.000 to 5.000)
    """
    if len(values) == 1:
        return Ratio(values[0], 0.0)
    from scipy.stats import quantile_test

    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    found = quantile_test(values, p=0.5).confidence_interval(0.95)  # whatever the distribution
    interval = (float(found.low), float(found.high))
    return Ratio(middle, (high - low) / 2, interval if all(map(math.isfinite, interval)) else None)


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Of two series that were measured in turn: what slowed a repeat slowed both.

    >>> print(ratio([2.0, 4.0, 6.0], [1.0, 2.0, 2.0]))
    2.000 ± 0.250
    """
    return median_of([a / b for a, b in zip(above, below, strict=True)])


def excess(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """As :func:`ratio`, but by how much the first is above the second, in the unit of the series.

    >>> print(excess([2.0, 4.0, 6.0], [1.0, 2.0, 2.0]))
    2.000 ± 0.750
    """
    return median_of([a - b for a, b in zip(above, below, strict=True)])


def peak_memory(function: Callable[[], object]) -> int:
    """Bytes of tensors at the highest point of a call, over what was there before.

    Every allocation of PyTorch's allocator on the CPU is counted, temporary ones of autograd included; scratch that a
    convolution library allocates for itself is not.

    >>> import torch
    >>> peak_memory(lambda: torch.zeros(1000, dtype=torch.float64).sum() + torch.zeros(500, dtype=torch.float64).sum())
    8008
    """
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def pinned(**more: object) -> dict[str, object]:
    """What a figure depends on."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": _processor(),
        "malloc": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_") or k == "LD_PRELOAD"},
        **more,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return f"{names[0]}, {len(names)} cores"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def row(name: str, value: Ratio | float, goal: str | None, pins: Mapping[str, object]) -> dict[str, object]:
    """A row of the results, printed as it is made."""
    found = value if isinstance(value, Ratio) else Ratio(value, 0.0)
    print(f"{name:<78} {found}  (goal: {goal or 'none'})", flush=True)
    interval = {} if found.interval is None else {"interval": [round(end, 4) for end in found.interval]}
    return {
        "name": name,
        "ratio": round(found.median, 4),
        "spread": round(found.spread, 4),
        **interval,
        "goal": goal,
        "pinned": dict(pins),
    }


def write_rows(rows: Sequence[Mapping[str, object]], path: Path = RESULTS) -> None:
    """Add rows to a file of results; those of the same name are replaced."""
    from gradprom._files import write_text

    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    by_name = {r["name"]: r for r in held} | {str(r["name"]): dict(r) for r in rows}
    lines = ",\n".join(json.dumps(by_name[name], ensure_ascii=False) for name in sorted(by_name))
    write_text(path, f"[\n{lines}\n]\n")


def options(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="measured repeats of everything")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to which the rows are added")
    return parser
