"""A file on its way to the server: counted as it comes, refused when it is too much, and gone if it does not arrive."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from gradprom.serve.enhancing import Settings, View
    from gradprom.serve.work import Job

_NAME_BYTES = 180  # of the 255 that a file system has
_ENDING = 16  # letters that .nii.gz and all others fit into


class RefusedError(Exception):
    """What is asked for cannot be had: a status of HTTP, and one sentence for a person."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass
class Upload:
    """A file that was uploaded, and what became of it.

    Attributes:
        id: its name in addresses.
        name: its name for people.
        folder: holds it, what is made of it, and nothing else.
        size: in bytes.
        jobs: what is being done with it; the last is the one that counts, others are on their way to their end.
        view: what is to be seen of it now.
        view_number: of that view's pictures.
        written: the settings with which the file as a whole was enhanced, if it was.
    """

    id: str
    name: str
    folder: Path
    size: int = 0
    jobs: list[Job] = field(default_factory=list)
    view: View | None = None
    view_number: int = 0
    written: Settings | None = None

    @property
    def source(self) -> Path:
        """The file as it was uploaded."""
        return self.folder / "in" / self.name

    @property
    def result(self) -> Path:
        """The enhanced file."""
        return self.folder / "out" / self.name

    def pictures(self, number: int) -> Path:
        """The folder of a view's pictures."""
        return self.folder / f"view-{number}"

    def forget_pictures(self, number: int) -> None:
        """Delete a view's pictures, if there are any."""
        shutil.rmtree(self.pictures(number), ignore_errors=True)


class Store:
    """Counts the bytes of uploads.

    Args:
        most_upload: of one file.
        most: of all together.

    Example:
        >>> store = Store(most_upload=600, most=1000)
        >>> store.reserve(600)
        >>> store.reserve(600)
        Traceback (most recent call last):
        ...
        gradprom.serve.uploads.RefusedError: the server holds as much as it may, ...
        >>> store.release(600)
        >>> store.reserve(600)
    """

    def __init__(self, most_upload: int, most: int) -> None:
        self.most_upload = most_upload
        self._most = most
        self._held = 0
        self._change = threading.Lock()

    def reserve(self, count: int) -> None:
        """Count bytes as held.

        Raises:
            RefusedError: they would be too many.
        """
        with self._change:
            if self._held + count > self._most:
                raise RefusedError(
                    503,
                    f"the server holds as much as it may, {size_of(self._most)} for all open pages together; remove "
                    "files that are done with, or try again later",
                )
            self._held += count

    def release(self, count: int) -> None:
        """Count bytes as held no more."""
        with self._change:
            self._held -= count

    def check(self, name: str, size: int) -> None:
        """Refuse a file of more bytes than one may have.

        Raises:
            RefusedError: it has more.
        """
        if size > self.most_upload:
            raise RefusedError(
                413,
                f"{name}: expected a file of at most {size_of(self.most_upload)}, found a larger one; use gradprom "
                "enhance, or start the page with a higher --max-upload",
            )


class Receiver:
    """Takes a file piece by piece; a context that leaves nothing of it behind if it is left before `finish`.

    Args:
        upload: the file, of whose folder nothing is there yet.
        store: counts its bytes.
        promised: how many are said to come, 0 if that is not known; place is made for them beforehand.

    Raises:
        RefusedError: it is too large, or there is no place for it.
    """

    def __init__(self, upload: Upload, store: Store, promised: int = 0) -> None:
        store.check(upload.name, promised)
        store.reserve(promised)
        self._upload = upload
        self._store = store
        self._reserved = promised
        self._is_finished = False
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written is not wanted
            if self._file is not None:
                self._file.close()
        if not self._is_finished:
            shutil.rmtree(self._upload.folder, ignore_errors=True)
            self._store.release(self._reserved)

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            RefusedError: they are too many, or the disk is full.
        """
        upload, size = self._upload, self._upload.size + len(data)
        self._store.check(upload.name, size)
        if size > self._reserved:
            self._store.reserve(size - self._reserved)
            self._reserved = size
        with self._refusals():
            if self._file is None:
                upload.source.parent.mkdir(parents=True)
                self._file = upload.source.open("wb")
            self._file.write(data)
        upload.size = size

    def finish(self) -> None:
        """Keep the file.

        Raises:
            RefusedError: it is empty, or the disk is full.
        """
        if self._file is None or self._upload.size == 0:
            raise RefusedError(422, f"{self._upload.name}: expected an image, found an empty file or a folder")
        with self._refusals():
            self._file.close()
        self._store.release(self._reserved - self._upload.size)
        self._is_finished = True

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "its disk is full" if full else error.strerror or str(error)
            raise RefusedError(507, f"{self._upload.name}: the server cannot keep it, as {reason}") from error


def clean_name(name: str) -> str:
    """Give the last part of a name, without what some file system does not allow, and not too long.

    Example:
        >>> clean_name("../Köpfe/a:b\\n.nii.gz"), clean_name(".."), clean_name("é" * 200 + ".png")[-6:]
        ('a_b_.nii.gz', 'image', 'éé.png')
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    name = "".join("_" if letter in '<>:"|?*' or unicodedata.category(letter)[0] == "C" else letter for letter in name)
    name = name.strip(". ") or "image"
    if len(name.encode()) <= _NAME_BYTES:
        return name
    # the ending decides what kind of file it is
    ending = "".join(Path(name[-_ENDING:]).suffixes[-2:])
    return name.encode()[: _NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending


def size_of(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> size_of(2 * 10**9), size_of(512 * 10**6), size_of(1500)
        ('2 GB', '512 MB', '0.0015 MB')
    """
    return f"{count / 1e9:g} GB" if count >= 1e9 else f"{count / 1e6:g} MB"
