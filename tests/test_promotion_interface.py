"""The gate at the interface, against formulas on the gradients there; and what of the graph is freed."""

import math

import pytest
import torch
import torch._functorch.config
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, mse_loss

from gradprom import GradientPromotion, Step
from gradprom.enhancers.srresnet import SRResNet


def models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    recognizer = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
    return SRResNet(1, blocks=1, channels=4, batch_norm=True).double(), recognizer.double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    clean = torch.rand(6, 1, 6, 6, dtype=torch.float64)
    return clean + 0.3 * torch.randn_like(clean), clean, torch.tensor([0, 1, 2, 0, 1, 2])


def losses(enhanced: Tensor, recognizer: nn.Module, clean: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    # the second pulls some samples towards the clean image, others away from it
    pull = torch.linspace(-1, 1, 6, dtype=clean.dtype)[: len(clean)]
    mixed = ((enhanced - clean).square().mean((1, 2, 3)) * pull).mean()
    return mse_loss(enhanced, clean), {"diagnosis": cross_entropy(recognizer(enhanced), label), "mixed": mixed}


def run(enhancer: nn.Module, recognizer: nn.Module, batch: tuple[Tensor, ...], **options: object) -> Step:
    degraded, clean, label = batch
    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer, clean, label)
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), gate_at="interface", **options)
    return promotion.backward(main, auxiliaries, interface=enhanced)


def gradients(*modules: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for module in modules for p in module.parameters()]


def promoted(g: Tensor, a: Tensor, gate: str, weight: float) -> Tensor:
    """P for one unit, from the gates' formulas."""
    s = torch.cosine_similarity(g.flatten(), a.flatten(), dim=0)
    if gate == "hard":
        return weight * a if s >= 0 else torch.zeros_like(a)
    if gate == "soft":
        return weight * s.clamp(min=0) * a
    if gate == "projection":
        return weight * (a - (g * a).sum().clamp(max=0) / (g * g).sum() * g)
    return weight * a


@pytest.mark.parametrize("max_ratio", [None, 0.05])
@pytest.mark.parametrize("gate", ["hard", "soft", "projection", "always"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_equals_the_formulas_on_the_gradients_at_the_interface(batch, gate, per, max_ratio) -> None:
    weight = 0.3
    enhancer, recognizer = models()
    degraded, clean, label = batch
    leaf = enhancer(degraded).detach().requires_grad_()
    main, auxiliaries = losses(leaf, recognizer, clean, label)
    g = torch.autograd.grad(main, leaf)[0]
    signals = {name: torch.autograd.grad(loss, leaf, retain_graph=True)[0] for name, loss in auxiliaries.items()}
    units = [slice(None)] if per == "batch" else [slice(i, i + 1) for i in range(len(g))]
    p = torch.zeros_like(g)
    for unit in units:
        p[unit] = sum(promoted(g[unit], a[unit], gate, weight) for a in signals.values())
        if max_ratio is not None:
            p[unit] *= min(1, max_ratio * g[unit].norm() / p[unit].norm())
    enhancer, recognizer = models()
    enhancer(degraded).backward(g + p)
    cross = sum(losses(leaf.detach(), recognizer, clean, label)[1].values())
    cross.backward()
    expected = gradients(enhancer, recognizer)

    enhancer, recognizer = models()
    step = run(enhancer, recognizer, batch, gate=gate, gate_per=per, max_ratio=max_ratio, weight=weight)
    for got, reference in zip(gradients(enhancer, recognizer), expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-13)
    assert step.main_norm == pytest.approx(g.norm().item())
    assert step.norms == pytest.approx({name: a.norm().item() for name, a in signals.items()})
    assert step.ratio == pytest.approx((p.norm() / g.norm()).item())
    for name, a in signals.items():
        assert step.alignment[name] == pytest.approx(torch.cosine_similarity(g.flatten(), a.flatten(), dim=0).item())
        aligned = [bool((g[unit] * a[unit]).sum() >= 0) for unit in units]
        share = sum(aligned) / len(aligned) if gate in ("hard", "soft") else 1
        assert step.share[name] == pytest.approx(share)
        assert step.promoted[name] == (share > 0)
    if per == "sample" and gate == "hard":
        assert 0 < step.share["mixed"] < 1


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_joint_training_is_the_same_wherever_the_gate_stands(batch, per) -> None:
    degraded, clean, label = batch
    enhancer, recognizer = models()
    main, auxiliaries = losses(enhancer(degraded), recognizer, clean, label)
    (main + 0.5 * sum(auxiliaries.values())).backward()
    expected = gradients(enhancer)
    enhancer, recognizer = models()
    run(enhancer, recognizer, batch, gate="always", weight=0.5, gate_per=per)
    for got, reference in zip(gradients(enhancer), expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-13)


def by_hand(gate_at: str) -> Step:
    """y = (θ0, 9 θ1), g = (1, 1), a = (-2, 1): ⟨g, a⟩ = -1, but over θ ⟨G, A⟩ = -2 + 81."""
    theta = Parameter(torch.zeros(2))
    enhanced = theta * torch.tensor([1.0, 9.0])
    auxiliary = (enhanced * torch.tensor([-2.0, 1.0])).sum()
    step = GradientPromotion([theta], weight=1, gate_at=gate_at).backward(enhanced.sum(), {"a": auxiliary}, enhanced)
    step.gradient = theta.grad.tolist()
    return step


def test_it_is_an_approximation() -> None:
    exact, approximate = by_hand("parameters"), by_hand("interface")
    assert (exact.promoted, exact.gradient) == ({"a": True}, [1 - 2, 9 + 9])
    assert (approximate.promoted, approximate.gradient) == ({"a": False}, [1, 9])
    assert approximate.alignment["a"] == pytest.approx(-1 / math.sqrt(10))


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("gate", ["hard", "projection"])
def test_micro_batches_give_the_step_of_the_whole_batch(batch, per, gate) -> None:
    enhancer = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1)).double()
    recognizer = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    promotion = GradientPromotion(
        enhancer.parameters(),
        recognizer.parameters(),
        weight=0.1,
        gate=gate,
        gate_at="interface",
        gate_per=per,
        max_ratio=0.5,
    )

    def backward(part: slice, share: int) -> Step:
        degraded, clean, label = (tensor[part] for tensor in batch)
        enhanced = enhancer(degraded)
        pull = torch.linspace(-1, 1, 6, dtype=clean.dtype)[part]
        mixed = ((enhanced - clean).square().mean((1, 2, 3)) * pull).mean()
        auxiliaries = {"diagnosis": cross_entropy(recognizer(enhanced), label) / share, "mixed": mixed / share}
        return promotion.backward(mse_loss(enhanced, clean) / share, auxiliaries, enhanced)

    whole = backward(slice(None), 1)
    expected = gradients(enhancer, recognizer)
    enhancer.zero_grad()
    recognizer.zero_grad()
    with promotion.accumulate() as step:
        for start in (0, 2, 4):
            backward(slice(start, start + 2), 3)
            assert all(p.grad is None for p in enhancer.parameters())
    for got, reference in zip(gradients(enhancer, recognizer), expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-13)
    for name in ("alignment", "norms", "losses", "share"):
        assert getattr(step, name) == pytest.approx(getattr(whole, name))
    assert (step.main_norm, step.ratio) == pytest.approx((whole.main_norm, whole.ratio))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_at": "output"}, "parameters, last_layer, interface"),
        ({"gate_at": "interface", "gate_per": "pixel"}, "batch, sample"),
        ({"gate_at": "interface", "gate": "per_tensor"}, "per_tensor.*needs gate_at='parameters'"),
        ({"gate_per": "sample"}, "needs gate_at='interface'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPromotion([Parameter(torch.zeros(1))], **options)


def test_an_interface_that_is_missing_or_bypassed_is_refused() -> None:
    theta, phi = Parameter(torch.ones(2)), Parameter(torch.ones(2))
    enhanced = theta * 2
    promotion = GradientPromotion([theta], [phi], gate_at="interface")
    with pytest.raises(ValueError, match="needs the interface"):
        promotion.backward(enhanced.sum())
    with pytest.raises(ValueError, match=r"main loss depends on .* in another way"):
        promotion.backward(enhanced.sum() + theta.square().sum(), interface=enhanced)
    for gate_at in ("interface", "parameters"):
        bypass = {"a": (phi * theta * 2).sum()}
        with pytest.raises(ValueError, match=r"auxiliary 'a' depends on .* in another way"):
            GradientPromotion([theta], [phi], gate_at=gate_at).backward(enhanced.sum(), bypass, interface=enhanced)
    assert (theta.grad, phi.grad) == (None, None)
    # over θ the main loss may have parts of its own
    GradientPromotion([theta], [phi]).backward(enhanced.sum() + 3 * theta.sum(), interface=enhanced)
    assert theta.grad.tolist() == [5, 5]


def test_a_loss_that_never_meets_the_interface() -> None:
    theta, phi = Parameter(torch.ones(2)), Parameter(torch.ones(2))
    enhanced = theta * 2
    step = GradientPromotion([theta], [phi], weight=1, gate_at="interface").backward(
        enhanced.sum(), {"a": 3 * phi.sum()}, interface=enhanced
    )
    assert (step.promoted, math.isnan(step.alignment["a"])) == ({"a": False}, True)
    assert (theta.grad.tolist(), phi.grad.tolist()) == ([2, 2], [3, 3])


def behind(x: Tensor, factor: float) -> Tensor:
    """x whose gradient is multiplied."""
    through = x * 1
    through.register_hook(lambda gradient: gradient * factor)
    return through


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite(bad: float, per: str) -> None:
    def step_of(in_enhancer: float = 1, main: float = 1, sick: float = 1, scaler: object = None) -> tuple[Step, ...]:
        theta, phi = Parameter(torch.ones(2)), Parameter(torch.ones(2))
        enhanced = behind(theta, in_enhancer) * 2
        step = GradientPromotion([theta], [phi], weight=1, gate_at="interface", gate_per=per, scaler=scaler).backward(
            behind(enhanced, main).sum(), {"a": (behind(enhanced, sick) * phi).sum(), "b": enhanced.sum()}, enhanced
        )
        return step, theta.grad, phi.grad

    step, theta, phi = step_of(sick=bad)
    assert (step.promoted, step.skipped) == ({"a": False, "b": True}, False)
    assert (theta.tolist(), phi) == ([4, 4], None)
    for where in ("main", "in_enhancer"):
        step, theta, phi = step_of(**{where: bad})
        assert (step.skipped, step.overflow, step.ratio, theta, phi) == (True, False, 0, None, None)
        assert step.promoted == {"a": False, "b": False}
        step, theta, phi = step_of(**{where: bad}, scaler=torch.amp.GradScaler("cpu", init_scale=8))
        assert (step.skipped, step.overflow) == (False, True)
        assert theta.isinf().all()


def test_scaler(batch) -> None:
    enhancer, recognizer = models()
    reference = run(enhancer, recognizer, batch, weight=0.3)
    expected = gradients(enhancer, recognizer)
    enhancer, recognizer = models()
    step = run(enhancer, recognizer, batch, weight=0.3, scaler=torch.amp.GradScaler("cpu", init_scale=1024))
    for got, grad in zip(gradients(enhancer, recognizer), expected, strict=True):
        torch.testing.assert_close(got, 1024 * grad)
    assert step.norms == pytest.approx(reference.norms)
    assert (step.main_norm, step.ratio) == pytest.approx((reference.main_norm, reference.ratio))


def test_bf16_interface_is_compared_in_float32() -> None:
    theta = Parameter(torch.zeros(10_001, dtype=torch.bfloat16))
    enhanced = theta * 1
    step = GradientPromotion([theta], weight=1, gate_at="interface").backward(
        enhanced.float().sum(), {"a": enhanced.float().sum()}, enhanced
    )
    assert (step.main_norm, step.alignment["a"]) == pytest.approx((math.sqrt(10_001), 1))
    assert theta.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("gate_at", ["parameters", "interface"])
def test_the_recognizers_graph_is_freed_unless_losses_share_it(batch, gate_at) -> None:
    degraded, clean, label = batch
    enhancer, recognizer = models()
    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer, clean, label)
    # the two losses and the main one share what lies above the interface
    auxiliaries["twice"] = auxiliaries["diagnosis"] * 2 + main
    promotion = GradientPromotion(
        enhancer.parameters(), recognizer.parameters(), weight=1, gate="always", gate_at=gate_at
    )
    promotion.backward(main, auxiliaries, enhanced)
    expected = gradients(enhancer, recognizer)
    enhancer, recognizer = models()
    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer, clean, label)
    (2 * main + auxiliaries["mixed"] + 3 * auxiliaries["diagnosis"]).backward()
    for got, reference in zip(expected, gradients(enhancer, recognizer), strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-13)

    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer, clean, label)
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), gate_at=gate_at)
    promotion.backward(main, auxiliaries, enhanced)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(auxiliaries["diagnosis"], list(recognizer.parameters()))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@torch._functorch.config.patch(donated_buffer=True)
def test_one_pass_each_goes_with_donated_buffers() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))
    forward, x = torch.compile(model, backend="aot_eager"), torch.rand(3, 2)
    enhanced = forward(x)
    promotion = GradientPromotion(model.parameters(), weight=0.5, gate_at="interface")
    promotion.backward(enhanced.sum(), {"a": enhanced.sum()}, enhanced)
    got = gradients(model)
    model.zero_grad()
    (1.5 * model(x).sum()).backward()
    torch._dynamo.reset()
    for gradient, reference in zip(got, gradients(model), strict=True):
        torch.testing.assert_close(gradient, reference)
