"""How long what a page uploaded lies at the server."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradprom.serve.sessions import IDLE, Session, Sessions
from gradprom.serve.uploads import RefusedError, Store, Upload
from gradprom.serve.work import Job, Worker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(worker: Worker, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sessions = Sessions(worker, Store(100, 150), clock)
    yield sessions
    sessions.close_all()
    assert list(tmp_path.iterdir()) == []


def put(sessions: Sessions, session: Session, data: bytes = b"12345") -> Upload:
    upload, receiver = sessions.receive(session, "a.png")
    with receiver:
        receiver.write(data)
        receiver.finish()
    sessions.add(session, upload)
    return upload


def test_closed(sessions: Sessions) -> None:
    mine, other = sessions.open(), sessions.open()
    assert mine.token != other.token
    put(sessions, mine, bytes(100))
    kept = put(sessions, other, bytes(50))
    sessions.close(mine)
    assert not mine.folder.exists()
    assert kept.source.is_file()
    put(sessions, other, bytes(100))  # there is place again
    with pytest.raises(RefusedError, match="reload the page") as refused:
        sessions.get(mine.token)
    assert refused.value.status == 410


def test_forgotten(sessions: Sessions, clock: Clock) -> None:
    quiet, lively = sessions.open(), sessions.open()
    clock.now += IDLE - 1
    assert sessions.get(lively.token) is lively
    assert sessions.idle() == []
    clock.now += 2
    assert sessions.idle() == [quiet]


def test_removed_twice_counts_once(sessions: Sessions) -> None:
    session = sessions.open()
    upload = put(sessions, session, bytes(100))
    sessions.remove(session, upload)
    sessions.remove(session, upload)
    assert not upload.folder.exists()
    put(sessions, session, bytes(100))
    with pytest.raises(RefusedError):
        put(sessions, session, bytes(100))


def test_closed_while_a_file_comes(sessions: Sessions) -> None:
    session = sessions.open()
    upload, receiver = sessions.receive(session, "a.png")
    with receiver:
        receiver.write(b"123")
        sessions.close(session)
        receiver.write(b"456")
        receiver.finish()
    with pytest.raises(RefusedError) as refused:
        sessions.add(session, upload)
    assert refused.value.status == 410
    assert not session.folder.exists()


def test_closed_while_its_work_writes(sessions: Sessions) -> None:
    """What the work writes in its last moments is deleted, too."""
    session = sessions.open()
    upload = put(sessions, session)
    entered, go_on = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        entered.set()
        assert go_on.wait(10)
        upload.result.parent.mkdir(parents=True)
        upload.result.write_bytes(b"late")
        job.check()

    job, waiting = Job(work), Job(lambda _: None)
    sessions.submit(session, upload, job)
    assert entered.wait(10)
    sessions.submit(session, upload, waiting)
    closing = threading.Thread(target=sessions.close, args=[session])
    closing.start()
    assert waiting.wait(10)
    assert upload.folder.exists()
    go_on.set()
    closing.join(10)
    assert (job.state, waiting.state) == ("cancelled", "cancelled")
    assert not session.folder.exists()
    with pytest.raises(RefusedError):
        sessions.submit(session, upload, Job(lambda _: None))


def test_what_is_asked_for_last_counts(sessions: Sessions) -> None:
    session = sessions.open()
    upload = put(sessions, session)
    entered = threading.Event()

    def work(job: Job) -> None:
        entered.set()
        while True:
            job.check()

    first, second = Job(work), Job(lambda _: None)
    sessions.submit(session, upload, first)
    assert entered.wait(10)
    sessions.submit(session, upload, second)
    assert second.wait(10)
    assert (first.state, second.state) == ("cancelled", "done")


def test_not_without_end(sessions: Sessions) -> None:
    session = sessions.open()
    for _ in range(40):
        put(sessions, session, b"1")
    with pytest.raises(RefusedError, match="at most 40 files") as refused:
        sessions.receive(session, "a.png")
    assert refused.value.status == 409
    for _ in range(63):
        sessions.open()
    with pytest.raises(RefusedError, match="64 pages are open") as refused:
        sessions.open()
    assert refused.value.status == 503
