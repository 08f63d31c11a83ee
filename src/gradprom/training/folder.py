"""What lies in a run folder, and how it is made and read back."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gradprom._files import write_text
from gradprom.errors import UserError
from gradprom.training.config import Config, parse, to_dict

CONFIG, RECORD, ENHANCER = "config.yaml", "run.json", "enhancer.safetensors"
# all that a run and its evaluation leave in their folder
OWN = (
    CONFIG,
    RECORD,
    "*.safetensors",
    "checkpoint.pt",
    "metrics.csv",
    "promotion.csv",
    "preview.png",
    "tensorboard",
    "evaluation.csv",
    "evaluation.json",
    "evaluation-*.csv",
    "evaluation-*.json",
    "card.md",
    ".partial-*",
)


@dataclass
class RunRecord:
    """``run.json``: what the weights were trained on and with, beside the configuration.

    Attributes:
        dataset: its name.
        channels: 1 (grey) or 3 (colour).
        classes: names of the diagnoses.
        mask_classes: names of the pixel classes.
        training_images, validation_images, test_images: how many of each.
        seed: of the run.
        device: it ran on.
        threads: of PyTorch; another number may give other last digits.
        versions: of Python and the packages that matter.
        started: date and time, UTC.
        seconds: of training, over all sessions.
        finished: whether the training came to its end.
        own_models: enhancer and tasks whose models were given, in place of those that the configuration names.
    """

    dataset: str
    channels: int
    classes: list[str]
    mask_classes: list[str]
    training_images: int
    validation_images: int
    test_images: int
    seed: int
    device: str
    threads: int
    started: str
    seconds: float = 0.0
    finished: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    own_models: list[str] = field(default_factory=list)


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place where no run can be written; nothing is changed there.

    Raises:
        UserError: the folder exists, is not empty and ``overwrite`` is false, or it is not a run folder.
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file, give the name of a folder for the run")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(f"{folder}: exists and is not empty, give another folder, or --overwrite or --resume it")
        if not (folder / CONFIG).exists() or not (folder / RECORD).exists():
            raise UserError(f"{folder}: is not a run folder and will not be overwritten, give another folder")


def create_folder(folder: Path, config: Config, record: RunRecord) -> None:
    """Make a run folder with its ``config.yaml`` and ``run.json``, in place of an earlier run.

    Of the earlier run only what gradprom itself wrote is removed.
    """
    import yaml

    for pattern in OWN:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(folder / CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
    write_record(folder, record)


def read_config(folder: Path) -> Config:
    """The configuration of a run folder; a split's file that lies in the folder itself is found there.

    Raises:
        UserError: the folder is not a run folder.
    """
    if folder.is_file():
        raise UserError(
            f"{folder}: is a file, which holds an enhancer at most, expected a run folder: give the run that it was "
            "exported from"
        )
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: is not a run folder (it has no {CONFIG}), give a folder made by gradprom train")
    config = parse(folder / CONFIG)
    if config.dataset.split is not None and (folder / config.dataset.split).is_file():
        config.dataset.split = str(folder / config.dataset.split)
    return config


def write_record(folder: Path, record: RunRecord) -> None:
    """Write ``run.json``."""
    write_text(folder / RECORD, json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> RunRecord:
    """Read ``run.json``.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / RECORD
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record = RunRecord(**data)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: has no {RECORD}, its training never began: give a folder of a finished run"
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged or of another version of gradprom, train again") from error
    if record.channels not in (1, 3):
        raise UserError(f"{path}: channels is {record.channels!r}, expected 1 or 3: train again")
    return record


def weights_path(folder: Path, model: str) -> Path:
    """The weights of ``enhancer`` or of the recognizer of a task.

    One task has ``recognizer.safetensors``; with two, each is named by its task.

    Raises:
        UserError: the run has no such weights, for instance because its training has not finished.
    """
    for name in (model, "recognizer") if model != "enhancer" else (model,):
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    raise UserError(
        f"{folder}: has no {model}.safetensors, its training has not finished or trained no {model}: "
        f"go on with gradprom train --resume {folder}"
    )
