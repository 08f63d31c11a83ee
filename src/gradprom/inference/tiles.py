"""An enhancer over one array of any size, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from gradprom._precision import has_bf16
from gradprom.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Networks that halve the image five times (a U-Net on a ResNet) see the same grid in every tile only if the tiles
# begin at multiples of 2⁵
ALIGNMENT = 32
Precision = Literal["auto", "bf16", "float32"]


class Span(NamedTuple):
    """A tile along one axis: what the enhancer sees, and which part of that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(size: int, tile: int, overlap: int) -> list[Span]:
    """Cut an axis into overlapping tiles; each pixel is kept from the tile in which it lies furthest from a cut.

    Tiles start at multiples of 32 and share ``overlap`` pixels with the next, of which each keeps half. An axis no
    longer than ``tile`` is one tile; else there are as few as can be, and all are about as small as that allows.

    Raises:
        UserError: ``tile`` is not larger than ``overlap`` by 32 or more, or ``overlap`` is negative.

    Example:
        >>> spans(160, tile=96, overlap=32)
        [Span(start=0, stop=96, keep_start=0, keep_stop=80), Span(start=64, stop=160, keep_start=80, keep_stop=160)]
    """
    if overlap < 0 or tile < overlap + ALIGNMENT:
        raise UserError(
            f"tile {tile}, overlap {overlap}: expected an overlap of 0 or more and a tile larger than it by at least "
            f"{ALIGNMENT}; give a larger --tile or a smaller --overlap"
        )
    if size <= tile:
        return [Span(0, size, 0, size)]
    count = -(-(size - overlap) // ((tile - overlap) // ALIGNMENT * ALIGNMENT))
    step = -(-(size - overlap) // (count * ALIGNMENT)) * ALIGNMENT
    starts = list(range(0, size - overlap, step))
    stops = [min(start + step + overlap, size) for start in starts]
    cuts = [(start + stop) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    return [Span(*span) for span in zip(starts, stops, [0, *cuts], [*cuts, size], strict=True)]


def enhance_tiles(
    enhancer: torch.nn.Module,
    pixels: NDArray[Any],
    *,
    scale: int = 1,
    tile: int = 512,
    overlap: int = 32,
    device: str | torch.device = "cpu",
    batch_size: int = 1,
    precision: Precision = "float32",
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """Enhance an image tile by tile: beside input and output, only one batch of tiles is in memory.

    Where half the overlap covers what an output pixel depends on, the result is that of the whole image at once.

    In bfloat16, convolutions from and to the image itself stay in float32: they are a small part of the work, and
    the largest of the error. Trained denoisers then give what they give in float32 with a PSNR of more than 60 dB,
    which is less of a difference than the rounding of the result to 8 bits makes.

    Args:
        enhancer: on ``device``; takes (N, C, H, W) float32 in [0, 1] of any size, gives the same, ``scale`` times as
            large. It runs in eval mode and is left in the mode it was in. Tiles come to it in channels_last.
        pixels: (H, W, C), uint8 or uint16, or float32 in [0, 1].
        scale: by how much the enhancer enlarges.
        tile: height and width of what the enhancer sees at once, at most, in input pixels.
        overlap: how many pixels neighbouring tiles share, in input pixels.
        device: where tiles are sent.
        batch_size: how many tiles of the same size are enhanced at once.
        precision: "float32"; "bf16" computes under bfloat16 autocast; "auto" does so for 8-bit pixels, where the
            device has it: finer ones would show the difference.
        on_tile: is called with the number of tiles done and of all tiles.

    Returns:
        (H * scale, W * scale, C) of the same type, clamped to [0, 1], and rounded if of integers.

    Raises:
        UserError: no pixels, ``tile`` and ``overlap`` do not fit, no such precision, or the enhancer gives numbers
            that are not finite.
        ValueError: ``pixels`` are of another shape or type, or the enhancer's output is of another shape.

    Example:
        >>> enhance_tiles(torch.nn.Identity(), np.full((40, 100, 3), 65535, np.uint16), tile=64).max()
        np.uint16(65535)
    """
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(
            f"expected (height, width, channels) of uint8, uint16 or float32, found {pixels.shape} of {pixels.dtype}"
        )
    if 0 in pixels.shape:
        raise UserError(f"expected an image of at least one pixel, found an array of shape {pixels.shape}")
    is_integer = np.issubdtype(pixels.dtype, np.integer)
    peak = float(np.iinfo(pixels.dtype).max) if is_integer else 1.0
    height, width, channels = pixels.shape
    tiles = [(y, x) for y in spans(height, tile, overlap) for x in spans(width, tile, overlap)]
    output = np.empty((height * scale, width * scale, channels), pixels.dtype)
    done = 0
    with torch.inference_mode(), _eval_mode(enhancer), _computing_in(precision, torch.device(device).type, pixels):
        for batch in _batches(tiles, batch_size):
            # one by one into float: never the whole image
            # channels stay last: convolutions are faster then, and keep it so
            seen = np.stack([pixels[y.start : y.stop, x.start : x.stop] for y, x in batch]).astype(np.float32)
            values = torch.from_numpy(seen).div_(peak).to(device).permute(0, 3, 1, 2)
            enhanced = enhancer(values)
            expected = (*values.shape[:2], values.shape[2] * scale, values.shape[3] * scale)
            if tuple(enhanced.shape) != expected:
                raise ValueError(f"expected the enhancer to give {expected}, found {tuple(enhanced.shape)}")
            enhanced = enhanced.float()
            # nan goes through to both; a fraction of the time that torch.isfinite takes
            if not all(math.isfinite(extreme.item()) for extreme in torch.aminmax(enhanced)):
                raise UserError("expected finite numbers from the enhancer, found others; its weights are unusable")
            enhanced = enhanced.clamp(0, 1)
            result = (enhanced.mul_(peak).round_() if is_integer else enhanced).cpu().numpy()
            for (y, x), piece in zip(batch, result, strict=True):
                top, bottom, left, right = (edge * scale for edge in (*y[2:], *x[2:]))
                inner = piece[
                    :,
                    top - y.start * scale : bottom - y.start * scale,
                    left - x.start * scale : right - x.start * scale,
                ]
                output[top:bottom, left:right] = inner.transpose(1, 2, 0)
            done += len(batch)
            if on_tile is not None:
                on_tile(done, len(tiles))
    return output


def _batches(tiles: list[tuple[Span, Span]], batch_size: int) -> Iterator[list[tuple[Span, Span]]]:
    """Group neighbours of the same size."""
    for _, group in groupby(tiles, key=lambda yx: [span.stop - span.start for span in yx]):
        same = list(group)
        for start in range(0, len(same), batch_size):
            yield same[start : start + batch_size]


@contextmanager
def _computing_in(precision: Precision, device: str, pixels: NDArray[Any]) -> Iterator[None]:
    if precision not in get_args(Precision):
        raise UserError(
            f"precision: expected {', '.join(get_args(Precision))}, found {precision!r}; choose one of them"
        )
    if precision == "float32" or (precision == "auto" and not (pixels.dtype == np.uint8 and has_bf16(device))):
        yield
        return
    with torch.autocast(device, torch.bfloat16), _EdgesInFloat32(device):
        yield


class _EdgesInFloat32(TorchFunctionMode):
    """Takes convolutions whose input or output has the few channels of an image out of autocast.

    A mode, not a change to the enhancer: that may be at work in other threads.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # as torch.nn.Conv2d calls it: the image first, then the weights (outputs, ...)
        if func is torch.conv2d and len(args) > 1 and min(args[0].shape[1], args[1].shape[0]) <= 4:
            with torch.autocast(self.device, enabled=False):
                return func(args[0].float(), *args[1:], **kwargs)
        return func(*args, **kwargs)


@contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and each of its parts back into the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
