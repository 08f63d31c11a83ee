"""What is shown of a training while it runs."""

from __future__ import annotations

import math
import time

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gradprom.promotion import Step


class Meter:
    """Running figures between two rows of the log; ``losses`` are those of the steps since the last row."""

    def __init__(self, batch_size: int, losses: list[float]) -> None:
        self._batch_size = batch_size
        self._losses = losses
        self.validation = math.nan
        self._promotion: float | None = None
        self._smooth = math.nan
        self.restart()

    def restart(self) -> None:
        self._steps = 0
        self._began = time.perf_counter()

    def add(self, record: Step) -> None:
        self._steps += 1
        self._losses.append(record.main_loss)
        self._smooth = record.main_loss if math.isnan(self._smooth) else 0.95 * self._smooth + 0.05 * record.main_loss
        if record.promoted:
            share = sum(record.promoted.values()) / len(record.promoted)
            self._promotion = share if self._promotion is None else 0.98 * self._promotion + 0.02 * share

    def row(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._began, 1e-9)
        row = {"loss": math.fsum(self._losses) / len(self._losses)} if self._losses else {}
        row["images_per_second"] = self._steps * self._batch_size / seconds
        self._losses.clear()
        self.restart()
        return row

    def figures(self) -> str:
        text = f"loss {self._smooth:.3g}"
        if not math.isnan(self.validation):
            text += f"  validation {self.validation:.2f} dB"
        return text if self._promotion is None else f"{text}  promoted {self._promotion:.0%}"


class Figures(ProgressColumn):
    """Loss, validation and promotion rate; empty for tasks that have none, such as reading images."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("figures", ""))


def make_progress(*, disable: bool = False) -> Progress:
    """A progress bar on the error stream, so that the output stays clean; of several processes one shows it."""
    from rich.console import Console

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Figures(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=disable,
    )
