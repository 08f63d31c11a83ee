"""Batches as a pure function of the step, so that a resumed run sees what an uninterrupted one would have seen."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradprom.datasets.augment import Augment, crop_view, whole_view
from gradprom.datasets.cache import PixelCache
from gradprom.datasets.sample import Sample
from gradprom.errors import UserError

T = TypeVar("T")

_AHEAD = 4  # batches prepared while the last one is used


@dataclass(frozen=True)
class Batch:
    """Clean images and what is known of them.

    Attributes:
        ids: of the samples.
        clean: (N, C, H, W) float32 in [0, 1].
        mask: (N, H, W) int64 class numbers, or None where samples have no masks.
        label: (N,) int64, or None where samples have no labels.
        keys: for each sample a number of 63 bits, to seed what is drawn for it (its degradation).
    """

    ids: tuple[str, ...]
    clean: Tensor
    mask: Tensor | None
    label: Tensor | None
    keys: tuple[int, ...]


def test_key(sample_id: str, seed: int) -> int:
    """The 63-bit seed of an image's test degradation: the same in every run and on every machine.

    Example:
        >>> test_key("ISIC_0000000", 0) == test_key("ISIC_0000000", 0) != test_key("ISIC_0000000", 1)
        True
    """
    return _key("test", seed, sample_id)


class Loader:
    """Training batches: shuffled by epoch, augmented, read through a cache.

    Everything random is keyed by ``(seed, epoch, sample)``. Samples come in an order of their own each epoch, and
    batches run on across the end of an epoch, so each has ``batch_size`` samples, even from fewer samples than that.

    Args:
        samples: all with masks or none, all with labels or none.
        channels: 1 or 3.
        batch_size: samples in a batch over all processes.
        size: side of the images in pixels.
        view: ``crop`` (`crop_view`) or ``whole`` (`whole_view`).
        seed: another seed gives another order and other augmentations.
        augment: how to augment; None does not (a ``crop`` still lies where chance puts it).
        rank: which of ``world`` processes this is; each gets its share of every batch.
        world: how many processes share the batches.
        cache: where decoded pixels are kept.

    Raises:
        UserError: when there are no samples, only some have masks or labels, or the batch cannot be shared evenly.

    Example:
        >>> from gradprom.datasets import load_dataset
        >>> loader = Loader(load_dataset("brain_mr").train, channels=1, batch_size=4, size=64, view="crop", seed=0,
        ...                 augment=Augment(), cache=PixelCache())
        >>> loader.batch(0).clean.shape
        torch.Size([4, 1, 64, 64])
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        channels: int,
        batch_size: int,
        size: int,
        view: Literal["crop", "whole"],
        seed: int,
        augment: Augment | None,
        cache: PixelCache,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not samples:
            raise UserError("there are no samples to load: check the dataset and its split")
        if batch_size < 1 or batch_size % world:
            raise UserError(f"batch_size is {batch_size}: expected a multiple of the number of processes, {world}")
        if size < 1:
            raise UserError(f"size is {size}: expected at least 1 pixel")
        if view not in ("crop", "whole"):
            raise UserError(f"view is {view!r}: expected 'crop' or 'whole'")
        self._has_mask = _all_or_none("mask", [sample.read_mask is not None for sample in samples])
        self._has_label = _all_or_none("label", [sample.label is not None for sample in samples])
        self._samples = tuple(samples)
        self._channels = channels
        self._batch_size = batch_size
        self._size = size
        self._view = view
        self._seed = seed
        self._augment = augment
        self._cache = cache
        self._rank = rank
        self._share = batch_size // world
        # an epoch border may fall into a batch: two orders are in use at a time
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of ``step`` (0, 1, ...), whatever was asked for before.

        Raises:
            UserError: when a file cannot be read.
        """
        begin = step * self._batch_size + self._rank * self._share
        drawn = [self._draw(position) for position in range(begin, begin + self._share)]
        samples, keys, images, masks = zip(*drawn, strict=True)
        return Batch(
            ids=tuple(sample.id for sample in samples),
            clean=torch.stack(images),
            mask=torch.stack(masks) if self._has_mask else None,
            label=torch.tensor([sample.label for sample in samples]) if self._has_label else None,
            keys=keys,
        )

    def _draw(self, position: int) -> tuple[Sample, int, Tensor, Tensor | None]:
        epoch, place = divmod(position, len(self._samples))
        sample = self._samples[self._order(epoch)[place]]
        image, mask = self._cache.get(sample, self._channels)
        rng = np.random.Generator(np.random.Philox(key=_key("augment", self._seed, epoch, sample.id)))
        view = crop_view if self._view == "crop" else whole_view
        clean, classes = view(image, mask, self._size, rng, self._augment)
        return sample, _key("degrade", self._seed, epoch, sample.id), clean, classes

    def _shuffled(self, epoch: int) -> list[int]:
        rng = np.random.Generator(np.random.Philox(key=_key("order", self._seed, epoch)))
        return [int(index) for index in rng.permutation(len(self._samples))]


def ahead(make: Callable[[int], T], start: int, stop: int) -> Generator[T, None, None]:
    """What ``make`` gives for ``start`` to ``stop`` - 1, made a few steps ahead by one thread.

    The thread ends with the iterator, also when that is closed early; an exception in it is raised here.

    Example:
        >>> list(ahead(lambda step: step**2, 2, 5))
        [4, 9, 16]
    """
    ready: queue.Queue[T | _Failed] = queue.Queue(maxsize=_AHEAD)
    closed = threading.Event()

    def put(item: T | _Failed) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for step in range(start, stop):
                if closed.is_set():
                    return
                put(make(step))
        except BaseException as error:  # whatever it is, it belongs to the caller
            put(_Failed(error))

    thread = threading.Thread(target=work, name="gradprom-loader", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            item = ready.get()
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        closed.set()
        thread.join()


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def _all_or_none(what: str, present: list[bool]) -> bool:
    if any(present) and not all(present):
        lacking = len(present) - sum(present)
        raise UserError(f"expected a {what} for every sample or for none, found {lacking} of {len(present)} without")
    return present[0]


def _key(*parts: object) -> int:
    """63 bits of a hash: the same for the same parts, on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
