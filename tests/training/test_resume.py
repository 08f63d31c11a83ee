"""A run that was killed, at whatever step, ends as if it never had been."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gradprom import cli
from gradprom._process import interruptible
from gradprom.errors import UserError
from gradprom.training.checkpoint import Checkpoint, read_checkpoint
from gradprom.training.config import Config
from gradprom.training.run import resume, train
from gradprom.weights import read_weights

Options = Callable[..., list[str]]
DETERMINISTIC = ("stage", "step", "loss", "validation_psnr", "learning_rate")


class Killed(BaseException):
    """Leaves on disk what a kill would leave."""


def killing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the next run die in its optimizer's step, when ``after`` of them are done."""
    original, done = torch.optim.Adam.step, 0

    def step(self: torch.optim.Adam, *arguments: object) -> object:
        nonlocal done
        if done == after:
            raise Killed
        done += 1
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)


def assert_same_run(folder: Path, other: Path) -> None:
    names = sorted(path.name for path in other.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in (name for name in names if name.endswith(".safetensors")):
        one, two = read_weights(folder / name), read_weights(other / name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    assert (folder / "promotion.csv").read_bytes() == (other / "promotion.csv").read_bytes()
    assert (folder / "preview.png").read_bytes() == (other / "preview.png").read_bytes()
    rows = []
    for run in (folder, other):
        with (run / "metrics.csv").open() as file:
            rows.append([[row[name] for name in DETERMINISTIC] for row in csv.DictReader(file)])
    assert rows[0] == rows[1]


SETTINGS = {
    "supervised": {"training.cascade.schedule": "cosine"},
    "unsupervised": {"supervision": "unsupervised", "promotion.gate": "soft", "promotion.max_ratio": 0.5},
    "joint": {"strategy": "joint", "training.checkpoint_every": 4, "promotion.weight": 1},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_killed_again_and_again(
    settings: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"training.pretrain.steps": 7, "training.cascade.steps": 11} | SETTINGS[settings])
    whole, folder = train(config, tmp_path / "whole"), tmp_path / "killed"

    # 12 steps of warm-up, 7 of pretraining, 11 of the cascade; checkpoints after 10 and every 6 (or 4) of each
    begins = (0, 12, 19, 30)
    for step in (3, 8, 11, 12, 15, 18, 19, 22, 26, 29):
        position = read_checkpoint(folder) or Checkpoint()
        with monkeypatch.context() as patch:
            killing(patch, after=step - begins[position.stage] - position.step)
            with pytest.raises(Killed):
                resume(folder) if folder.exists() else train(config, folder)
    (folder / ".partial-checkpoint").write_bytes(b"half")  # as a kill while a file is written leaves one
    resume(folder)
    assert_same_run(folder, whole)


def test_sigkill(options: Options, tmp_path: Path) -> None:
    words = options({"training.warmup.steps": 100, "training.checkpoint_every": 7})
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert cli.main(["train", *words, "-o", str(whole)]) == 0

    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "gradprom.cli", "train", *words, "-o", str(folder)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "checkpoint.pt").exists():
        time.sleep(0.001)
    time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "enhancer.safetensors").exists()
    assert cli.main(["train", "--resume", str(folder)]) == 0
    assert_same_run(folder, whole)


def test_an_interrupt_waits_for_the_step_and_writes_a_checkpoint(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"strategy": "enhancer_only", "training.checkpoint_every": 100})
    whole, folder = train(config, tmp_path / "whole"), tmp_path / "interrupted"
    original, done = torch.optim.Adam.step, 0

    def step(self: torch.optim.Adam, *arguments: object) -> object:
        nonlocal done
        done += 1
        if done == 3:
            signal.raise_signal(signal.SIGINT)  # in the middle of a step, when the gradients are there
        return original(self, *arguments)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder)
    assert signal.getsignal(signal.SIGINT) is handler
    position = read_checkpoint(folder)
    assert position is not None
    assert (position.stage, position.step) == (0, 3)
    resume(folder)
    assert_same_run(folder, whole)


def test_a_second_interrupt_does_not_wait() -> None:
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    try:
        with interruptible() as interrupted:
            assert not interrupted()
            signal.raise_signal(signal.SIGINT)
            assert interrupted()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, outside)


class Fragile(nn.Module):
    """Gives numbers that are not finite in some of its steps of training."""

    def __init__(self, bad: range) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self.bad, self.calls = bad, 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
        return image * self.factor / (0 if self.training and self.calls in self.bad else 1)


def test_single_losses_that_are_not_finite_are_skipped(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({"strategy": "joint", "training.max_skipped": 3, "training.warmup.steps": 4})
    model = Fragile(range(6, 8))  # two steps of the cascade
    folder = train(config, tmp_path / "run", enhancer=model)
    assert torch.isfinite(model.factor)
    with (folder / "promotion.csv").open() as file:
        assert [row["skipped"] for row in csv.DictReader(file)] == ["0", "1", "1", "0", "0"]


def test_many_in_a_row_stop_the_run(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({"strategy": "enhancer_only", "training.max_skipped": 3})
    sentence = (
        r"training stopped at step 8 of the warm-up of the enhancer: its main loss .* was not finite for 3 steps in a "
        r"row, the last loss was inf: lower the learning rate"
    )
    with pytest.raises(UserError, match=sentence):
        train(config, tmp_path / "run", enhancer=Fragile(range(6, 100)))
    position = read_checkpoint(tmp_path / "run")
    assert position is not None
    assert (position.step, position.skipped) == (6, 1)
    assert not (tmp_path / "run" / "enhancer.safetensors").exists()


def test_a_checkpoint_of_another_model_is_refused(make_config: Callable[..., Config], tmp_path: Path) -> None:
    folder = train(make_config({"strategy": "enhancer_only", "training.warmup.steps": 2}), tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("channels: 4", "channels: 8"))
    with pytest.raises(UserError, match=r"checkpoint\.pt: is of another model than config\.yaml"):
        resume(folder)
