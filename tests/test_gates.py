"""What the module's docstring proves, as properties over any gradients; losses are linear, so gradients are free."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from gradprom import GradientPromotion, Step

GUARANTEED = ["hard", "soft", "per_tensor", "projection"]
SIZES = (3, 1, 2)  # of the parameter tensors

quick = settings(max_examples=50, deadline=None, derandomize=True)

numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0]),
    st.floats(-10, 10, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-3 else x),
    st.floats(1e3, 1e4).flatmap(lambda x: st.sampled_from([x, -x])),
)
vectors = st.lists(numbers, min_size=sum(SIZES), max_size=sum(SIZES)).map(np.array)
several = st.lists(vectors, min_size=1, max_size=4)
weights = st.floats(1e-4, 1e3)
ratios = st.floats(1e-3, 10)


def promote(main: np.ndarray, auxiliaries: list[np.ndarray], **options: object) -> tuple[np.ndarray, Step]:
    """What θ gets, for these gradients."""
    theta = [Parameter(torch.zeros(size, dtype=torch.float64)) for size in SIZES]
    flat = torch.cat(theta)
    step = GradientPromotion(theta, **options).backward(
        flat @ torch.from_numpy(main), {str(i): flat @ torch.from_numpy(a) for i, a in enumerate(auxiliaries)}
    )
    return torch.cat([t.grad for t in theta]).numpy(), step


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / norms) if norms else math.nan


def tensors(x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.cumsum(SIZES)[:-1])


@pytest.mark.parametrize("combine", ["each", "all"])
@pytest.mark.parametrize("gate", GUARANTEED)
@given(main=vectors, auxiliaries=several, weight=weights, max_ratio=st.one_of(st.none(), ratios))
@quick
def test_update_never_works_against_the_enhancement_gradient(gate, combine, main, auxiliaries, weight, max_ratio):
    update, _ = promote(main, auxiliaries, gate=gate, combine=combine, weight=weight, max_ratio=max_ratio)
    rounding = 1e-12 * np.linalg.norm(main) * (np.linalg.norm(update) + weight * sum(map(np.linalg.norm, auxiliaries)))
    assert update @ main >= main @ main - rounding


@pytest.mark.parametrize("combine", ["each", "all"])
@pytest.mark.parametrize("gate", GUARANTEED)
@given(main=vectors, auxiliaries=several, weight=weights, max_ratio=ratios)
@quick
def test_cone(gate, combine, main, auxiliaries, weight, max_ratio):
    assume(main.any())
    update, step = promote(main, auxiliaries, gate=gate, combine=combine, weight=weight, max_ratio=max_ratio)
    norm, length = np.linalg.norm(main), np.linalg.norm(update)
    assert np.linalg.norm(update - main) <= max_ratio * norm * (1 + 1e-6)
    assert step.ratio == pytest.approx(np.linalg.norm(update - main) / norm, rel=1e-6, abs=1e-9)
    assert update @ main >= length * norm / math.sqrt(1 + max_ratio**2) * (1 - 1e-6)
    # of two unit vectors, the arcus tangens of the lengths of difference and sum is exact also for small angles
    x, y = update / length, main / norm
    angle = 2 * math.atan2(np.linalg.norm(x - y), np.linalg.norm(x + y))
    assert angle <= math.atan(max_ratio) + 1e-6


@pytest.mark.parametrize("options", [{"gate": "always"}, {"gate": "hard", "combine": "any"}])
@given(main=vectors, auxiliaries=several, weight=weights, max_ratio=st.floats(1e-3, 0.999))
@quick
def test_cone_without_the_guarantee(options, main, auxiliaries, weight, max_ratio):
    assume(main.any())
    update, _ = promote(main, auxiliaries, weight=weight, max_ratio=max_ratio, **options)
    assert np.linalg.norm(update - main) <= max_ratio * np.linalg.norm(main) * (1 + 1e-6)
    assert math.acos(min(1, cosine(update, main))) <= math.asin(max_ratio) + 1e-6


@given(main=vectors, auxiliaries=several, weight=weights)
@quick
def test_wide_cone_changes_nothing(main, auxiliaries, weight):
    assume(main.any())
    free, step = promote(main, auxiliaries, weight=weight)
    bound, again = promote(main, auxiliaries, weight=weight, max_ratio=step.ratio * 1.001 + 1e-9)
    assert (free == bound).all()
    assert step == again or any(map(math.isnan, step.alignment.values()))


@given(main=vectors, auxiliaries=several, weight=weights)
@quick
def test_hard_gate_and_joint_training_are_the_papers_formulas(main, auxiliaries, weight):
    aligned = [a for a in auxiliaries if main @ a >= 0 and main.any()]
    assume(all(abs(cosine(main, a)) > 1e-12 or main @ a == 0 for a in auxiliaries if main.any() and a.any()))
    update, step = promote(main, auxiliaries, weight=weight)
    np.testing.assert_allclose(update, main + weight * sum(aligned, np.zeros(6)), rtol=1e-9, atol=1e-9)
    assert list(step.promoted.values()) == [bool(a.any() and main.any() and main @ a >= 0) for a in auxiliaries]
    for combine in ("each", "any", "all"):
        update, _ = promote(main, auxiliaries, weight=weight, gate="always", combine=combine)
        np.testing.assert_allclose(update, main + weight * sum(auxiliaries), rtol=1e-9, atol=1e-9)


@given(main=vectors, auxiliary=vectors, weight=weights)
@quick
def test_soft_gate_is_the_lemmas_formula(main, auxiliary, weight):
    assume(main.any() and auxiliary.any())
    update, step = promote(main, [auxiliary], gate="soft", weight=weight)
    s = cosine(main, auxiliary)
    assert step.alignment["0"] == pytest.approx(s, abs=1e-12)
    np.testing.assert_allclose(update, main + weight * max(0, s) * auxiliary, rtol=1e-9, atol=1e-9)


@given(main=vectors, auxiliary=vectors, weight=weights)
@quick
def test_projection_is_pcgrads_formula(main, auxiliary, weight):
    assume(main.any() and auxiliary.any())
    update, step = promote(main, [auxiliary], gate="projection", weight=weight)
    projected = auxiliary - min(0, auxiliary @ main) / (main @ main) * main
    scale = weight * np.linalg.norm(auxiliary)
    np.testing.assert_allclose(update, main + weight * projected, rtol=1e-9, atol=1e-9 * max(1, scale))
    assert step.promoted["0"]


@given(main=vectors, auxiliary=vectors, weight=weights)
@quick
def test_per_tensor_gate_is_the_hard_gate_for_each_tensor(main, auxiliary, weight):
    assume(main.any() and auxiliary.any())
    update, _ = promote(main, [auxiliary], gate="per_tensor", weight=weight)
    for u, g, a in zip(*map(tensors, (update, main, auxiliary)), strict=True):
        assume(not g.any() or not a.any() or g @ a == 0 or abs(cosine(g, a)) > 1e-12)
        expected = g + weight * a if g.any() and g @ a >= 0 else g
        np.testing.assert_allclose(u, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("combine", ["each", "any", "all"])
@pytest.mark.parametrize("gate", GUARANTEED)
@given(main=vectors, auxiliaries=st.lists(vectors, min_size=2, max_size=3), max_ratio=st.one_of(st.none(), ratios))
@settings(quick, max_examples=15)
def test_order_of_auxiliaries_does_not_matter(gate, combine, main, auxiliaries, max_ratio):
    options = {"gate": gate, "combine": combine, "weight": 0.5, "max_ratio": max_ratio}
    expected, step = promote(main, auxiliaries, **options)
    for order in itertools.permutations(range(len(auxiliaries))):
        update, permuted = promote(main, [auxiliaries[i] for i in order], **options)
        np.testing.assert_allclose(update, expected, rtol=1e-9, atol=1e-9)
        assert [permuted.promoted[str(k)] for k in range(len(order))] == [step.promoted[str(i)] for i in order]


@pytest.mark.parametrize("gate", GUARANTEED)
@given(main=vectors, auxiliary=vectors, power=st.integers(-30, 30))
@quick
def test_positive_factor_of_a_loss_changes_no_decision(gate, main, auxiliary, power):
    factor = 2.0**power  # exact in floating point
    expected, step = promote(main, [auxiliary], gate=gate, weight=1)
    update, scaled = promote(main, [factor * auxiliary], gate=gate, weight=1)
    assert scaled.promoted == step.promoted
    assert scaled.alignment["0"] == pytest.approx(step.alignment["0"], rel=1e-9, nan_ok=True)
    tolerance = 1e-9 * (np.linalg.norm(main) / min(1, factor) + np.linalg.norm(auxiliary))
    np.testing.assert_allclose((update - main) / factor, expected - main, rtol=1e-9, atol=tolerance)


@given(main=vectors, auxiliaries=several)
@quick
def test_all_and_any(main, auxiliaries):
    assume(main.any() and all(a.any() for a in auxiliaries))
    aligned = [cosine(main, a) >= 0 for a in auxiliaries]
    assume(all(abs(cosine(main, a)) > 1e-12 or main @ a == 0 for a in auxiliaries))
    for combine, is_open in (("all", all(aligned)), ("any", any(aligned))):
        update, step = promote(main, auxiliaries, weight=1, combine=combine)
        assert list(step.promoted.values()) == [is_open] * len(auxiliaries)
        np.testing.assert_allclose(update, main + (sum(auxiliaries) if is_open else 0), rtol=1e-9, atol=1e-9)


def test_any_gives_up_the_guarantee():
    main, helping, opposing = (np.array([x, y, 0, 0, 0, 0]) for x, y in ((1.0, 0.0), (0.1, 1.0), (-5.0, 0.0)))
    update, step = promote(main, [helping, opposing], weight=1, combine="any")
    assert step.promoted == {"0": True, "1": True}
    assert update @ main < 0


def test_zero_or_non_finite_auxiliary_is_not_aligned_for_all():
    main, zero = np.ones(6), np.zeros(6)
    for sick in (zero, zero + np.nan):
        update, step = promote(main, [main, sick], weight=1, combine="all")
        assert step.promoted == {"0": False, "1": False}
        assert (update == main).all()
        update, step = promote(main, [main, sick], weight=1, combine="any")
        assert step.promoted == {"0": True, "1": False}
        assert (update == 2 * main).all()


def test_soft_gate_gives_an_opposed_auxiliary_no_weight_even_where_another_opens_the_gate():
    main, helping, opposing = (np.array([x, y, 0, 0, 0, 0]) for x, y in ((1.0, 0.0), (2.0, 0.0), (-1.0, 1.0)))
    update, step = promote(main, [helping, opposing], weight=1, gate="soft", combine="any")
    assert step.promoted == {"0": True, "1": False}
    np.testing.assert_allclose(update, main + helping, rtol=1e-12)
