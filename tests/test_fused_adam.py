"""The optimizer's step, whatever order of storage a gradient comes in."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradprom.strategies import EnhancerStep


class WeightsLastIn(nn.Module):
    """A convolution whose weight is kept as other libraries keep it, (3, 3, inputs, outputs)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(3, 3, 2, 2))

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.weight.permute(3, 2, 0, 1), padding=1)


def test_fused_adam_is_adam() -> None:
    torch.manual_seed(0)
    plain = WeightsLastIn()
    ours = copy.deepcopy(plain)
    step = EnhancerStep(ours)
    fused, usual = torch.optim.Adam(ours.parameters(), fused=True), torch.optim.Adam(plain.parameters(), foreach=False)
    for _ in range(3):
        degraded, clean = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8)
        for optimizer in (fused, usual):
            optimizer.zero_grad()
        step(degraded, clean, {})
        F.mse_loss(plain(degraded), clean).backward()
        fused.step()
        usual.step()
    torch.testing.assert_close(ours.weight, plain.weight, rtol=0, atol=1e-6)
