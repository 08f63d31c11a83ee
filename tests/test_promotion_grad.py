"""How gradients are handed over: added to ``.grad``, accumulated, and never aliased."""

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, mse_loss

from gradprom import GradientPromotion
from gradprom.enhancers.srresnet import SRResNet


def parameter(*values: float) -> Parameter:
    return Parameter(torch.tensor(values, dtype=torch.float64))


def models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    enhancer = SRResNet(1, blocks=1, channels=4, batch_norm=False).double()
    return enhancer, nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()


def losses(enhancer, recognizer, degraded, clean, label, share=1):
    enhanced = enhancer(degraded)
    auxiliaries = {
        "diagnosis": cross_entropy(recognizer(enhanced), label) / share,
        "size": enhanced.square().mean() / share,
    }
    return {"main": mse_loss(enhanced, clean) / share, "auxiliaries": auxiliaries, "interface": enhanced}


def gradients(*modules: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for module in modules for p in module.parameters()]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    clean = torch.rand(6, 1, 6, 6, dtype=torch.float64)
    return clean + 0.3 * torch.randn_like(clean), clean, torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("gate", ["hard", "projection"])
@pytest.mark.parametrize("max_ratio", [None, 0.1])
def test_micro_batches_give_the_step_of_the_whole_batch(batch, gate, max_ratio) -> None:
    enhancer, recognizer = models()
    promotion = GradientPromotion(
        enhancer.parameters(), recognizer.parameters(), weight=1, gate=gate, max_ratio=max_ratio
    )
    whole = promotion.backward(**losses(enhancer, recognizer, *batch))
    expected = gradients(enhancer, recognizer)
    enhancer.zero_grad()
    recognizer.zero_grad()
    with promotion.accumulate() as step:
        for part in range(3):
            micro = promotion.backward(
                **losses(enhancer, recognizer, *(tensor[2 * part : 2 * part + 2] for tensor in batch), share=3)
            )
            assert micro.losses.keys() == {"diagnosis", "size"}
            assert all(p.grad is None for p in enhancer.parameters())  # nothing is decided before the end
    for grad, reference in zip(gradients(enhancer, recognizer), expected, strict=True):
        torch.testing.assert_close(grad, reference, rtol=1e-10, atol=1e-14)
    assert step.promoted == whole.promoted
    assert step.alignment == pytest.approx(whole.alignment, abs=1e-10)
    assert step.norms == pytest.approx(whole.norms)
    assert (step.main_loss, step.ratio) == pytest.approx((whole.main_loss, whole.ratio))


def test_the_decision_is_taken_on_the_sum() -> None:
    theta = parameter(0, 0)
    promotion = GradientPromotion([theta], weight=1)
    with promotion.accumulate() as step:  # aligned in the first micro-batch, opposed in all
        promotion.backward(theta[0], {"a": theta[0]})
        promotion.backward(theta[0], {"a": -3 * theta[0]})
    assert step.promoted == {"a": False}
    assert theta.grad.tolist() == [2, 0]


def test_parameter_that_only_one_micro_batch_uses() -> None:
    a, b, phi = parameter(0), parameter(0), parameter(0)
    promotion = GradientPromotion([a, b], [phi], weight=1)
    with promotion.accumulate():
        promotion.backward(a.sum(), {"x": a.sum()})
        promotion.backward(a.sum() + 2 * b.sum(), {"x": a.sum() + phi.sum()})
    assert [p.grad.item() for p in (a, b, phi)] == [4, 2, 1]


def test_exception_within_the_block_leaves_grad_as_it_was() -> None:
    theta, fresh = parameter(1), parameter(1)
    theta.grad = torch.full_like(theta, 7)
    promotion = GradientPromotion([theta, fresh], weight=1)

    def fail() -> None:
        with promotion.accumulate():
            promotion.backward(theta.sum() + fresh.sum(), {"a": theta.sum()})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert theta.grad.item() == 7
    assert fresh.grad is None
    promotion.backward(theta.sum() + fresh.sum())  # and nothing of the block is left over
    assert (theta.grad.item(), fresh.grad.item()) == (8, 1)


def test_accumulate_refuses_nesting_and_changing_auxiliaries() -> None:
    theta = parameter(1)
    promotion = GradientPromotion([theta])
    with pytest.raises(RuntimeError, match="already open"), promotion.accumulate(), promotion.accumulate():
        pass

    def change() -> None:
        with promotion.accumulate():
            for name in "ab":
                promotion.backward(theta.sum(), {name: theta.sum()})

    with pytest.raises(ValueError, match="same auxiliaries"):
        change()
    with promotion.accumulate():
        pass
    assert theta.grad is None


def test_gradients_are_added_to_grad_in_place() -> None:
    theta, phi = parameter(1), parameter(1)
    theta.grad, phi.grad = torch.full_like(theta, 10), torch.full_like(phi, 20)
    held = theta.grad
    GradientPromotion([theta], [phi], weight=1).backward(theta.sum(), {"a": (theta + phi).sum()})
    assert theta.grad is held
    assert (theta.grad.item(), phi.grad.item()) == (12, 21)


def test_parameters_given_twice_count_once() -> None:
    theta, phi = parameter(1), parameter(1)
    step = GradientPromotion([theta, theta], [phi, phi], weight=1).backward(
        3 * theta.sum(), {"a": 4 * (theta + phi).sum()}
    )
    assert (step.main_norm, step.norms["a"]) == (3, 4)
    assert (theta.grad.item(), phi.grad.item()) == (7, 4)


def test_two_auxiliaries_share_a_recognizer() -> None:
    theta, phi = parameter(1), parameter(1)
    GradientPromotion([theta], [phi], weight=1).backward(
        theta.sum(), {"a": (theta + phi).sum(), "b": (5 * phi - theta).sum()}
    )
    assert (theta.grad.item(), phi.grad.item()) == (2, 6)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_gradients_that_autograd_returns_as_one_tensor_or_expanded(size: int) -> None:
    a, b, c, phi, psi = (parameter(*[1.0] * size) for _ in range(5))
    promotion = GradientPromotion([a, b, c], [phi, psi], weight=1)
    # a + b: one tensor for both; sum: a view with stride 0; stack: views into one storage of three numbers
    main = (a + b).sum() + torch.stack([a.sum(), b.sum(), c.sum()]) @ torch.tensor([1.0, 2, 3], dtype=torch.float64)
    promotion.backward(main, {"x": (a + b + phi + psi).sum()})
    found = [a, b, c, phi, psi]
    assert [set(p.grad.tolist()) for p in found] == [{3}, {4}, {3}, {1}, {1}]
    for i, p in enumerate(found):
        p.grad.add_(10 * i)  # each can be changed in place, and changes no other
    assert [set(p.grad.tolist()) for p in found] == [{3}, {14}, {23}, {31}, {41}]


def test_interface_itself_a_parameter() -> None:
    theta, phi = parameter(1, 2), parameter(3, 4)
    step = GradientPromotion([theta], [phi], weight=1).backward(
        theta.sum(), {"a": (theta * phi).sum(), "b": theta.sum()}, interface=theta
    )
    assert theta.grad.tolist() == [1 + 3 + 1, 1 + 4 + 1]
    assert phi.grad.tolist() == [1, 2]
    assert step.promoted == {"a": True, "b": True}
