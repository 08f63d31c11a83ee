"""Checkpoints: written whole, read without executing anything."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from gradprom.errors import UserError
from gradprom.training.checkpoint import NAME, Checkpoint, read_checkpoint, save_checkpoint

FullDisk = Callable[[int], AbstractContextManager[None]]


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    model = torch.nn.Conv2d(1, 2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    position = Checkpoint(
        stage=2,
        step=7,
        models={"enhancer": model.state_dict()},
        optimizer=optimizer.state_dict(),
        skipped=1,
        losses=[0.1, 0.2],
        log_sizes={"metrics.csv": 3},
        seconds=1.5,
    )
    save_checkpoint(tmp_path, position)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    again = read_checkpoint(tmp_path)
    assert again is not None
    assert (again.stage, again.step, again.skipped, again.seconds) == (2, 7, 1, 1.5)
    assert (again.losses, again.log_sizes) == ([0.1, 0.2], {"metrics.csv": 3})
    assert torch.equal(again.models["enhancer"]["weight"], model.weight)
    assert torch.equal(again.optimizer["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_full_disk_is_a_sentence_and_leaves_the_earlier_one(tmp_path: Path, full_disk: FullDisk) -> None:
    save_checkpoint(tmp_path, Checkpoint(step=1))
    with full_disk(2000), pytest.raises(UserError, match=r"checkpoint\.pt: the file cannot be written \(.+\); check"):
        save_checkpoint(tmp_path, Checkpoint(step=2, models={"enhancer": {"weight": torch.zeros(10_000)}}))
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    again = read_checkpoint(tmp_path)
    assert again is not None
    assert again.step == 1


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None


def test_an_older_one_is_filled_in(tmp_path: Path) -> None:
    torch.save({"stage": 1, "step": 0}, tmp_path / NAME)
    assert read_checkpoint(tmp_path) == Checkpoint(stage=1)


@pytest.mark.parametrize("content", [{}, {"stage": 1, "step": 1, "more": 1}, [1], torch.zeros(1)])
def test_other_things_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / NAME)
    with pytest.raises(UserError, match="is not a checkpoint of this version"):
        read_checkpoint(tmp_path)


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(models={"enhancer": {"weight": torch.zeros(100)}}))
    whole = (tmp_path / NAME).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"checkpoint\.pt"):
            read_checkpoint(tmp_path)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("with_torch", [True, False])
def test_nothing_in_it_is_executed(with_torch: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = {"stage": 0, "step": 0, "models": Touch(marker)}
    if with_torch:
        torch.save(content, tmp_path / NAME)
    else:
        (tmp_path / NAME).write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        read_checkpoint(tmp_path)
    assert not marker.exists()
