"""Measuring a run on its own test images, or on another dataset's."""

from __future__ import annotations

import hashlib
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
from gradprom.inference.reader import recognition_size
from gradprom.models import find_model, is_shipped
from gradprom.strategies import STRATEGIES
from gradprom.training.card import write_card
from gradprom.training.config import Config
from gradprom.training.data import build_dataset
from gradprom.training.folder import read_config, read_record
from gradprom.training.run import resolve_precision


def evaluate_run(
    folder: str | Path,
    *,
    dataset: str | None = None,
    root: str | None = None,
    degradation: str | None = None,
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
    """Measure a run and write ``evaluation.csv`` (per image) and ``evaluation.json``, and its card anew.

    Args:
        folder: a run folder, or the name of a shipped model.
        dataset: another dataset than the run's own, by name; its images are brought to the model's channels, and what
            its labels mean to the run's recognizers is known only if the classes are the same.
        root: that dataset's folder, or the new place of the run's own.
        degradation: another one than the run was trained for: the files are then named by it, as in
            ``evaluation-gaussian-0.1.json``.
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
        UserError: the run has no weights, the dataset cannot be read, the degradation makes images smaller by another
            factor than the run enlarges them, or ``output`` is needed and not given.
    """
    folder = find_model(folder)
    if output is None and is_shipped(folder):
        raise UserError(f"{folder.name} is a model of the package, where nothing is written: give -o FOLDER")
    if output is None and (dataset is not None or limit is not None or seed != 0):
        raise UserError(
            "another dataset, a limit or another seed would replace the run's own evaluation: give -o FOLDER for it"
        )
    check_device(device)
    config, record = read_config(folder), read_record(folder)
    chain = _chain(folder, config, degradation)
    data = dataset_of(config, dataset, root, record.channels)
    recognizers = {} if is_shipped(folder) else _that_know(data, folder)
    if reader is not None:
        _check_reader(Path(reader), config, dataset)
    if reader is not None and not (readers := _that_know(data, Path(reader))):
        raise UserError(
            f"{reader}: has no recognizer for what dataset {data.name!r} is labelled with, give another run"
        )
    result = evaluate(
        data.test[:limit],
        channels=record.channels,
        degrade=partial(degrade, build_degradation(chain)),
        enhancer=load(folder).enhancer if STRATEGIES[config.strategy].enhancer else None,
        recognizers=recognizers,
        readers=readers if reader is not None else None,
        classes=data.classes,
        mask_classes=data.mask_classes,
        sigma=chain_sigma(chain),
        scale=chain_scale(chain),
        seed=seed,
        device=device,
        recognition_size=recognition_size(config),
        baselines=baselines,
        cache=None if cache is None else Path(cache),
        degradation=chain,
        autocast=partial(_autocast, precision, torch.device(device).type),
        progress=progress,
    )
    words = data.name if limit is None else f"{data.name}, the first {limit} test images"
    result = replace(result, dataset=words, precision=resolve_precision(precision, torch.device(device).type))
    where = Path(output) if output is not None else folder
    result.write(where, "evaluation" if chain == describe_chain(config.degradation) else _file_name(chain))
    if where.resolve() == folder.resolve():
        write_card(folder, config, record)
    return result


def _chain(folder: Path, config: Config, degradation: str | None) -> str:
    """The degradation to measure at, in its one way to be written."""
    chain = describe_chain(config.degradation if degradation is None else degradation)
    own = chain_scale(config.degradation)
    if chain_scale(chain) != own:
        raise UserError(
            f"degradation {chain!r} makes images smaller by {chain_scale(chain)}, but {folder} makes them larger by "
            f"{own}: give one with {f'downsample {own}' if own > 1 else 'no downsample'}"
        )
    return chain


def _file_name(chain: str) -> str:
    """A name without blanks that a file system takes.

    >>> _file_name("gaussian 0.3 + blur 3 2")
    'evaluation-gaussian-0.3+blur-3-2'
    """
    name = chain.replace(" + ", "+").replace(" ", "-")
    if len(name) > 100:
        name = f"{name[:80]}-{hashlib.sha256(chain.encode()).hexdigest()[:12]}"
    return f"evaluation-{name}"


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
