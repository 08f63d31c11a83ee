"""The line of jobs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from gradprom.errors import UserError
from gradprom.serve.work import Job, JobCancelledError, Worker


def fail(error: BaseException) -> Callable[[Job], None]:
    def work(_: Job) -> None:
        raise error

    return work


def test_one_at_a_time_in_order(worker: Worker) -> None:
    running, most, order = [0], [0], []

    def work(job: Job) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        order.append(job)
        job.advance(1, 2)
        running[0] -= 1

    jobs = [Job(work) for _ in range(20)]
    for job in jobs:
        worker.submit(job)
    assert all(job.wait(10) for job in jobs)
    assert order == jobs
    assert most == [1]
    assert {(job.state, job.done, job.total) for job in jobs} == {("done", 1, 2)}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("a.png: expected this, found that"), "a.png: expected this, found that"),
        (MemoryError(), "expected to fit into memory, found too little"),
        (KeyError("x"), r"something went wrong inside gradprom \(KeyError\)"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_job_is_done(
    worker: Worker, error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Job(fail(error)), Job(lambda _: None)
    worker.submit(bad)
    worker.submit(good)
    assert good.wait(10)
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.error is not None
    assert re.match(sentence, bad.error)
    # what is gradprom's own fault is in the server's log, and nothing else is
    assert [record.exc_info is not None for record in caplog.records] == [True] * isinstance(error, KeyError)


def test_cancelled_as_it_runs_and_as_it_waits(worker: Worker) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        entered.set()
        go_on.wait(10)
        job.advance(1, 2)

    first, second, third = Job(work), Job(work), Job(lambda _: None)
    for job in (first, second, third):
        worker.submit(job)
    assert entered.wait(10)
    assert [worker.ahead(job) for job in (first, second, third)] == [0, 1, 2]
    worker.cancel(second)
    assert (second.state, second.is_over, worker.ahead(third)) == ("cancelled", True, 1)
    worker.cancel(first)
    assert not first.is_over
    go_on.set()
    assert third.wait(10)
    assert (first.state, first.done, third.state) == ("cancelled", 0, "done")


def test_stop_ends_what_runs_and_what_waits() -> None:
    worker = Worker()
    worker.start()
    entered = threading.Event()

    def work(job: Job) -> None:
        entered.set()
        while True:
            job.check()

    running, waiting, late = Job(work), Job(fail(AssertionError())), Job(fail(AssertionError()))
    worker.submit(running)
    worker.submit(waiting)
    assert entered.wait(10)
    worker.stop()
    worker.submit(late)
    assert {job.state for job in (running, waiting, late)} == {"cancelled"}


def test_being_cancelled_is_no_ordinary_exception() -> None:
    # readers of files take every Exception for a broken file
    assert not issubclass(JobCancelledError, Exception)
