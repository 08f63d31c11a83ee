from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gradprom.inference.reach import needed_overlap
from gradprom.inference.tiles import enhance_tiles


@pytest.mark.parametrize(("radius", "overlap"), [(0, 0), (1, 32), (16, 32), (17, 64), (40, 96)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_mean_of_known_width(radius: int, overlap: int, scale: int) -> None:
    mean = nn.AvgPool2d((1, 2 * radius + 1), stride=1, padding=(0, radius))
    enhancer = mean if scale == 1 else nn.Sequential(mean, nn.Upsample(scale_factor=scale))
    assert needed_overlap(enhancer, 3, scale=scale) == overlap


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_view_to_one_side(side: str) -> None:
    class Shift(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(x, (40, 40))
            return padded[..., :-80] if side == "left" else padded[..., 80:]

    assert needed_overlap(Shift(), 1) == 96


def test_what_sees_everything_gets_the_most() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 100 * x.mean(dim=(2, 3), keepdim=True)

    assert needed_overlap(Mean(), 1) == 512


def test_no_seam_shows_with_it() -> None:
    torch.manual_seed(0)
    blur = nn.Sequential(*(nn.AvgPool2d(9, stride=1, padding=4) for _ in range(8)))  # reaches 32, mostly less
    overlap = needed_overlap(blur, 1)
    assert 0 < overlap <= 64
    pixels = np.random.default_rng(1).random((100, 500, 1), np.float32)
    whole = enhance_tiles(blur, pixels, tile=512)
    assert np.abs(enhance_tiles(blur, pixels, tile=128, overlap=overlap) - whole).max() < 1 / 255
