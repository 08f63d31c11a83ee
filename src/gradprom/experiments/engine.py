"""Doing an experiment: its runs once each, several at a time, each failing alone, and gone on with wherever it stopped.

Needs a POSIX system. Importing this module does not import PyTorch; the workers do.
"""

from __future__ import annotations

import copy
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gradprom._files import write_text
from gradprom._versions import versions
from gradprom.errors import UserError
from gradprom.experiments._display import Display
from gradprom.experiments._execute import Failure, execute
from gradprom.experiments.plan import Plan, PlannedRun, expand, merged
from gradprom.experiments.records import READERS, RUNS, is_done, is_trained, position
from gradprom.experiments.schedule import Job, Steps
from gradprom.experiments.worker import Work, do

__all__ = ["Failure", "count_steps", "jobs_of", "left_of", "run_experiment"]

RECORD = "experiment.yaml"


def run_experiment(
    plans: Sequence[Plan],
    directory: str | Path,
    *,
    scale: str = "laptop",
    data: Path | None = None,
    workers: int = 1,
    work: Work = do,
) -> list[Failure]:
    """Train and measure every run of the plans that is not done yet.

    The same call again goes on wherever the last one stopped, for whatever reason, and tries again what failed.

    Args:
        plans: whose runs; one that is in several is done once.
        directory: for everything; made if need be.
        scale: laptop or paper.
        data: the folder that holds the datasets, each under its name.
        workers: processes, which share the machine's processors evenly.
        work: what does a job.

    Returns:
        The runs that failed; the others are done.

    Raises:
        UserError: a plan cannot be carried out, or ``directory`` is another thing or in use.
        KeyboardInterrupt: at Ctrl-C, when the runs at work have saved where they are; at a second one without waiting.
    """
    directory = Path(directory)
    runs = merged(expand(plan, scale, data) for plan in plans)
    jobs = jobs_of(runs, directory)
    left = left_of(jobs)
    _check_roots(left)
    with _alone(directory):
        for folder in (directory, directory / "stages", directory / "nlm"):
            for leftover in folder.glob(".partial-*"):
                leftover.unlink()
        write_text(directory / RECORD, yaml.safe_dump(_record(plans, runs, scale), sort_keys=False))
        steps = count_steps(left)
        with Display(len(jobs) - len(left), len(jobs), steps) as display:
            return execute(left, steps, display, workers, work)


def jobs_of(runs: Sequence[PlannedRun], directory: Path) -> list[Job]:
    """All that is to be done for the runs of an experiment: the independent readers first, then the runs in order."""
    directory = directory.absolute()
    readers = {run.reader.name: run.reader for run in runs if run.reader is not None}
    jobs = [_job(reader, directory, READERS) for reader in readers.values()]
    return jobs + [_job(run, directory, RUNS) for run in runs]


def left_of(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are not done, with those readers that one of them needs."""
    left = [job for job in jobs if not is_done(job)]
    needed = {name for job in left for name in job.after}
    return [job for job in left if job.folder.parent.name != READERS or job.name in needed]


def count_steps(jobs: Sequence[Job]) -> Steps:
    """The steps of the jobs that are left, from where each of them stands."""
    steps = Steps(jobs, {job.name for job in jobs if is_trained(job.folder)})
    for job in jobs:
        if reached := position(job.folder):
            steps.reached(job.name, *reached)
    return steps


def _job(run: PlannedRun, directory: Path, kind: str) -> Job:
    def absolute(root: str | None) -> str | None:
        return None if root is None else str(Path(root).absolute())

    config = copy.deepcopy(run.config)
    config.dataset.root = absolute(config.dataset.root)
    config.training.stages = str(directory / "stages")
    return Job(
        name=run.name,
        folder=directory / kind / run.name,
        config=config,
        log=directory / "logs" / f"{run.name}.txt",
        cache=directory / "nlm",
        reader=None if run.reader is None else directory / READERS / run.reader.name,
        test_on={name: absolute(root) for name, root in run.test_on.items()},
        after=() if run.reader is None else (run.reader.name,),
    )


def _check_roots(jobs: Sequence[Job]) -> None:
    needed: set[tuple[str, str | None]] = {(job.config.dataset.name, job.config.dataset.root) for job in jobs}
    needed |= {pair for job in jobs for pair in job.test_on.items()}
    for name, root in sorted(needed, key=str):
        if name != "brain_mr" and (root is None or not Path(root).is_dir()):
            found = "the plan does not say where it is" if root is None else f"{root} is not there"
            raise UserError(
                f"dataset {name} is needed, and {found}: give --data FOLDER, or set GRADPROM_DATA, the folder "
                "of all datasets, each in a folder of its name"
            )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only experiment in a folder, which is made if need be; the system ends that with the process, however."""
    if directory.is_dir() and not (directory / RECORD).exists():
        strangers = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise UserError(
                f"{directory}: is not an experiment's folder (it holds {strangers[0]} and no {RECORD}), give another"
            )
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{directory}: another gradprom experiment is at work there, wait for it or give another folder"
            ) from error
        yield


def _record(plans: Sequence[Plan], runs: Sequence[PlannedRun], scale: str) -> dict[str, Any]:
    """``experiment.yaml``: what was asked for, for people."""
    return {
        "scale": scale,
        "versions": versions(),
        "plans": {plan.name: {"title": plan.title, "paper": plan.paper} for plan in plans},
        "runs": {
            run.name: {
                "plans": list(run.plans),
                **{axis: value for axis, value in run.axes.items() if value is not None},
                "reader": None if run.reader is None else run.reader.name,
                "test_on": list(run.test_on),
            }
            for run in runs
        },
    }
