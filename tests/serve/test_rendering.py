"""Pictures: exact where the eye compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.serve.rendering import difference, heat, regions, save_png, to_bytes, to_unit


def test_every_value_of_8_bits_survives() -> None:
    octets = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_bytes(octets), octets)
    np.testing.assert_array_equal(to_bytes(octets.astype(np.uint16) * 257), octets)
    np.testing.assert_array_equal(to_bytes(octets.astype(np.float32) / 255), octets)


@pytest.mark.parametrize(("kind", "value"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0), (np.float64, 1.0)])
def test_to_unit(kind: type, value: float) -> None:
    unit = to_unit(np.array([0, value], kind))
    assert unit.dtype == np.float32
    assert unit.tolist() == [0, 1]


def test_brighter_is_orange_and_darker_blue() -> None:
    before = np.full((2, 3, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0] += 51
    after[0, 1] -= 51
    after[0, 2, 1] += 51  # of one colour alone
    picture, limit = difference(before, after)
    assert limit == pytest.approx(0.2)
    assert picture[1].max() == 0
    red, _, blue = picture[0, 0]
    assert red > blue
    red, _, blue = picture[0, 1]
    assert blue > red
    assert picture[0, 2].sum() == pytest.approx(picture[0, 0].sum() / 3, abs=2)


def test_what_no_screen_shows_is_not_blown_up() -> None:
    before = np.full((4, 4, 1), 0.5, np.float32)
    picture, limit = difference(before, before + 1e-4)
    assert limit == pytest.approx(1 / 255)
    assert picture.max() < 10


def test_maps_are_clear_where_there_is_nothing() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    alpha = heat(values)[0, :, 3]
    assert alpha[0] == 0
    assert 0 < alpha[1] < alpha[2] < 255
    mask = regions(np.array([[0, 1, 2, 8]], np.uint8))
    assert mask[0, 0].tolist() == [0, 0, 0, 0]
    assert len({tuple(colour) for colour in mask[0, :3]}) == 3
    np.testing.assert_array_equal(mask[0, 1], mask[0, 3])  # seven colours, then anew


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_saved(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    save_png(tmp_path / "a.png", pixels[::-1])  # not in order, as what is turned is
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image).reshape(5, 7, channels), pixels[::-1])
