"""How a clean image becomes a degraded one (section 4.2), on intensities in [0, 1], clamped to [0, 1] afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gradprom._chain import Range, parse_chain
from gradprom._resize import resized
from gradprom.errors import UserError


class Degradation(Protocol):
    """Degrades one image."""

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Shape (C, H, W) in [0, 1] to the same, smaller where it is downsampled; all chance is ``generator``'s."""
        ...


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
        """Degrade one image of any shape."""
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
        return torch.add(image, noise.to(image.device), alpha=self.sigma).clamp_(0, 1)


@dataclass(frozen=True)
class PoissonNoise:
    """Photon noise: Poisson(x / r²) · r², whose standard deviation is r at full intensity and falls with √x.

    Attributes:
        rate: r, on intensities in [0, 1]; the paper's is 0.1 (A-5). 0 leaves the image as it is.

    Raises:
        UserError: rate is negative or not finite.

    Example:
        >>> noisy = PoissonNoise(0.1)(torch.full((1, 64, 64), 0.5), torch.Generator().manual_seed(0))
        >>> round(noisy.std().item(), 2)  # 0.1 · √0.5
        0.07
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < math.inf:
            raise UserError(f"rate is {self.rate}: the photon noise's rate must be a finite number of at least 0")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade one image of any shape, not negative."""
        if self.rate == 0:
            return image.clone()
        photons = self.rate**2
        counts = torch.poisson(image.to(generator.device) / photons, generator=generator)
        return (counts * photons).clamp_(0, 1).to(image.device)


@dataclass(frozen=True)
class GaussianBlur:
    """Convolution with a sampled Gaussian, the image mirrored at its borders.

    Attributes:
        kernel: side of the window in pixels, odd; the paper's is 3 (A-5).
        sigma: standard deviation in pixels; the paper's is 2.0.

    Raises:
        UserError: the kernel is even or the image smaller than half of it, or sigma is not above 0.

    Example:
        >>> point = F.pad(torch.ones(1, 1, 1), [2, 2, 2, 2])
        >>> blurred = GaussianBlur(3, 2.0)(point, torch.Generator())
        >>> round(blurred.sum().item(), 4), round(blurred.max().item(), 4)
        (1.0, 0.1308)
    """

    kernel: int
    sigma: float

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0 or not 0 < self.sigma < math.inf:
            raise UserError(
                f"blur has kernel {self.kernel} and sigma {self.sigma}: expected an odd kernel and a sigma above 0"
            )

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Blur one image, shape (C, H, W); no random numbers are drawn."""
        reach = self.kernel // 2
        if min(image.shape[-2:]) <= reach:
            raise UserError(
                f"an image of {image.shape[-1]} x {image.shape[-2]} pixels is too small for a blur of kernel "
                f"{self.kernel}: take larger images or a smaller kernel"
            )
        offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
        window = torch.exp(-(offsets**2) / (2 * self.sigma**2))
        window = window / window.sum()
        padded = F.pad(image[:, None], [reach] * 4, mode="reflect")
        down = F.conv2d(padded, window.view(1, 1, -1, 1))
        return F.conv2d(down, window.view(1, 1, 1, -1))[:, 0].clamp_(0, 1)


@dataclass(frozen=True)
class Downsample:
    """Bicubic, antialiased downsampling: what super-resolution undoes.

    Rows and columns beyond a multiple of the scale factor, at the right and below, are cut off.

    Attributes:
        scale: γ, the scale factor; the paper's are 2 and 4.

    Raises:
        UserError: scale is less than 2, or the image is smaller than it.

    Example:
        >>> Downsample(2)(torch.rand(3, 9, 8), torch.Generator()).shape
        torch.Size([3, 4, 4])
    """

    scale: int

    def __post_init__(self) -> None:
        if self.scale < 2:
            raise UserError(f"downsampling by {self.scale}: expected a whole number of at least 2")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Downsample one image, shape (C, H, W); no random numbers are drawn."""
        height, width = (side // self.scale for side in image.shape[-2:])
        if min(height, width) < 1:
            raise UserError(
                f"an image of {image.shape[-1]} x {image.shape[-2]} pixels cannot be downsampled by {self.scale}: "
                "take larger images"
            )
        whole = image[None, :, : height * self.scale, : width * self.scale]
        return resized(whole, (height, width))[0]


@dataclass(frozen=True)
class Chain:
    """Several degradations, one after the other; an empty chain leaves the image as it is.

    Example:
        >>> image = torch.rand(1, 8, 8)
        >>> torch.equal(Chain(())(image, torch.Generator()), image)
        True
    """

    links: tuple[Degradation, ...]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade one image, shape (C, H, W)."""
        for link in self.links:
            image = link(image, generator)
        return image


@dataclass(frozen=True)
class Drawn:
    """A degradation that is another one for each image: its strength is drawn, and whether it comes at all.

    Attributes:
        make: what it is, given its numbers.
        values: these numbers; a range is drawn from evenly.
        probability: the share of images that it comes to.

    Example:
        >>> half = Drawn(GaussianNoise, (Range(0.1, 0.2),), probability=0.5)
        >>> image = torch.full((1, 4, 4), 0.5)
        >>> 35 < sum(torch.equal(degrade(half, image, key), image) for key in range(100)) < 65
        True
    """

    make: Callable[..., Degradation]
    values: tuple[float | Range, ...]
    probability: float = 1.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade one image, shape (C, H, W), or leave it as it is."""
        if self.probability < 1 and _uniform(generator) >= self.probability:
            return image
        return self.make(*(_drawn(value, generator) for value in self.values))(image, generator)


def _drawn(value: float | Range, generator: torch.Generator) -> float:
    if not isinstance(value, Range):
        return value
    return value.low + (value.high - value.low) * _uniform(generator)


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).item()


def build_degradation(text: str) -> Chain:
    """The degradations that a text names, see :func:`gradprom._chain.parse_chain`.

    Raises:
        UserError: the text cannot be understood.

    Example:
        >>> build_degradation("gaussian 0.1 + downsample 2").links
        (GaussianNoise(sigma=0.1), Downsample(scale=2))
    """
    kinds: dict[str, Callable[..., Degradation]] = {
        "gaussian": GaussianNoise,
        "poisson": PoissonNoise,
        "blur": lambda kernel, sigma: GaussianBlur(int(kernel), sigma),
        "downsample": lambda scale: Downsample(int(scale)),
    }
    return Chain(
        tuple(
            Drawn(kinds[link.name], link.values, link.probability) if link.is_drawn else kinds[link.name](*link.values)
            for link in parse_chain(text)
        )
    )


def degrade(degradation: Degradation, image: Tensor, key: int) -> Tensor:
    """Degrade one image, shape (C, H, W) in [0, 1], with random numbers of its own: the same key, the same result.

    The numbers are drawn on the CPU, so that an image is degraded alike whatever device it is used on.

    Example:
        >>> image = torch.full((1, 4, 4), 0.5)
        >>> torch.equal(degrade(GaussianNoise(0.1), image, 7), degrade(GaussianNoise(0.1), image, 7))
        True
    """
    return degradation(image, torch.Generator().manual_seed(key))


def degrade_batch(degradation: Degradation, images: Tensor, keys: Sequence[int]) -> Tensor:
    """Degrade a batch, shape (N, C, H, W), each image with its own key.

    Example:
        >>> images = torch.full((2, 1, 4, 4), 0.5)
        >>> batch = degrade_batch(GaussianNoise(0.1), images, [7, 8])
        >>> torch.equal(batch[1], degrade(GaussianNoise(0.1), images[1], 8))
        True
    """
    return torch.stack([degrade(degradation, image, key) for image, key in zip(images, keys, strict=True)])
