"""The rule on gradients that are chosen by hand: what θ and φ get, and what the record says."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from gradprom import GradientPromotion
from gradprom._rule import judge


def parameter(*values: float) -> Parameter:
    return Parameter(torch.tensor(values, dtype=torch.float64))


def linear(theta: Tensor, *gradient: float) -> Tensor:
    """A loss whose gradient is known: ⟨gradient, θ⟩."""
    return (theta * torch.tensor(gradient, dtype=theta.dtype)).sum()


def test_aligned_gradient_is_promoted_with_its_weight() -> None:
    theta, phi = parameter(5, -7), parameter(3)
    step = GradientPromotion([theta], [phi], weight=0.5).backward(
        linear(theta, 3, 4), {"diagnosis": linear(theta, 0, 2) + linear(phi, 10)}
    )
    assert theta.grad.tolist() == [3, 5]
    assert phi.grad.tolist() == [10]  # not weighted
    assert step.main_loss == 5 * 3 - 7 * 4
    assert step.losses == {"diagnosis": -14 + 30}
    assert (step.main_norm, step.norms, step.promoted) == (5, {"diagnosis": 2}, {"diagnosis": True})
    assert step.alignment["diagnosis"] == pytest.approx(0.8)
    assert step.ratio == pytest.approx(0.2)
    assert not step.skipped
    assert not step.overflow


def test_opposed_gradient_is_not_promoted_but_trains_the_recognizer() -> None:
    theta, phi = parameter(0, 0), parameter(0)
    step = GradientPromotion([theta], [phi], weight=0.5).backward(
        linear(theta, 3, 4), {"diagnosis": linear(theta, 0, -2) + linear(phi, 10)}
    )
    assert theta.grad.tolist() == [3, 4]
    assert phi.grad.tolist() == [10]
    assert step.alignment["diagnosis"] == pytest.approx(-0.8)
    assert (step.promoted, step.ratio) == ({"diagnosis": False}, 0)


def test_main_loss_never_reaches_the_recognizer() -> None:
    theta, phi = parameter(1), parameter(1)
    GradientPromotion([theta], [phi]).backward(linear(theta, 1) + linear(phi, 5), {"a": linear(theta, 1)})
    assert phi.grad is None


@pytest.mark.parametrize("gate", ["hard", "soft", "per_tensor", "projection", "always"])
def test_orthogonal_is_aligned(gate: str) -> None:
    theta = parameter(0, 0)
    step = GradientPromotion([theta], weight=2, gate=gate).backward(linear(theta, 1, 0), {"a": linear(theta, 0, 3)})
    assert step.alignment["a"] == 0
    # the soft gate weighs with s itself, and nothing times the gradient is nothing
    assert step.promoted["a"] == (gate != "soft")
    assert theta.grad.tolist() == [1, 0 if gate == "soft" else 6]


@pytest.mark.parametrize("gate", ["hard", "soft", "per_tensor", "projection"])
@pytest.mark.parametrize(("main", "auxiliary"), [((0, 0), (1, 2)), ((1, 2), (0, 0)), ((0, 0), (0, 0))])
def test_alignment_with_a_zero_gradient_is_undefined_and_nothing_is_promoted(gate, main, auxiliary) -> None:
    theta, phi = parameter(0, 0), parameter(0)
    step = GradientPromotion([theta], [phi], weight=1, gate=gate).backward(
        linear(theta, *main), {"a": linear(theta, *auxiliary) + linear(phi, 1)}
    )
    assert math.isnan(step.alignment["a"])
    assert not step.promoted["a"]
    assert theta.grad.tolist() == list(main)
    assert phi.grad.tolist() == [1]
    assert not step.skipped


def test_joint_training_promotes_into_a_zero_gradient_unless_a_cone_forbids_it() -> None:
    for max_ratio, expected in ((None, [1.0]), (0.5, [0.0])):
        theta = parameter(0)
        step = GradientPromotion([theta], weight=1, gate="always", max_ratio=max_ratio).backward(
            linear(theta, 0), {"a": linear(theta, 1)}
        )
        assert theta.grad.tolist() == expected
        assert step.promoted["a"] == bool(expected[0])


def test_unused_parameters_keep_none() -> None:
    used, only_main, only_auxiliary, unused = (parameter(0) for _ in range(4))
    phi, unused_phi = parameter(0), parameter(0)
    frozen = parameter(0).requires_grad_(False)
    promotion = GradientPromotion([used, only_main, only_auxiliary, unused, frozen], [phi, unused_phi], weight=1)
    promotion.backward(
        linear(used, 1) + linear(only_main, 2),
        {"a": linear(used, 1) + linear(only_auxiliary, 3) + linear(phi, 4)},
    )
    assert [p.grad.item() for p in (used, only_main, only_auxiliary, phi)] == [2, 2, 3, 4]
    assert [p.grad for p in (unused, unused_phi, frozen)] == [None] * 3


def test_where_no_loss_reaches_theta_it_gets_nothing() -> None:
    theta, phi, other = Parameter(torch.ones(3)), Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    step = GradientPromotion([theta], [phi]).backward((other**2).sum(), {"help": (phi**2).sum()})
    assert theta.grad is None
    assert phi.grad.tolist() == [2, 2, 2]
    assert not step.promoted["help"]


@pytest.mark.parametrize("sign", [1, -1])
def test_complex_parameters(sign: int) -> None:
    theta = Parameter(torch.tensor([1 + 2j, -1j]))
    step = GradientPromotion([theta], weight=0.25).backward(
        theta.abs().square().sum(), {"help": sign * theta.imag.sum()}
    )
    # G is 2 theta, A is i for each: <G, A> = 2 (2 - 1) for sign 1
    assert step.alignment["help"] == pytest.approx(sign * 2 / (24 * 2) ** 0.5)
    expected = torch.tensor([2 + 4.25j, -1.75j]) if sign == 1 else torch.tensor([2 + 4j, -2j])
    torch.testing.assert_close(theta.grad, expected)


@pytest.mark.parametrize(
    ("options", "tasks", "is_made"),
    [
        ({}, 1, True),
        ({"gate": "per_tensor"}, 1, True),
        ({"gate": "always", "weight": {"a": 1}}, 1, True),
        ({}, 2, False),
        ({"gate": "soft"}, 1, False),
        ({"gate": "projection"}, 1, False),
        ({"max_ratio": 0.1}, 1, False),
        ({"weight": 1.5}, 1, False),
        ({"weight": 0}, 1, False),
    ],
)
def test_a_sum_is_made_beforehand_only_where_no_other_can_be_wanted(options, tasks, is_made, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "gradprom.promotion.judge", lambda found, *others: seen.append(found.sums) or judge(found, *others)
    )
    theta = Parameter(torch.tensor([1.0, 2.0]))
    GradientPromotion([theta], **options).backward((theta**2).sum(), {name: theta.sum() for name in "ab"[:tasks]})
    assert bool(seen[0]) == is_made


def test_opposed_auxiliary_leaves_a_parameter_that_it_alone_uses_without_gradient() -> None:
    used, only_auxiliary = parameter(0), parameter(0)
    GradientPromotion([used, only_auxiliary], weight=1).backward(
        linear(used, 1), {"a": linear(used, -1) + linear(only_auxiliary, 3)}
    )
    assert only_auxiliary.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "theta", "phi"])
def test_non_finite_auxiliary_stands_alone(bad: float, where: str) -> None:
    theta, phi, other = parameter(1), parameter(1), parameter(1)
    factors = {name: bad if name == where else 1.0 for name in ("loss", "theta", "phi")}
    # the gradient alone is made non-finite by a hook, as a backward pass that overflows does
    sick = torch.ones((), dtype=torch.float64, requires_grad=True) * 0
    seen, read = theta * 1, phi * 1
    seen.register_hook(lambda gradient: gradient * factors["theta"])
    read.register_hook(lambda gradient: gradient * factors["phi"])
    sick = sick + seen.sum() + read.sum() + (factors["loss"] if where == "loss" else 0)
    step = GradientPromotion([theta], [phi, other], weight=1).backward(
        linear(theta, 2), {"sick": sick, "well": linear(theta, 3) + linear(other, 5)}
    )
    assert theta.grad.tolist() == [5]
    assert phi.grad is None
    assert other.grad.tolist() == [5]
    assert step.promoted == {"sick": False, "well": True}
    assert math.isnan(step.alignment["sick"])
    assert not step.skipped


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("in_gradient_only", [False, True])
def test_non_finite_main_skips_the_step(bad: float, in_gradient_only: bool) -> None:
    theta, phi = parameter(1), parameter(1)
    theta.grad, phi.grad = torch.ones_like(theta), torch.ones_like(phi)
    seen = theta * 1
    if in_gradient_only:
        seen.register_hook(lambda gradient: gradient * bad)
    step = GradientPromotion([theta], [phi], weight=1).backward(
        seen.sum() + (0 if in_gradient_only else bad), {"a": linear(theta, 1) + linear(phi, 1)}
    )
    assert step.skipped
    assert not step.overflow
    assert math.isnan(step.alignment["a"])
    assert (theta.grad, phi.grad) == (None, None)


def test_no_auxiliary_is_a_plain_backward_pass() -> None:
    theta = parameter(1, 2)
    step = GradientPromotion([theta]).backward(linear(theta, 3, 4))
    assert theta.grad.tolist() == [3, 4]
    assert (step.losses, step.alignment, step.ratio) == ({}, {}, 0)


def test_weights_by_name_and_a_weight_of_zero() -> None:
    theta = parameter(0)
    step = GradientPromotion([theta], weight={"a": 2, "b": 0, "c": 10}).backward(
        linear(theta, 1), {"a": linear(theta, 1), "b": linear(theta, 1)}
    )
    assert theta.grad.tolist() == [3]
    assert step.promoted == {"a": True, "b": False}
    assert step.alignment == {"a": 1, "b": 1}


def test_double_precision_beyond_the_range_of_single() -> None:
    theta = parameter(1)
    step = GradientPromotion([theta], weight=1).backward(linear(theta, 1e39), {"a": linear(theta, 1e39)})
    assert (step.main_loss, step.skipped, theta.grad.item()) == (1e39, False, 2e39)


def test_losses_of_shape_1_are_scalars_too() -> None:
    theta = parameter(1)
    step = GradientPromotion([theta], weight=1).backward(linear(theta, 1).reshape(1), {"a": linear(theta, 2)})
    assert (step.main_loss, theta.grad.item()) == (1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "soft-ish"}, "hard, soft, per_tensor, projection, always"),
        ({"combine": "some"}, "each, any, all"),
        ({"weight": -1.0}, "weight -1.0"),
        ({"weight": math.nan}, "weight nan"),
        ({"weight": {"a": math.inf}}, "weight inf"),
        ({"max_ratio": 0}, "max_ratio 0"),
        ({"max_ratio": math.nan}, "max_ratio nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientPromotion([parameter(0)], **options)


def test_shared_parameter_is_refused() -> None:
    shared = parameter(0)
    with pytest.raises(ValueError, match="share a parameter"):
        GradientPromotion([parameter(0), shared], [shared])


def test_what_backward_refuses_leaves_no_gradient() -> None:
    theta, phi = parameter(1, 2), parameter(1)
    promotion = GradientPromotion([theta], [phi], weight={"a": 1})
    main = linear(theta, 1, 1)
    for arguments, message in (
        ({"main": theta * 2}, "'main' has shape"),
        ({"main": main, "auxiliaries": {"a": theta * 2}}, "'a' has shape"),
        ({"main": main.detach()}, "'main' does not depend"),
        ({"main": main, "auxiliaries": {"a": main.detach()}}, "'a' does not depend"),
        ({"main": main, "auxiliaries": {"b": main}}, "'b' has no weight"),
        ({"main": main, "interface": theta.detach()}, "interface does not require"),
    ):
        with pytest.raises(ValueError, match=message):
            promotion.backward(**arguments)
    assert (theta.grad, phi.grad) == (None, None)
    with pytest.raises(ValueError, match="nothing to promote into"):
        GradientPromotion([theta.requires_grad_(False)], [phi]).backward(linear(phi, 1))


@pytest.mark.parametrize("max_ratio", [None, 0.5])
def test_a_weight_that_overflows_promotes_nothing(max_ratio: float | None) -> None:
    theta = Parameter(torch.ones(2))
    promotion = GradientPromotion([theta], weight=1e30, max_ratio=max_ratio)
    step = promotion.backward(theta.sum(), {"a": 1e10 * theta.sum()})
    assert step.promoted == {"a": False}
    assert theta.grad.tolist() == [1, 1]
