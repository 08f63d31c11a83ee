from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gradprom.datasets._alike import nearest, thumbnail


def smooth(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Blurred noise: what thumbnails keep."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))[..., None]


def test_a_thumbnail_is_the_image_averaged_in_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (64, 96, 1), dtype=np.uint16)
    blocks = image.reshape(32, 2, 32, 3).astype(np.float64).mean(axis=(1, 3)).ravel()
    expected = (blocks - blocks.mean()) / np.linalg.norm(blocks - blocks.mean())
    np.testing.assert_allclose(thumbnail(image), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(11, 11), (11, 300), (33, 31), (32, 32)])
def test_any_size_gives_a_unit_vector(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = thumbnail(image)
    assert found.shape == (1024,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_a_flat_image_is_like_none() -> None:
    flat = np.full((40, 40, 1), 77, np.uint8)
    assert not thumbnail(flat).any()
    assert nearest([thumbnail(flat)], [thumbnail(flat)]) == [(0, 0.0)]


def test_copies_are_found_among_others() -> None:
    others = [smooth(seed) for seed in range(300)]
    buffer = io.BytesIO()
    copy = Image.fromarray(others[7][..., 0]).resize((90, 70), Image.Resampling.BICUBIC)
    copy.convert("RGB").save(buffer, "JPEG", quality=60)
    brighter = (others[123] // 2 + 100).astype(np.uint8)
    queries = [np.asarray(Image.open(buffer)), brighter, smooth(1000)]
    found = nearest([thumbnail(query) for query in queries], [thumbnail(other) for other in others])
    assert [index for index, _ in found[:2]] == [7, 123]
    assert min(correlation for _, correlation in found[:2]) > 0.98
    assert found[2][1] < 0.9


def test_as_many_answers_as_queries_and_none_without_others() -> None:
    thumbnails = [thumbnail(smooth(seed, 32, 32)) for seed in range(600)]
    found = nearest(thumbnails, thumbnails)
    assert [index for index, _ in found] == list(range(600))
    assert nearest(thumbnails, []) == nearest([], thumbnails) == []
