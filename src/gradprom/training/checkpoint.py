"""What is needed to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gradprom._files import atomic_path, in_memory
from gradprom.errors import UserError
from gradprom.images.frames import writing
from gradprom.weights import read_torch

NAME = "checkpoint.pt"


@dataclass
class Checkpoint:
    """A point in a run.

    Attributes:
        stage: index into the run's stages.
        step: steps of that stage that are done.
        models: state dicts by name.
        optimizer: of the stage; empty between stages.
        scaler: of the stage's GradScaler; empty without one.
        skipped: steps in a row without a finite loss.
        losses: of the steps since the last row of ``metrics.csv``, which shows their mean.
        log_sizes: bytes of each log at this point; what was logged later is cut off on resuming.
        seconds: time spent in training so far.
    """

    stage: int = 0
    step: int = 0
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    log_sizes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint.pt``, whole or not at all.

    Raises:
        UserError: it cannot be written (then the ``OSError`` is the cause).
    """
    content = in_memory(lambda file: torch.save(vars(checkpoint), file))
    with writing(folder / NAME), atomic_path(folder / NAME) as temporary:
        temporary.write_bytes(content)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run folder, or None where none was written yet.

    Raises:
        UserError: the file is damaged or is not a checkpoint of gradprom; nothing in it is executed.
    """
    path = folder / NAME
    if not path.exists():
        return None
    data = read_torch(path)
    if not isinstance(data, dict) or not {"stage", "step"} <= set(data) <= set(Checkpoint.__dataclass_fields__):
        raise UserError(f"{path}: is not a checkpoint of this version of gradprom, train again with --overwrite")
    return Checkpoint(**data)
