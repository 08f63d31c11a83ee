"""One piece of work after the other, in one thread: what is asked for at once waits, and memory stays bounded."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from gradprom.errors import UserError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
_log = logging.getLogger(__name__)


class JobCancelledError(BaseException):
    """Leaves a job that is no longer wanted; no ``Exception``, so that nothing on its way takes it for a bad file."""


class Job:
    """A piece of work, from its place in the line to its end.

    Args:
        work: is called with the job, in the worker's thread. It calls `advance` or `check` as often as it can, and
            raises UserError for what a person did wrong.

    Attributes:
        state: waiting, running, done, failed or cancelled.
        done: how many steps of ``total`` are done; 0 of 0 until the work says more.
        total: see ``done``.
        step: what it is doing, in a word.
        error: one sentence, if it failed.
    """

    def __init__(self, work: Callable[[Job], None]) -> None:
        self._work = work
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        self.state: State = "waiting"
        self.done = 0
        self.total = 0
        self.step = "enhancing"
        self.error: str | None = None

    def advance(self, done: int, total: int) -> None:
        """Say how far the work is.

        Raises:
            JobCancelledError: it is no longer wanted.
        """
        self.check()
        self.done, self.total = done, total

    def check(self) -> None:
        """Raise JobCancelledError if the work is no longer wanted."""
        if self._cancelled.is_set():
            raise JobCancelledError

    def cancel(self) -> None:
        """Ask the work to end; it ends at its next `advance` or `check`, or does not begin."""
        self._cancelled.set()

    @property
    def is_over(self) -> bool:
        """Whether it will not run any more."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; False if that took longer than ``timeout`` seconds."""
        return self._ended.wait(timeout)

    def run(self) -> None:
        """Do the work; whatever comes of it is in ``state`` and ``error``."""
        self.state = "running"
        try:
            self.check()
            self._work(self)
            self.state = "done"
        except JobCancelledError:
            self.state = "cancelled"
        except UserError as error:
            self._fail(str(error))
        except MemoryError:
            self._fail("expected to fit into memory, found too little; try a smaller image")
        except Exception as error:
            _log.exception("a job failed")
            self._fail(
                f"something went wrong inside gradprom ({type(error).__name__}), not with what you did; the console of "
                "the server says more"
            )
        finally:
            self._ended.set()

    def _fail(self, sentence: str) -> None:
        self.error, self.state = sentence, "failed"


class Worker:
    """A thread that does jobs one at a time, in the order in which they were given.

    Example:
        >>> worker = Worker()
        >>> worker.start()
        >>> job = Job(lambda job: job.advance(3, 3))
        >>> worker.submit(job)
        >>> job.wait(10), job.state, job.done
        (True, 'done', 3)
        >>> worker.stop()
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()  # the first of them is at work
        self._change = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="gradprom-worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job at the end of the line; after `stop` it is cancelled instead."""
        with self._change:
            if not self._is_stopped:
                self._jobs.append(job)
                self._change.notify()
                return
        job.cancel()
        job.run()

    def cancel(self, job: Job) -> None:
        """Cancel a job; one that waits leaves the line at once."""
        job.cancel()
        with self._change:
            if job not in self._jobs or self._jobs[0] is job:
                return
            self._jobs.remove(job)
        job.run()

    def ahead(self, job: Job) -> int:
        """How many jobs come before this one; 0 if it is at work or over."""
        with self._change:
            return self._jobs.index(job) if job in self._jobs else 0

    def stop(self) -> None:
        """Cancel every job and end the thread; returns when the last job is over."""
        with self._change:
            self._is_stopped = True
            for job in self._jobs:
                job.cancel()
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._is_stopped)
                if not self._jobs:
                    return
                job = self._jobs[0]
            job.run()
            with self._change:
                self._jobs.popleft()
