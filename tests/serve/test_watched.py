"""The enhancer that is watched gives what the enhancer gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradprom.images.frames import Frames
from gradprom.images.image import Image
from gradprom.inference.model import Model
from gradprom.serve import watched as module
from gradprom.serve.watched import SeenEnoughError, WatchedModel, checked_at_layers, shrunk


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


class Count(nn.Module):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return image * 0.5


def frames(count: int) -> Frames:
    def write(_: Path, __: Any) -> None:
        raise AssertionError

    return Frames("nifti", count, lambda n: np.full((8, 9, 1), n / 10, np.float32), write)


def test_an_image_and_what_was_seen_of_it() -> None:
    model = Model(Count(), channels=3)
    image = Image(noise(8, 9, 3, dtype=np.uint16), exif=b"II*\0")
    watched = WatchedModel(model, sigma=0, frame=None, whole=False)
    np.testing.assert_array_equal(watched.enhance_image(image).pixels, model.enhance_image(image).pixels)
    seen = watched.seen
    assert seen is not None
    np.testing.assert_array_equal(seen.before, image.pixels)
    np.testing.assert_array_equal(seen.after, model.enhance_image(image).pixels)
    assert (seen.frame, seen.frames, seen.format, seen.exif, seen.factor) == (0, 1, "png", b"II*\0", 1)


@pytest.mark.parametrize(("asked", "wanted"), [(None, 3), (0, 0), (5, 5), (99, 5)])
def test_one_image_of_many(asked: int | None, wanted: int) -> None:
    counter = Count()
    watched = WatchedModel(Model(counter, channels=1), sigma=0, frame=asked, whole=False)
    with pytest.raises(SeenEnoughError):
        list(watched.enhance_frames(frames(6)))
    assert counter.count == 1
    assert watched.seen is not None
    assert (watched.seen.frame, watched.seen.frames) == (wanted, 6)
    assert watched.seen.after[0, 0, 0] == pytest.approx(wanted / 20)


def test_all_of_many_and_one_of_one() -> None:
    watched = WatchedModel(Model(Count(), channels=1), sigma=0, frame=2, whole=True)
    assert [frame[0, 0, 0] for frame in watched.enhance_frames(frames(4))] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert watched.seen is not None
    assert watched.seen.frame == 2
    watched = WatchedModel(Model(Count(), channels=1), sigma=0, frame=None, whole=False)
    assert len(list(watched.enhance_frames(frames(1)))) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_noise_is_gaussian_and_the_same_each_time(dtype: Any) -> None:
    peak = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    grey = np.full((200, 250, 1), peak / 2, dtype)
    one = Frames("tiff", 2, lambda _: grey, lambda *_: None)

    def seen_with(frame: int) -> np.ndarray:
        watched = WatchedModel(Model(nn.Identity(), channels=1), sigma=0.1, frame=frame, whole=False)
        with pytest.raises(SeenEnoughError):
            list(watched.enhance_frames(one))
        assert watched.seen is not None
        np.testing.assert_array_equal(watched.seen.clean, grey)
        np.testing.assert_array_equal(watched.seen.after, watched.seen.before)
        return watched.seen.before / peak

    first = seen_with(0)
    assert first.std() == pytest.approx(0.1, rel=0.02)
    assert first.mean() == pytest.approx(0.5, abs=0.005)
    np.testing.assert_array_equal(seen_with(0), first)
    assert np.corrcoef(seen_with(1).ravel(), first.ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_noise_of_bands_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BAND", 50 * 4)
    watched = WatchedModel(Model(nn.Identity(), channels=1), sigma=0.1, frame=None, whole=False)
    watched.enhance_image(Image(np.full((9, 50, 1), 128, np.uint8)))
    assert watched.seen is not None
    rows = {row.tobytes() for row in watched.seen.before}
    assert len(rows) == 9


def test_large_images_are_shown_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_PIXELS", 100)
    watched = WatchedModel(Model(nn.Identity(), channels=1), sigma=0, frame=None, whole=False)
    image = Image(noise(21, 41, 1))
    assert watched.enhance_image(image).pixels.shape == (21, 41, 1)
    assert watched.seen is not None
    assert (watched.seen.factor, watched.seen.after.shape) == (3, (7, 13, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("factor", [1, 2, 3, 50])
def test_shrunk_to_means(dtype: Any, factor: int) -> None:
    pixels = noise(31, 47, 3, dtype=dtype)
    small = shrunk(pixels, factor)
    assert small.dtype == dtype
    down, across = (factor if side >= factor else 1 for side in (31, 47))
    cut = pixels[: 31 // down * down, : 47 // across * across].astype(float)
    means = cut.reshape(31 // down, down, 47 // across, across, 3).mean((1, 3))
    np.testing.assert_allclose(small, means, atol=0.501 if dtype != np.float32 else 1e-3)


def test_ended_between_layers_and_not_after() -> None:
    first, last = Count(), Count()
    model = nn.Sequential(first, last)
    with pytest.raises(SeenEnoughError), checked_at_layers(model.modules(), lambda: _after(first)):
        model(torch.zeros(1))
    assert (first.count, last.count) == (1, 0)
    model(torch.zeros(1))
    assert last.count == 1


def _after(layer: Count) -> None:
    if layer.count:
        raise SeenEnoughError
