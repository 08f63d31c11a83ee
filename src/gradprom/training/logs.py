"""The logs of a run: CSV for people and tables, TensorBoard for curves."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import IO, Any

from gradprom.promotion import Step

METRICS = ("stage", "step", "loss", "validation_psnr", "learning_rate", "images_per_second", "data_share")
FILES = ("metrics.csv", "promotion.csv")


class Logs:
    """``metrics.csv``, ``promotion.csv`` and ``tensorboard/`` in a run folder.

    Args:
        folder: the run's folder.
        tasks: the auxiliaries, for the columns of ``promotion.csv``.
        sizes: where to cut the files off, as :meth:`sizes` once gave them; None starts them anew.
        step: the run's step at that point, over all stages; TensorBoard hides what was logged later.
    """

    def __init__(self, folder: Path, tasks: list[str], sizes: dict[str, int] | None, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._files: dict[str, IO[str]] = {}
        self._tasks = tasks
        columns = {
            "metrics.csv": list(METRICS),
            "promotion.csv": ["step", "main_loss", "main_norm", "skipped", "ratio"]
            + [f"{what}_{task}" for task in tasks for what in ("loss", "alignment", "norm", "promoted")],
        }
        for name in FILES:
            path = folder / name
            if sizes is None or not path.exists():
                path.write_text(",".join(columns[name]) + "\n", encoding="utf-8")
            else:
                with path.open("r+b") as file:
                    file.truncate(sizes[name])
            self._files[name] = path.open("a", newline="", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step if sizes else None)

    def sizes(self) -> dict[str, int]:
        """Bytes written so far, all of them on the way to the disk."""
        for file in self._files.values():
            file.flush()
        return {name: file.tell() for name, file in self._files.items()}

    def metrics(self, global_step: int, row: dict[str, Any]) -> None:
        """Add a row to ``metrics.csv``; missing columns stay empty."""
        self._write("metrics.csv", [row.get(name, "") for name in METRICS])
        self._files["metrics.csv"].flush()  # to be watched while it grows
        for name, value in row.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{row['stage']}/{name}", value, global_step)

    def rows_of(self, stage: str) -> str:
        """The rows of ``metrics.csv`` that belong to a stage, for runs that will share its result."""
        self._files["metrics.csv"].flush()
        lines = Path(self._files["metrics.csv"].name).read_text(encoding="utf-8").splitlines(keepends=True)
        return "".join(line for line in lines if line.startswith(f"{stage},"))

    def copy(self, rows: str) -> None:
        """Add rows that another run logged in a stage whose result this run shares."""
        self._files["metrics.csv"].write(rows)

    def promotion(self, global_step: int, step: int, record: Step) -> None:
        """Add a step of the cascade to ``promotion.csv``."""
        row: list[Any] = [step, record.main_loss, record.main_norm, int(record.skipped), record.ratio]
        for task in self._tasks:
            row += [
                record.losses.get(task, math.nan),
                record.alignment.get(task, math.nan),
                record.norms.get(task, math.nan),
                int(record.promoted.get(task, False)),
            ]
            for name, value in (("alignment", record.alignment), ("promoted", record.promoted)):
                if task in value:
                    self._board.add_scalar(f"promotion/{name}_{task}", float(value[task]), global_step)
        self._write("promotion.csv", row)

    def _write(self, name: str, row: list[Any]) -> None:
        csv.writer(self._files[name], lineterminator="\n").writerow(
            [f"{value:.6g}" if isinstance(value, float) else value for value in row]
        )

    def close(self) -> None:
        """Flush and close all of them."""
        for file in self._files.values():
            file.close()
        self._board.close()
