"""What an experiment's runs have to do, what they share, and which of them may begin now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradprom.training.config import Config, stage_key


@dataclass(frozen=True)
class Part:
    """One stage of a run's training.

    Attributes:
        stage: warmup, pretrain_TASK or cascade, as in ``metrics.csv``.
        steps: of it.
        shared: the file where its result is kept for other runs, or None.
    """

    stage: str
    steps: int
    shared: Path | None = None


@dataclass(frozen=True)
class Job:
    """One run to be trained and measured, with all that a worker must know.

    Attributes:
        name: of the run.
        folder: its folder.
        config: its configuration, with the place of its images and its stages.
        log: file for what it says while it runs.
        cache: folder that keeps non-local means.
        reader: folder of the run that reads what it enhanced, or None.
        test_on: other datasets that it is measured on, each with its folder.
        after: names of the runs that must be done first.
    """

    name: str
    folder: Path
    config: Config
    log: Path
    cache: Path
    reader: Path | None = None
    test_on: Mapping[str, str | None] = field(default_factory=dict)
    after: tuple[str, ...] = ()


def parts_of(config: Config) -> list[Part]:
    """The stages that a run trains, in order.

    Example:
        >>> [(part.stage, part.steps) for part in parts_of(Config(strategy="enhancer_only"))]
        [('warmup', 1000), ('cascade', 1000)]
    """
    training, alone = config.training, config.strategy == "recognizer_only"
    folder = None if training.stages is None else Path(training.stages)
    parts = []
    if not alone:
        shared = None if folder is None else folder / f"{stage_key(config, 'warmup')}.safetensors"
        parts.append(Part("warmup", training.warmup.steps, shared))
    if config.strategy != "enhancer_only":
        for task in config.tasks:
            # on degraded images it is this run's alone
            shared = None if folder is None or alone else folder / f"{stage_key(config, 'pretrain', task)}.safetensors"
            parts.append(Part(f"pretrain_{task}", training.pretrain.steps, shared))
    parts.append(Part("cascade", training.cascade.steps))
    return [part for part in parts if part.steps]


def missing(parts: Iterable[Part]) -> set[Path]:
    """The shared files that are still to be made."""
    return {part.shared for part in parts if part.shared is not None and not part.shared.exists()}


class Schedule:
    """Gives out jobs, each once, in order, save that none waits for another if there is one that need not.

    A job waits while another is at work on a stage that it shares, and for the jobs that it comes after.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = list(jobs)
        self._parts = {job.name: parts_of(job.config) for job in jobs}
        self._unfinished = {job.name for job in jobs}
        self._making: dict[str, set[Path]] = {}

    def next(self) -> Job | None:
        """A job that may begin now, or None: there is none, or all that are left must wait."""
        made = {path for paths in self._making.values() for path in paths if not path.exists()}
        for job in self._waiting:
            lacking = missing(self._parts[job.name])
            if not lacking & made and not self._unfinished & set(job.after):
                self._waiting.remove(job)
                self._making[job.name] = lacking
                return job
        return None

    def finish(self, name: str) -> None:
        """A job that was given out is done."""
        del self._making[name]
        self._unfinished.discard(name)

    def fail(self, name: str) -> list[Job]:
        """A job that was given out has failed; returns those that came after it, which now cannot be done."""
        del self._making[name]
        lost = [job for job in self._waiting if name in job.after]
        self._waiting = [job for job in self._waiting if job not in lost]
        return lost


class Steps:
    """Counts the steps of all jobs together, those of a shared stage once, and those that were done before not at all.

    Args:
        jobs: those that are left.
        trained: names of those among them whose training has finished.
    """

    def __init__(self, jobs: Sequence[Job], trained: Collection[str] = ()) -> None:
        self._parts = {job.name: [] if job.name in trained else parts_of(job.config) for job in jobs}
        there = {part.shared for parts in self._parts.values() for part in parts} - {None}
        there -= {path for parts in self._parts.values() for path in missing(parts)}
        self._sizes: dict[object, int] = {}
        self._done: dict[object, int] = {}
        for name, parts in self._parts.items():
            for part in parts:
                if part.shared not in there:
                    self._sizes[_unit(name, part)] = part.steps

    @property
    def total(self) -> int:
        """Of all jobs but those that failed."""
        return sum(self._sizes.values())

    @property
    def done(self) -> int:
        """So far."""
        return sum(self._done.values())

    def of(self, name: str) -> int:
        """Steps of a job's own training, shared or not."""
        return sum(part.steps for part in self._parts[name])

    def reached(self, name: str, stage: str, step: int) -> int:
        """A job stands at this step of a stage, those before it are done; returns the steps of the job up to there."""
        own = 0
        for part in self._parts[name]:
            done, unit = step if part.stage == stage else part.steps, _unit(name, part)
            own += done
            if unit in self._sizes:
                self._done[unit] = max(self._done.get(unit, 0), done)
            if part.stage == stage:
                break
        return own

    def finished(self, name: str) -> None:
        """A job's training is done."""
        for part in self._parts[name]:
            self.reached(name, part.stage, part.steps)

    def given_up(self, name: str) -> None:
        """What a failed job alone would have done is not to be done."""
        needed = {_unit(other, part) for other, parts in self._parts.items() if other != name for part in parts}
        for part in self._parts.pop(name):
            unit = _unit(name, part)
            if unit not in needed and unit in self._sizes:
                self._sizes[unit] = self._done.get(unit, 0)


def _unit(name: str, part: Part) -> object:
    return part.shared or (name, part.stage)
