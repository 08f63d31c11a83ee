from __future__ import annotations

import socket

import numpy as np
import pytest

from gradprom.datasets import brain_mr, load_dataset


def test_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the embedded dataset opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    brain_mr._slices.cache_clear()
    assert load_dataset("brain_mr").train


def test_train_and_test_lie_apart() -> None:
    dataset = load_dataset("brain_mr")
    train = [int(sample.id[1:]) for sample in dataset.train]
    test = [int(sample.id[1:]) for sample in dataset.test]
    assert min(abs(a - b) for a in train for b in test) > 8
    assert len(dataset.train) > 3 * len(dataset.test) > 30
    assert len({sample.id for sample in dataset.train + dataset.test}) == len(train) + len(test)


def test_white_matter_is_brighter_than_grey_and_grey_than_background() -> None:
    # so it is in T1 images: masks and intensities must then belong to each other
    dataset = load_dataset("brain_mr")
    for sample in (dataset.train[0], dataset.test[10], dataset.train[-1]):
        image, mask = sample.read_image(), sample.read_mask()
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 1)
        means = [image[mask == tissue].mean() for tissue in range(3)]
        assert means[0] < 40 < means[1] < means[2] - 20
        assert (mask > 0).mean() >= brain_mr.MIN_BRAIN


def test_slices_are_symmetric_left_to_right() -> None:
    # the template is symmetric: columns must run across the head, not along it
    image = load_dataset("brain_mr").test[0].read_image()[..., 0].astype(float)
    assert np.abs(image - image[:, ::-1]).mean() < 1
    assert np.abs(image - image[::-1]).mean() > 10
