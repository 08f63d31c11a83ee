"""How far an enhancer looks: what tiles must share for their seams not to show."""

from __future__ import annotations

import numpy as np
import torch

from gradprom.inference.tiles import ALIGNMENT

# the probe's height, and the widest reach that it can show
_HEIGHT, _MOST = 96, 256
# half a grey level of 8 bits
_VISIBLE = 0.5 / 255


def needed_overlap(
    enhancer: torch.nn.Module, channels: int, *, scale: int = 1, device: str | torch.device = "cpu"
) -> int:
    """How much tiles must overlap so that no cut changes the result by half a grey level of 8 bits.

    It is measured, not derived from the layers: of all that a pixel depends on in a deep network, the outer part
    counts for next to nothing. Noise is enhanced whole, and with a part cut off on either side; what differs by more
    than that must lie in the part of a tile that is not kept.

    Args:
        enhancer: as for :func:`gradprom.inference.tiles.enhance_tiles`, in eval mode.
        channels: what it takes: 1 or 3.
        scale: by how much it enlarges.
        device: where it is.

    Returns:
        A multiple of 32, at most 512, in input pixels.

    Example:
        >>> needed_overlap(torch.nn.Identity(), 1)
        0
        >>> box = torch.nn.AvgPool2d(41, stride=1, padding=20)
        >>> needed_overlap(box, 1)
        64
    """
    generator = np.random.default_rng(0)
    noise = generator.random((1, channels, _HEIGHT, _MOST + 2 * ALIGNMENT), dtype=np.float32)
    probe = torch.from_numpy(noise).to(device)
    with torch.inference_mode():
        whole = enhancer(probe)
        edge = ALIGNMENT * scale
        left = (enhancer(probe[..., ALIGNMENT:]) - whole[..., edge:]).abs().amax(dim=(0, 1, 2))
        right = (enhancer(probe[..., :-ALIGNMENT]) - whole[..., :-edge]).abs().amax(dim=(0, 1, 2)).flip(0)
    seen = torch.nonzero(torch.maximum(left, right)[: _MOST * scale] > _VISIBLE)
    reach = 0 if len(seen) == 0 else (int(seen.max()) + scale) // scale
    return -(-2 * reach // ALIGNMENT) * ALIGNMENT
