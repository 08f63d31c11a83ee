from __future__ import annotations

import io
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from gradprom.datasets import Sample, _progress
from gradprom.datasets.cache import PixelCache
from gradprom.errors import UserError


class Shelf:
    """Samples that count how often they are read."""

    def __init__(self, count: int, side: int = 10) -> None:
        self.reads: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.side = side
        self.samples = [
            Sample(f"s{i}", lambda i=i: self._read(f"s{i}", i), lambda: np.ones((side, side), np.uint8))
            for i in range(count)
        ]

    def _read(self, name: str, value: int) -> np.ndarray:
        with self.lock:
            self.reads[name] += 1
        return np.full((self.side, self.side, 1), value, np.uint8)


def test_decodes_once() -> None:
    shelf = Shelf(4)
    cache = PixelCache()
    for _ in range(3):
        for index, sample in enumerate(shelf.samples):
            image, mask = cache.get(sample, 1)
            assert (image == index).all()
            assert mask is not None
    assert set(shelf.reads.values()) == {1}
    assert cache.used_bytes == 4 * (100 + 100)


def test_beyond_the_limit_it_decodes_anew() -> None:
    shelf = Shelf(4)
    cache = PixelCache(limit_bytes=450)
    for _ in range(3):
        assert [int(cache.get(sample, 1)[0][0, 0, 0]) for sample in shelf.samples] == [0, 1, 2, 3]
    assert shelf.reads == {"s0": 1, "s1": 1, "s2": 3, "s3": 3}
    assert cache.used_bytes <= 450


def test_channels_are_kept_apart_and_so_are_datasets_with_the_same_ids() -> None:
    one, other = Shelf(1), Shelf(1, side=12)
    cache = PixelCache()
    assert cache.get(one.samples[0], 3)[0].shape == (10, 10, 3)
    assert cache.get(one.samples[0], 1)[0].shape == (10, 10, 1)
    assert cache.get(other.samples[0], 1)[0].shape == (12, 12, 1)


def test_what_is_kept_cannot_be_changed_and_the_readers_array_can() -> None:
    own = np.zeros((4, 4, 1), np.uint8)
    image, _ = PixelCache().get(Sample("s", lambda: own), 1)
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 1
    own[0] = 1


def test_many_threads_see_the_same_array() -> None:
    shelf = Shelf(8)
    cache = PixelCache()
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: cache.get(shelf.samples[i % 8], 1)[0], range(400)))
    for i, image in enumerate(images):
        assert image is images[i % 8]
    assert cache.used_bytes == 8 * 200


def test_preload_reads_all_that_fits() -> None:
    shelf = Shelf(6)
    cache = PixelCache()
    with Progress(console=Console(file=io.StringIO())) as progress:
        cache.preload(shelf.samples, 1, progress)
        assert progress.tasks == []
    assert len(shelf.reads) == 6

    full = PixelCache(limit_bytes=200)
    full.preload(shelf.samples, 1)
    assert full.used_bytes == 200


def test_a_bar_appears_on_stderr_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = Shelf(3)
    PixelCache().preload(shelf.samples, 1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(_progress, "_PATIENCE", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    PixelCache().preload(shelf.samples, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading images" in err


def test_preload_raises_what_a_sample_raises() -> None:
    def fail() -> np.ndarray:
        raise UserError("b.png: broken")

    shelf = Shelf(3)
    with pytest.raises(UserError, match=r"b\.png: broken"):
        PixelCache().preload([*shelf.samples, Sample("b", fail)], 1)
