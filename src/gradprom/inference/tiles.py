"""An enhancer over one array of any size, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from gradprom.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Networks that halve the image five times (a U-Net on a ResNet) see the same grid in every tile only if the tiles
# begin at multiples of 2⁵
ALIGNMENT = 32


class Span(NamedTuple):
    """A tile along one axis: what the enhancer sees, and which part of that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(size: int, tile: int, overlap: int) -> list[Span]:
    """Cut an axis into overlapping tiles; each pixel is kept from the tile in which it lies furthest from a cut.

    Tiles start at multiples of 32 and share at least ``overlap`` pixels with the next, of which each keeps half. An
    axis no longer than ``tile`` is one tile.

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
    step = (tile - overlap) // ALIGNMENT * ALIGNMENT
    last = -(-(size - tile) // ALIGNMENT) * ALIGNMENT  # the first multiple from which a tile reaches the end
    starts = [*range(0, size - tile, step), last]
    stops = [min(start + tile, size) for start in starts]
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
    precision: Literal["bf16"] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """Enhance an image tile by tile: beside input and output, only one batch of tiles is in memory.

    Where half the overlap covers what an output pixel depends on, the result is that of the whole image at once.

    Args:
        enhancer: on ``device``; takes (N, C, H, W) float32 in [0, 1] of any size, gives the same, ``scale`` times as
            large. It runs in eval mode and is left in the mode it was in.
        pixels: (H, W, C), uint8 or uint16, or float32 in [0, 1].
        scale: by how much the enhancer enlarges.
        tile: height and width of what the enhancer sees at once, in input pixels.
        overlap: how many pixels neighbouring tiles share at least, in input pixels.
        device: where tiles are sent.
        batch_size: how many tiles of the same size are enhanced at once.
        precision: "bf16" computes under bfloat16 autocast; None in float32.
        on_tile: is called with the number of tiles done and of all tiles.

    Returns:
        (H * scale, W * scale, C) of the same type, clamped to [0, 1], and rounded if of integers.

    Raises:
        UserError: no pixels, ``tile`` and ``overlap`` do not fit, or the enhancer gives numbers that are not finite.
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
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.inference_mode(), _eval_mode(enhancer), autocast:
        for batch in _batches(tiles, batch_size):
            # one by one into float: never the whole image
            seen = np.stack([pixels[y.start : y.stop, x.start : x.stop].transpose(2, 0, 1) for y, x in batch])
            values = torch.from_numpy(seen.astype(np.float32)).div_(peak).to(device)
            enhanced = enhancer(values)
            expected = (*values.shape[:2], values.shape[2] * scale, values.shape[3] * scale)
            if tuple(enhanced.shape) != expected:
                raise ValueError(f"expected the enhancer to give {expected}, found {tuple(enhanced.shape)}")
            enhanced = enhanced.float()
            if not torch.isfinite(enhanced).all():
                raise UserError("expected finite numbers from the enhancer, found others; its weights are unusable")
            enhanced = enhanced.clamp(0, 1).mul(peak)
            result = (enhanced.round() if is_integer else enhanced).cpu().numpy()
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
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and each of its parts back into the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
