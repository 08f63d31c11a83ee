"""Decoded images, kept in memory while they fit."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets._progress import map_files
from gradprom.datasets.sample import Sample
from gradprom.images import to_channels

if TYPE_CHECKING:
    from rich.progress import Progress

Pixels = NDArray[Any]  # uint8 or uint16
Mask = NDArray[np.uint8]


class PixelCache:
    """Images and masks of samples, each decoded once and kept, up to a limit of memory.

    Past the limit a sample is decoded anew each time it is asked for, and what is kept stays. Safe to share between
    threads (two that ask for the same sample at the same moment may both decode it).

    Args:
        limit_bytes: how much decoded pixels may take.

    Example:
        >>> from gradprom.datasets import load_dataset
        >>> sample = load_dataset("brain_mr").test[0]
        >>> image, mask = PixelCache().get(sample, channels=3)
        >>> image.shape, mask.shape
        ((233, 197, 3), (233, 197))
    """

    def __init__(self, limit_bytes: int = 8 << 30) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._full = False
        self._lock = threading.Lock()
        # by sample and not by id: two datasets may well use the same ids
        self._kept: dict[tuple[Sample, int], tuple[Pixels, Mask | None]] = {}

    def get(self, sample: Sample, channels: int) -> tuple[Pixels, Mask | None]:
        """The image as (height, width, ``channels``) and its mask as (height, width), both read-only.

        Raises:
            UserError: when a file cannot be read.
        """
        kept = self._kept.get((sample, channels))
        if kept is not None:
            return kept
        # views, so that the reader's own arrays stay as they were
        image = to_channels(sample.read_image(), channels).view()
        mask = None if sample.read_mask is None else sample.read_mask().view()
        image.flags.writeable = False
        if mask is not None:
            mask.flags.writeable = False
        taken = image.nbytes + (0 if mask is None else mask.nbytes)
        with self._lock:
            if (sample, channels) in self._kept:
                return self._kept[sample, channels]
            if self.used_bytes + taken <= self.limit_bytes:
                self._kept[sample, channels] = image, mask
                self.used_bytes += taken
            else:
                self._full = True
        return image, mask

    def preload(self, samples: Iterable[Sample], channels: int, progress: Progress | None = None) -> None:
        """Decode ``samples`` with a few threads until the limit is reached; a bar shows when it takes long.

        Raises:
            UserError: for the first sample that cannot be read.
        """

        def read(sample: Sample) -> None:
            if not self._full:
                self.get(sample, channels)

        map_files(read, list(samples), "Reading images", progress)
