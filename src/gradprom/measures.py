"""What is measured of an enhanced image and of a recognizer's reading, and the one protocol by which it is taken.

All functions are pure: tensors in, numbers out. :mod:`gradprom.evaluation` applies them to a test set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; smaller images have no SSIM."""

PROTOCOL = (
    "PSNR and SSIM per image, over all channels of the clamped, unquantised output in [0, 1] "
    "(SSIM: Gaussian window 11×11, σ 1.5, population covariance, border of 5 dropped), then mean ± standard deviation "
    "over the test images; balanced accuracy over the classes that occur; mIoU over classes, background included, "
    "pooled over the test set."
)
"""The sentence printed beside every table of measures."""


def psnr(enhanced: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image over all its channels, in dB: 10 log10(1 / MSE).

    Args:
        enhanced: floating point, shape (N, C, H, W); clamped to [0, 1] here, not rounded.
        clean: the target, same shape, values in [0, 1].

    Returns:
        Shape (N,); infinite where both are equal.

    Raises:
        ValueError: the shapes differ, are not (N, C, H, W), or the values are not floating point.

    Example:
        >>> clean = torch.zeros(2, 1, 16, 16)
        >>> enhanced = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), 0.01)])
        >>> psnr(enhanced, clean)
        tensor([20., 40.])
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    enhanced, clean = _comparable(enhanced, clean)
    ratio: Tensor = peak_signal_noise_ratio(enhanced, clean, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return ratio


def ssim(enhanced: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al., 2004), in [-1, 1].

    Gaussian window of 11×11 pixels with σ = 1.5, population covariance, K1 = 0.01, K2 = 0.03, data range 1; the border
    of 5 pixels, where the window would leave the image, is dropped; then the mean over pixels and channels. These are
    scikit-image's ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.

    Args:
        enhanced: floating point, shape (N, C, H, W), H and W at least 11; clamped to [0, 1] here, not rounded.
        clean: the target, same shape, values in [0, 1].

    Returns:
        Shape (N,).

    Raises:
        ValueError: as for :func:`psnr`, or the images are smaller than the window.

    Example:
        >>> clean = torch.rand(2, 3, 16, 16)
        >>> ssim(clean, clean)
        tensor([1., 1.])
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    enhanced, clean = _comparable(enhanced, clean)
    if min(clean.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least 11×11 pixels, these are {clean.shape[-2]}×{clean.shape[-1]}")
    # the function's own mean takes the reflected border in, so the mean is taken here
    _, similarity = structural_similarity_index_measure(
        enhanced, clean, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    border = SSIM_WINDOW // 2
    mean: Tensor = similarity[..., border:-border, border:-border].mean(dim=(1, 2, 3))
    return mean


def _comparable(enhanced: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one floating type of at least 32 bits, the first clamped."""
    if enhanced.shape != clean.shape or clean.ndim != 4:
        raise ValueError(
            f"enhanced and clean must have one shape (N, C, H, W), not {tuple(enhanced.shape)} and {tuple(clean.shape)}"
        )
    if not (enhanced.is_floating_point() and clean.is_floating_point()):
        raise ValueError(f"images must be floating point in [0, 1], not {enhanced.dtype} and {clean.dtype}")
    dtype = torch.promote_types(torch.promote_types(enhanced.dtype, clean.dtype), torch.float32)
    return enhanced.to(dtype).clamp(0.0, 1.0), clean.to(dtype)


def confusion(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Confusion matrix: row i, column j counts the elements of class i that were read as class j.

    Matrices of several images can be added up: that is what pooling over the test set means.

    Args:
        prediction: integers in [0, classes), any shape.
        target: integers in [0, classes), the same shape.
        classes: number of classes K, at least 1.

    Returns:
        Shape (K, K), int64.

    Raises:
        ValueError: the shapes differ, or a value is not a class.

    Example:
        >>> confusion(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]), classes=2)
        tensor([[1, 1],
                [0, 2]])
    """
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: prediction {tuple(prediction.shape)}, target {tuple(target.shape)}")
    for name, values in (("prediction", prediction), ("target", target)):
        if values.is_floating_point():
            raise ValueError(f"{name} must hold whole numbers, not {values.dtype}")
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(f"{name} holds {int(values.min())} to {int(values.max())}, expected 0 to {classes - 1}")
    pairs = target.flatten().long() * classes + prediction.flatten().long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: Tensor) -> float:
    """Share of elements read correctly, in [0, 1]; nan for an empty confusion matrix of shape (K, K).

    Example:
        >>> accuracy(torch.tensor([[1, 1], [0, 2]]))
        0.75
    """
    return _ratio(matrix.diagonal().sum(), matrix.sum())


def balanced_accuracy(matrix: Tensor) -> float:
    """Mean recall over the classes that occur in the target, in [0, 1]; nan for an empty matrix of shape (K, K).

    Example:
        >>> balanced_accuracy(torch.tensor([[90, 0, 0], [10, 0, 0], [0, 0, 0]]))
        0.5
    """
    return float(_mean_where_occurring(matrix.diagonal(), matrix.sum(dim=1)))


def majority_rate(matrix: Tensor) -> float:
    """Accuracy of always naming the target's most frequent class, in (0, 1]; nan for an empty matrix of shape (K, K).

    Example:
        >>> majority_rate(torch.tensor([[80, 10], [10, 0]]))
        0.9
    """
    return _ratio(matrix.sum(dim=1).max(), matrix.sum())


def mean_iou(matrix: Tensor) -> float:
    """Intersection over union, mean over classes, background included, in [0, 1].

    Classes that occur neither in the prediction nor in the target are left out.

    Args:
        matrix: confusion matrix, shape (K, K); nan if it is empty.

    Example:
        >>> round(mean_iou(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]])), 4)  # (1/2 + 2/3) / 2
        0.5833
    """
    return float(mean_ious(matrix))


def mean_ious(matrices: Tensor) -> Tensor:
    """:func:`mean_iou` of each of many confusion matrices (..., K, K), as float64 of shape (...).

    Example:
        >>> mean_ious(torch.tensor([[[1, 0], [0, 1]], [[1, 0], [1, 0]]])).tolist()
        [1.0, 0.25]
    """
    intersection = matrices.diagonal(dim1=-2, dim2=-1)
    return _mean_where_occurring(intersection, matrices.sum(dim=-2) + matrices.sum(dim=-1) - intersection)


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part) / float(whole) if whole > 0 else math.nan


def _mean_where_occurring(parts: Tensor, wholes: Tensor) -> Tensor:
    """Mean over the last axis of what has a whole; nan where nothing has."""
    occurring = wholes > 0
    shares = torch.where(occurring, parts.double() / wholes.double().clamp(min=1), 0.0)
    return shares.sum(dim=-1) / occurring.sum(dim=-1)
