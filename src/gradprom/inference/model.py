"""An enhancer that takes arrays and images as they are: any size, type and number of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from gradprom.errors import UserError
from gradprom.images._intensities import repeated
from gradprom.images.frames import Frames
from gradprom.images.image import Image
from gradprom.inference.reach import needed_overlap
from gradprom.inference.tiles import ALIGNMENT, Precision, enhance_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

Channels = Literal["match", "each"]
_NAMES = {1: "grey", 3: "colour"}


class Model:
    """A trained enhancer, ready for images.

    Args:
        enhancer: takes (N, ``channels``, H, W) float32 in [0, 1] of any size and gives the same, ``scale`` times as
            large. It is moved to ``device`` and put into eval mode.
        channels: 1 (grey) or 3 (colour).
        scale: by how much it enlarges.
        name: for messages.
        device: where it runs, for example "cpu" or "cuda".

    Example:
        >>> model = Model(torch.nn.Identity(), channels=1)
        >>> model.enhance(np.array([[0, 65535]], np.uint16))
        array([[    0, 65535]], dtype=uint16)
    """

    def __init__(
        self,
        enhancer: torch.nn.Module,
        *,
        channels: int,
        scale: int = 1,
        name: str = "enhancer",
        device: str | torch.device = "cpu",
        precision: Precision = "auto",
    ) -> None:
        if channels not in _NAMES:
            raise ValueError(f"channels: expected 1 or 3, found {channels}")
        self.enhancer = enhancer.to(device).eval()
        self.channels = channels
        self.scale = scale
        self.name = name
        self.device = device
        self.precision = precision
        self._needed_overlap: int | None = None

    def enhance(
        self,
        array: NDArray[Any],
        *,
        channels: Channels = "match",
        tile: int = 1024,
        overlap: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> NDArray[Any]:
        """Enhance an array.

        Args:
            array: (H, W), or (H, W, C) with C of 1 (grey), 2 (grey, alpha), 3 (colour) or 4 (colour, alpha); uint8,
                uint16, or floating point in [0, 1].
            channels: what to do if array and model differ in grey and colour: "match" refuses; "each" enhances each
                channel by itself: a grey model takes red, green and blue one after the other; a colour model takes
                the grey channel three times, and the mean of its three outputs is the result.
            tile: height and width of what the enhancer sees at once; less takes less memory.
            overlap: how many pixels neighbouring tiles share; more sees more of the surroundings.
            on_tile: is called with the number of tiles done and of all tiles.

        Returns:
            An array of the same type and convention, ``scale`` times as large; alpha is repeated, not enhanced.

        Raises:
            UserError: an array of another kind, values outside [0, 1], or grey for a colour model and the reverse.
        """
        shape, kind = array.shape, array.dtype
        if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 2, 3, 4)) or 0 in shape:
            raise UserError(
                f"array: expected (height, width) or (height, width, 1 to 4), found {shape}; give one image at a time"
            )
        is_float = check_values(array)
        pixels = array.reshape(*shape[:2], -1).astype(np.float32 if is_float else kind, copy=False)
        colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
        enhanced = self._enhance_pixels(pixels[..., :colours], channels, tile, overlap, on_tile)
        if colours < pixels.shape[2]:
            alpha = repeated(pixels[..., colours], self.scale)
            enhanced = np.concatenate([enhanced, alpha[..., np.newaxis]], axis=2)
        return enhanced.reshape(*enhanced.shape[:2], *shape[2:]).astype(kind, copy=False)

    def enhance_image(
        self,
        image: Image,
        *,
        channels: Channels = "match",
        tile: int = 1024,
        overlap: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Image:
        """Enhance what was read from a file: as ``enhance``; alpha and all that is kept pass through.

        Raises:
            UserError: a grey image for a colour model or the reverse, with ``channels="match"``.
        """
        pixels = self._enhance_pixels(image.pixels, channels, tile, overlap, on_tile)
        return image.with_pixels(pixels, None if image.alpha is None else repeated(image.alpha, self.scale))

    def enhance_frames(
        self,
        frames: Frames,
        *,
        channels: Channels = "match",
        tile: int = 1024,
        overlap: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Enhance the images of a file one by one, as ``enhance_image``, for ``frames.write``."""
        for index in range(frames.count):

            def on_tile_of_all(done: int, total: int, before: int = index) -> None:
                if on_tile is not None:
                    on_tile(before * total + done, frames.count * total)

            yield self._enhance_pixels(frames.read(index), channels, tile, overlap, on_tile_of_all)

    def needed_overlap(self, tile: int) -> int:
        """How much tiles must share for no seam to show, measured once; at most half of a tile."""
        if self._needed_overlap is None:
            self._needed_overlap = needed_overlap(self.enhancer, self.channels, scale=self.scale, device=self.device)
        return min(self._needed_overlap, tile // 2 // ALIGNMENT * ALIGNMENT)

    def _enhance_pixels(
        self,
        pixels: NDArray[Any],
        channels: Channels,
        tile: int,
        overlap: int | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> NDArray[Any]:
        given = pixels.shape[2]
        if channels not in ("match", "each"):
            raise UserError(f"channels: expected match or each, found {channels!r}")
        if given != self.channels and channels == "match":
            raise UserError(
                f"{self.name} is a {_NAMES[self.channels]} model, expected a {_NAMES[self.channels]} image, "
                f"found a {_NAMES[given]} one; --channels each enhances each channel by itself"
            )
        enhancer = self.enhancer
        if given == 1 and self.channels == 3:
            enhancer = _Replicated(enhancer)
        elif given == 3 and self.channels == 1:
            enhancer = _ChannelByChannel(enhancer)
        if overlap is None:  # one tile has no seams
            overlap = self.needed_overlap(tile) if max(pixels.shape[:2]) > tile else 0
        return enhance_tiles(
            enhancer,
            pixels,
            scale=self.scale,
            tile=tile,
            overlap=overlap,
            device=self.device,
            precision=self.precision,
            on_tile=on_tile,
        )


def check_values(array: NDArray[Any]) -> bool:
    """Refuse an array that is neither uint8 nor uint16 nor floating point in [0, 1]; returns whether it is the last.

    Raises:
        UserError: it is of another type, or has values outside [0, 1].

    Example:
        >>> check_values(np.zeros((2, 2), np.uint16)), check_values(np.ones((2, 2)))
        (False, True)
    """
    if array.dtype in (np.uint8, np.uint16):
        return False
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"array: expected uint8, uint16 or floating point in [0, 1], found {array.dtype}; convert it")
    if not (array.min() >= 0 and array.max() <= 1):  # written so that it refuses nan as well
        raise UserError(f"array: expected values in [0, 1], found {array.min():g} to {array.max():g}; scale them first")
    return True


class _Replicated(torch.nn.Module):
    """A colour enhancer for grey images: (N, 1, H, W) to the same."""

    def __init__(self, enhancer: torch.nn.Module) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        enhanced: torch.Tensor = self.enhancer(grey.expand(-1, 3, -1, -1))
        return enhanced.mean(dim=1, keepdim=True)


class _ChannelByChannel(torch.nn.Module):
    """A grey enhancer for colour images: (N, C, H, W) to the same."""

    def __init__(self, enhancer: torch.nn.Module) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, colours: torch.Tensor) -> torch.Tensor:
        # one after the other: a batch of them would take as much more memory
        channels = range(colours.shape[1])
        return torch.cat([self.enhancer(colours[:, channel : channel + 1]) for channel in channels], dim=1)
