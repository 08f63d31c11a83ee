"""Clipping: a gradient that is too long keeps its direction, and each model's is judged by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gradprom.training.config import Config
from gradprom.training.loop import _optimize
from gradprom.training.run import train
from gradprom.weights import read_weights


class Two(nn.Module):
    """Two parameters that together are (0, 0, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))

    def descend(self, gradient: list[float], scale: float = 1.0) -> None:
        values = scale * torch.tensor(gradient)
        self.first.grad, self.second.grad = values[:1].clone(), values[1:].clone()

    def moved(self) -> list[float]:
        return torch.cat([-self.first, -self.second]).tolist()


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_each_model_by_itself(scale: float | None) -> None:
    long, short = Two(), Two()
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    if scaler is not None:
        scaler.scale(torch.zeros(()))  # which makes it ready
    long.descend([0.0, 30.0, 40.0], scale or 1.0)
    short.descend([2.0, -1.0, 2.0], scale or 1.0)
    optimizer = torch.optim.SGD([*long.parameters(), *short.parameters()], lr=1.0)
    _optimize(optimizer, scaler, [long, short], 5.0)
    assert long.moved() == pytest.approx([0.0, 3.0, 4.0], rel=1e-6)  # of length 5, not 50
    assert short.moved() == pytest.approx([2.0, -1.0, 2.0], rel=1e-6)


def test_without_it_nothing_is_clipped() -> None:
    model = Two()
    model.descend([0.0, 30.0, 40.0])
    _optimize(torch.optim.SGD(model.parameters(), lr=1.0), None, [model], None)
    assert model.moved() == [0.0, 30.0, 40.0]


def test_a_run_clips(make_config: Callable[..., Config], trained: Callable[[str], Path], tmp_path: Path) -> None:
    clipped = train(make_config({"strategy": "enhancer_only", "training.clip_norm": 1e-3}), tmp_path / "run")
    ours, free = (read_weights(run / "enhancer.safetensors") for run in (clipped, trained("enhancer_only")))
    assert any(not torch.equal(ours[name], free[name]) for name in ours)
