"""The images of a run: loaders of training batches, and validation."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradprom._chain import chain_scale
from gradprom._process import processors
from gradprom.datasets import load_dataset
from gradprom.datasets.augment import Augment
from gradprom.datasets.cache import PixelCache
from gradprom.datasets.loader import Batch, Loader, ahead, test_key
from gradprom.datasets.sample import Dataset, Sample
from gradprom.degradations import build_degradation, degrade, degrade_batch
from gradprom.errors import UserError
from gradprom.measures import psnr
from gradprom.training._compile import uncompiled
from gradprom.training.config import Config, DatasetConfig

# validation images are looked at often: a corner of a huge one is enough
VALIDATION_SIZE = 512


def build_dataset(config: DatasetConfig) -> Dataset:
    """The dataset that a configuration names, split as it says."""
    return load_dataset(
        config.name,
        config.root,
        channels=config.channels,
        test_fraction=config.test_fraction,
        split_seed=config.split_seed,
        max_pixels=config.max_pixels,
        max_side=config.max_side,
        split=config.split,
        views=config.views,
        structures=config.structures,
    )


def stage_seed(seed: int, stage: str) -> int:
    """A seed for each stage of a run, so that none repeats another's random numbers."""
    return int(np.random.SeedSequence([seed, zlib.crc32(stage.encode())]).generate_state(1)[0])


class RunData:
    """The dataset of a run with validation images held out, its pixels cached, and the degradation.

    Raises:
        UserError: there are too few training images.
    """

    def __init__(self, config: Config, dataset: Dataset, *, rank: int = 0, world: int = 1) -> None:
        held = config.dataset.validation_images
        if len(dataset.train) <= held:
            raise UserError(
                f"dataset {dataset.name!r} has {len(dataset.train)} training images, of which "
                f"dataset.validation_images holds out {held}: give more images, or hold out fewer"
            )
        order = np.random.default_rng([config.dataset.split_seed, 1]).permutation(len(dataset.train))
        self.validation = [dataset.train[i] for i in sorted(order[:held])]
        # a patient who is looked at for validation is not learnt from
        watched = {sample.group for sample in self.validation if sample.group is not None}
        self.training = [dataset.train[i] for i in sorted(order[held:]) if dataset.train[i].group not in watched]
        if not self.training:
            raise UserError(
                f"dataset {dataset.name!r} has no patient left to train on: dataset.validation_images {held} holds out "
                "images of all of them: give images of more patients, or hold out fewer"
            )
        self.dataset = dataset
        self.degradation = build_degradation(config.degradation)
        self._scale = chain_scale(config.degradation)
        self.cache = PixelCache(int(config.training.cache_gb * 2**30))
        self._config = config
        self._rank, self._world = rank, world

    def loader(self, stage: str) -> Loader:
        """The training batches of a stage; the same (seed, stage, step) always gives the same batch."""
        training = self._config.training
        return Loader(
            self.training,
            channels=self.dataset.channels,
            batch_size=training.batch_size,
            size=self._config.size_of(stage),
            view=self._config.view_of(stage),
            seed=stage_seed(training.seed, stage),
            augment=Augment(
                rotate_probability=training.rotate,
                scale=(training.centre_crop, 1.0),
                dim=training.dim,
                foreign=training.foreign,
            )
            if training.augment
            else None,
            rank=self._rank,
            world=self._world,
            cache=self.cache,
        )

    def validation_pair(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """A degraded and a clean validation image, shape (1, C, H, W) in [0, 1]; in super-resolution one is smaller."""
        pixels = self.cache.get(sample, self.dataset.channels)[0]
        height, width = (min(side, VALIDATION_SIZE) // self._scale * self._scale for side in pixels.shape[:2])
        pixels = pixels[:height, :width]
        clean = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(2, 0, 1)
        key = test_key(sample.id, self._config.training.seed)
        return degrade(self.degradation, clean, key)[None], clean[None]

    def validate(
        self, enhancer: nn.Module, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> float:
        """Mean PSNR in dB of the enhanced validation images."""
        was_training = enhancer.training
        enhancer.eval()
        values = []
        with torch.inference_mode(), uncompiled(self._config.training.compile):
            for sample in self.validation:
                degraded, clean = self.validation_pair(sample)
                with autocast():
                    enhanced = enhancer(degraded.to(device, memory_format=torch.channels_last))
                values.append(psnr(enhanced.float().cpu(), clean).item())
        enhancer.train(was_training)
        return math.fsum(values) / len(values)


class TimedBatches:
    """Batches with their degraded images, and the share of time that was spent waiting for them."""

    def __init__(self, data: RunData, loader: Loader, start: int, stop: int, device: torch.device) -> None:
        self._loader = loader
        self._degradation = data.degradation
        self._batches: Generator[tuple[Tensor, Batch], None, None]
        if device.type != "cpu" or torch.get_num_threads() < processors():
            # degraded ahead, too: on one's own thread it would be waited for
            self._batches = ahead(self._make, start, stop)
        else:  # each processor has a thread that computes: one more makes the others wait for the one it displaces
            self._batches = (self._make(step) for step in range(start, stop))
        self._device = device
        self._waited = 0.0
        self._since = time.perf_counter()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Degraded and clean images, (N, C, H, W), and the truths by task."""
        while True:
            began = time.perf_counter()
            made = next(self._batches, None)
            if made is None:
                return
            ready = self._placed(*made)
            self._waited += time.perf_counter() - began
            yield ready

    def _make(self, step: int) -> tuple[Tensor, Batch]:
        batch = self._loader.batch(step)
        return degrade_batch(self._degradation, batch.clean, batch.keys), batch

    def _placed(self, degraded: Tensor, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        truths = {"diagnosis": batch.label, "segmentation": batch.mask}
        return (
            degraded.to(self._device, memory_format=torch.channels_last),
            batch.clean.to(self._device, memory_format=torch.channels_last),
            {task: truth.to(self._device) for task, truth in truths.items() if truth is not None},
        )

    def close(self) -> None:
        """Stop preparing batches."""
        self._batches.close()

    def share(self) -> float:
        """Waiting time over all time since the last call."""
        now = time.perf_counter()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share
