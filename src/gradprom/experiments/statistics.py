"""How far two methods lie apart on the same test images, and whether that can be told from chance.

Intervals are bootstrapped over images (BCa; Efron, *Better bootstrap confidence intervals*, 1987): they say what other
test images of the same kind would change, not what another training would. What that would change is known where there
are several seeds, and widens them (:func:`with_seeds`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 1e-9  # what lies within comes of the order in which numbers were added
Verdict = Literal["better", "worse", "no difference told"]


@dataclass(frozen=True)
class Interval:
    """A difference and where it may lie.

    Attributes:
        mean: the difference itself, of the images at hand.
        low: lower end of the interval; None where there are too few images for one.
        high: upper end, likewise.
        n: number of images.
        confidence: of the interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = 0.95


def paired_difference(a: Mapping[str, float], b: Mapping[str, float], *, confidence: float = 0.95) -> Interval:
    """Mean of ``a`` less ``b`` over the images, with the interval of a bootstrap over the paired differences.

    For PSNR, SSIM and IoU per image, and for accuracy with 1 for each image that was read correctly and 0 for each
    other. With several seeds a side, give :func:`average_over_seeds` of each: the differences are then averaged over
    the seeds for each image first, and the seeds do not count as more images.

    The same data give the same interval. Where all differences are equal, so is every resample, and the interval is
    that one value. Where there are so few images that all differences may well have one sign by chance alone
    (2^(1-n) > 1 - confidence: fewer than 6 at 95 %), there is none. With few more, it is somewhat too narrow.

    Args:
        a: a value for each image, by its id.
        b: the same images' values under the other method.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: the images differ, there are none, a difference is not finite, or the confidence is no share.

    Example:
        >>> a = {"i1": 30.1, "i2": 31.2, "i3": 29.9, "i4": 33.0, "i5": 32.4, "i6": 30.7}
        >>> b = {"i1": 30.0, "i2": 31.0, "i3": 29.6, "i4": 32.9, "i5": 32.2, "i6": 30.4}
        >>> interval = paired_difference(a, b)
        >>> round(interval.mean, 2), round(interval.low, 2), round(interval.high, 2), verdict(interval)
        (0.2, 0.13, 0.27, 'better')
    """
    differing = sorted(set(a) ^ set(b))
    if differing:
        raise ValueError(f"both sides need the same images: {differing[0]!r} is missing in one ({len(differing)} are)")
    differences = np.array([a[name] - b[name] for name in sorted(a)], dtype=np.float64)
    if not np.isfinite(differences).all():
        raise ValueError(f"the difference of {sorted(a)[int(np.isfinite(differences).argmin())]!r} is not finite")
    return _interval(differences, np.mean, confidence)


def bootstrap_difference(
    a: Tensor, b: Tensor, measure: Callable[[Tensor], Tensor], *, confidence: float = 0.95
) -> Interval:
    """A pooled measure of ``a`` less that of ``b``, with the interval of a bootstrap over the images.

    Each resample draws images, with both their matrices, adds up the matrices and takes the measure of the sums: what
    ``measures.mean_ious`` over a whole test set needs. Few images and equal resamples are met as in
    :func:`paired_difference`.

    Args:
        a: a confusion matrix for each image, shape (n, K, K).
        b: those of the other method, the same images in the same order.
        measure: maps confusion matrices (..., K, K) to a number each, shape (...).
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: the shapes differ or are not (n, K, K), there is nothing to measure, or the confidence is no share.

    Example:
        >>> import torch
        >>> from gradprom.measures import mean_ious
        >>> right, wrong = torch.tensor([[1, 0], [0, 0]]), torch.tensor([[0, 1], [0, 0]])
        >>> a, b = torch.stack([right] * 9 + [wrong]), torch.stack([right] * 5 + [wrong] * 5)
        >>> interval = bootstrap_difference(a, b, mean_ious)
        >>> round(interval.mean, 3), interval.n, verdict(interval)
        (0.2, 10, 'no difference told')
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[1] != a.shape[2]:
        raise ValueError(f"expected two stacks of one shape (n, K, K), found {tuple(a.shape)} and {tuple(b.shape)}")

    import torch

    n, flat = len(a), torch.stack([a, b]).double().flatten(2)  # whole numbers, exact as float64

    def difference(images: NDArray[Any], axis: int = -1) -> Any:
        drawn = torch.from_numpy(np.moveaxis(images, axis, -1).astype(np.int64))
        times = torch.zeros(*drawn.shape[:-1], n, dtype=torch.float64)
        times.scatter_add_(-1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
        first, second = (measure((times @ side).unflatten(-1, a.shape[1:])) for side in flat)
        return (first - second).numpy()

    return _interval(np.arange(n, dtype=np.float64), difference, confidence)


def _interval(images: NDArray[np.float64], statistic: Callable[..., Any], confidence: float) -> Interval:
    n = len(images)
    if not n:
        raise ValueError("there are no images to compare")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    mean = float(statistic(images))
    if not math.isfinite(mean):
        raise ValueError(f"the difference over all images is {mean}: is there anything to measure in each side?")
    if 2.0 ** (1 - n) > 1 - confidence:
        return Interval(mean, None, None, n, confidence)
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        # BCa divides 0 by 0 where all resamples are equal
        warnings.simplefilter("ignore", RuntimeWarning)
        result = bootstrap(
            (images,),
            statistic,
            confidence_level=confidence,
            vectorized=True,
            batch=500,
            rng=np.random.default_rng(0),
        )
    low, high = result.confidence_interval
    if not (math.isfinite(low) and math.isfinite(high)):
        tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        low, high = np.quantile(result.bootstrap_distribution, tails)
    return Interval(mean, float(low), float(high), n, confidence)


def with_seeds(interval: Interval, differences: Sequence[float]) -> Interval:
    """Widen an interval over images by what another training would change.

    Student's interval of the mean over seeds has the half width h = t s / √S. Both ends move out to √(d² + h²) from the
    mean, where they lay at d: so two sources of chance add up that have nothing to do with each other (Zou and Donner,
    *Construction of confidence limits about effect measures*, 2008). It is a little too wide, as the seeds' spread
    holds some of the images'. With two seeds h is large: t is 12.7 at 95 %.

    Args:
        interval: of the difference averaged over the seeds.
        differences: the same difference for each seed by itself. A single one says nothing of others, and the
            interval stays as it is.

    Example:
        >>> wide = with_seeds(Interval(0.2, 0.15, 0.27, n=99), [0.1, 0.2, 0.3])
        >>> round(wide.low, 3), round(wide.high, 3)
        (-0.053, 0.458)
    """
    if interval.low is None or interval.high is None or len(differences) < 2:
        return interval
    from scipy.stats import t

    deviation = mean_std(differences)[1] or 0.0
    factor = float(t.ppf((1 + interval.confidence) / 2, len(differences) - 1))
    half = factor * deviation / math.sqrt(len(differences))
    low = interval.mean - math.hypot(interval.mean - interval.low, half)
    return replace(interval, low=low, high=interval.mean + math.hypot(interval.high - interval.mean, half))


def as_columns(interval: Interval) -> dict[str, str]:
    """What a CSV holds of an interval: six significant digits, an empty field for None.

    Example:
        >>> as_columns(Interval(0.2, None, None, n=3))
        {'difference': '0.2', 'low': '', 'high': ''}
    """
    values = {"difference": interval.mean, "low": interval.low, "high": interval.high}
    return {name: "" if value is None else f"{value:.6g}" for name, value in values.items()}


def verdict(interval: Interval) -> Verdict:
    """What an interval of a measure of which more is better allows to say.

    Example:
        >>> verdict(Interval(0.2, 0.1, 0.3, n=100)), verdict(Interval(0.2, -0.1, 0.5, n=100))
        ('better', 'no difference told')
    """
    if interval.low is not None and interval.low > _ROUNDING:
        return "better"
    if interval.high is not None and interval.high < -_ROUNDING:
        return "worse"
    return "no difference told"


def average_over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each image's mean over several seeds of one method.

    Raises:
        ValueError: there are no runs, or their images differ.

    Example:
        >>> average_over_seeds([{"i1": 30.0, "i2": 31.0}, {"i1": 30.5, "i2": 31.5}])
        {'i1': 30.25, 'i2': 31.25}
    """
    if not runs or any(run.keys() != runs[0].keys() for run in runs):
        raise ValueError("expected at least one run, and all of the same images")
    return {name: math.fsum(run[name] for run in runs) / len(runs) for name in runs[0]}


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (over n - 1) of one value a seed; no deviation for a single seed.

    Raises:
        ValueError: there are no values.

    Example:
        >>> mean_std([36.0, 36.5, 37.0]), mean_std([36.0])
        ((36.5, 0.5), (36.0, None))
    """
    if not values:
        raise ValueError("there are no values to average")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
