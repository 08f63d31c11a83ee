import math
import statistics as reference

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradprom.experiments.statistics import (
    Interval,
    average_over_seeds,
    bootstrap_difference,
    mean_std,
    paired_difference,
    verdict,
    with_seeds,
)
from gradprom.measures import mean_ious


def named(values) -> dict[str, float]:
    return {f"i{index:03d}": float(value) for index, value in enumerate(values)}


def normal(count: int, mean: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


def test_many_normal_differences_have_the_interval_of_the_normal_distribution() -> None:
    differences = normal(400, 0.3)
    base = normal(400, 30, seed=1) * 5
    interval = paired_difference(named(base + differences), named(base))
    half = 1.96 * differences.std(ddof=1) / math.sqrt(400)
    assert interval.mean == pytest.approx(differences.mean())
    assert interval.n == 400
    # half is 0.1; what a bootstrap of 9999 resamples is off by is a few thousandths
    np.testing.assert_allclose(
        (interval.low, interval.high), (differences.mean() - half, differences.mean() + half), atol=0.008
    )


def test_what_both_sides_share_does_not_matter_and_more_confidence_is_wider() -> None:
    differences = normal(50, 0.2)
    plain = paired_difference(named(differences), named(np.zeros(50)))
    shared = paired_difference(named(differences + 64), named(np.full(50, 64.0)))
    assert (shared.low, shared.high) == pytest.approx((plain.low, plain.high))
    wide = paired_difference(named(differences), named(np.zeros(50)), confidence=0.99)
    assert wide.low < plain.low < plain.high < wide.high
    assert (wide.confidence, plain.confidence) == (0.99, 0.95)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=6, max_size=30), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_changing_sides_changes_the_sign(values: list[int], random) -> None:
    a, b = named(values), named([value % 7 for value in values])
    names = list(a)
    random.shuffle(names)
    interval = paired_difference(a, b)
    assert paired_difference({name: a[name] for name in names}, b) == interval
    turned = paired_difference(b, a)
    assert (-turned.mean, -turned.high, -turned.low) == pytest.approx((interval.mean, interval.low, interval.high))
    differences = [a[name] - b[name] for name in a]
    assert min(differences) <= interval.low <= interval.high <= max(differences)
    opposite = {"better": "worse", "worse": "better", "no difference told": "no difference told"}
    assert verdict(turned) == opposite[verdict(interval)]


def test_equal_differences_are_their_own_interval() -> None:
    a = named([30.5, 31.5, 33.0, 29.0, 28.0, 27.0])
    for shift, word in ((0.25, "better"), (-0.25, "worse"), (0.0, "no difference told")):
        interval = paired_difference({name: value + shift for name, value in a.items()}, a)
        assert interval == Interval(shift, shift, shift, 6)
        assert verdict(interval) == word


@pytest.mark.parametrize(("count", "confidence", "told"), [(1, 0.95, 0), (5, 0.95, 0), (6, 0.95, 1), (5, 0.9, 1)])
def test_few_images_tell_nothing_however_large_the_difference(count: int, confidence: float, told: int) -> None:
    # n differences of one sign come by chance with probability 2^(1-n): 1, 1/16, 1/32
    a = named(normal(count, 100))
    interval = paired_difference(a, dict.fromkeys(a, 0.0), confidence=confidence)
    assert interval.mean == pytest.approx(np.mean(list(a.values())))
    assert (interval.low is not None) == (interval.high is not None) == bool(told)
    assert verdict(interval) == ("better" if told else "no difference told")


def test_chance_is_seldom_taken_for_a_difference() -> None:
    told = [verdict(paired_difference(named(normal(30, 0, seed)), named(np.zeros(30)))) for seed in range(100)]
    assert told.count("no difference told") >= 88  # 95 are expected of an exact interval; 88 or fewer has p = 0.004


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"x": 1.0, "y": 1.0}, {"x": 1.0}, "'y'"),
        ({"x": 1.0}, {"x": 1.0, "y": 1.0}, "'y'"),
        ({}, {}, "no images"),
        ({"x": math.inf, "y": 1.0}, {"x": math.inf, "y": 1.0}, "'x' is not finite"),
        ({"x": 1.0, "y": math.nan}, {"x": 1.0, "y": 1.0}, "'y' is not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(named(range(10)), named([0] * 10), confidence=confidence)


def matrices(count: int, error: float, seed: int) -> torch.Tensor:
    """Confusion matrices of images of different sizes, about a share ``error`` of each class read wrongly."""
    random = np.random.default_rng(seed)
    sizes = random.integers(10_000, 60_000, (count, 2))
    wrong = random.binomial(sizes, random.uniform(0.5, 1.5, (count, 2)) * error)
    rows = np.stack([[sizes[:, 0] - wrong[:, 0], wrong[:, 0]], [wrong[:, 1], sizes[:, 1] - wrong[:, 1]]])
    return torch.from_numpy(rows.transpose(2, 0, 1).copy())


def test_pooled_difference_has_the_interval_of_a_plain_bootstrap() -> None:
    a, b = matrices(40, 0.10, seed=0), matrices(40, 0.11, seed=1)
    interval = bootstrap_difference(a, b, mean_ious)

    def iou(stack: np.ndarray) -> float:
        (tn, fp), (fn, tp) = stack.sum(axis=0)
        return (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2

    assert interval.mean == pytest.approx(iou(a.numpy()) - iou(b.numpy()))
    assert interval.n == 40
    draws = np.random.default_rng(7).integers(0, 40, (4000, 40))
    resampled = [iou(a.numpy()[draw]) - iou(b.numpy()[draw]) for draw in draws]
    width = np.ptp(np.quantile(resampled, (0.025, 0.975)))
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(resampled, (0.025, 0.975)), atol=0.15 * width)


def accuracies(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1) / matrices.sum(dim=(-2, -1))


def test_accuracy_of_matrices_is_that_of_hits() -> None:
    random = np.random.default_rng(3)
    hits = {name: random.random(60) < share for name, share in (("a", 0.9), ("b", 0.6))}
    # of one image each: class 0, read as 0 or as 1
    stacks = [torch.tensor([[[int(hit), int(not hit)], [0, 0]] for hit in hits[name]]) for name in "ab"]
    pooled, paired = bootstrap_difference(*stacks, accuracies), paired_difference(named(hits["a"]), named(hits["b"]))
    assert pooled.mean == pytest.approx(paired.mean)
    # means of 60 whole numbers move in steps of 1/60
    np.testing.assert_allclose((pooled.low, pooled.high), (paired.low, paired.high), atol=1.5 / 60)
    assert verdict(pooled) == verdict(paired) == "better"


def test_equal_and_empty_and_misshapen_matrices() -> None:
    a = matrices(8, 0.1, seed=0)
    assert bootstrap_difference(a, a, mean_ious) == Interval(0.0, 0.0, 0.0, 8)
    assert bootstrap_difference(a[:3], a[:3].flip(1), mean_ious).low is None
    with pytest.raises(ValueError, match="anything to measure"):
        bootstrap_difference(torch.zeros_like(a), torch.zeros_like(a), mean_ious)
    for wrong in (a[:7], a[0], a[:, :1]):
        with pytest.raises(ValueError, match=r"\(n, K, K\)"):
            bootstrap_difference(a, wrong, mean_ious)
    with pytest.raises(ValueError, match="no images"):
        bootstrap_difference(a[:0], a[:0], mean_ious)


def test_several_seeds_are_averaged_image_by_image_and_do_not_count_as_images() -> None:
    first, second, other = (named(normal(20, mean, seed)) for mean, seed in ((31, 0), (32, 1), (30, 2)))
    both = average_over_seeds([first, second])
    assert both["i007"] == pytest.approx((first["i007"] + second["i007"]) / 2)
    interval = paired_difference(both, other)
    singles = [paired_difference(run, other).mean for run in (first, second)]
    assert interval.mean == pytest.approx(sum(singles) / 2)
    assert interval.n == 20
    for runs in ([], [first, {"i000": 1.0}]):
        with pytest.raises(ValueError, match="at least one run"):
            average_over_seeds(runs)


def test_seeds_widen_an_interval_as_students_does() -> None:
    sharp = Interval(2.0, 2.0, 2.0, 40)
    wide = with_seeds(sharp, [1.0, 2.0, 3.0])
    # the table of Student's t, two degrees of freedom, 0.975: 4.303; the deviation of 1, 2, 3 is 1
    half = 4.303 / math.sqrt(3)
    assert (wide.mean, wide.low, wide.high, wide.n) == (
        2.0,
        pytest.approx(2 - half, 1e-3),
        pytest.approx(2 + half, 1e-3),
        40,
    )
    skew = Interval(2.0, 1.5, 4.0, 40)
    both = with_seeds(skew, [1.0, 2.0, 3.0])
    assert both.low == pytest.approx(2 - math.hypot(0.5, 2 - wide.low))
    assert both.high == pytest.approx(2 + math.hypot(2.0, wide.high - 2))
    assert with_seeds(skew, [2.0, 2.0]) == skew
    assert with_seeds(skew, [2.0]) == skew
    assert with_seeds(Interval(2.0, None, None, 3), [1.0, 3.0]).low is None


def test_an_interval_over_images_and_seeds_holds_the_truth_as_often_as_it_says() -> None:
    # each training shifts all of its images by a chance of its own, half as large as that of an image
    held = 0
    for trial in range(200):
        random = np.random.default_rng(trial)
        runs = [named(random.normal(0, 0.5) + random.normal(0, 1, 30)) for _ in range(3)]
        interval = paired_difference(average_over_seeds(runs), named(np.zeros(30)))
        wide = with_seeds(interval, [np.mean(list(run.values())) for run in runs])
        held += wide.low <= 0 <= wide.high
    assert held >= 182  # 190 are expected of an exact interval; fewer than 182 have p = 0.008


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10))
def test_mean_and_sample_deviation(values: list[float]) -> None:
    mean, deviation = mean_std(values)
    assert mean == pytest.approx(reference.fmean(values), abs=1e-9)
    assert deviation == pytest.approx(reference.stdev(values), abs=1e-6)


def test_a_single_seed_has_no_deviation_and_none_has_no_mean() -> None:
    assert mean_std([3.5]) == (3.5, None)
    with pytest.raises(ValueError, match="no values"):
        mean_std([])
