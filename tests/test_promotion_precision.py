"""GradScaler, autocast, half precision, memory formats and compiled models."""

import math

import pytest
import torch
import torch._functorch.config
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, mse_loss

from gradprom import GradientPromotion, Step
from gradprom.enhancers.srresnet import SRResNet


def scaled_step(main: float, auxiliary: float, phi_gradient: float, **options: object) -> tuple[Tensor, Tensor, Step]:
    """A step under a scaler; gradients are given, and inf is what an overflow leaves behind."""
    theta, phi = Parameter(torch.zeros(2)), Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([theta, phi], lr=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    promotion = GradientPromotion([theta], [phi], scaler=scaler, **options)

    def times(p: Tensor, factor: float) -> Tensor:
        through = p * 1
        through.register_hook(lambda gradient: gradient * factor)
        return through.sum()

    step = promotion.backward(times(theta, main), {"a": times(theta, auxiliary) + times(phi, phi_gradient)})
    if not step.skipped:
        scaler.step(optimizer)
        scaler.update()
    step.scale_after = scaler.get_scale()
    step.rested = not optimizer.state
    return theta, phi, step


def test_scaler_leaves_gradients_unscaled_for_the_optimizer_and_norms_recorded_unscaled() -> None:
    theta, phi, step = scaled_step(3, 4, 5, weight=1)
    # scaler.step has unscaled what it handed to the optimizer
    assert theta.grad.tolist() == [7, 7]
    assert phi.grad.tolist() == [5, 5]
    assert (step.main_norm, step.norms["a"]) == pytest.approx((3 * math.sqrt(2), 4 * math.sqrt(2)))
    assert step.main_loss == 0
    assert (step.scale_after, step.rested, step.overflow, step.skipped) == (1024, False, False, False)


def test_cone_under_a_scaler() -> None:
    theta, _, step = scaled_step(3, 400, 5, weight=1, max_ratio=0.5)
    torch.testing.assert_close(theta.grad, torch.full((2,), 4.5))
    assert step.ratio == 0.5


@pytest.mark.parametrize("factors", [(math.inf, 1, 1), (1, math.inf, 1), (1, 1, math.inf), (math.nan, 1, 1)])
def test_overflow_is_left_to_the_scaler(factors) -> None:
    theta, phi, step = scaled_step(*factors)
    assert (step.overflow, step.skipped) == (True, False)
    assert step.scale_after == 512
    assert step.rested  # no optimizer state was touched
    assert theta.tolist() == phi.tolist() == [0, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_main_loss_is_no_overflow(bad: float) -> None:
    theta = Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    step = GradientPromotion([theta], scaler=scaler).backward(theta.sum() + bad)
    assert (step.skipped, step.overflow, theta.grad) == (True, False, None)


def test_non_finite_auxiliary_loss_under_a_scaler_stands_alone() -> None:
    theta, phi = Parameter(torch.ones(1)), Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=8)
    step = GradientPromotion([theta], [phi], scaler=scaler).backward(theta.sum(), {"a": (theta * phi).sum() * math.nan})
    assert (step.skipped, step.overflow, phi.grad) == (False, False, None)
    assert theta.grad.item() == 8


def test_disabled_scaler_is_none() -> None:
    theta = Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    step = GradientPromotion([theta], scaler=scaler).backward(theta.sum() * math.inf)
    assert (step.skipped, step.overflow) == (True, False)


def models(**options: object) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    enhancer = SRResNet(1, blocks=1, channels=8, residual=False, **options)
    return enhancer, nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    clean = torch.rand(4, 1, 8, 8)
    return clean + 0.3 * torch.randn_like(clean), clean, torch.tensor([0, 1, 2, 0])


def run(enhancer, recognizer, batch, weight=1.0, call=None, interface=True, **options) -> Step:
    degraded, clean, label = batch
    enhance, recognize = call or (enhancer, recognizer)
    enhanced = enhance(degraded)
    return GradientPromotion(enhancer.parameters(), recognizer.parameters(), weight=weight, **options).backward(
        mse_loss(enhanced.float(), clean),
        {"diagnosis": cross_entropy(recognize(enhanced).float(), label)},
        interface=enhanced if interface else None,
    )


def flat(*modules: nn.Module) -> Tensor:
    return torch.cat([p.grad.float().flatten() for module in modules for p in module.parameters()])


@pytest.mark.parametrize("interface", [True, False])
def test_bf16_autocast(batch, interface) -> None:
    expected, got = models(), models()
    reference = run(*expected, batch, gate="always")
    with torch.autocast("cpu", torch.bfloat16):
        step = run(*got, batch, gate="always", interface=interface)
    assert all(p.grad.dtype == torch.float32 for module in got for p in module.parameters())
    assert step.main_norm == pytest.approx(reference.main_norm, rel=0.05)
    assert torch.cosine_similarity(flat(*got), flat(*expected), dim=0) > 0.99


def test_bf16_parameters_have_their_norms_taken_in_float32() -> None:
    # in bf16 the squares' sum would stick at 256: 256 + 1 rounds to 256
    theta = Parameter(torch.zeros(10_001, dtype=torch.bfloat16))
    step = GradientPromotion([theta], weight=1).backward(theta.float().sum(), {"a": theta.float().sum()})
    assert theta.grad.dtype == torch.bfloat16
    assert (step.main_norm, step.alignment["a"]) == pytest.approx((math.sqrt(10_001), 1))


def test_fp16_recognizer_whose_gradient_is_finite_but_its_norm_is_not_in_fp16() -> None:
    theta, phi = Parameter(torch.ones(1)), Parameter(torch.ones(4, dtype=torch.float16))
    step = GradientPromotion([theta], [phi], weight=1).backward(
        theta.sum(), {"a": theta.sum() + (phi * 60_000).float().sum()}
    )
    assert step.promoted["a"]
    assert phi.grad.tolist() == [60_000] * 4


def test_parameters_of_several_types() -> None:
    theta = [Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.bfloat16, torch.float32, torch.float64)]
    step = GradientPromotion(theta, weight=0.5, max_ratio=10).backward(
        sum(t.sum().double() for t in theta), {"a": sum(t.sum().double() for t in theta)}
    )
    assert [t.grad.tolist() for t in theta] == [[1.5, 1.5]] * 3
    assert step.main_norm == pytest.approx(math.sqrt(6))


def test_channels_last(batch) -> None:
    expected, got = models(), models()
    run(*expected, batch, max_ratio=0.5, gate="projection")
    for module in got:
        module.to(memory_format=torch.channels_last)
    degraded, clean, label = batch
    run(*got, (degraded.to(memory_format=torch.channels_last), clean, label), max_ratio=0.5, gate="projection")
    torch.testing.assert_close(flat(*got), flat(*expected))


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda module: torch.compile(module, backend="aot_eager")
    torch._dynamo.reset()


# of torch itself, which looks at .grad of whatever goes into a compiled model
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@torch._functorch.config.patch(donated_buffer=False)
def test_compiled_models(batch, compiled) -> None:
    expected, got = models(), models()
    reference = run(*expected, batch)
    step = run(*got, batch, call=tuple(compiled(module) for module in got))
    assert step.promoted == reference.promoted
    assert step.alignment == pytest.approx(reference.alignment, abs=1e-4)
    torch.testing.assert_close(flat(*got), flat(*expected), rtol=1e-4, atol=1e-5)


@torch._functorch.config.patch(donated_buffer=True)
def test_donated_buffers_are_refused_in_one_sentence(compiled) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))
    forward, x = compiled(model), torch.rand(2, 2)
    promotion = GradientPromotion(model.parameters())
    promotion.backward(forward(x).sum())  # compiles the backward pass for one use
    gradients = [p.grad.clone() for p in model.parameters()]
    enhanced = forward(x)
    with pytest.raises(RuntimeError, match=r"donated_buffer = False before the model is compiled$"):
        promotion.backward(enhanced.sum(), {"a": enhanced.square().sum()})
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(model.parameters(), gradients, strict=True))


def test_a_gradient_that_no_scale_makes_finite_is_judged_as_without_a_scaler() -> None:
    theta, phi = Parameter(torch.ones(2)), Parameter(torch.ones(2))

    def never_finite(p: Tensor) -> Tensor:
        through = p * 1
        through.register_hook(lambda gradient: gradient * math.inf)
        return through.sum()

    scaler = torch.amp.GradScaler("cpu", init_scale=1)
    step = GradientPromotion([theta], [phi], scaler=scaler).backward(never_finite(theta))
    assert (step.skipped, step.overflow, theta.grad) == (True, False, None)
    step = GradientPromotion([theta], [phi], scaler=scaler).backward(
        theta.sum(), {"a": (theta * never_finite(phi)).sum()}
    )
    assert (step.skipped, step.overflow, phi.grad) == (False, False, None)
    assert theta.grad.tolist() == [1, 1]
