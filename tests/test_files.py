"""Files appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from gradprom._files import atomic_path, write_text
from gradprom._process import tune_malloc


def test_text_is_written_as_utf8_into_new_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "σ.txt", "σ = 0,1\n")
    assert (tmp_path / "a" / "b" / "σ.txt").read_bytes() == "σ = 0,1\n".encode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_failure_leaves_everything_as_it_was(tmp_path: Path, error: type, existed: bool) -> None:
    if existed:
        write_text(tmp_path / "file.txt", "old")

    def fail() -> None:
        with atomic_path(tmp_path / "file.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({"file.txt": "old"} if existed else {})


def test_temporary_lies_beside_its_target_with_its_suffix_and_the_target_appears_at_the_end(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "volume.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        assert not (tmp_path / "volume.nii.gz").exists()
        temporary.write_text("whole")
    assert [file.name for file in tmp_path.iterdir()] == ["volume.nii.gz"]


def test_temporary_may_be_taken_away_by_the_writer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt") as temporary:
        temporary.unlink()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file.txt", "text")
        assert os.umask(0o027) == 0o027  # and the umask is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_other_threads_never_see_another_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(mask: int) -> int:
        raise AssertionError("the umask is that of the whole process")

    monkeypatch.setattr(os, "umask", changed)
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").read_text() == "text"


def test_tuning_malloc_does_nothing_elsewhere_than_on_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("musl", "1.2"))
    assert tune_malloc() is False
