"""What the runs of an experiment have left on disk: how far each is, and what was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradprom._files import write_text
from gradprom.experiments.plan import PlannedRun
from gradprom.experiments.schedule import Job, parts_of
from gradprom.training.config import Config

RUNS, READERS = "runs", "readers"
_MEASURED = "measured.json"


@dataclass(frozen=True)
class Measured:
    """An evaluation on one dataset.

    Attributes:
        about: ``evaluation.json``: the summary by method, and what it is of.
        images: ``evaluation.csv``: every image.
    """

    about: Mapping[str, Any]
    images: Path

    @property
    def summary(self) -> Mapping[str, Mapping[str, float | None]]:
        """Measures by method, as in :class:`gradprom.evaluation.Evaluation`."""
        found: Mapping[str, Mapping[str, float | None]] = self.about["summary"]
        return found


@dataclass(frozen=True)
class RunResult:
    """A run of an experiment and what came of it.

    Attributes:
        run: as planned, with its value on every axis.
        folder: where it lies.
        steps: of its training, shared stages included.
        own: measured on its own test images; None: not yet.
        begun_from: a digest of the warmed-up enhancer that it began from; None where it is not known.
        elsewhere: measured on other datasets, by their names; those that are not yet are missing.
    """

    run: PlannedRun
    folder: Path
    steps: int
    own: Measured | None
    elsewhere: Mapping[str, Measured]
    begun_from: str | None = None


def summarise(directory: str | Path, runs: Sequence[PlannedRun]) -> list[RunResult]:
    """What there is of each of the runs, in their order.

    Args:
        directory: of the experiment.
        runs: as :func:`gradprom.experiments.plan.expand` gives them.
    """
    results = []
    for run in runs:
        folder = Path(directory) / RUNS / run.name
        elsewhere = {name: _measured(folder / f"on-{name}") for name in run.test_on}
        results.append(
            RunResult(
                run=run,
                folder=folder,
                steps=sum(part.steps for part in parts_of(run.config)),
                own=_measured(folder),
                elsewhere={name: found for name, found in elsewhere.items() if found is not None},
                begun_from=_read_json(folder / _MEASURED).get("begun_from"),
            )
        )
    return results


def is_trained(folder: Path) -> bool:
    """Whether the training in a run folder has come to its end."""
    return _read_json(folder / "run.json").get("finished") is True


def is_measured(job: Job) -> bool:
    """Whether a run was measured on its own test images, and by its reader where it has one."""
    wanted = None if job.reader is None else job.reader.name
    known = _read_json(job.folder / _MEASURED)
    return _measured(job.folder) is not None and "reader" in known and wanted in (None, known["reader"])


def is_measured_on(job: Job, name: str) -> bool:
    """Whether a run was measured on another dataset."""
    return _measured(job.folder / f"on-{name}") is not None


def note_measured(job: Job) -> None:
    """Remember which reader a run was measured by, and which warmed-up enhancer it began from."""
    noted = {"reader": None if job.reader is None else job.reader.name, "begun_from": _begun_from(job.config)}
    write_text(job.folder / _MEASURED, json.dumps(noted) + "\n")


def _begun_from(config: Config) -> str | None:
    warmed = next((part.shared for part in parts_of(config) if part.stage == "warmup"), None)
    if warmed is None or not warmed.is_file():
        return None
    return hashlib.blake2b(warmed.read_bytes(), digest_size=16).hexdigest()


def is_done(job: Job) -> bool:
    """Whether nothing of a job is left to do."""
    return is_trained(job.folder) and is_measured(job) and all(is_measured_on(job, name) for name in job.test_on)


def position(folder: Path) -> tuple[str, int] | None:
    """The stage that a training is in and the steps of it that are done, by the last row of ``metrics.csv``."""
    try:
        with (folder / "metrics.csv").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return None
    for line in reversed(lines[:-1]):  # what comes after the last line feed is being written
        cells = line.split(",")
        if len(cells) > 1 and cells[1].isdecimal():
            return cells[0], int(cells[1])
    return None


def _measured(folder: Path) -> Measured | None:
    about = _read_json(folder / "evaluation.json")
    images = folder / "evaluation.csv"
    return Measured(about, images) if isinstance(about.get("summary"), dict) and images.is_file() else None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON file; nothing where it is missing or damaged, for then its work is done again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
