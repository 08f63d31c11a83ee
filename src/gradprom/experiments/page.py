"""The report page of finished runs, from what lies in their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradprom._chain import chain_scale
from gradprom.baselines import bicubic
from gradprom.datasets.loader import test_key
from gradprom.degradations import build_degradation, degrade
from gradprom.errors import UserError
from gradprom.evaluation import read_clean
from gradprom.experiments.evaluate import dataset_of
from gradprom.experiments.report import ReportRun, write_report
from gradprom.inference.load import load
from gradprom.measures import psnr
from gradprom.strategies import STRATEGIES
from gradprom.training.config import to_dict
from gradprom.training.folder import read_config, read_record


def report(
    folders: Sequence[str | Path], output: str | Path, *, notes: Sequence[str] = (), overwrite: bool = False
) -> Path:
    """Write one self-contained HTML page about one run, or about several to be compared.

    Args:
        folders: run folders; those that were evaluated have their measures shown.
        output: the page.
        notes: sentences to stand at its top.
        overwrite: replace a file that is there.

    Raises:
        UserError: a folder is not a run folder, or has no weights yet, or ``output`` exists.
    """
    path = Path(output)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists, give the page another name or --overwrite")
    runs = [_gather(Path(folder)) for folder in folders]
    write_report(path, "gradprom: " + ", ".join(run.name for run in runs), runs, notes)
    return path


def _gather(folder: Path) -> ReportRun:
    config = read_config(folder)
    summary: dict[str, Any] = {}
    evaluation = folder / "evaluation.json"
    if evaluation.exists():
        try:
            summary = json.loads(evaluation.read_text(encoding="utf-8"))["summary"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{evaluation}: is damaged, run gradprom evaluate {folder} again") from error
    return ReportRun(
        name=folder.name,
        config=to_dict(config),
        summary=summary,
        metrics_csv=folder / "metrics.csv",
        promotion_csv=folder / "promotion.csv",
        pictures=_pictures(folder) if STRATEGIES[config.strategy].enhancer else (),
    )


def _pictures(folder: Path) -> list[tuple[str, NDArray[Any]]]:
    """Before, after and target of the test set's middle image, with what each measures."""
    config, record = read_config(folder), read_record(folder)
    data = dataset_of(config, None, None, record.channels)
    sample = data.test[len(data.test) // 2]
    clean = read_clean(sample, record.channels)
    scale = chain_scale(config.degradation)
    clean = clean[:, : clean.shape[1] // scale * scale, : clean.shape[2] // scale * scale]
    degraded = degrade(build_degradation(config.degradation), clean, test_key(sample.id, 0))
    with torch.inference_mode():
        enhanced = load(folder).enhancer(degraded[None])[0].clamp(0, 1)
    degraded = bicubic(degraded, (clean.shape[1], clean.shape[2]))

    def caption(what: str, image: Tensor) -> str:
        return f"{what}, {psnr(image[None], clean[None]).item():.2f} dB"

    def pixels(image: Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = image.permute(1, 2, 0).numpy()
        return array

    return [
        (caption("before", degraded), pixels(degraded)),
        (caption("after", enhanced), pixels(enhanced)),
        (f"target ({sample.id})", pixels(clean)),
    ]
