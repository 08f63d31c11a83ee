"""What degradations do to intensities, against independent implementations, and that a key alone determines it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from gradprom import UserError
from gradprom.degradations import (
    Downsample,
    GaussianBlur,
    GaussianNoise,
    PoissonNoise,
    build_degradation,
    degrade,
    degrade_batch,
)


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


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("intensity", [0.1, 0.5])
def test_photon_noise_keeps_the_mean_and_its_deviation_goes_with_the_root_of_the_intensity(intensity: float) -> None:
    noisy = PoissonNoise(0.1)(torch.full((1, 400, 400), intensity), generator())
    assert noisy.mean().item() == pytest.approx(intensity, abs=1e-3)
    assert noisy.std().item() == pytest.approx(0.1 * intensity**0.5, rel=0.02)
    levels = (noisy / 0.01).round()
    assert torch.allclose(noisy, levels * 0.01, atol=1e-6)  # whole photons of r² each


def test_photon_noise_of_rate_0_and_of_black_is_none() -> None:
    image = torch.rand(1, 8, 8)
    assert torch.equal(PoissonNoise(0)(image, generator()), image)
    assert not PoissonNoise(0.3)(torch.zeros(1, 8, 8), generator()).any()


@pytest.mark.parametrize(("kernel", "sigma"), [(3, 2.0), (5, 0.7), (1, 3.0)])
def test_blur_is_torchvisions(kernel: int, sigma: float) -> None:
    from torchvision.transforms.v2.functional import gaussian_blur

    image = torch.rand(3, 17, 12, generator=generator())
    expected = gaussian_blur(image, [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(GaussianBlur(kernel, sigma)(image, generator()), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [2, 4])
def test_downsampling_is_pillows(scale: int) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).random((24, 40), dtype=np.float32) * 0.6 + 0.2  # no clamping to compare
    expected = np.asarray(Image.fromarray(pixels).resize((40 // scale, 24 // scale), Image.Resampling.BICUBIC))
    small = Downsample(scale)(torch.from_numpy(pixels)[None], generator())
    np.testing.assert_allclose(small[0].numpy(), expected, atol=1e-5)


def test_downsampling_cuts_what_is_over_and_refuses_what_is_smaller() -> None:
    image = torch.rand(3, 23, 31, generator=generator())
    assert torch.equal(Downsample(4)(image, generator()), Downsample(4)(image[:, :20, :28], generator()))
    with pytest.raises(UserError, match="cannot be downsampled by 4"):
        Downsample(4)(torch.rand(1, 3, 9), generator())
    with pytest.raises(UserError, match="too small for a blur"):
        GaussianBlur(5, 1.0)(torch.rand(1, 2, 9), generator())


def test_a_chain_is_its_links_in_order_on_one_stream_of_random_numbers() -> None:
    image = torch.rand(3, 16, 16, generator=generator())
    stream = torch.Generator().manual_seed(5)
    expected = GaussianBlur(3, 2)(PoissonNoise(0.1)(GaussianNoise(0.3)(image, stream), stream), stream)
    assert torch.equal(degrade(build_degradation("challenging"), image, 5), expected)
    assert not torch.equal(degrade(build_degradation("challenging physical"), image, 5), expected)
    assert torch.equal(degrade(build_degradation("gaussian 0.3"), image, 5), degrade(GaussianNoise(0.3), image, 5))


@given(st.sampled_from(("challenging", "challenging physical", "poisson 0.8", "gaussian 2", "downsample 2")))
def test_intensities_stay_in_their_range_and_the_input_as_it_was(text: str) -> None:
    image = torch.rand(1, 16, 16)
    before = image.clone()
    degraded = degrade(build_degradation(text), image, 1)
    assert degraded.min() >= 0
    assert degraded.max() <= 1
    assert torch.equal(image, before)


def test_nothing_is_degraded_by_none() -> None:
    image = torch.rand(1, 4, 4)
    assert torch.equal(degrade(build_degradation("none"), image, 1), image)


KEYS = range(2000)


def strengths(text: str) -> np.ndarray:
    """Of the noise on each of many flat grey images."""
    grey = torch.full((1, 24, 24), 0.5)
    chain = build_degradation(text)
    return np.array([(degrade(chain, grey, key) - 0.5).std().item() for key in KEYS])


def test_a_strength_is_drawn_evenly_from_its_range() -> None:
    drawn = strengths("gaussian 0.02-0.1")
    # the deviation that 576 pixels show is within 3 % of the true one, mostly
    assert drawn.min() == pytest.approx(0.02, rel=0.15)
    assert drawn.max() == pytest.approx(0.1, rel=0.15)
    shares = [np.mean(drawn < level) for level in (0.04, 0.06, 0.08)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.05)


def test_photon_noise_and_blur_are_drawn_too() -> None:
    photons = strengths("poisson 0-0.1")
    assert 0 <= photons.min() < 0.01 < 0.06 < photons.max() < 0.08  # 0.1 · √0.5
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1
    blurred = [degrade(build_degradation("blur 3 0.3-2"), point, key) for key in range(200)]
    peaks = [image.max().item() for image in blurred]
    widest, narrowest = (GaussianBlur(3, sigma)(point, generator()).max().item() for sigma in (2, 0.3))
    assert widest <= min(peaks) < 1.1 * widest
    assert 0.9 * narrowest < max(peaks) <= narrowest
    assert len(set(peaks)) > 100


def test_what_may_be_comes_to_that_share_of_the_images() -> None:
    came = strengths("maybe 0.25 gaussian 0.1") > 0
    assert came.mean() == pytest.approx(0.25, abs=0.05)
    both = build_degradation("maybe 0.5 gaussian 0.1 + maybe 0.5 blur 3 1")
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 0.5
    untouched = np.mean([torch.equal(degrade(both, point, key), point) for key in KEYS])
    assert untouched == pytest.approx(0.25, abs=0.05)  # one chance has nothing to do with the other


def test_what_is_drawn_is_the_keys_and_each_images_own() -> None:
    chain, images = build_degradation("maybe 0.5 poisson 0-0.1 + gaussian 0-0.3"), torch.full((4, 1, 8, 8), 0.5)
    batch = degrade_batch(chain, images, [3, 1, 3, 2**40])
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    torch.manual_seed(123)
    assert torch.equal(degrade_batch(chain, images, [3, 1, 3, 2**40]), batch)
    assert torch.equal(images, torch.full((4, 1, 8, 8), 0.5))


def test_a_range_takes_one_number_of_the_stream() -> None:
    image, stream = torch.rand(1, 16, 16, generator=generator()), torch.Generator().manual_seed(5)
    sigma = 0.1 + 0.2 * torch.rand((), generator=stream, dtype=torch.float64).item()
    expected = GaussianNoise(0.1)(GaussianNoise(sigma)(image, stream), stream)
    assert torch.equal(degrade(build_degradation("gaussian 0.1-0.3 + gaussian 0.1"), image, 5), expected)
