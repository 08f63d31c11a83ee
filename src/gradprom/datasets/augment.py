"""What the network sees of an image: the whole of it or a crop, augmented together with its mask.

The paper's augmentation (section 4.1): horizontal and vertical flip, rotation within 10 degrees, centre crop at a
scale of 50 to 100 %. Beyond it: darker images and foreign objects, for enhancers that shall keep such.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gradprom.errors import UserError

_SUPPORT = 2  # pixels that bicubic interpolation looks past its point
_SMOOTHEST, _ROUGHEST = 1.5, 0.1  # of a foreign object's grain: smoothing in pixels, standard deviation
_RADII = (0.1, 1.0)  # of foreign objects, in sides of the view
_DARKEST = 0.1


@dataclass(frozen=True)
class Augment:
    """How images are augmented.

    Attributes:
        flip: mirror left-right and top-bottom, each half of the time.
        rotate: largest angle in degrees, either way.
        rotate_probability: how often an image is rotated at all. Rotation resamples, which blurs the target an
            enhancer learns from, so some images are left as they are.
        scale: range of the side of the centre crop, as a share of the image's side.
        dim: how often a view is darkened, its values multiplied by a number from 0.1 to 1. An enhancer that saw images
            of one brightness alone takes what is darker for background.
        foreign: how often a foreign object is put into the view (`with_foreign_object`), whose pixels are of class 0
            then. An enhancer that saw tissue alone takes the grain of what else lies in the picture, a sticker or a
            cloth, for noise.
    """

    flip: bool = True
    rotate: float = 10.0
    rotate_probability: float = 0.5
    scale: tuple[float, float] = (0.5, 1.0)
    dim: float = 0.0
    foreign: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rotate <= 180:
            raise UserError(f"rotate is {self.rotate}: expected degrees from 0 to 180")
        for name in ("rotate_probability", "dim", "foreign"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UserError(f"{name} is {share}: expected a number from 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"scale is {self.scale}: expected two numbers over 0, at most 1, the smaller first")


NO_AUGMENT = Augment(flip=False, rotate=0.0, rotate_probability=0.0, scale=(1.0, 1.0))


def whole_view(
    image: NDArray[Any],
    mask: NDArray[np.uint8] | None,
    size: int,
    rng: np.random.Generator | None = None,
    augment: Augment | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The image resized to a square, antialiased (its sides' ratio is not kept); the mask by nearest pixel.

    With ``augment`` it is a centre crop at random scale, rotated and flipped. Angles are those of the image
    before it is resized. What a rotation takes from beyond the crop is image, and mirrored image beyond that.

    Args:
        image: (height, width, channels), uint8, uint16, or floating point in [0, 1].
        mask: (height, width) of class numbers, or None.
        size: the side of the view.
        rng: where the random numbers come from; needed with ``augment``.
        augment: how to augment; None gives the plain view.

    Returns:
        The image as (channels, size, size) float32 in [0, 1], and the mask as (size, size) int64 or None.

    Example:
        >>> view, mask = whole_view(np.zeros((40, 30, 3), np.uint8), np.ones((40, 30), np.uint8), 16)
        >>> view.shape, mask.shape
        (torch.Size([3, 16, 16]), torch.Size([16, 16]))
    """
    if augment is None or rng is None:
        return _view(image, mask, (0, 0, *image.shape[:2]), size, 0.0, (False, False))
    draw = rng.random(7)
    height, width = _centre(image.shape, _between(*augment.scale, draw[0]), 1)
    box = ((image.shape[0] - height) // 2, (image.shape[1] - width) // 2, height, width)
    pixels, classes = _view(image, mask, box, size, _angle(augment, draw), _flips(augment, draw))
    return _changed(pixels, classes, rng, augment)


def crop_view(
    image: NDArray[Any],
    mask: NDArray[np.uint8] | None,
    size: int,
    rng: np.random.Generator,
    augment: Augment | None = None,
) -> tuple[Tensor, Tensor | None]:
    """A random crop of ``size`` x ``size`` pixels, not resampled unless it is rotated (bicubic).

    With ``augment`` the crop lies in the centre crop at random scale, and is rotated and flipped. An image smaller than
    the crop is mirrored at its borders. Arguments and results are those of `whole_view`.

    Example:
        >>> image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64, 1)
        >>> view, mask = crop_view(image, image[..., 0] > 999, 32, np.random.default_rng(0), Augment())
        >>> view.shape, view.dtype, mask.shape, mask.dtype
        (torch.Size([1, 32, 32]), torch.float32, torch.Size([32, 32]), torch.int64)
    """
    augment = augment or NO_AUGMENT
    draw = rng.random(7)
    area = _centre(image.shape, _between(*augment.scale, draw[0]), size)
    top, left = (
        (side - within) // 2 + _offset(float(draw[axis]), within - size, size // 2)
        for side, within, axis in ((image.shape[0], area[0], 1), (image.shape[1], area[1], 2))
    )
    box = (top, left, size, size)
    pixels, classes = _view(image, mask, box, size, _angle(augment, draw), _flips(augment, draw))
    return _changed(pixels, classes, rng, augment)


def with_foreign_object(pixels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A copy with a disc of another material in it: other colours, and a grain that nothing beside it has.

    In the disc the channels are interchanged, each is turned into its negative half of the time, and the mean of each
    is moved to anywhere in [0, 1]. Its contrast stays what it was, but for what leaves the range of values and is
    clipped. The grain is noise of a standard deviation up to 0.1, smoothed by up to 1.5 pixels. Centre and radius are
    drawn so that the disc may be a small spot, or reach far beyond the view, so that its rim is nearly straight.

    Args:
        pixels: (channels, height, width) in [0, 1].
        rng: where the random numbers come from.

    Returns:
        The copy, and which of its pixels are of the object, (height, width).

    Example:
        >>> grey = torch.full((3, 8, 8), 0.5)
        >>> other, is_foreign = with_foreign_object(grey, np.random.default_rng(1))
        >>> other.shape, bool((other != grey).any()), float(grey.mean()), is_foreign.shape
        (torch.Size([3, 8, 8]), True, 0.5, torch.Size([8, 8]))
    """
    from scipy.ndimage import gaussian_filter

    channels, height, width = pixels.shape
    order = torch.from_numpy(rng.permutation(channels))
    sign = torch.from_numpy(rng.choice((-1.0, 1.0), channels).astype(np.float32))[:, None, None]
    mean = torch.from_numpy(rng.random(channels).astype(np.float32))[:, None, None]
    # the grain of all channels together, and each one's own
    grain = rng.standard_normal((1 + channels, height, width), np.float32)
    grain = gaussian_filter(grain, (0, *2 * [_between(0, _SMOOTHEST, rng.random())]), mode="wrap")
    grain = grain[:1] + grain[1:]
    grain *= _between(0, _ROUGHEST, rng.random()) / max(float(grain.std()), 1e-6)

    radius = min(height, width) * _between(*_RADII, rng.random())
    # so that nearly always a part of the view is of it, and a part not
    down, right = (_between(-0.5 * radius, side + 0.5 * radius, rng.random()) for side in (height, width))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    share = (radius + 0.5 - ((rows - down) ** 2 + (columns - right) ** 2).sqrt()).clamp(0, 1)

    part = pixels[order]
    average = (part * share).sum((1, 2), keepdim=True) / share.sum().clamp_min(1)
    other = (mean + sign * (part - average) + torch.from_numpy(grain)).clamp(0, 1)
    return torch.lerp(pixels, other, share), share >= 0.5


def _changed(
    pixels: Tensor, classes: Tensor | None, rng: np.random.Generator, augment: Augment
) -> tuple[Tensor, Tensor | None]:
    """A view as `Augment.dim` and `Augment.foreign` ask for it; without them no random number is drawn."""
    if augment.dim > 0 and rng.random() < augment.dim:
        pixels = pixels * _between(_DARKEST, 1, rng.random())
    if augment.foreign > 0 and rng.random() < augment.foreign:
        pixels, is_foreign = with_foreign_object(pixels, rng)
        classes = None if classes is None else classes.masked_fill(is_foreign, 0)
    return pixels, classes


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _offset(share: float, room: int, beyond: int) -> int:
    """Where a crop begins, from 0 to ``room``; drawn from beyond both ends too and then moved in.

    Otherwise pixels near the area's border would be in far fewer crops than others, and networks, which see images
    padded there, would be worst where they are trained least.
    """
    return min(max(int(share * (room + 1 + 2 * beyond)) - beyond, 0), room)


def _centre(shape: tuple[int, ...], scale: float, least: int) -> tuple[int, int]:
    return max(round(shape[0] * scale), least), max(round(shape[1] * scale), least)


def _angle(augment: Augment, draw: NDArray[np.float64]) -> float:
    """The angle in radians."""
    if draw[3] >= augment.rotate_probability:
        return 0.0
    return math.radians(_between(-augment.rotate, augment.rotate, float(draw[4])))


def _flips(augment: Augment, draw: NDArray[np.float64]) -> tuple[bool, bool]:
    return augment.flip and bool(draw[5] < 0.5), augment.flip and bool(draw[6] < 0.5)


def _view(
    image: NDArray[Any],
    mask: NDArray[Any] | None,
    box: tuple[int, int, int, int],
    size: int,
    angle: float,
    flips: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None]:
    """Box (top, left, height, width) of image and mask, turned about its centre, resized to ``size`` and flipped."""
    top, left, height, width = box
    if angle == 0.0:
        pixels = _resize(_to_tensor(_window(image, *box)), size, size)
        classes = (
            None if mask is None else _resize_nearest(torch.from_numpy(_window(mask, *box).astype(np.int64)), size)
        )
    else:
        # one margin for both axes, in source pixels, keeps the window's centre the box's
        cosine, sine = math.cos(angle), math.sin(angle)
        reach = _SUPPORT * max(1, math.ceil(max(height, width) / size))
        down = _margin(height, width, cosine, sine) + reach
        right = _margin(width, height, cosine, sine) + reach
        tall, wide = height + 2 * down, width + 2 * right
        window = (top - down, left - right, tall, wide)
        # affine_grid works in coordinates from -1 to 1 over each side, hence the sides' ratios
        theta = torch.tensor(
            [[[cosine * width / wide, -sine * height / wide, 0.0], [sine * width / tall, cosine * height / tall, 0.0]]]
        )
        grid = F.affine_grid(theta, [1, 1, size, size], align_corners=False)
        around = _to_tensor(_window(image, *window))
        around = _resize(around, max(1, round(tall * size / height)), max(1, round(wide * size / width)))
        pixels = F.grid_sample(around[None], grid, mode="bicubic", align_corners=False)[0].clamp_(0, 1)
        classes = None
        if mask is not None:
            values = torch.from_numpy(_window(mask, *window).astype(np.float32))
            classes = F.grid_sample(values[None, None], grid, mode="nearest", align_corners=False)[0, 0].long()
    axes = [axis for axis, flip in zip((-1, -2), flips, strict=True) if flip]
    if axes:
        pixels = pixels.flip(axes)
        classes = None if classes is None else classes.flip(axes)
    return pixels, classes


def _margin(along: int, across: int, cosine: float, sine: float) -> int:
    """How far a turned box of sides ``along`` and ``across`` reaches past its upright place along the first."""
    return max(0, math.ceil((along * abs(cosine) + across * abs(sine) - along) / 2))


def _window(array: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """Part of an image; what lies beyond its borders is mirrored."""
    if top >= 0 and left >= 0 and top + height <= array.shape[0] and left + width <= array.shape[1]:
        return array[top : top + height, left : left + width]
    rows = _mirrored(top, height, array.shape[0])
    columns = _mirrored(left, width, array.shape[1])
    return array[rows][:, columns]


def _mirrored(start: int, count: int, length: int) -> NDArray[np.intp]:
    """Indices ``start`` to ``start + count`` of a line of ``length`` pixels mirrored at its ends as often as needed."""
    period = max(1, 2 * (length - 1))
    indices = np.abs(np.arange(start, start + count)) % period
    return np.minimum(indices, period - indices) if length > 1 else np.zeros(count, np.intp)


def _to_tensor(pixels: NDArray[Any]) -> Tensor:
    """(height, width, channels) to (channels, height, width) float32 in [0, 1]."""
    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).contiguous()
    if np.issubdtype(pixels.dtype, np.integer):
        tensor.div_(float(np.iinfo(pixels.dtype).max))
    return tensor


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    if pixels.shape[1:] == (height, width):
        return pixels
    resized = F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.clamp_(0, 1)  # rounding in the weights' sum can leave it by a hair


def _resize_nearest(classes: Tensor, size: int) -> Tensor:
    if classes.shape == (size, size):
        return classes
    return F.interpolate(classes[None, None].float(), (size, size), mode="nearest-exact")[0, 0].long()
