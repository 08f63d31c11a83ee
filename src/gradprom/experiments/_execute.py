"""The engine's loop: jobs to workers, what they say to the display, and an end that leaves nothing half-done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradprom._process import interruptible, processors
from gradprom.experiments._display import Display
from gradprom.experiments._pool import Worker, listen
from gradprom.experiments.records import position
from gradprom.experiments.schedule import Job, Schedule, Steps
from gradprom.experiments.worker import Work

_POLL = 0.5  # seconds between two looks at how far the runs are


@dataclass(frozen=True)
class Failure:
    """A run that could not be done.

    Attributes:
        name: of the run.
        reason: in a sentence.
        log: what it said while it ran.
    """

    name: str
    reason: str
    log: Path


def execute(jobs: Sequence[Job], steps: Steps, display: Display, workers: int, work: Work) -> list[Failure]:
    """Have all the jobs done; see :func:`gradprom.experiments.engine.run_experiment`."""
    with interruptible() as interrupted:
        return _Loop(jobs, steps, display, workers, work, interrupted).run()


def threads_for(workers: int) -> int:
    """Threads for each of several processes: what OMP_NUM_THREADS says, or an even share of the processors."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return max(1, processors() // workers)


class _Loop:
    def __init__(
        self,
        jobs: Sequence[Job],
        steps: Steps,
        display: Display,
        workers: int,
        work: Work,
        interrupted: Callable[[], bool],
    ) -> None:
        self._schedule = Schedule(jobs)
        self._steps = steps
        self._display = display
        self._limit, self._work = workers, work
        self._interrupted = interrupted
        self._pool: list[Worker] = []
        self._failures: list[Failure] = []

    def run(self) -> list[Failure]:
        try:
            while self._begin():
                listen(self._pool, _POLL)
                for worker in list(self._pool):
                    self._hear(worker)
                if self._interrupted():
                    self._display.say("interrupted: the runs at work save where they are; Ctrl-C again does not wait")
                    for worker in self._pool:
                        worker.interrupt()
                    for worker in self._pool:
                        worker.join()
                    raise KeyboardInterrupt
        finally:
            for worker in self._pool:
                worker.kill()
        return self._failures

    def _begin(self) -> bool:
        """Give work to those that have none; returns whether anybody is at work."""
        while sum(worker.job is not None for worker in self._pool) < self._limit:
            job = self._schedule.next()
            if job is None:
                break
            worker = next((worker for worker in self._pool if worker.job is None), None)
            if worker is None:
                worker = Worker(threads_for(self._limit), self._work)
                self._pool.append(worker)
            worker.give(job)
            self._display.began(worker, job.name)
        return any(worker.job is not None for worker in self._pool)

    def _hear(self, worker: Worker) -> None:
        for kind, text in worker.messages():
            job, worker.job = worker.job, None
            if job is not None and kind == "done":
                self._steps.finished(job.name)
                self._schedule.finish(job.name)
                self._display.ended(worker, job.name, "done")
            elif job is not None:
                self._fail(worker, job, text)
            if kind not in ("done", "failed"):
                self._pool.remove(worker)
                worker.kill()
                return
        if worker.job is not None:
            self._watch(worker, worker.job)

    def _watch(self, worker: Worker, job: Job) -> None:
        reached = position(job.folder)
        own = self._steps.reached(job.name, *reached) if reached else 0
        self._display.stands(worker, job.name, own)

    def _fail(self, worker: Worker, job: Job, reason: str) -> None:
        self._failures.append(Failure(job.name, reason, job.log))
        self._steps.given_up(job.name)
        self._display.ended(worker, job.name, f"failed: {reason}")
        for other in self._schedule.fail(job.name):
            without = f"needs the reader {job.name}, which failed"
            self._failures.append(Failure(other.name, without, job.log))
            self._steps.given_up(other.name)
            self._display.left_out(other.name, without)
