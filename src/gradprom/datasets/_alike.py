"""Images that are the same but for their size, their compression or some pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradprom.images import to_channels
from gradprom.images.image import Pixels

SIDE = 32  # of a thumbnail: coarse enough to forgive compression, fine enough to tell two lesions from one another
_ROWS = 256  # compared at once, to bound memory


def thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    """A grey thumbnail as a vector of 1024 numbers, of mean 0 and length 1; zeros where the image is flat.

    The sides' ratio is not kept, so an image and the same one rescaled or made brighter have nearly the same thumbnail,
    and the product of two thumbnails is their correlation.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 100, (64, 96, 1), dtype=np.uint8)
        >>> bool(thumbnail(image) @ thumbnail(2 * image) > 0.999)
        True
    """
    values = to_channels(pixels, 1)[..., 0]
    for axis in (0, 1):
        length = values.shape[axis]
        starts = np.arange(SIDE) * length // SIDE
        sizes = np.maximum(1, np.diff([*starts, length])).reshape((-1, 1) if axis == 0 else (1, -1))
        values = np.add.reduceat(values, starts, axis=axis, dtype=np.float32) / sizes.astype(np.float32)
    centred = values.ravel() - values.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-3 else np.zeros_like(centred)


def nearest(queries: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> list[tuple[int, float]]:
    """For each of ``queries`` the index of the thumbnail among ``others`` that is most like it, and the correlation."""
    if not queries or not others:
        return []
    table = np.stack(others)
    found: list[tuple[int, float]] = []
    for start in range(0, len(queries), _ROWS):
        correlations = np.stack(queries[start : start + _ROWS]) @ table.T
        best = correlations.argmax(axis=1)
        found += [(int(index), float(row[index])) for index, row in zip(best, correlations, strict=True)]
    return found
