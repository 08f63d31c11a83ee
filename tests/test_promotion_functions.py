"""Auxiliary losses given as functions: the same step as with losses, in less memory, and what goes wrong with them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from gradprom import GradientPromotion, Step
from gradprom.enhancers.srresnet import SRResNet

TASKS = ("benign", "malignant", "stage")


class Cascade:
    """An enhancer and three small recognizers in float64, the same ones each time; the third is turned against it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.enhancer = SRResNet(1, blocks=1, channels=4, batch_norm=True).double()
        self.recognizers = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
                ).double()
                for task in TASKS
            }
        )
        self.clean = torch.rand(6, 1, 6, 6, dtype=torch.float64)
        self.degraded = self.clean + 0.3 * torch.randn_like(self.clean)
        self.label = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(self, task: str, enhanced: Tensor) -> Tensor:
        loss = cross_entropy(self.recognizers[task](enhanced), self.label)
        return loss if task != "stage" else loss - mse_loss(enhanced, self.clean)

    def step(self, as_functions: tuple[str, ...], *, with_interface: bool, **options: object) -> Step:
        promotion = GradientPromotion(self.enhancer.parameters(), self.recognizers.parameters(), **options)
        enhanced = self.enhancer(self.degraded)
        auxiliaries: Mapping[str, Tensor | Callable[[], Tensor]] = {
            task: (lambda task=task: self.loss(task, enhanced)) if task in as_functions else self.loss(task, enhanced)
            for task in TASKS
        }
        return promotion.backward(
            mse_loss(enhanced, self.clean), auxiliaries, interface=enhanced if with_interface else None
        )

    def gradients(self) -> list[Tensor]:
        return [p.grad for module in (self.enhancer, self.recognizers) for p in module.parameters()]


@pytest.mark.parametrize("as_functions", [TASKS, TASKS[:1], TASKS[1:]])
@pytest.mark.parametrize(
    "options",
    [
        {"with_interface": False},
        {"with_interface": True},
        {"with_interface": True, "gate": "projection", "max_ratio": 0.5},
        {"with_interface": True, "gate_at": "last_layer"},
        {"with_interface": True, "gate_at": "interface", "gate_per": "sample"},
    ],
    ids=str,
)
def test_the_step_is_that_of_the_losses_themselves(as_functions, options) -> None:
    expected, got = Cascade(), Cascade()
    reference = expected.step((), weight=0.3, **options)
    step = got.step(as_functions, weight=0.3, **options)
    assert list(step.alignment) == list(TASKS)
    for field in ("losses", "norms", "alignment", "share"):
        assert getattr(step, field) == pytest.approx(getattr(reference, field), rel=1e-9)
    assert (step.promoted, step.main_loss) == (reference.promoted, reference.main_loss)
    for one, other in zip(got.gradients(), expected.gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


def test_the_gradients_are_those_of_a_graph_for_each_loss() -> None:
    cascade = Cascade()
    theta, weight = list(cascade.enhancer.parameters()), 0.3

    def gradient(loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        parts = torch.autograd.grad(loss_of(cascade.enhancer(cascade.degraded)), theta)
        return torch.cat([part.flatten() for part in parts])

    g = gradient(lambda enhanced: mse_loss(enhanced, cascade.clean))
    expected = g
    for task in TASKS:
        a = gradient(lambda enhanced, task=task: cascade.loss(task, enhanced))
        expected = expected + weight * a if g @ a >= 0 else expected
    step = cascade.step(TASKS, with_interface=True, weight=weight)
    assert not all(step.promoted.values())
    got = torch.cat([p.grad.flatten() for p in theta])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-13)


def test_micro_batches_with_a_scaler() -> None:
    """Each half's functions are called within its own call, and their losses are scaled like the main one."""
    cascade = Cascade()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    promotion = GradientPromotion(
        cascade.enhancer.parameters(), cascade.recognizers.parameters(), weight=0.3, scaler=scaler
    )
    with promotion.accumulate() as step:
        for _ in range(2):
            enhanced = cascade.enhancer(cascade.degraded)
            found = promotion.backward(
                mse_loss(enhanced, cascade.clean) / 2,
                {task: lambda task=task, enhanced=enhanced: cascade.loss(task, enhanced) / 2 for task in TASKS},
                interface=enhanced,
            )
    other = Cascade()
    reference = other.step((), with_interface=True, weight=0.3)
    assert {task: 2 * loss for task, loss in found.losses.items()} == pytest.approx(reference.losses)
    assert step.alignment == pytest.approx(reference.alignment)
    for one, expected in zip(cascade.gradients(), other.gradients(), strict=True):
        torch.testing.assert_close(one / 8, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("gate_at", ["parameters", "interface"])
def test_one_recognizers_graph_is_held_at_a_time(gate_at: str) -> None:
    """When a function is called, what the ones before it built is gone, and ``.grad`` is untouched."""
    cascade = Cascade()
    enhanced = cascade.enhancer(cascade.degraded)
    alive: list[list[bool]] = []
    seen: list[weakref.ref[Tensor]] = []

    def loss(task: str) -> Tensor:
        gc.collect()
        alive.append([one() is not None for one in seen])
        assert all(p.grad is None for p in cascade.enhancer.parameters())
        hidden = cascade.recognizers[task][:3](enhanced)
        seen.append(weakref.ref(hidden))
        return cross_entropy(cascade.recognizers[task][3:](hidden), cascade.label)

    promotion = GradientPromotion(cascade.enhancer.parameters(), cascade.recognizers.parameters(), gate_at=gate_at)
    promotion.backward(
        mse_loss(enhanced, cascade.clean), {task: lambda task=task: loss(task) for task in TASKS}, interface=enhanced
    )
    assert alive == [[], [False], [False, False]]


def test_no_more_memory_than_joint_training_and_a_copy_of_theta(load_script) -> None:
    """A peak of tensors, with a recognizer whose gradients are more than what a pass through the enhancer needs."""
    measure = load_script("benchmarks/_measure.py")
    torch.manual_seed(0)
    enhancer = SRResNet(1, blocks=2, channels=8, batch_norm=False)
    recognizer = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 512), nn.ReLU(), nn.Linear(512, 2))
    clean, label = torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 0, 1])
    degraded = clean + 0.1 * torch.randn_like(clean)

    def forget() -> None:
        for parameter in (*enhancer.parameters(), *recognizer.parameters()):
            parameter.grad = None

    def joint() -> None:
        enhanced = enhancer(degraded)
        main, auxiliary = mse_loss(enhanced, clean), cross_entropy(recognizer(enhanced), label)
        (main + 0.1 * auxiliary).backward()

    def promoted() -> None:
        enhanced = enhancer(degraded)
        promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), weight=0.1)
        promotion.backward(
            mse_loss(enhanced, clean), {"a": lambda: cross_entropy(recognizer(enhanced), label)}, interface=enhanced
        )

    peaks = []
    for step in (joint, promoted):
        step()  # what is set up at the first call is not counted
        forget()
        peaks.append(measure.peak_memory(step))
        forget()
    theta = sum(p.numel() * p.element_size() for p in enhancer.parameters())
    assert peaks[1] - peaks[0] <= theta + 64  # and the record's few numbers


@pytest.mark.parametrize("place", [0, 2])
def test_a_function_that_bypasses_the_interface_is_refused(place: int) -> None:
    cascade = Cascade()
    enhanced = cascade.enhancer(cascade.degraded)
    functions = {task: lambda task=task: cascade.loss(task, enhanced) for task in TASKS}
    functions[TASKS[place]] = lambda: cascade.enhancer(cascade.degraded).sum()
    promotion = GradientPromotion(cascade.enhancer.parameters(), cascade.recognizers.parameters())
    with pytest.raises(ValueError, match=f"auxiliary '{TASKS[place]}' depends on the enhancer's parameters in another"):
        promotion.backward(mse_loss(enhanced, cascade.clean), functions, interface=enhanced)
    assert all(gradient is None for gradient in cascade.gradients())


def test_functions_that_share_more_than_the_interface_are_refused() -> None:
    cascade = Cascade()
    enhanced = cascade.enhancer(cascade.degraded)
    clamped = enhanced.clamp(0, 1)
    promotion = GradientPromotion(cascade.enhancer.parameters(), cascade.recognizers.parameters())
    functions = {task: lambda task=task: cascade.loss(task, clamped) for task in TASKS}
    with pytest.raises(RuntimeError, match="let all losses start from the interface"):
        promotion.backward(mse_loss(enhanced, cascade.clean), functions, interface=enhanced)
    assert all(gradient is None for gradient in cascade.gradients())

    enhanced = cascade.enhancer(cascade.degraded)
    clamped = enhanced.clamp(0, 1)
    step = promotion.backward(mse_loss(clamped, cascade.clean), functions, interface=clamped)
    assert set(step.promoted) == set(TASKS)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "loss 'diagnosis' is None: a scalar tensor is needed"),
        (torch.ones(2, requires_grad=True), r"loss 'diagnosis' has shape \(2,\): a scalar is needed"),
        (torch.ones(()), "loss 'diagnosis' does not depend on any parameter"),
    ],
)
def test_a_function_that_returns_no_loss_is_refused(found: object, message: str) -> None:
    theta = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=message):
        GradientPromotion([theta]).backward((theta**2).sum(), {"diagnosis": lambda: found})
    assert theta.grad is None


@pytest.mark.parametrize("gate_at", ["parameters", "last_layer", "interface"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_function_that_changes_the_interface_is_refused(place: int, gate_at: str) -> None:
    """Else what is called after it would read another image, and the main loss's gradient pass through the change."""
    cascade = Cascade()
    enhanced = cascade.enhancer(cascade.degraded)
    functions = {task: lambda task=task: cascade.loss(task, enhanced) for task in TASKS}
    functions[TASKS[place]] = lambda: cascade.loss("benign", enhanced.mul_(0.1))
    promotion = GradientPromotion(cascade.enhancer.parameters(), cascade.recognizers.parameters(), gate_at=gate_at)
    with pytest.raises(ValueError, match=f"auxiliary '{TASKS[place]}' changes the interface in place"):
        promotion.backward(mse_loss(enhanced, cascade.clean), functions, interface=enhanced)
    assert all(gradient is None for gradient in cascade.gradients())


def test_a_loss_that_is_none_at_all_is_refused() -> None:
    theta = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=r"loss 'diagnosis' is 0.5: a scalar tensor is needed"):
        GradientPromotion([theta]).backward((theta**2).sum(), {"diagnosis": 0.5})
    with pytest.raises(ValueError, match=r"loss 'main' is <function .*: a scalar tensor is needed"):
        GradientPromotion([theta]).backward(lambda: (theta**2).sum())


def test_a_second_call_on_one_graph_is_refused_in_words_that_fit() -> None:
    theta = nn.Parameter(torch.ones(2))
    loss = (theta**2).sum()
    promotion = GradientPromotion([theta])
    promotion.backward(loss)
    with pytest.raises(RuntimeError, match="freed by an earlier pass: build all losses anew for every call"):
        promotion.backward(loss)


def test_what_a_function_raises_is_raised() -> None:
    theta = nn.Parameter(torch.ones(2))

    def broken() -> Tensor:
        raise KeyError("label")

    promotion = GradientPromotion([theta])
    with pytest.raises(KeyError, match="label"):
        promotion.backward((theta**2).sum(), {"diagnosis": broken})
    assert theta.grad is None
    promotion.backward((theta**2).sum(), {"diagnosis": theta.sum()})
    assert theta.grad is not None
