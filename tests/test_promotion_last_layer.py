"""The gate on a part of θ: against the rule, against formulas on that part's gradients, and which part it is."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, mse_loss

from gradprom import GradientPromotion, Step
from gradprom._passes import last_layer
from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import ResidualUNet

GATES = ["hard", "soft", "projection", "always"]
ENHANCERS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(1, blocks=1, channels=4, batch_norm=True),
    "srresnet, scale 2": lambda: SRResNet(1, blocks=1, channels=4, batch_norm=False, scale=2, residual=True),
    "residual_unet": lambda: ResidualUNet(1, blocks=1, channels=4),
}


def build(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    enhancer = ENHANCERS[name]()
    side = 16 if "scale 2" in name else 8
    recognizer = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(2 * side**2, 3))
    with torch.no_grad():
        for parameter in enhancer.parameters():  # a tail of zeros would let no gradient through
            parameter.add_(0.1 * torch.randn_like(parameter))
    return enhancer.double(), recognizer.double()


def losses(enhanced: Tensor, recognizer: nn.Module, part: slice = slice(None)) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(2)
    clean = torch.rand(4, *enhanced.shape[1:], dtype=enhanced.dtype)[part]
    against = torch.tensor([1.0, -3, 1, -2], dtype=enhanced.dtype)[part]
    label = torch.tensor([0, 1, 2, 0])[part]
    mixed = ((enhanced - clean).square().mean((1, 2, 3)) * against).mean()
    main = mse_loss(enhanced, clean)
    return main, {"diagnosis": cross_entropy(recognizer(enhanced), label) / 10 + main, "mixed": mixed}


@pytest.fixture
def degraded() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(4, 1, 8, 8, dtype=torch.float64)


def run(name: str, degraded: Tensor, gate_at: object = "last_layer", **options: object) -> tuple[Step, list[Tensor]]:
    enhancer, recognizer = build(name)
    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer)
    where = list(enhancer.parameters()) if gate_at == "all" else gate_at
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), gate_at=where, **options)
    step = promotion.backward(main, auxiliaries, interface=enhanced)
    return step, [p.grad for module in (enhancer, recognizer) for p in module.parameters()]


def flat(tensors: Iterator[Tensor] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def promoted(g: Tensor, a: Tensor, gate: str) -> tuple[float, float]:
    """The factors of a and of g in P, before the weight, from the gates' formulas."""
    s = torch.cosine_similarity(g, a, dim=0).item()
    if gate == "projection":
        return 1, -min(0, (g @ a).item()) / (g @ g).item()
    return {"hard": float(s >= 0), "soft": max(0, s), "always": 1}[gate], 0


@pytest.mark.parametrize("combine", ["each", "all"])
@pytest.mark.parametrize("max_ratio", [None, 0.05])
@pytest.mark.parametrize("gate", GATES)
def test_all_of_theta_is_the_rule_itself(degraded, gate, max_ratio, combine) -> None:
    options = {"gate": gate, "max_ratio": max_ratio, "combine": combine, "weight": 0.3}
    expected, gradients = run("srresnet", degraded, "parameters", **options)
    step, found = run("srresnet", degraded, "all", **options)
    for got, reference in zip(found, gradients, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-10, atol=1e-14)
    assert step.promoted == expected.promoted
    for field in ("alignment", "norms", "main_norm", "ratio", "losses", "main_loss"):
        assert getattr(step, field) == pytest.approx(getattr(expected, field), rel=1e-10)


@pytest.mark.parametrize("gate", GATES)
def test_an_enhancer_of_one_layer(degraded, gate) -> None:
    found = []
    for gate_at in ("parameters", "last_layer"):
        torch.manual_seed(0)
        enhancer, recognizer = nn.Conv2d(1, 1, 3, padding=1).double(), nn.Linear(64, 3).double()
        enhanced = enhancer(degraded)
        main, auxiliaries = losses(enhanced, nn.Sequential(nn.Flatten(), recognizer))
        promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), gate=gate, gate_at=gate_at)
        step = promotion.backward(main, auxiliaries, enhanced)
        found.append((step.alignment, step.ratio, *(p.grad.flatten().tolist() for p in enhancer.parameters())))
    for got, reference in zip(*found, strict=True):
        assert got == pytest.approx(reference, rel=1e-10)


@pytest.mark.parametrize("max_ratio", [None, 0.05])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", ENHANCERS)
def test_equals_the_formulas_on_the_gradients_of_the_tail(degraded, name, gate, max_ratio) -> None:
    weight = 0.3
    enhancer, recognizer = build(name)
    tail = list(enhancer.tail.parameters())
    enhanced = enhancer(degraded)
    main, auxiliaries = losses(enhanced, recognizer)
    both = [*tail, enhanced]
    *g_tail, g = torch.autograd.grad(main, both, retain_graph=True)
    p, p_tail = torch.zeros_like(g), torch.zeros_like(flat(g_tail))
    for loss in auxiliaries.values():
        *a_tail, a = torch.autograd.grad(loss, both, retain_graph=True)
        keep, add = promoted(flat(g_tail), flat(a_tail), gate)
        p += weight * (keep * a + add * g)
        p_tail += weight * (keep * flat(a_tail) + add * flat(g_tail))
    ratio = (p_tail.norm() / flat(g_tail).norm()).item()
    shrink = 1 if max_ratio is None else min(1, max_ratio / ratio)
    expected = torch.autograd.grad(enhanced, list(enhancer.parameters()), g + shrink * p, retain_graph=True)
    of_phi = torch.autograd.grad(sum(auxiliaries.values()), list(recognizer.parameters()))

    step, gradients = run(name, degraded, gate=gate, max_ratio=max_ratio, weight=weight)
    for got, reference in zip(gradients, [*expected, *of_phi], strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-8, atol=1e-13)
    assert step.main_norm == pytest.approx(flat(g_tail).norm().item())
    assert step.ratio == pytest.approx(shrink * ratio)
    if max_ratio is not None:
        assert step.ratio <= max_ratio * (1 + 1e-12)
    if gate in ("hard", "soft"):
        assert step.promoted == {"diagnosis": True, "mixed": False}


def by_hand(gate_at: object, max_ratio: float | None = None) -> tuple[Step, list[float], list[float]]:
    """y = upper · lower, g = (1, 1), a = (-2, 1).

    Of upper, G = (1, 3) and A = (-2, 3): aligned. Of lower, G = (3, 1) and A = (-6, 1): opposed. At y: opposed.
    """
    upper, lower = Parameter(torch.tensor([[3.0, 1.0]])), Parameter(torch.tensor([[1.0, 3.0]]))
    enhanced = upper * (lower * 1)
    promotion = GradientPromotion(
        [upper, lower], weight=1, gate_at=[lower] if gate_at == "lower" else gate_at, max_ratio=max_ratio
    )
    step = promotion.backward(enhanced.sum(), {"a": (enhanced * torch.tensor([-2.0, 1.0])).sum()}, enhanced)
    return step, upper.grad[0].tolist(), lower.grad[0].tolist()


def test_it_is_an_approximation() -> None:
    assert by_hand("last_layer")[0].alignment["a"] == pytest.approx(7 / math.sqrt(10 * 13))
    assert by_hand("last_layer")[1:] == ([1 - 2, 3 + 3], [3 - 6, 1 + 1])
    for gate_at in ("parameters", "interface", "lower"):  # ⟨G, A⟩ = 7 - 17 over both
        assert by_hand(gate_at)[1:] == ([1, 3], [3, 1])
    # along G over all of θ the update is turned round: that is what the approximation gives up
    assert -1 * 1 + 6 * 3 + -3 * 3 + 2 * 1 < 1 + 9 + 9 + 1


def test_the_cone_is_laid_around_the_gradient_of_the_last_layer() -> None:
    step, upper, lower = by_hand("last_layer", max_ratio=0.5)
    shrink = 0.5 * math.sqrt(10) / math.sqrt(13)
    assert step.ratio == pytest.approx(0.5)
    assert upper == pytest.approx([1 - 2 * shrink, 3 + 3 * shrink])
    assert lower == pytest.approx([3 - 6 * shrink, 1 + shrink])
    # of the rest what is promoted may be longer than that
    assert shrink * math.hypot(6, 1) > 0.5 * math.hypot(3, 1)


def names(enhancer: nn.Module, enhanced: Tensor) -> list[str]:
    found = last_layer(enhanced, list(enhancer.parameters()))
    return [name for name, p in enhancer.named_parameters() if any(p is other for other in found)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ENHANCERS)
def test_the_last_layer_of_our_enhancers(name, autocast) -> None:
    enhancer = ENHANCERS[name]()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        enhanced = enhancer(torch.rand(2, 1, 8, 8))
    assert names(enhancer, enhanced) == ["tail.weight", "tail.bias"]


class Odd(nn.Module):
    """Declares its last layer first, scales what comes out of it, and adds a learnt skip."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = nn.Conv2d(4, 1, 3, padding=1)
        self.scale = Parameter(torch.ones(1))
        self.skip = nn.Conv2d(1, 1, 1, bias=False)
        self.begin = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PReLU(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (self.ending(self.begin(x)) + self.skip(x))


def test_the_last_layer_of_other_models() -> None:
    odd, x = Odd(), torch.rand(2, 1, 8, 8)
    assert names(odd, odd(x)) == ["scale", "ending.weight", "ending.bias", "skip.weight"]
    linear = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    assert names(linear, linear(x).view(2, 64)[:, ::2]) == ["2.weight", "2.bias"]
    linear[2].requires_grad_(False)
    assert names(linear, linear(x)) == ["0.weight", "0.bias"]
    normed = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
    assert names(normed, normed(x)) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    flat_only = [Parameter(torch.ones(8)), Parameter(torch.ones(8))]
    assert last_layer((x * flat_only[0] + 1) * flat_only[1], flat_only) == flat_only
    assert last_layer(flat_only[0], flat_only) == flat_only[:1]


def test_only_the_last_layer_is_passed_through_more_than_once(degraded) -> None:
    for gate_at, expected in (("last_layer", 1), ("interface", 1), ("parameters", 3)):
        enhancer, recognizer = build("residual_unet")
        passes = []
        enhancer.decode[0].register_forward_hook(lambda *io, passes=passes: io[2].register_hook(passes.append) and None)
        enhanced = enhancer(degraded)
        main, auxiliaries = losses(enhanced, recognizer)
        GradientPromotion(enhancer.parameters(), recognizer.parameters(), gate_at=gate_at).backward(
            main, auxiliaries, enhanced
        )
        assert len(passes) == expected


@pytest.mark.parametrize("gate", ["hard", "projection"])
def test_micro_batches_give_the_step_of_the_whole_batch(degraded, gate) -> None:
    enhancer, recognizer = build("residual_unet")
    options = {"weight": 0.1, "gate": gate, "gate_at": "last_layer", "max_ratio": 0.5}
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), **options)

    def backward(part: slice, share: int) -> Step:
        enhanced = enhancer(degraded[part])
        main, auxiliaries = losses(enhanced, recognizer, part)
        return promotion.backward(main / share, {n: loss / share for n, loss in auxiliaries.items()}, enhanced)

    whole = backward(slice(None), 1)
    expected = [p.grad for module in (enhancer, recognizer) for p in module.parameters()]
    enhancer.zero_grad()
    recognizer.zero_grad()
    with promotion.accumulate() as step:
        for start in (0, 2):
            backward(slice(start, start + 2), 2)
            assert all(p.grad is None for p in enhancer.parameters())
    found = [p.grad for module in (enhancer, recognizer) for p in module.parameters()]
    for got, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-13)
    assert step.alignment == pytest.approx(whole.alignment)
    assert (step.main_norm, step.ratio) == pytest.approx((whole.main_norm, whole.ratio))


def test_micro_batches_with_another_last_layer_are_refused() -> None:
    layers = [Parameter(torch.ones(1, 2)) for _ in range(2)]
    promotion = GradientPromotion(layers, gate_at="last_layer")

    def two(order: list[int]) -> None:
        with promotion.accumulate():
            for last in order:
                enhanced = layers[last] * (layers[1 - last] * 1)
                promotion.backward(enhanced.sum(), {"a": enhanced.sum()}, enhanced)

    two([0, 0])
    with pytest.raises(ValueError, match=r"same last layer.*gate_at"):
        two([0, 1])


def test_tied_frozen_and_unused_parameters() -> None:
    tied, frozen = Parameter(torch.tensor([[2.0, 3.0]])), Parameter(torch.ones(1, 2), requires_grad=False)
    unused, middle = Parameter(torch.ones(1, 2)), Parameter(torch.tensor([[1.0, 2.0]]))
    enhanced = frozen * (tied * (middle * (tied * 1)))  # y = θ² m: ∂y/∂θ = 2 θ m, ∂y/∂m = θ²
    promotion = GradientPromotion([tied, frozen, unused, middle], weight=1, gate_at="last_layer")
    step = promotion.backward(enhanced.sum(), {"a": (enhanced * torch.tensor([1.0, -0.25])).sum()}, enhanced)
    g, a = [4.0, 12.0], [4.0, -3.0]
    assert step.alignment["a"] == pytest.approx((16 - 36) / (math.hypot(*g) * math.hypot(*a)))
    assert not step.promoted["a"]
    assert (tied.grad[0].tolist(), middle.grad[0].tolist()) == (g, [4, 9])
    assert (frozen.grad, unused.grad) == (None, None)


def test_a_gradient_that_autograd_returns_twice_or_as_the_signal_itself() -> None:
    first, second, below = Parameter(torch.zeros(1, 2)), Parameter(torch.zeros(1, 2)), Parameter(torch.zeros(1, 2))
    enhanced = first + second + (below * 1)  # all three get the signal itself
    promotion = GradientPromotion([first, second, below], weight=2, gate_at=[first, second])
    promotion.backward((enhanced * torch.tensor([1.0, 3.0])).sum(), {"a": enhanced.sum()}, enhanced)
    for parameter in (first, second, below):
        assert parameter.grad[0].tolist() == [3, 5]
        parameter.grad.zero_()  # and changes no other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_at": "last_layer", "gate": "per_tensor"}, "per_tensor.*needs gate_at='parameters'"),
        ({"gate_at": "last_layer", "gate_per": "sample"}, "needs gate_at='interface'"),
        ({"gate_at": [Parameter(torch.zeros(1))]}, "not among the enhancer's parameters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPromotion([Parameter(torch.zeros(1))], **options)


def test_what_it_needs_and_lacks_is_said() -> None:
    upper, lower = Parameter(torch.ones(1, 2)), Parameter(torch.ones(1, 2))
    enhanced = upper * (lower * 1)
    with pytest.raises(ValueError, match="needs the interface"):
        GradientPromotion([upper, lower], gate_at="last_layer").backward(enhanced.sum())
    with pytest.raises(ValueError, match=r"main loss depends on .* in another way"):
        GradientPromotion([upper, lower], gate_at="last_layer").backward(
            enhanced.sum() + lower.square().sum(), interface=enhanced
        )
    upper.requires_grad_(False)
    enhanced = upper * (lower * 1)
    with pytest.raises(ValueError, match="requires one: name others"):
        GradientPromotion([upper, lower], gate_at=[upper]).backward(enhanced.sum(), interface=enhanced)
    assert (upper.grad, lower.grad) == (None, None)


def behind(x: Tensor, factor: float) -> Tensor:
    """x whose gradient is multiplied."""
    through = x * 1
    through.register_hook(lambda gradient: gradient * factor)
    return through


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite(bad: float) -> None:
    def step_of(below: float = 1, main: float = 1, sick: float = 1, scaler: object = None) -> tuple[Step, ...]:
        upper, lower, phi = (Parameter(torch.ones(1, 2)) for _ in range(3))
        enhanced = upper * behind(lower, below)
        promotion = GradientPromotion([upper, lower], [phi], weight=1, gate_at="last_layer", scaler=scaler)
        step = promotion.backward(
            behind(enhanced, main).sum(), {"a": (behind(enhanced, sick) * phi).sum(), "b": enhanced.sum()}, enhanced
        )
        return step, upper.grad, lower.grad, phi.grad

    step, upper, lower, phi = step_of(sick=bad)
    assert (step.promoted, step.skipped) == ({"a": False, "b": True}, False)
    assert (upper.tolist(), lower.tolist(), phi) == ([[2, 2]], [[2, 2]], None)
    for where in ("main", "below"):
        step, *gradients = step_of(**{where: bad})
        assert (step.skipped, step.overflow, step.ratio, *gradients) == (True, False, 0, None, None, None)
        assert step.promoted == {"a": False, "b": False}
        step, upper, lower, _ = step_of(**{where: bad}, scaler=torch.amp.GradScaler("cpu", init_scale=8))
        assert (step.skipped, step.overflow) == (False, True)
        assert torch.cat([upper, lower]).isinf().all()


def test_scaler(degraded) -> None:
    expected, gradients = run("residual_unet", degraded, max_ratio=0.1, weight=0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    step, scaled = run("residual_unet", degraded, max_ratio=0.1, weight=0.3, scaler=scaler)
    for got, reference in zip(scaled, gradients, strict=True):
        torch.testing.assert_close(got, 1024 * reference)
    assert (step.norms, step.alignment) == (pytest.approx(expected.norms), pytest.approx(expected.alignment))
    assert (step.main_norm, step.ratio) == pytest.approx((expected.main_norm, expected.ratio))


def test_bf16_loses_what_is_promoted_only_below_the_last_layer() -> None:
    torch.manual_seed(0)
    small = 2.0**-10  # beside 1 it is less than half of bfloat16's last digit
    enhancer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    x = torch.eye(4)
    with torch.autocast("cpu", torch.bfloat16):
        enhanced = enhancer(x)
    promotion = GradientPromotion(enhancer.parameters(), weight=small, gate="always", gate_at="last_layer")
    promotion.backward(enhanced.float().sum(), {"a": enhanced.float().sum()}, enhanced)
    without = [p.grad.clone() for p in enhancer.parameters()]
    enhancer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        enhanced = enhancer(x)
    promotion.backward(enhanced.float().sum(), {}, enhanced)
    lost, _, kept = (
        (with_p - p.grad).norm() / p.grad.norm() for with_p, p in zip(without, enhancer.parameters(), strict=True)
    )
    assert kept.item() == pytest.approx(small, rel=1e-3)
    assert lost == 0


def test_a_compiled_enhancer_is_judged_over_all_of_theta() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))
    with torch._functorch.config.patch(donated_buffer=False):
        enhanced = torch.compile(model, backend="aot_eager")(torch.rand(3, 2))
        found = last_layer(enhanced, list(model.parameters()))
    torch._dynamo.reset()
    assert list(map(id, found)) == list(map(id, model.parameters()))
