import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score

from gradprom.measures import (
    accuracy,
    balanced_accuracy,
    confusion,
    majority_rate,
    mean_iou,
    psnr,
    ssim,
)


def pair(channels: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth clean image and a noisy one that leaves [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, channels, 4, 5, generator=generator)
    clean = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return clean + 0.2 * torch.randn(clean.shape, generator=generator), clean


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 11, 11), (3, 12, 40), (1, 64, 48), (3, 37, 53)])
def test_psnr_and_ssim_are_those_of_scikit_image(channels: int, height: int, width: int) -> None:
    enhanced, clean = pair(channels, height, width)
    for index in range(2):
        a = enhanced[index].clamp(0, 1).permute(1, 2, 0).double().numpy()
        b = clean[index].permute(1, 2, 0).double().numpy()
        expected = structural_similarity(
            b, a, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(ssim(enhanced, clean)[index]) == pytest.approx(expected, abs=1e-5)
        assert float(ssim(enhanced.double(), clean.double())[index]) == pytest.approx(expected, abs=1e-9)
        reference = peak_signal_noise_ratio(b, a, data_range=1)
        assert float(psnr(enhanced, clean)[index]) == pytest.approx(reference, abs=1e-4)


def test_psnr_by_hand_is_per_image_and_over_all_channels() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    enhanced = torch.zeros(2, 3, 4, 4)
    enhanced[0, 0] = 0.3  # MSE 0.09 / 3 = 0.03
    enhanced[1] = 1.0
    torch.testing.assert_close(psnr(enhanced, clean), torch.tensor([-10 * math.log10(0.03), 0.0]))


def test_output_is_clamped_but_not_rounded() -> None:
    clean = torch.zeros(1, 1, 16, 16)
    assert psnr(torch.full_like(clean, -0.5), clean).item() == math.inf
    assert ssim(torch.full_like(clean, -0.5), clean).item() == pytest.approx(1)
    # a thousandth is less than half a grey level of 8 bits
    assert psnr(torch.full_like(clean, 1e-3), clean).item() == pytest.approx(60, abs=1e-3)


def test_half_precision_is_measured_in_single() -> None:
    enhanced, clean = pair(3, 16, 16)
    half = enhanced.to(torch.bfloat16)
    assert psnr(half, clean).dtype == torch.float32
    torch.testing.assert_close(ssim(half, clean), ssim(half.float(), clean))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_images_that_cannot_be_compared(measure) -> None:
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.rand(1, 16, 16), torch.rand(1, 16, 16))
    with pytest.raises(ValueError, match="floating point"):
        measure(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), torch.rand(1, 1, 16, 16))


def test_ssim_refuses_images_below_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11×11 pixels, these are 10×32"):
        ssim(torch.rand(1, 1, 10, 32), torch.rand(1, 1, 10, 32))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), channels=st.sampled_from([1, 3]), height=st.integers(11, 24))
def test_both_are_symmetric_and_do_not_mind_flips_or_the_rest_of_the_batch(seed, channels, height) -> None:
    enhanced, clean = pair(channels, height, 16, seed)
    enhanced = enhanced.clamp(0, 1)
    for measure in (psnr, ssim):
        values = measure(enhanced, clean)
        torch.testing.assert_close(measure(clean, enhanced), values)
        torch.testing.assert_close(measure(enhanced.flip(-1), clean.flip(-1)), values)
        torch.testing.assert_close(measure(enhanced[1:], clean[1:]), values[1:])
    assert (ssim(enhanced, clean) <= 1).all()


labels = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n), st.lists(st.integers(0, 3), min_size=n, max_size=n)
    )
)


@settings(max_examples=50, deadline=None)
@given(labels)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def test_recognition_measures_are_those_of_scikit_learn(drawn) -> None:
    prediction, target = map(np.array, drawn)
    matrix = confusion(torch.from_numpy(prediction), torch.from_numpy(target), 4)
    np.testing.assert_array_equal(matrix, confusion_matrix(target, prediction, labels=range(4)))
    assert accuracy(matrix) == pytest.approx((prediction == target).mean())
    assert balanced_accuracy(matrix) == pytest.approx(balanced_accuracy_score(target, prediction))
    assert majority_rate(matrix) == pytest.approx(np.bincount(target).max() / target.size)
    occurring = sorted(set(prediction) | set(target))
    assert mean_iou(matrix) == pytest.approx(jaccard_score(target, prediction, labels=occurring, average="macro"))


def test_miou_by_hand_is_pooled_with_background_and_without_absent_classes() -> None:
    first = confusion(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 0], [0, 1]]), 3)
    second = confusion(torch.tensor([[0, 0], [0, 0]]), torch.tensor([[0, 0], [0, 0]]), 3)
    # background: 6 of 7 pixels of the union; class 1: 1 of 2; class 2 occurs nowhere
    assert mean_iou(first + second) == pytest.approx((6 / 7 + 1 / 2) / 2)


def test_masks_as_they_are_stored_can_be_compared() -> None:
    matrix = confusion(torch.tensor([[1, 0]]), torch.tensor([[1, 1]], dtype=torch.uint8), 200)
    assert matrix.shape == (200, 200)
    assert matrix[1, 1] == matrix[1, 0] == 1


def test_nothing_measured_is_nan() -> None:
    empty = confusion(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64), 2)
    assert all(math.isnan(measure(empty)) for measure in (accuracy, balanced_accuracy, majority_rate, mean_iou))


def test_values_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="target holds 0 to 255, expected 0 to 1"):
        confusion(torch.tensor([0, 1]), torch.tensor([0, 255]), 2)
    with pytest.raises(ValueError, match="shapes differ"):
        confusion(torch.tensor([0, 1]), torch.tensor([0]), 2)
    with pytest.raises(ValueError, match="whole numbers"):
        confusion(torch.tensor([0.0]), torch.tensor([0]), 2)
