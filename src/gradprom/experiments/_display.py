"""What is shown of an experiment while it runs: bars in a terminal, elsewhere a line for each run that ends."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from gradprom.experiments._pool import Worker
from gradprom.experiments.schedule import Steps


class Display:
    """Runs and steps over all, and a line for each worker.

    Args:
        done: runs that were done before.
        total: runs in all.
        steps: of those that are left.
    """

    def __init__(self, done: int, total: int, steps: Steps) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._done, self._total = done, total
        self._steps = steps
        self._runs = self._progress.add_task("runs", total=total, completed=done)
        self._all = self._progress.add_task("steps", total=steps.total, completed=steps.done)
        self._lines: dict[Worker, TaskID] = {}
        self._began: dict[str, float] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def began(self, worker: Worker, name: str) -> None:
        """A worker has begun with a run."""
        self._began[name] = time.monotonic()
        if worker in self._lines:
            self._progress.remove_task(self._lines[worker])
        self._lines[worker] = self._progress.add_task(name, total=self._steps.of(name))

    def stands(self, worker: Worker, name: str, own: int) -> None:
        """A run has done so many steps of its own."""
        self._progress.update(self._lines[worker], description=f"{worker.at}: {name}", completed=own)
        self._progress.update(self._all, total=self._steps.total, completed=self._steps.done)

    def ended(self, worker: Worker, name: str, outcome: str) -> None:
        """A run is done or has failed."""
        self._done += 1
        self._progress.update(self._runs, completed=self._done)
        self._progress.update(self._all, total=self._steps.total, completed=self._steps.done)
        self._progress.remove_task(self._lines.pop(worker))
        minutes = (time.monotonic() - self._began.pop(name)) / 60
        self.say(f"{self._done}/{self._total} {name}: {outcome} after {minutes:.1f} min")

    def left_out(self, name: str, reason: str) -> None:
        """A run will not be begun."""
        self._done += 1
        self._progress.update(self._runs, completed=self._done)
        self.say(f"{self._done}/{self._total} {name}: {reason}")

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
