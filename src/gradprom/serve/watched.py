"""An enhancer that is looked over the shoulder: what it saw and gave, noise put in before, ended when not wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradprom.degradations import GaussianNoise, degrade
from gradprom.images.frames import Frames
from gradprom.images.image import Image
from gradprom.inference.model import Channels, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN_PIXELS = 2**24
"""Of larger images a smaller copy is shown, as no screen has as many pixels and not every browser can hold them."""

_BAND = 2**24  # pixels to which noise is added at once: it is drawn as float32
_PEAKS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


@dataclass(frozen=True)
class Seen:
    """One image on its way through the enhancer; each (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].

    Attributes:
        clean: as it is in the file.
        before: what the enhancer saw: ``clean``, or that with noise.
        after: what it gave, ``scale`` times as large where it enlarges.
        frame: which of the file's images, from 0.
        frames: how many there are.
        format: of the file.
        exif: of a plain image, where it has any.
        factor: by how much all three were made smaller to be shown.
    """

    clean: NDArray[Any]
    before: NDArray[Any]
    after: NDArray[Any]
    frame: int
    frames: int
    format: str
    exif: bytes | None
    factor: int


class SeenEnoughError(BaseException):
    """Ends the enhancement of a file of which one image alone was wanted; no ``Exception``, as nothing went wrong."""


class WatchedModel(Model):
    """An enhancer that gives what ``model`` gives, for one file.

    Args:
        model: does the work.
        sigma: standard deviation of the Gaussian noise that is added to each image first, in [0, 1]. The same image of
            the same file gets the same noise each time.
        frame: of a file of several images, which is kept in ``seen``; None for the middle one.
        whole: go on to the end of such a file, instead of raising `SeenEnoughError` when that image is done.

    Attributes:
        seen: what was kept, once there is something.
    """

    def __init__(self, model: Model, *, sigma: float, frame: int | None, whole: bool) -> None:
        super().__init__(
            model.enhancer,
            channels=model.channels,
            scale=model.scale,
            name=model.name,
            device=model.device,
            precision=model.precision,
        )
        self.seen: Seen | None = None
        self._model = model
        self._noise = GaussianNoise(sigma)
        self._frame = frame
        self._whole = whole

    def needed_overlap(self, tile: int) -> int:
        """What the model itself measures once, for all files."""
        return self._model.needed_overlap(tile)

    def enhance_image(
        self,
        image: Image,
        *,
        channels: Channels = "match",
        tile: int = 1024,
        overlap: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Image:
        """As the model does, of the image with noise."""
        before = self._noisy(image.pixels, 0)
        enhanced = self._model.enhance_image(
            replace(image, pixels=before), channels=channels, tile=tile, overlap=overlap, on_tile=on_tile
        )
        self._keep(image.pixels, before, enhanced.pixels, 0, 1, image.format, image.exif)
        return enhanced

    def enhance_frames(
        self,
        frames: Frames,
        *,
        channels: Channels = "match",
        tile: int = 1024,
        overlap: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Iterator[NDArray[Any]]:
        """As the model does, of the images with noise.

        Raises:
            SeenEnoughError: the wanted image is done, and the others are not wanted.
        """
        wanted = frames.count // 2 if self._frame is None else min(self._frame, frames.count - 1)
        is_whole = self._whole or frames.count == 1
        indices = range(frames.count) if is_whole else (wanted,)
        given: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}  # of the wanted image, until it is enhanced

        def read(number: int) -> NDArray[Any]:
            index = indices[number]
            clean = frames.read(index)
            before = self._noisy(clean, index)
            if index == wanted:
                given[index] = clean, before
            return before

        noisy = replace(frames, count=len(indices), read=read)
        enhanced = self._model.enhance_frames(noisy, channels=channels, tile=tile, overlap=overlap, on_tile=on_tile)
        for index, after in zip(indices, enhanced, strict=True):
            if index == wanted:
                self._keep(*given.pop(index), after, index, frames.count, frames.format, None)
            if not is_whole:
                raise SeenEnoughError
            yield after

    def _noisy(self, pixels: NDArray[Any], index: int) -> NDArray[Any]:
        if self._noise.sigma == 0:
            return pixels
        peak = _PEAKS.get(pixels.dtype, 1.0)
        rows = max(1, _BAND // pixels.shape[1])
        result = np.empty_like(pixels)
        for band, start in enumerate(range(0, pixels.shape[0], rows)):
            clean = torch.from_numpy(pixels[start : start + rows].astype(np.float32)).div_(peak).permute(2, 0, 1)
            # keys of their own for the bands of all images of a file
            noisy = degrade(self._noise, clean, (index << 20) + band).permute(1, 2, 0).mul_(peak)
            result[start : start + rows] = (noisy if peak == 1 else noisy.round_()).numpy()
        return result

    def _keep(
        self,
        clean: NDArray[Any],
        before: NDArray[Any],
        after: NDArray[Any],
        frame: int,
        frames: int,
        format_: str,
        exif: bytes | None,
    ) -> None:
        factor = int(np.ceil(np.sqrt(after.shape[0] * after.shape[1] / SHOWN_PIXELS)))
        clean, before, after = (shrunk(pixels, factor) for pixels in (clean, before, after))
        self.seen = Seen(clean, before, after, frame, frames, format_, exif, factor)


def shrunk(pixels: NDArray[Any], factor: int) -> NDArray[Any]:
    """Give the means of squares of ``factor`` pixels a side; what is left over at the right and below is cut off.

    Args:
        pixels: (H, W, C), of whole numbers or floating point.
        factor: 1 or more; a side shorter than it is left as it is.

    Returns:
        (H // factor, W // factor, C) of the same type.

    Example:
        >>> shrunk(np.array([[[1], [2], [9]], [[3], [6], [9]]], np.uint8), 2)
        array([[[3]]], dtype=uint8)
    """
    down, across = (factor if side >= factor else 1 for side in pixels.shape[:2])
    if down == across == 1:
        return pixels
    height, width = pixels.shape[0] // down, pixels.shape[1] // across
    total = np.zeros((height, width, pixels.shape[2]), np.float32)
    # place by place: never a copy of the whole as floating point
    for y in range(down):
        for x in range(across):
            total += pixels[y : height * down : down, x : width * across : across]
    total /= down * across
    return (np.rint(total) if pixels.dtype.kind == "u" else total).astype(pixels.dtype)


@contextmanager
def checked_at_layers(modules: Iterator[torch.nn.Module], check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each layer of some models, so that even one large tile ends soon after it is cancelled.

    Example:
        >>> def stop() -> None:
        ...     raise RuntimeError("not wanted any more")
        >>> layer = torch.nn.Identity()
        >>> with checked_at_layers(layer.modules(), stop):
        ...     layer(torch.zeros(1))
        Traceback (most recent call last):
        ...
        RuntimeError: not wanted any more
    """
    hooks = [module.register_forward_pre_hook(lambda *_: check()) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
