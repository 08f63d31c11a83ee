"""The record of an evaluation: per image, summed up, written and shown."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from gradprom import measures
from gradprom._files import atomic_path, write_text

if TYPE_CHECKING:
    from rich.table import Table

INDEPENDENT = "independent_"
"""What the names of an independent reader's measures begin with."""
_POOLED: tuple[tuple[str, str, Callable[[Tensor], float]], ...] = (
    ("accuracy", "diagnosis", measures.accuracy),
    ("balanced_accuracy", "diagnosis", measures.balanced_accuracy),
    ("majority", "diagnosis", measures.majority_rate),
    ("miou", "segmentation", measures.mean_iou),
)
COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "majority": "majority rate",
    "miou": "mIoU",
    f"{INDEPENDENT}accuracy": "independent accuracy",
    f"{INDEPENDENT}balanced_accuracy": "independent balanced accuracy",
    f"{INDEPENDENT}miou": "independent mIoU",
}
"""What is read of the images, by its key in a summary: the heading of its column."""


@dataclass(frozen=True)
class Row:
    """One image under one method; None where something was not measured.

    Attributes:
        method: ``input`` (the degraded image; ``bicubic`` in super-resolution), ``non-local means``, ``enhanced``, or
            ``clean``, which is only read, not compared with itself.
        id: the sample's.
        psnr: dB.
        ssim: in [-1, 1].
        label: name of the true diagnosis.
        predicted: name of the diagnosis that was read.
        iou: mean over this image's mask classes, background included.
        independent_predicted, independent_iou: the same, read by a recognizer that no enhancer was trained with.
        group: the patient, where known: images of one are no independent samples.
        matrix: the confusion matrix of the pixels, row by row, its counts parted by blanks.
        independent_matrix: likewise.
    """

    method: str
    id: str
    psnr: float | None = None
    ssim: float | None = None
    label: str | None = None
    predicted: str | None = None
    iou: float | None = None
    independent_predicted: str | None = None
    independent_iou: float | None = None
    group: str | None = None
    matrix: str | None = None
    independent_matrix: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        rows: one per image and method.
        summary: per method ``images``, ``psnr`` and ``ssim`` (means over images) with ``psnr_std`` and ``ssim_std``
            (population standard deviations), ``accuracy``, ``balanced_accuracy``, ``majority`` (the rate a constant
            answer reaches) and ``miou``; what an independent reader read as ``independent_accuracy``,
            ``independent_balanced_accuracy`` and ``independent_miou``; None where not measured.
        seed: of the test images' degradation.
        degradation: in words.
        dataset: in words: which one, and how much of it.
        precision: that the models ran in; measures are always taken in float32.
    """

    rows: tuple[Row, ...]
    summary: dict[str, dict[str, float | int | None]]
    seed: int
    degradation: str
    dataset: str = ""
    precision: str = "32-true"

    def write(self, folder: str | Path, name: str = "evaluation") -> None:
        """Write ``evaluation.csv`` (every image) and ``evaluation.json`` (summary and what it is of), or so named.

        JSON knows no infinity and no nan: both become null there.
        """
        folder = Path(folder)
        names = [field.name for field in fields(Row)]
        with (
            atomic_path(folder / f"{name}.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)
        summary = {method: {k: _finite(v) for k, v in values.items()} for method, values in self.summary.items()}
        about = {
            "protocol": measures.PROTOCOL,
            "dataset": self.dataset,
            "degradation": self.degradation,
            "precision": self.precision,
            "seed": self.seed,
        }
        text = json.dumps({**about, "summary": summary}, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(folder / f"{name}.json", text + "\n")

    def table(self) -> Table:
        """The summary for the terminal, the protocol below it."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.degradation) if self.degradation else None, caption=measures.PROTOCOL)
        measured = [key for key in COLUMNS if any(values[key] is not None for values in self.summary.values())]
        for name in ("method", "images", "PSNR (dB)", "SSIM", *(COLUMNS[key] for key in measured)):
            table.add_column(name, justify="left" if name == "method" else "right")
        for method, values in self.summary.items():
            table.add_row(
                method,
                str(values["images"]),
                plus_minus(values["psnr"], values["psnr_std"], 2),
                plus_minus(values["ssim"], values["ssim_std"], 3),
                *(plus_minus(values[key], None, 3) for key in measured),
            )
        return table


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None


def plus_minus(value: float | None, deviation: float | None, digits: int) -> str:
    """A measure as it stands in a table; – where it was not taken, or is not finite, as the PSNR of equal images.

    >>> plus_minus(33.456, 1.2, digits=2), plus_minus(0.5, None, digits=3), plus_minus(None, None, digits=3)
    ('33.46 ± 1.20', '0.500', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def summarize(
    rows: Sequence[Row], pooled: Mapping[tuple[str, str, str], Tensor]
) -> dict[str, dict[str, float | int | None]]:
    """Means, deviations and pooled measures per method.

    Args:
        rows: one per image and method.
        pooled: confusion matrices, shape (K, K), by method, reader (its prefix: nothing or ``INDEPENDENT``) and task.
    """
    summary: dict[str, dict[str, float | int | None]] = {}
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        values: dict[str, float | int | None] = {"images": len(mine)}
        for key in ("psnr", "ssim"):
            taken = np.array([value for row in mine if (value := getattr(row, key)) is not None], dtype=np.float64)
            with np.errstate(invalid="ignore"):  # an infinite PSNR has no deviation
                values |= (
                    {key: float(taken.mean()), f"{key}_std": float(taken.std())}
                    if taken.size
                    else {key: None, f"{key}_std": None}
                )
        for reader in ("", INDEPENDENT):
            for key, task, measure in _POOLED:
                if key != "majority" or not reader:  # that is the labels', whoever reads
                    matrix = pooled.get((method, reader, task))
                    values[reader + key] = measure(matrix) if matrix is not None and matrix.any() else None
        summary[method] = values
    return summary
