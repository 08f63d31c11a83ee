"""How a clean image becomes a degraded one (section 4.2), on intensities in [0, 1], clamped to [0, 1] afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradprom.errors import UserError


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise.

    Attributes:
        sigma: its standard deviation, on intensities in [0, 1]; the paper uses 0.05, 0.1, 0.2 and 0.3.

    Raises:
        UserError: sigma is negative or not finite.

    Example:
        >>> GaussianNoise(0.1)(torch.zeros(1, 2, 2), torch.Generator().manual_seed(0)).min().item() >= 0
        True
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise UserError(
                f"sigma is {self.sigma}: the noise's standard deviation must be a finite number of at least 0"
            )

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade one image of any shape; all randomness comes from ``generator``."""
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
        return torch.add(image, noise.to(image.device), alpha=self.sigma).clamp_(0, 1)


def degrade(degradation: GaussianNoise, image: Tensor, key: int) -> Tensor:
    """Degrade one image, shape (C, H, W) in [0, 1], with random numbers of its own: the same key, the same result.

    The numbers are drawn on the CPU, so that an image is degraded alike whatever device it is used on.

    Example:
        >>> image = torch.full((1, 4, 4), 0.5)
        >>> torch.equal(degrade(GaussianNoise(0.1), image, 7), degrade(GaussianNoise(0.1), image, 7))
        True
    """
    return degradation(image, torch.Generator().manual_seed(key))


def degrade_batch(degradation: GaussianNoise, images: Tensor, keys: Sequence[int]) -> Tensor:
    """Degrade a batch, shape (N, C, H, W), each image with its own key.

    Example:
        >>> images = torch.full((2, 1, 4, 4), 0.5)
        >>> batch = degrade_batch(GaussianNoise(0.1), images, [7, 8])
        >>> torch.equal(batch[1], degrade(GaussianNoise(0.1), images[1], 8))
        True
    """
    return torch.stack([degrade(degradation, image, key) for image, key in zip(images, keys, strict=True)])
