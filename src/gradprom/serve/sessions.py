"""The pages that are open, and what they uploaded: deleted when a page is left or forgotten, and as the server ends."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gradprom.serve.scratch import Scratch
from gradprom.serve.uploads import Receiver, RefusedError, Store, Upload, clean_name
from gradprom.serve.work import Job, Worker

IDLE = 15 * 60.0
"""Seconds from the last sign of life of a page until what it uploaded is deleted."""

_MOST_SESSIONS, _MOST_FILES = 64, 40


@dataclass
class Session:
    """One open page.

    Attributes:
        token: its secret name.
        folder: holds all it uploaded.
        uploads: by id, in their order.
        last_seen: when it last gave a sign of life.
    """

    token: str
    folder: Path
    uploads: dict[str, Upload] = field(default_factory=dict)
    last_seen: float = 0.0


class Sessions:
    """All open pages. Its methods may be called from any thread.

    Args:
        worker: does their jobs.
        store: counts what they upload.
        clock: gives the time in seconds.

    Attributes:
        root: the folder below which all files of all pages lie.
    """

    def __init__(self, worker: Worker, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._store = store
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._change = threading.Lock()
        self._scratch = Scratch()
        self.root = self._scratch.path

    def open(self) -> Session:
        """Begin a session.

        Raises:
            RefusedError: there are too many.
        """
        token = secrets.token_urlsafe(24)
        session = Session(token, self.root / token, last_seen=self._clock())
        with self._change:
            if len(self._sessions) >= _MOST_SESSIONS:
                raise RefusedError(503, f"{_MOST_SESSIONS} pages are open at this server already; try again later")
            session.folder.mkdir(mode=0o700)
            self._sessions[token] = session
        return session

    def get(self, token: str) -> Session:
        """Give an open session; to be asked for is its sign of life.

        Raises:
            RefusedError: there is none of that token.
        """
        session = self._sessions.get(token)
        if session is None:
            raise RefusedError(410, "this page was left alone for too long, or the server began anew; reload the page")
        session.last_seen = self._clock()
        return session

    def find(self, token: str, id_: str) -> tuple[Session, Upload]:
        """Give an open session and one of its uploads.

        Raises:
            RefusedError: there is no such session, or no such upload in it.
        """
        session = self.get(token)
        upload = session.uploads.get(id_)
        if upload is None:
            raise RefusedError(404, "this file is not here any more; upload it again")
        return session, upload

    def receive(self, session: Session, name: str, promised: int = 0) -> tuple[Upload, Receiver]:
        """Make place for a file that is about to come; `add` is for when it has come.

        Args:
            session: to which it belongs.
            name: as the page gave it.
            promised: its size in bytes, 0 if that is not known.

        Raises:
            RefusedError: it is too large, or there is no place for it.
        """
        if len(session.uploads) >= _MOST_FILES:
            raise RefusedError(409, f"expected at most {_MOST_FILES} files on a page, found more; remove some first")
        id_ = secrets.token_hex(6)
        upload = Upload(id_, clean_name(name), session.folder / id_)
        return upload, Receiver(upload, self._store, promised)

    def add(self, session: Session, upload: Upload) -> None:
        """Take a file that has come into a session.

        Raises:
            RefusedError: the session has ended since; then the file is deleted.
        """
        with self._change:
            is_open = session.token in self._sessions
            if is_open:
                session.uploads[upload.id] = upload
        if not is_open:
            self._delete(upload)
            self.get(session.token)

    def submit(self, session: Session, upload: Upload, job: Job) -> None:
        """Let something be done with a file, in place of what was to be done with it before.

        Raises:
            RefusedError: it is not there any more.
        """
        with self._change:
            if session.uploads.get(upload.id) is not upload:
                raise RefusedError(410, "this file is not here any more; upload it again")
            earlier = [other for other in upload.jobs if not other.is_over]
            upload.jobs = [*earlier, job]
            self._worker.submit(job)
        for other in earlier:
            self._worker.cancel(other)

    def remove(self, session: Session, upload: Upload) -> None:
        """Delete a file and what was made of it; its work is cancelled, and waited for."""
        with self._change:
            found = session.uploads.pop(upload.id, None)
        if found is not None:
            self._delete(found)

    def close(self, session: Session) -> None:
        """End a session and delete all it holds; its work is cancelled, and waited for."""
        with self._change:
            self._sessions.pop(session.token, None)
        for upload in list(session.uploads.values()):
            self.remove(session, upload)
        shutil.rmtree(session.folder, ignore_errors=True)

    def idle(self) -> list[Session]:
        """Those that gave no sign of life for too long."""
        now = self._clock()
        with self._change:
            return [session for session in self._sessions.values() if now - session.last_seen > IDLE]

    def close_all(self) -> None:
        """End all sessions and delete everything."""
        for session in list(self._sessions.values()):
            self.close(session)
        self._scratch.remove()

    def _delete(self, upload: Upload) -> None:
        for job in upload.jobs:
            self._worker.cancel(job)
        for job in upload.jobs:
            job.wait()
        shutil.rmtree(upload.folder, ignore_errors=True)
        self._store.release(upload.size)
