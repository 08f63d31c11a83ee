"""Measuring a run on its own test images, or on another dataset's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from gradprom._chain import chain_scale, chain_sigma, describe_chain
from gradprom.datasets.sample import Dataset
from gradprom.degradations import build_degradation, degrade
from gradprom.errors import UserError
from gradprom.evaluation import Evaluation, evaluate
from gradprom.inference.load import check_device, load, load_recognizers
from gradprom.strategies import STRATEGIES
from gradprom.training.config import Config
from gradprom.training.data import build_dataset
from gradprom.training.folder import read_config, read_record
from gradprom.training.run import resolve_precision


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
    reader: str | Path | None = None,
    precision: str = "32-true",
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
        baselines: measure the degraded input and non-local means too.
        cache: folder where non-local means is kept between evaluations.
        reader: another run folder, whose recognizers read the images too: independent ones, when they were trained
            apart (strategy recognizer_only with degradation none, for one).
        precision: of the models: ``32-true``, or ``bf16-mixed``, ``16-mixed`` or ``auto`` as in a configuration.
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
    recognizers = _that_know(data, folder)
    if reader is not None:
        _check_reader(Path(reader), config, dataset)
    if reader is not None and not (readers := _that_know(data, Path(reader))):
        raise UserError(
            f"{reader}: has no recognizer for what dataset {data.name!r} is labelled with, give another run"
        )
    result = evaluate(
        data.test[:limit],
        channels=record.channels,
        degrade=partial(degrade, build_degradation(config.degradation)),
        enhancer=load(folder).enhancer if STRATEGIES[config.strategy].enhancer else None,
        recognizers=recognizers,
        readers=readers if reader is not None else None,
        classes=data.classes,
        mask_classes=data.mask_classes,
        sigma=chain_sigma(config.degradation),
        scale=chain_scale(config.degradation),
        seed=seed,
        device=device,
        recognition_size=config.size_of("cascade") if config.view_of("cascade") == "whole" else None,
        baselines=baselines,
        cache=None if cache is None else Path(cache),
        degradation=describe_chain(config.degradation),
        autocast=partial(_autocast, precision, torch.device(device).type),
        progress=progress,
    )
    words = data.name if limit is None else f"{data.name}, the first {limit} test images"
    result = replace(result, dataset=words, precision=resolve_precision(precision, torch.device(device).type))
    result.write(Path(output) if output is not None else folder)
    return result


def _that_know(data: Dataset, folder: Path) -> dict[str, nn.Module]:
    """The recognizers of a run that were trained for the classes of a dataset."""
    record = read_record(folder)
    known = {
        "diagnosis": data.classes == tuple(record.classes),
        "segmentation": data.mask_classes == tuple(record.mask_classes),
    }
    return {task: model for task, model in load_recognizers(folder).items() if known[task]}


def _check_reader(folder: Path, config: Config, dataset: str | None) -> None:
    """A reader that learnt from the images it is to read says nothing of them."""
    other = read_config(folder).dataset
    name = dataset or config.dataset.name
    names = ("split", "test_fraction", "split_seed")
    same = all(getattr(other, option) == getattr(config.dataset, option) for option in names)
    if other.name == name and not same:
        raise UserError(
            f"{folder}: was trained on another split of {name}, so on images it is to read: give a reader trained on "
            "the split of the run"
        )


def _autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    precision = resolve_precision(precision, device)
    return torch.autocast(device, dtype=types[precision]) if precision in types else nullcontext()


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
        "split": own.split if name in (None, own.name) else None,
    }
    data = build_dataset(replace(own, **changes))
    if not data.test:
        raise UserError(f"dataset {data.name!r} has no test images: give a dataset.test_fraction above 0")
    return data
