"""The images of a run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from gradprom.datasets import load_dataset
from gradprom.errors import UserError
from gradprom.training.config import Config
from gradprom.training.data import RunData, TimedBatches, stage_seed

MakeConfig = Callable[..., Config]


@pytest.fixture
def data(make_config: MakeConfig, images: Path) -> RunData:
    return RunData(make_config({"dataset.validation_images": 3}), load_dataset("folder", images))


def test_training_validation_and_test_images_are_apart(data: RunData) -> None:
    parts = [{sample.id for sample in part} for part in (data.training, data.validation, data.dataset.test)]
    assert [len(part) for part in parts] == [7, 3, 2]
    assert len(set.union(*parts)) == 12


def test_validation_images_must_leave_some(make_config: MakeConfig, images: Path) -> None:
    with pytest.raises(UserError, match="has 10 training images"):
        RunData(make_config({"dataset.validation_images": 10}), load_dataset("folder", images))


def test_batches_are_the_same_whenever_they_begin(data: RunData) -> None:
    cpu = torch.device("cpu")
    whole = list(TimedBatches(data, data.loader("warmup"), 0, 6, cpu))
    later = list(TimedBatches(data, data.loader("warmup"), 4, 6, cpu))
    for one, other in zip(whole[4:], later, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        assert all(torch.equal(one[2][task], other[2][task]) for task in ("diagnosis", "segmentation"))
    other_stage = next(iter(TimedBatches(data, data.loader("cascade"), 0, 1, cpu)))
    assert not torch.equal(whole[0][1], other_stage[1])


def test_the_noise_has_its_strength(data: RunData) -> None:
    batches = list(TimedBatches(data, data.loader("warmup"), 0, 8, torch.device("cpu")))
    noise = torch.cat([(degraded - clean).flatten() for degraded, clean, _ in batches])
    clean = torch.cat([clean.flatten() for _, clean, _ in batches])
    inner = noise[(clean > 0.35) & (clean < 0.65)]  # where nothing is clamped
    assert inner.std().item() == pytest.approx(0.1, rel=0.05)


def test_a_thread_of_their_own_only_where_a_processor_is_to_spare(
    data: RunData, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[tuple[torch.Tensor, ...]]] = []
    for processors in (1, 64):
        monkeypatch.setattr("gradprom.training.data.processors", lambda count=processors: count)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        batches = TimedBatches(data, data.loader("warmup"), 0, 1000, torch.device("cpu"))
        made.append([batch[:2] for batch in itertools.islice(batches, 3)])
        running = [thread for thread in threading.enumerate() if thread.name == "gradprom-loader"]
        assert bool(running) == (processors > 1)
        batches.close()
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_closing_ends_the_thread(data: RunData) -> None:
    batches = TimedBatches(data, data.loader("warmup"), 0, 1000, torch.device("cpu"))
    next(iter(batches))
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "gradprom-loader"]


def test_validation_is_the_mean_psnr(data: RunData) -> None:
    module = torch.nn.Identity().train()
    expected = []
    for sample in data.validation:
        degraded, clean = data.validation_pair(sample)
        assert degraded.shape == clean.shape == (1, 1, 40, 48)
        expected.append(-10 * np.log10(((degraded - clean) ** 2).mean().item()))
    value = data.validate(module, torch.device("cpu"), nullcontext)
    assert value == pytest.approx(np.mean(expected), abs=1e-4)
    assert module.training


def test_stages_and_seeds_have_random_numbers_of_their_own() -> None:
    seeds = {stage_seed(seed, stage) for seed in range(3) for stage in ("warmup", "pretrain", "cascade")}
    assert len(seeds) == 9
