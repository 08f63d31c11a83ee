"""Activation checkpointing: the same gradients and the same running statistics, with less kept in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import EncoderUNet, ResidualUNet
from gradprom.errors import UserError
from gradprom.recognizers.classifier import Classifier
from gradprom.strategies import CascadeStep
from gradprom.training._recompute import recompute_blocks
from gradprom.training.config import Config, stage_key
from gradprom.training.run import train
from gradprom.weights import read_weights

ENHANCERS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(1, blocks=3, channels=8, batch_norm=True, scale=2),
    "srresnet without batch norm": lambda: SRResNet(1, blocks=3, channels=8, batch_norm=False),
    "residual_unet": lambda: ResidualUNet(1, blocks=1, channels=4),
    "unet": lambda: EncoderUNet(1, encoder="test_resnet"),
}


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A model as it is, and the same one with its blocks recomputed; moved off a beginning as the identity."""
    torch.manual_seed(0)
    plain = make().train()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    other = copy.deepcopy(plain)
    assert recompute_blocks(other) > 1
    return plain, other


def same_state(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", ENHANCERS)
def test_two_products_through_one_graph(name: str, bf16: bool) -> None:
    results = []
    models = pair(ENHANCERS[name])
    for model in models:
        torch.manual_seed(1)
        image = torch.rand(3, 1, 32, 32)
        for _ in range(2):  # the second forward pass normalises anew
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                enhanced = model(image)
        theta, signals = list(model.parameters()), [torch.randn_like(enhanced) for _ in range(2)]
        first = torch.autograd.grad(enhanced, theta, signals[0], retain_graph=True)
        second = torch.autograd.grad(enhanced, theta, signals[1])
        results.append([enhanced, *first, *second])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    # as after two forward passes, however many more the gradients took
    assert same_state(*models)
    counts = [own for key, own in models[1].state_dict().items() if key.endswith("num_batches_tracked")]
    assert all(count == 2 for count in counts)
    assert bool(counts) == (name in ("srresnet", "unet"))


@pytest.mark.parametrize("gate_at", ["parameters", "interface"])
def test_a_promoted_step_of_a_cascade(gate_at: str) -> None:
    enhancers = pair(lambda: SRResNet(1, blocks=2, channels=4))
    recognizers = pair(lambda: Classifier(1, 2, "test_resnet"))
    torch.manual_seed(1)
    degraded, clean, label = torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 1, 0])
    steps = []
    for enhancer, recognizer in zip(enhancers, recognizers, strict=True):
        step = CascadeStep("gradprom", enhancer, {"diagnosis": recognizer}, weight=0.1, gate_at=gate_at)
        steps.append(step(degraded, clean, {"diagnosis": label}))
    assert steps[0] == steps[1]
    for one, other in (enhancers, recognizers):
        assert same_state(one, other)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=1e-6)


def test_the_target_of_the_unsupervised_setting_is_a_copy_that_stands_by_itself() -> None:
    _, recognizer = pair(lambda: Classifier(1, 2, "test_resnet"))
    frozen = copy.deepcopy(recognizer).eval().requires_grad_(False)
    image = torch.rand(2, 1, 32, 32)
    expected = frozen(image)
    with torch.no_grad():
        for parameter in recognizer.parameters():
            parameter.add_(1)
    assert torch.equal(frozen(image), expected)


@pytest.mark.parametrize("name", ENHANCERS)
def test_less_is_kept_for_the_backward_pass(name: str) -> None:
    kept = []
    for model in pair(ENHANCERS[name]):
        sizes: list[int] = []

        def pack(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            if not isinstance(x, nn.Parameter):
                sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(torch.rand(1, 1, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < 0.75 * kept[0]


class Halves(nn.Module):
    """Blocks in lists of lists, as of U-Net++; a lone convolution in a list is no block."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.ModuleList(nn.Sequential(nn.Conv2d(1, 1, 1)) for _ in range(2)) for _ in range(2))
        self.last = nn.ModuleList([nn.Conv2d(1, 1, 1)])

    def forward(self, image: Tensor) -> Tensor:
        for block in (*self.rows[0], *self.rows[1], *self.last):
            image = block(image)
        return image


def test_blocks_are_found_in_lists_of_lists_and_only_once() -> None:
    model = Halves()
    names = list(model.state_dict())
    assert recompute_blocks(model) == 4
    first = model.rows[0][0].forward
    assert recompute_blocks(model) == 4
    assert model.rows[0][0].forward is first
    assert list(model.state_dict()) == names
    with torch.no_grad():
        assert not model(torch.rand(1, 1, 2, 2)).requires_grad


def test_a_run_with_it_is_the_run_without(make_config, trained: Callable[[str], Path], tmp_path: Path) -> None:
    config: Config = make_config({"strategy": "gradprom", "training.recompute": "all"})
    folder = train(config, tmp_path / "run")
    for name in ("enhancer", "recognizer"):
        found, expected = (read_weights(f / f"{name}.safetensors") for f in (folder, trained("gradprom")))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    without = make_config({"strategy": "gradprom"})
    assert stage_key(config, "warmup") == stage_key(without, "warmup")


def test_a_model_without_blocks_is_refused_before_anything_is_written(make_config, tmp_path: Path) -> None:
    config = make_config({"training.recompute": "enhancer"})
    with pytest.raises(UserError, match=r"training\.recompute is enhancer, but .* none has blocks"):
        train(config, tmp_path / "run", enhancer=nn.Conv2d(1, 1, 3, padding=1))
    assert not (tmp_path / "run").exists()
