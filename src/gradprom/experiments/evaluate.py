"""Measuring a run on its own test images, or on another dataset's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from gradprom.datasets.sample import Dataset
from gradprom.degradations import degrade
from gradprom.errors import UserError
from gradprom.evaluation import Evaluation, evaluate
from gradprom.inference.load import check_device, load, load_recognizers
from gradprom.strategies import STRATEGIES
from gradprom.training.config import Config
from gradprom.training.data import build_dataset, build_degradation
from gradprom.training.folder import read_config, read_record


def evaluate_run(
    folder: str | Path,
    *,
    dataset: str | None = None,
    root: str | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    baselines: bool = True,
    cache: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run and write ``evaluation.csv`` (per image) and ``evaluation.json``.

    Args:
        folder: a run folder.
        dataset: another dataset than the run's own, by name; its images are brought to the model's channels, and what
            its labels mean to the run's recognizers is known only if the classes are the same.
        root: that dataset's folder, or the new place of the run's own.
        output: where to write; the run folder by default, which is for the run's own whole test set alone.
        seed: of the test images' noise, the same for every run that is to be compared.
        limit: measure only so many images.
        baselines: measure non-local means too.
        cache: folder where non-local means is kept between evaluations.
        device: where the models run.
        progress: a running progress display.

    Raises:
        UserError: the run has no weights, the dataset cannot be read, or ``output`` is needed and not given.
    """
    if output is None and (dataset is not None or limit is not None or seed != 0):
        raise UserError(
            "another dataset, a limit or another seed would replace the run's own evaluation: give -o FOLDER for it"
        )
    folder = Path(folder)
    check_device(device)
    config, record = read_config(folder), read_record(folder)
    data = dataset_of(config, dataset, root, record.channels)
    recognizers = load_recognizers(folder)
    known = {
        "diagnosis": data.classes == tuple(record.classes),
        "segmentation": data.mask_classes == tuple(record.mask_classes),
    }
    result = evaluate(
        data.test[:limit],
        channels=record.channels,
        degrade=partial(degrade, build_degradation(config)),
        enhancer=load(folder).enhancer if STRATEGIES[config.strategy].enhancer else None,
        recognizers={task: model for task, model in recognizers.items() if known[task]},
        classes=data.classes,
        mask_classes=data.mask_classes,
        sigma=config.degradation.sigma,
        seed=seed,
        device=device,
        recognition_size=config.training.size if config.training.view == "whole" else None,
        baselines=baselines,
        cache=None if cache is None else Path(cache),
        degradation=f"{config.degradation.name}, sigma {config.degradation.sigma}",
        progress=progress,
    )
    result = replace(result, dataset=data.name if limit is None else f"{data.name}, the first {limit} test images")
    result.write(Path(output) if output is not None else folder)
    return result


def dataset_of(config: Config, name: str | None, root: str | None, channels: int) -> Dataset:
    """The dataset of a run, or another one split in the same way, brought to the model's channels.

    Raises:
        UserError: it cannot be read or has no test images.
    """
    own = config.dataset
    changes: dict[str, Any] = {
        "name": name or own.name,
        "root": root or (own.root if name is None else None),
        "channels": channels,
    }
    data = build_dataset(replace(own, **changes))
    if not data.test:
        raise UserError(f"dataset {data.name!r} has no test images: give a dataset.test_fraction above 0")
    return data
