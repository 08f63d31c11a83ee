"""Images larger than wanted are brought down as they are read."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gradprom.datasets._shrink import shrunk
from gradprom.datasets.sample import Sample


def sample_of(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> Sample:
    return Sample("a", lambda: image, None if mask is None else lambda: mask)


def test_image_is_resampled_as_pillow_does() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(coarse).resize((72, 96), Image.Resampling.BICUBIC))
    small = shrunk(sample_of(image), 32).read_image()
    reference = np.array(Image.fromarray(image).resize((24, 32), Image.Resampling.BILINEAR)).astype(int)
    assert small.shape == (32, 24, 3)
    assert small.dtype == np.uint8
    assert np.abs(small.astype(int) - reference).max() <= 1


def test_mask_keeps_its_classes_and_its_place() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 7
    sample = shrunk(sample_of(np.zeros((40, 60, 1), np.uint8), mask), 30)
    assert sample.read_mask is not None
    small = sample.read_mask()
    assert small.shape == sample.read_image().shape[:2] == (20, 30)
    assert (small[:, :15] == 0).all()
    assert (small[:, 15:] == 7).all()


@pytest.mark.parametrize("max_side", [60, 100])
def test_small_ones_stay(max_side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    sample = shrunk(sample_of(image), max_side)
    assert (sample.read_image() == image).all()
    assert sample.read_mask is None
