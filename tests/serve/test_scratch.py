"""The temporary folder, and those whose processes were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gradprom.serve.scratch import Scratch, remove_orphans

pytest.importorskip("fcntl", reason="this system has no locks that go with their process")
KEEP = """
import sys
from gradprom.serve.scratch import Scratch
scratch = Scratch()
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_its_owners_alone_and_goes(temporary: Path) -> None:
    scratch = Scratch()
    assert scratch.path.parent == temporary
    assert scratch.path.stat().st_mode & 0o077 == 0
    (scratch.path / "scan.dcm").write_bytes(b"x")
    scratch.remove()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_nothing_else(temporary: Path) -> None:
    other = temporary / "gradprom-serve-notes"
    other.mkdir()
    process = subprocess.Popen([sys.executable, "-c", KEEP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    (left / "scan.dcm").write_bytes(b"x")
    remove_orphans()
    assert (left / "scan.dcm").is_file()  # it lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "scan.dcm").is_file()
    mine = Scratch()
    assert sorted(temporary.iterdir()) == sorted([other, mine.path])
    mine.remove()
