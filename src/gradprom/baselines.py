"""Enhancement without any training, to stand beside every trained result."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradprom._files import atomic_path
from gradprom._resize import resized

_CACHE_VERSION = 1  # to be raised whenever non_local_means gives another image for the same input


def non_local_means(degraded: Tensor, sigma: float) -> Tensor:
    """Non-local means (Buades et al., 2005) that knows the noise: h = 0.7 σ, patches of 5, search distance of 6 pixels.

    The noise's share is taken out of the distances between patches and they are weighted uniformly (scikit-image's
    ``sigma=σ`` and ``fast_mode=True``): of scikit-image's four variants the best one on noisy ISIC images.

    Args:
        degraded: shape (C, H, W), values in [0, 1].
        sigma: standard deviation of the noise on the scale of [0, 1]; where it is not known, :func:`noise_level`.

    Returns:
        Shape (C, H, W), float32, values in [0, 1]; the image itself where σ is 0.

    Raises:
        ValueError: σ is negative or not a number.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> flat = torch.full((1, 32, 32), 0.5)
        >>> restored = non_local_means(flat + 0.1 * torch.randn(1, 32, 32), sigma=0.1)
        >>> bool((restored - flat).std() < 0.05)
        True
    """
    from skimage.restoration import denoise_nl_means

    if not sigma >= 0:
        raise ValueError(f"sigma {sigma} must be a number of at least 0")
    degraded = degraded.detach().float().cpu()
    if sigma == 0:
        return degraded.clamp(0.0, 1.0)
    pixels = degraded.permute(1, 2, 0).numpy()
    restored = denoise_nl_means(
        pixels,
        h=0.7 * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=-1,
    )
    # of a single channel its axis is dropped
    return torch.from_numpy(restored.reshape(pixels.shape)).float().permute(2, 0, 1).clamp(0.0, 1.0).contiguous()


def noise_level(degraded: Tensor) -> float:
    """Estimate the standard deviation of white noise: median of the diagonal Haar details, over 0.6745.

    The robust estimate of Donoho and Johnstone (1994), mean over channels. Images clipped at black or white look less
    noisy than they are.

    Args:
        degraded: shape (C, H, W), H and W at least 2, values in [0, 1].

    Example:
        >>> _ = torch.manual_seed(0)
        >>> round(noise_level(0.5 + 0.1 * torch.randn(1, 256, 256)), 2)
        0.1
    """
    degraded = degraded.detach().float().cpu()
    height, width = (size // 2 * 2 for size in degraded.shape[-2:])
    even = degraded[:, :height, :width]
    detail = (even[:, ::2, ::2] - even[:, 1::2, ::2] - even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 2
    return float(detail.abs().flatten(1).median(dim=1).values.mean() / 0.6745)


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, antialiased resizing: what super-resolution is measured against.

    Args:
        image: shape (C, H, W), values in [0, 1].
        size: (height, width) in pixels.

    Returns:
        Shape (C, height, width), values in [0, 1].

    Example:
        >>> bicubic(torch.rand(3, 8, 8), (16, 32)).shape
        torch.Size([3, 16, 32])
    """
    return resized(image[None], size)[0]


def cached_non_local_means(degraded: Tensor, sigma: float | None, cache: Path | None) -> Tensor:
    """:func:`non_local_means`, kept in a folder under a hash of the image and σ; a damaged file is made anew.

    Args:
        degraded: shape (C, H, W), values in [0, 1].
        sigma: None estimates it by :func:`noise_level`.
        cache: the folder, created when needed and safe to delete; None keeps nothing.

    Example:
        >>> import tempfile
        >>> image, folder = torch.rand(1, 16, 16), Path(tempfile.mkdtemp())
        >>> first = cached_non_local_means(image, 0.1, folder)
        >>> torch.equal(cached_non_local_means(image, 0.1, folder), first), len(list(folder.iterdir()))
        (True, 1)
    """
    sigma = noise_level(degraded) if sigma is None else sigma
    if cache is None:
        return non_local_means(degraded, sigma)
    content = degraded.detach().float().cpu().contiguous().numpy()
    name = hashlib.sha256(f"{_CACHE_VERSION} {sigma!r} {content.shape} ".encode() + content.tobytes()).hexdigest()
    path = Path(cache) / f"{name[:32]}.npy"
    if path.exists():
        try:
            kept = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            kept = None
        if kept is not None and kept.shape == content.shape and kept.dtype == np.float32:
            return torch.from_numpy(kept)
    restored = non_local_means(degraded, sigma)
    with atomic_path(path) as temporary:
        np.save(temporary, restored.numpy(), allow_pickle=False)
    return restored
