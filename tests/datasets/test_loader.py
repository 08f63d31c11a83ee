from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from gradprom.datasets import Sample, loader
from gradprom.datasets.augment import Augment
from gradprom.datasets.cache import PixelCache
from gradprom.datasets.loader import Batch, Loader, ahead
from gradprom.errors import UserError


def samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        image = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        made.append(Sample(f"s{index}", lambda image=image: image, lambda image=image: image[..., 0] % 2, index % 3))
    return made


def make(given: list[Sample] | None = None, **options: Any) -> Loader:
    defaults: dict[str, Any] = {
        "channels": 3,
        "batch_size": 4,
        "size": 16,
        "view": "crop",
        "seed": 0,
        "augment": Augment(),
        "cache": PixelCache(),
    }
    return Loader(samples(10) if given is None else given, **(defaults | options))


def same(a: Batch, b: Batch) -> bool:
    return (
        (a.ids, a.keys) == (b.ids, b.keys)
        and torch.equal(a.clean, b.clean)
        and torch.equal(a.mask, b.mask)
        and torch.equal(a.label, b.label)
    )


@pytest.mark.parametrize("view", ["crop", "whole"])
def test_a_batch_depends_on_its_step_alone(view: str) -> None:
    forth, back = make(view=view), make(view=view)
    first = [forth.batch(step) for step in range(12)]
    for step in reversed(range(12)):
        assert same(back.batch(step), first[step])
    batch = first[0]
    assert (batch.clean.shape, batch.clean.dtype) == ((4, 3, 16, 16), torch.float32)
    assert (batch.mask.shape, batch.mask.dtype) == ((4, 16, 16), torch.int64)
    assert (batch.label.shape, batch.label.dtype) == ((4,), torch.int64)
    assert [int(name[1:]) % 3 for name in batch.ids] == batch.label.tolist()


def test_each_epoch_has_every_sample_once_in_another_order() -> None:
    ids = [name for step in range(10) for name in make().batch(step).ids]  # 40 of 10: batches cross epoch borders
    epochs = [tuple(ids[i : i + 10]) for i in range(0, 40, 10)]
    assert all(sorted(epoch) == sorted(f"s{i}" for i in range(10)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_batches_may_be_larger_than_the_dataset() -> None:
    batch = make(samples(3), batch_size=8).batch(5)
    assert max(Counter(batch.ids).values()) <= 4
    assert len(set(batch.keys)) == 8


def test_the_keys_are_new_each_epoch_and_seed() -> None:
    keys = [key for seed in (0, 1) for step in range(10) for key in make(seed=seed).batch(step).keys]
    assert len(set(keys)) == 80
    assert all(0 <= key < 2**63 for key in keys)
    torch.Generator().manual_seed(max(keys))


def test_augmentation_differs_between_epochs_and_seeds() -> None:
    given = samples(1)
    views = [make(given, batch_size=1, seed=seed).batch(step).clean for seed in (0, 1) for step in range(4)]
    for index, view in enumerate(views):
        assert not any(torch.equal(view, other) for other in views[:index])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_batch_of_one(world: int) -> None:
    alone = make()
    ranks = [make(rank=rank, world=world) for rank in range(world)]
    for step in (0, 2, 7):
        shares = [rank.batch(step) for rank in ranks]
        assert torch.equal(torch.cat([share.clean for share in shares]), alone.batch(step).clean)
        assert sum((share.keys for share in shares), ()) == alone.batch(step).keys


def test_iterate_gives_the_same_batches() -> None:
    reference = make()
    steps = range(3, 15)
    for step, batch in zip(steps, ahead(make().batch, 3, 15), strict=True):
        assert same(batch, reference.batch(step))
    assert list(ahead(make().batch, 5, 5)) == []


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gradprom-loader"]


def test_the_thread_works_ahead_but_not_without_bound_and_ends_with_the_iterator() -> None:
    read: list[str] = []

    class Counting(PixelCache):
        def get(self, sample: Sample, channels: int) -> Any:
            read.append(sample.id)
            return super().get(sample, channels)

    batches = ahead(make(cache=Counting()).batch, 0, 10**9)
    next(batches)
    deadline = time.monotonic() + 10
    while len(read) < 4 * 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(read) == 4 * 6  # one given, four in the queue, one waiting to enter it
    assert len(_threads()) == 1
    batches.close()
    assert _threads() == []


def test_an_exception_in_the_thread_reaches_the_caller() -> None:
    def fail() -> np.ndarray:
        raise UserError("b.png: broken")

    given = [*samples(9), Sample("b", fail, lambda: np.zeros((40, 36), np.uint8), 0)]
    with pytest.raises(UserError, match=r"b\.png: broken"):
        for _ in ahead(make(given).batch, 0, 100):
            pass
    assert _threads() == []


def test_without_masks_and_labels() -> None:
    batch = make([Sample("a", lambda: np.zeros((20, 20, 1), np.uint8))], augment=None).batch(0)
    assert batch.mask is None
    assert batch.label is None
    assert batch.clean.shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given": []}, "no samples"),
        ({"batch_size": 5, "world": 2}, "batch_size is 5: expected a multiple of the number of processes, 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": 0}, "size is 0"),
        ({"view": "half"}, "view is 'half'"),
        ({"given": [*samples(2), Sample("x", lambda: np.zeros((9, 9, 1), np.uint8), None, 1)]}, "1 of 3 without"),
        ({"given": [Sample("x", lambda: np.zeros((9, 9, 1), np.uint8), None, i) for i in (1, None)]}, "a label for"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_test_keys_are_the_same_for_ever() -> None:
    assert loader.test_key("ISIC_0000000", 0) == 6721058174254964791
    assert len({loader.test_key(f"s{i}", seed) for i in range(100) for seed in range(3)}) == 300


@pytest.mark.realdata
def test_real_images_load_and_resume(real_isic: Any) -> None:
    from gradprom.datasets import load_dataset

    given = load_dataset("isic2018", real_isic).train[:24]
    cache = PixelCache()
    cache.preload(given, 3)
    options = {"batch_size": 8, "size": 96, "cache": cache}
    for step, batch in zip(range(2, 6), ahead(make(given, **options).batch, 2, 6), strict=True):
        assert same(batch, make(given, **options).batch(step))
        assert 0 <= batch.clean.min() < batch.clean.max() <= 1
