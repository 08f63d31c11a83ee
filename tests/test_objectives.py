"""The three losses, against formulas written out in numpy."""

import numpy as np
import pytest
import torch

from gradprom.objectives import consistency_loss, enhancement_loss, recognition_loss


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["mse", "l1"])
def test_enhancement_loss(rng, kind: str) -> None:
    enhanced, clean = rng.random((2, 3, 4, 5)), rng.random((2, 3, 4, 5))
    difference = enhanced - clean
    expected = (difference**2).mean() if kind == "mse" else abs(difference).mean()
    loss = enhancement_loss(torch.from_numpy(enhanced), torch.from_numpy(clean), kind)
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_enhancement_loss_refuses_what_would_be_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and clean \(2, 1, 4, 4\)"):
        enhancement_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5)])
def test_consistency_loss_is_the_divergence_of_the_softmaxes(rng, shape: tuple[int, ...]) -> None:
    logits, target = 3 * rng.standard_normal(shape), 3 * rng.standard_normal(shape)
    p, q = softmax(target), softmax(logits)
    expected = (p * np.log(p / q)).sum(1).mean()
    loss = consistency_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    squared = consistency_loss(torch.from_numpy(logits), torch.from_numpy(target), kind="mse")
    assert squared.item() == pytest.approx(((logits - target) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_no_gradient_flows_through_the_target(kind: str) -> None:
    logits, target = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    consistency_loss(logits, target, kind).backward()
    assert logits.grad.any()
    assert target.grad is None


def test_consistency_is_zero_exactly_for_equal_readings_and_finite_for_sure_ones(rng) -> None:
    logits = torch.from_numpy(rng.standard_normal((4, 3))).float()
    assert consistency_loss(logits, logits).item() == 0
    assert consistency_loss(logits + 5, logits).item() == pytest.approx(0, abs=1e-6)  # softmax knows no offset
    sure = torch.tensor([[1e4, -1e4]])
    assert consistency_loss(sure, sure.flip(1)).item() == 2e4


@pytest.mark.parametrize("pixels", [(), (4, 5)])
def test_recognition_loss_is_the_cross_entropy(rng, pixels: tuple[int, ...]) -> None:
    logits, truth = rng.standard_normal((3, 4, *pixels)), rng.integers(0, 4, (3, *pixels))
    chosen = np.take_along_axis(softmax(logits), truth[:, None], 1)
    loss = recognition_loss(torch.from_numpy(logits), torch.from_numpy(truth))
    assert loss.item() == pytest.approx(-np.log(chosen).mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_losses_are_taken_in_float32_or_wider(given: torch.dtype, returned: torch.dtype) -> None:
    image, logits = torch.rand(2, 1, 4, 4).to(given), torch.randn(2, 3).to(given)
    assert enhancement_loss(image, image.float()).dtype == returned
    assert consistency_loss(logits, logits).dtype == returned
    assert recognition_loss(logits, torch.tensor([0, 1])).dtype == returned
