from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_erosion

from gradprom.datasets.augment import Augment, crop_view, whole_view, with_foreign_object
from gradprom.errors import UserError

NO_FLIP, MIDDLE = 0.9, 0.5


class Drawn:
    """Random numbers chosen by the test: scale, top, left, whether to rotate, angle, flips."""

    def __init__(self, *values: float) -> None:
        self.values = np.array(values)

    def random(self, count: int) -> np.ndarray:
        assert count == len(self.values)
        return self.values


def generator(*values: float) -> Any:
    return Drawn(*values)


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, high, (height, width, channels), dtype=dtype)


def crops(image: np.ndarray, size: int) -> set[bytes]:
    """Every crop of the image there is."""
    height, width = image.shape[:2]
    return {
        image[top : top + size, left : left + size].tobytes()
        for top in range(height - size + 1)
        for left in range(width - size + 1)
    }


def test_unrotated_crops_are_the_images_own_pixels() -> None:
    image = noise(40, 30)
    augment = Augment(flip=False, rotate_probability=0)
    every = crops(image, 16)
    seen = set()
    for seed in range(30):
        view, _ = crop_view(image, None, 16, np.random.default_rng(seed), augment)
        seen.add((view * 255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes())
    assert seen <= every
    assert len(seen) > 20


def test_crops_stay_within_the_centre() -> None:
    image = np.zeros((40, 60, 1), np.uint8)
    image[10:30, 15:45] = 255
    augment = Augment(flip=False, rotate_probability=0, scale=(0.5, 0.5))
    for seed in range(30):
        view, _ = crop_view(image, None, 12, np.random.default_rng(seed), augment)
        assert view.min() == 1
    for seed in range(30):  # and without augmentation they may lie anywhere
        view, _ = crop_view(image, None, 12, np.random.default_rng(seed))
        if view.min() == 0:
            return
    pytest.fail("no crop reached the border")


def test_every_place_is_drawn() -> None:
    image = np.arange(5, dtype=np.uint8)[:, None, None].repeat(5, axis=1)
    rng = np.random.default_rng(0)
    assert {int(crop_view(image, None, 3, rng)[0][0, 0, 0] * 255 + 0.5) for _ in range(60)} == {0, 1, 2}


@pytest.mark.parametrize("flips", [(0.1, NO_FLIP), (NO_FLIP, 0.1), (0.1, 0.1)])
@pytest.mark.parametrize("view", [crop_view, whole_view])
def test_flips_turn_image_and_mask_alike(flips: tuple[float, float], view: Any) -> None:
    image = noise(16, 16)
    mask = image[..., 0]
    rng = generator(1.0, 0.0, 0.0, 0.9, 0.0, *flips)
    pixels, classes = view(image, mask, 16, rng, Augment())
    expected = image[:, ::-1] if flips[0] < 0.5 else image
    expected = expected[::-1] if flips[1] < 0.5 else expected
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), expected / 255, atol=1e-6)
    np.testing.assert_array_equal(classes.numpy(), expected[..., 0])


@pytest.mark.parametrize(("view", "shape", "scale"), [(crop_view, (120, 90), 1.0), (whole_view, (160, 100), 0.5)])
@pytest.mark.parametrize("degrees", [-10.0, 4.0, 10.0])
def test_rotation_is_that_of_the_image_before_resizing(
    view: Any, shape: tuple[int, int], scale: float, degrees: float
) -> None:
    """Of a plane the rotated values are known: the plane at the rotated places."""
    size = 40
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    image = (0.1 + 0.003 * y + 0.002 * x)[..., None]
    draw = (1.0, MIDDLE, MIDDLE, 0.0, (degrees + 10) / 20, NO_FLIP, NO_FLIP)
    mask = np.arange(shape[0])[:, None].repeat(shape[1], axis=1)  # each pixel's class is its row
    pixels, classes = view(image, mask, size, generator(*draw), Augment(scale=(scale, scale)))

    height, width = (size, size) if view is crop_view else (shape[0] // 2, shape[1] // 2)
    i, j = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    down, right = i * height, j * width
    turn = math.radians(degrees)
    rows = (shape[0] - 1) / 2 + math.cos(turn) * down + math.sin(turn) * right
    columns = (shape[1] - 1) / 2 - math.sin(turn) * down + math.cos(turn) * right
    expected = 0.1 + 0.003 * rows + 0.002 * columns
    # torch's bicubic kernel keeps planes to a tenth of a pixel; crops of even size in odd space sit half a pixel off
    np.testing.assert_allclose(pixels[0].numpy(), expected, atol=0.0022)
    assert np.abs(classes.numpy() - rows).max() <= 1.01


def test_no_padding_enters_a_rotation() -> None:
    image = np.full((20, 26, 3), 200, np.uint8)
    mask = np.full((20, 26), 2, np.uint8)
    for view, size in ((crop_view, 20), (crop_view, 32), (whole_view, 12), (whole_view, 40)):
        for seed in range(5):
            augment = Augment(rotate=45, rotate_probability=1, scale=(1, 1))
            pixels, classes = view(image, mask, size, np.random.default_rng(seed), augment)
            np.testing.assert_allclose(pixels.numpy(), 200 / 255, atol=1e-5)
            assert (classes == 2).all()


def test_mask_follows_the_image() -> None:
    y, x = np.mgrid[:200, :150]
    mask = ((y - 90) ** 2 + (x - 80) ** 2 < 40**2).astype(np.uint8)
    image = (mask * 255)[..., None]
    for view in (crop_view, whole_view):
        for seed in range(10):
            pixels, classes = view(image, mask, 64, np.random.default_rng(seed), Augment(rotate_probability=1))
            agree = (pixels[0] > 0.5) == (classes == 1)
            assert agree.float().mean() > 0.98


def test_plain_view_is_pillows_antialiased_resize() -> None:
    image = noise(90, 60)
    view, mask = whole_view(image, image[..., 0], 30)
    reference = np.asarray(Image.fromarray(image).resize((30, 30), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(view.permute(1, 2, 0).numpy() * 255, reference, atol=1)
    np.testing.assert_array_equal(mask.numpy(), image[1::3, 1::2, 0])


def test_small_images_are_mirrored() -> None:
    image = np.arange(1, 5, dtype=np.uint8).reshape(1, 4, 1)
    view, _ = crop_view(image, None, 8, np.random.default_rng(0))
    expected = np.pad(image[..., 0], ((3, 4), (2, 2)), mode="reflect")  # rows: one pixel, mirrored, is itself
    np.testing.assert_array_equal((view[0] * 255).round().numpy(), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shapes_types_and_ranges(channels: int, dtype: Any) -> None:
    image = noise(50, 70, channels, dtype)
    mask = noise(50, 70, 1)[..., 0] % 3
    for view in (crop_view, whole_view):
        for seed in range(8):
            pixels, classes = view(image, mask, 32, np.random.default_rng(seed), Augment())
            assert (pixels.shape, pixels.dtype) == ((channels, 32, 32), torch.float32)
            assert (classes.shape, classes.dtype) == ((32, 32), torch.int64)
            assert 0 <= pixels.min() < pixels.max() <= 1
            assert set(classes.unique().tolist()) <= {0, 1, 2}
            again, _ = view(image, None, 32, np.random.default_rng(seed), Augment())
            assert torch.equal(pixels, again)


def test_inputs_are_left_as_they_are() -> None:
    image = noise(40, 40).astype(np.float32) / 255
    mask = np.ones((40, 40), np.uint8)
    image.flags.writeable = mask.flags.writeable = False  # a cache's arrays are read-only: torch must not complain
    before = image.copy()
    for view in (crop_view, whole_view):
        pixels, _ = view(image, mask, 40, np.random.default_rng(0), Augment(flip=False, rotate=0, scale=(1, 1)))
        pixels.zero_()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "options",
    [
        *({"rotate": -1}, {"rotate_probability": 2}, {"scale": (0.0, 1.0)}, {"scale": (1.0, 0.5)}),
        *({"dim": -1}, {"foreign": 1.5}),
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(options))} is"):
        Augment(**options)


def test_crops_cover_every_pixel_about_as_often() -> None:
    image = np.zeros((60, 60, 1), np.uint8)
    counts = np.zeros((60, 60))
    image[..., 0] = np.arange(60)[:, None]
    rng = np.random.default_rng(0)
    for _ in range(4000):
        view, _ = crop_view(image, None, 20, rng)
        top = round(float(view[0, 0, 0]) * 255)
        counts[top : top + 20] += 1
    rows = counts[:, 0] / counts[:, 0].mean()
    assert rows.min() > 0.45  # drawn evenly, the first row would be in one crop where the middle is in twenty
    assert rows.max() < 1.7


@pytest.mark.parametrize("channels", [1, 3])
def test_a_foreign_object_is_a_disc_of_another_material(channels: int) -> None:
    image = torch.rand(channels, 30, 40, generator=torch.Generator().manual_seed(0)) / 50  # dark and nearly flat
    before = image.clone()
    shares, means, grains = [], [], []
    for seed in range(400):
        other, is_foreign = with_foreign_object(image, np.random.default_rng(seed))
        assert torch.equal(image, before)
        assert 0 <= other.min() <= other.max() <= 1
        inside = (other != image).any(0).numpy()
        assert not (is_foreign.numpy() & ~inside).any()
        assert is_foreign.numpy()[binary_erosion(inside, iterations=2)].all()
        shares.append(inside.mean())
        if not 20 < inside.sum() < 1100:
            continue
        # between two pixels of a disc lies nothing that is not of it
        for line in (*inside, *inside.T):
            assert np.count_nonzero(np.diff(line.astype(int))) <= 2
        core = binary_erosion(inside, iterations=2)  # the rim is half of each
        if not core.any():
            continue
        means += other[:, core].mean(1).tolist()
        if 0.3 < means[-1] < 0.7 and core.sum() > 50:
            grains.append(float(other[-1, core].std()))
    assert 0.1 < np.mean(shares) < 0.5
    assert np.quantile(means, 0.1) < 0.25 < 0.75 < np.quantile(means, 0.9)
    assert min(grains) < 0.03
    assert 0.07 < max(grains) < 0.2


@pytest.mark.parametrize("view", [crop_view, whole_view])
def test_so_many_views_get_a_foreign_object(view: Any) -> None:
    image, mask = noise(40, 40), np.ones((40, 40), np.uint8)
    plain = {"flip": False, "rotate_probability": 0, "scale": (1.0, 1.0)}
    changed = 0
    for seed in range(200):
        before, _ = view(image, None, 40, np.random.default_rng(seed), Augment(**plain))
        after, classes = view(image, mask, 40, np.random.default_rng(seed), Augment(**plain, foreign=0.3))
        changed += not torch.equal(before, after)
        inside = (before != after).any(0).numpy()
        assert set(classes[binary_erosion(inside, iterations=2)].tolist()) <= {0}  # no lesion there
        assert classes[~inside].all()
    assert 40 < changed < 80


@pytest.mark.parametrize("view", [crop_view, whole_view])
def test_so_many_views_are_darkened(view: Any) -> None:
    image, mask = noise(40, 40, 1), np.ones((40, 40), np.uint8)
    plain = {"flip": False, "rotate_probability": 0, "scale": (1.0, 1.0)}
    factors = []
    for seed in range(200):
        before, _ = view(image, None, 40, np.random.default_rng(seed), Augment(**plain))
        after, classes = view(image, mask, 40, np.random.default_rng(seed), Augment(**plain, dim=0.5))
        factors.append(float(after.sum() / before.sum()))
        torch.testing.assert_close(after, before * factors[-1])
        assert classes.all()
    assert 70 < factors.count(1.0) < 130
    assert 0.1 < min(factors) < 0.15
    assert 0.95 < max(factor for factor in factors if factor < 1) < 1
