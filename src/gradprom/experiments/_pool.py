"""Worker processes as the engine sees them: started when there is work, asked to stop, and missed when they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import wait

from gradprom.experiments.schedule import Job
from gradprom.experiments.worker import Message, Work, serve

_SIGNALS = {number.value: number.name for number in signal.Signals}


class Worker:
    """A process, the job that it is at, and what it last said of it.

    Attributes:
        job: that it is at, or None.
        at: what it is at, for people.
    """

    def __init__(self, threads: int, work: Work) -> None:
        # what a forked process inherits of threads and of PyTorch is in no known state
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, threads, work))
        self._process.start()
        other.close()
        self._ready = False
        self.job: Job | None = None
        self.at = ""

    def give(self, job: Job) -> None:
        """Have it do a job."""
        self.job, self.at = job, "starting"
        with suppress(OSError):  # it is dead, as its messages will say
            self._connection.send(job)

    def messages(self) -> Iterator[Message]:
        """What it has said since; that it has died is its last message."""
        while True:
            try:
                if not self._connection.poll():
                    return
                message: Message = self._connection.recv()
            except (EOFError, OSError):
                self._process.join()
                yield "died", f"its process {_cause(self._process.exitcode or 0)}"
                return
            if message[0] == "ready":
                self._ready = True
            elif message[0] == "at":
                self.at = message[1]
            else:
                yield message

    def interrupt(self) -> None:
        """Have it save what it has and end."""
        if not self._ready or self.job is None:
            self._process.terminate()
        elif self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGINT)

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def listen(workers: list[Worker], seconds: float) -> None:
    """Wait until one of the workers has something to say, at most so long."""
    wait([worker._connection for worker in workers], timeout=seconds)


def _cause(code: int) -> str:
    """Why a process ended that was not to end.

    >>> _cause(-9), _cause(1)
    ('was killed by SIGKILL, ...', 'ended with exit code 1: see the log of the run')
    """
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, which is what a system out of memory does: take fewer --workers or smaller runs"
    if code < 0:
        return f"was killed by {_SIGNALS.get(-code, f'signal {-code}')}: see the log of the run"
    return f"ended with exit code {code}: see the log of the run"
