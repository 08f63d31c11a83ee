"""Files as they come: how much of them is taken, and what stays of those that do not arrive."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from gradprom.serve.uploads import Receiver, RefusedError, Store, Upload, clean_name


def upload(folder: Path, name: str = "a.png") -> Upload:
    return Upload("1", name, folder / "1")


def test_a_whole_file(tmp_path: Path) -> None:
    store, file = Store(10, 20), upload(tmp_path)
    with Receiver(file, store) as receiver:
        receiver.write(b"12345")
        receiver.write(b"67890")
        receiver.finish()
    assert file.source.read_bytes() == b"1234567890"
    assert file.size == 10
    store.reserve(10)  # what is left of 20
    with pytest.raises(RefusedError):
        store.reserve(1)


def test_more_than_a_file_may_have_is_never_on_the_disk(tmp_path: Path) -> None:
    store, file = Store(10, 20), upload(tmp_path)
    with Receiver(file, store) as receiver:
        receiver.write(b"123456")
        with pytest.raises(RefusedError, match=r"^a\.png: expected a file of at most") as refused:
            receiver.write(b"78901")
    assert refused.value.status == 413
    assert list(tmp_path.iterdir()) == []
    store.reserve(20)  # nothing counts any more


def test_what_is_promised_is_refused_before_it_comes(tmp_path: Path) -> None:
    store = Store(10, 15)
    with pytest.raises(RefusedError) as refused:
        Receiver(upload(tmp_path), store, promised=11)
    assert refused.value.status == 413
    first = Receiver(upload(tmp_path), store, promised=10)
    with pytest.raises(RefusedError, match="the server holds as much as it may") as refused:
        Receiver(upload(tmp_path), store, promised=6)
    assert refused.value.status == 503
    with first:
        pass  # it breaks off
    store.reserve(15)


def test_less_than_was_promised_counts_as_what_it_is(tmp_path: Path) -> None:
    store = Store(10, 10)
    with Receiver(upload(tmp_path), store, promised=9) as receiver:
        receiver.write(b"1")
        receiver.finish()
    store.reserve(9)


@pytest.mark.parametrize("data", [None, b""])
def test_an_empty_file(tmp_path: Path, data: bytes | None) -> None:
    with Receiver(upload(tmp_path), Store(9, 9)) as receiver:
        if data is not None:
            receiver.write(data)
        with pytest.raises(RefusedError, match="found an empty file") as refused:
            receiver.finish()
    assert refused.value.status == 422
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["write", "close"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            if when == "write":
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

        def close(self) -> None:
            if not self.closed and when == "close":
                super().close()
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    store = Store(10, 10)

    def send() -> None:
        with Receiver(upload(tmp_path), store) as receiver:
            receiver.write(b"123")
            receiver.finish()

    with pytest.raises(RefusedError, match=r"^a\.png: the server cannot keep it, as its disk is full") as refused:
        send()
    assert refused.value.status == 507
    assert list(tmp_path.iterdir()) == []
    store.reserve(10)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("scan.dcm", "scan.dcm"),
        ("mes images/Köpfe é.NII.GZ", "Köpfe é.NII.GZ"),
        ("..\\..\\windows\\a.png", "a.png"),
        ("/etc/passwd", "passwd"),
        ("../..", "image"),
        (".hidden.png", "hidden.png"),
        ("a\0b\r\nc.png", "a_b__c.png"),
        ("1.2.840.113619.2", "1.2.840.113619.2"),
        ("", "image"),
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_names(given: str, kept: str) -> None:
    assert clean_name(given) == kept


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f9e0"])
@pytest.mark.parametrize("ending", [".nii.gz", ".png", ""])
def test_long_names_keep_their_ending(tmp_path: Path, letter: str, ending: str) -> None:
    name = clean_name(letter * 300 + ending)
    assert name.endswith(letter + ending)
    assert len(name.encode()) <= 180
    (tmp_path / name).write_bytes(b"")
