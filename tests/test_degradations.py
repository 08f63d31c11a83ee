"""Gaussian noise: what its statistics are, and that a key alone determines it."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gradprom import UserError
from gradprom.degradations import GaussianNoise, degrade, degrade_batch


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf, -math.inf])
def test_impossible_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(UserError, match=f"sigma is {sigma}.*at least 0"):
        GaussianNoise(sigma)


def test_sigma_zero_changes_nothing_within_the_range() -> None:
    image = torch.rand(3, 8, 8)
    assert torch.equal(degrade(GaussianNoise(0), image, 1), image)


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_noise_is_white_and_gaussian_with_the_stated_deviation(sigma: float) -> None:
    noise = (degrade(GaussianNoise(sigma), torch.full((1, 300, 300), 0.5, dtype=torch.float64), 0) - 0.5).numpy()[0]
    count = noise.size
    assert abs(noise.mean()) < 5 * sigma / math.sqrt(count)
    assert noise.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * count))
    assert np.mean(abs(noise) < sigma) == pytest.approx(0.6827, abs=0.01)
    neighbours = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(count)


def test_result_is_clamped_and_the_given_image_left_alone() -> None:
    image = torch.zeros(1, 200, 200)
    noisy = degrade(GaussianNoise(0.3), image, 0)
    assert noisy.min() == 0
    assert noisy.max() <= 1
    assert not image.any()
    # half of the noise on black is cut off; the mean of the other half is σ φ(0)
    assert (noisy == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert noisy.mean().item() == pytest.approx(0.3 * norm.pdf(0), abs=0.005)
    assert degrade(GaussianNoise(0.3), torch.ones(1, 50, 50), 0).max() == 1


def test_the_key_alone_determines_the_noise() -> None:
    image = torch.full((1, 8, 8), 0.5)
    first = degrade(GaussianNoise(0.1), image, 5)
    torch.manual_seed(123)
    torch.rand(7)
    assert torch.equal(degrade(GaussianNoise(0.1), image, 5), first)
    assert not torch.equal(degrade(GaussianNoise(0.1), image, 6), first)
    state = torch.random.get_rng_state()
    degrade(GaussianNoise(0.1), image, 5)
    assert torch.equal(torch.random.get_rng_state(), state)  # and the global generator is not touched


def test_a_batch_is_its_images_one_by_one() -> None:
    images, keys = torch.rand(3, 1, 8, 8), [3, 1, 2**40]
    batch = degrade_batch(GaussianNoise(0.2), images, keys)
    for image, key, noisy in zip(images, keys, batch, strict=True):
        assert torch.equal(noisy, degrade(GaussianNoise(0.2), image, key))
    with pytest.raises(ValueError, match="zip"):
        degrade_batch(GaussianNoise(0.2), images, keys[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_is_kept(dtype: torch.dtype) -> None:
    assert degrade(GaussianNoise(0.1), torch.rand(1, 2, 2, dtype=dtype), 0).dtype == dtype
