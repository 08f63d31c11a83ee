"""SRResNet: counted by hand, of any size, and what its options do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradprom import UserError
from gradprom.enhancers.srresnet import SRResNet

CONV3, NORM, PRELU = 3 * 3 * 64 * 64, 2 * 64, 1


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_number_of_parameters_of_the_papers_size(channels: int) -> None:
    head = 9 * 9 * channels * 64 + 64 + PRELU
    block = CONV3 + NORM + PRELU + CONV3 + NORM  # no biases before batch norm
    fuse = CONV3 + NORM
    tail = 9 * 9 * 64 * channels + channels
    assert count(SRResNet(channels)) == head + 16 * block + fuse + tail
    enlarge = 3 * 3 * 64 * 256 + 256 + PRELU
    assert count(SRResNet(channels, scale=2)) == head + 16 * block + fuse + enlarge + tail
    assert count(SRResNet(channels, scale=4)) == head + 16 * block + fuse + 2 * enlarge + tail
    assert count(SRResNet(3, scale=4)) == 1_547_350  # as is known of the original


def test_without_batch_norm_the_convolutions_have_biases() -> None:
    enhancer = SRResNet(1, blocks=2, channels=64, batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in enhancer.modules())
    head, tail = 9 * 9 * 64 + 64 + PRELU, 9 * 9 * 64 + 1
    assert count(enhancer) == head + 2 * (2 * (CONV3 + 64) + PRELU) + CONV3 + 64 + tail


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 16)])
def test_any_size(channels, scale, size, residual) -> None:
    enhancer = SRResNet(channels, blocks=1, channels=4, scale=scale, residual=residual).eval()
    image = torch.rand(2, channels, *size)
    with torch.no_grad():
        enhanced = enhancer(image)
    assert enhanced.shape == (2, channels, scale * size[0], scale * size[1])
    assert enhanced.isfinite().all()


@pytest.mark.parametrize("scale", [0, 3, 8, -1])
def test_other_scales_are_refused(scale: int) -> None:
    with pytest.raises(UserError, match=f"scale is {scale}.* 1, 2 or 4"):
        SRResNet(1, scale=scale)


def test_residual_starts_as_the_identity() -> None:
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(SRResNet(3, blocks=1, channels=4, residual=True)(image), image)
    # and enlarging keeps a flat image flat
    flat = torch.full((1, 1, 4, 4), 0.25)
    torch.testing.assert_close(SRResNet(1, 1, 4, scale=2, residual=True)(flat), torch.full((1, 1, 8, 8), 0.25))


def test_every_parameter_learns() -> None:
    enhancer = SRResNet(1, blocks=2, channels=4, scale=2)
    enhancer(torch.rand(2, 1, 6, 6)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in enhancer.parameters())


def test_forward_is_the_architecture_of_the_paper() -> None:
    torch.manual_seed(0)
    enhancer = SRResNet(3, blocks=2, channels=4, scale=4).double().eval()
    weights = enhancer.state_dict()

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        return F.conv2d(x, weight, weights.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{name}.{kind}"] for kind in kinds))

    image = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    head = x = F.prelu(conv(image, "head.0"), weights["head.1.weight"])
    for block in ("blocks.0.body", "blocks.1.body"):
        y = F.prelu(norm(conv(x, f"{block}.0"), f"{block}.1"), weights[f"{block}.2.weight"])
        x = x + norm(conv(y, f"{block}.3"), f"{block}.4")
    x = head + norm(conv(x, "fuse.0"), "fuse.1")
    for doubling in ("enlarge.0", "enlarge.1"):
        x = F.prelu(F.pixel_shuffle(conv(x, f"{doubling}.0"), 2), weights[f"{doubling}.2.weight"])
    torch.testing.assert_close(enhancer(image), conv(x, "tail"))
