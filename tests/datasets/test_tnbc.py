from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.datasets import load_dataset
from gradprom.datasets.tnbc import load_tnbc
from gradprom.errors import UserError

TILES = {"01": 4, "02": 3, "03": 5, "04": 2, "05": 2}


def _mask(index: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5 : 6 + index] = 255
    return mask


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _make(root: Path, image_folder: str, mask_folder: str, mode: str = "L") -> Path:
    for patient, count in TILES.items():
        for index in range(1, count + 1):
            name = f"{patient}_{index}.png"
            pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 4), dtype=np.uint8)
            _save(root / image_folder.format(patient) / name, Image.fromarray(pixels))
            _save(root / mask_folder.format(patient) / name, Image.fromarray(_mask(index)).convert(mode))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _make(tmp_path, "images", "masks")


@pytest.mark.parametrize("folders", [("images", "masks"), ("Slide_{}", "GT_{}")])
@pytest.mark.parametrize("mode", ["L", "1", "RGBA"])
def test_reads_both_layouts_and_masks_of_255_and_of_one_bit(
    tmp_path: Path, folders: tuple[str, str], mode: str
) -> None:
    dataset = load_tnbc(_make(tmp_path, *folders, mode))
    assert (dataset.channels, dataset.classes, dataset.mask_classes) == (3, (), ("background", "nucleus"))
    samples = {sample.id: sample for sample in dataset.train + dataset.test}
    assert sorted(samples) == sorted(f"{patient}_{i}" for patient, n in TILES.items() for i in range(1, n + 1))
    for name, sample in samples.items():
        assert sample.read_image().shape == (20, 30, 3)
        assert sample.label is None
        mask = sample.read_mask()
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, _mask(int(name[-1])) == 255)


def test_a_mask_without_nuclei(root: Path) -> None:
    _save(root / "masks" / "01_1.png", Image.fromarray(np.zeros((20, 30), np.uint8)))
    assert not _sample(root, "01_1").read_mask().any()


@pytest.mark.parametrize("seed", range(5))
def test_patients_are_not_split(root: Path, seed: int) -> None:
    dataset = load_tnbc(root, test_fraction=0.4, split_seed=seed)
    sides = [Counter(sample.group for sample in part) for part in (dataset.train, dataset.test)]
    assert sides[0] + sides[1] == TILES
    assert [len(side) for side in sides] == [3, 2]
    assert all(sample.id.startswith(f"{sample.group}_") for sample in dataset.train + dataset.test)


@pytest.mark.parametrize("value", [7, 254])
def test_masks_with_other_values(root: Path, value: int) -> None:
    mask = _mask(1)
    mask[0, 0] = value
    _save(root / "masks" / "01_1.png", Image.fromarray(mask))
    with pytest.raises(UserError, match=rf"01_1\.png: expected a mask of 0 and 255, or of 0 and 1, found {value}"):
        _sample(root, "01_1").read_mask()


def test_masks_with_1_beside_255(root: Path) -> None:
    mask = _mask(1)
    mask[0, 0] = 1
    _save(root / "masks" / "01_1.png", Image.fromarray(mask))
    with pytest.raises(UserError, match=r"01_1\.png: .* found 1:"):
        _sample(root, "01_1").read_mask()


def test_mask_of_another_size(root: Path) -> None:
    _save(root / "masks" / "01_1.png", Image.fromarray(np.zeros((20, 31), np.uint8)))
    with pytest.raises(UserError, match=r"masks/01_1\.png: expected 30 x 20 pixels .* found 31 x 20"):
        _sample(root, "01_1").read_mask()


def test_missing_masks_are_counted_and_the_first_is_named(root: Path) -> None:
    for name in ("02_3", "01_2"):
        (root / "masks" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=r"masks/01_2\.png: .* 2 of 16 images incomplete"):
        load_dataset("tnbc", root)


def test_slides_without_their_masks(tmp_path: Path) -> None:
    root = _make(tmp_path, "Slide_{}", "GT_{}")
    (root / "GT_03").rename(root / "elsewhere")
    with pytest.raises(UserError, match=rf"GT_03/03_1\.png: .* {TILES['03']} of 16 images incomplete"):
        load_dataset("tnbc", root)


def test_all_that_slides_lack_is_listed(tmp_path: Path) -> None:
    root = _make(tmp_path, "Slide_{}", "GT_{}")
    lacking = [root / "GT_01" / "01_2.png", *(root / "Slide_05" / f"05_{index}.png" for index in (1, 2))]
    for path in lacking:
        path.unlink()
    dataset = load_dataset("tnbc", root, whole=False)
    missing = [path for sample in dataset.train + dataset.test for path in sample.missing()]
    assert sorted(missing) == lacking


def test_a_name_without_a_patient(root: Path) -> None:
    for folder in ("images", "masks"):
        (root / folder / "01_1.png").rename(root / folder / "tile.png")
    with pytest.raises(UserError, match=r"tile\.png: expected a name such as 01_2\.png"):
        load_tnbc(root)


def test_one_name_in_two_slides(tmp_path: Path) -> None:
    root = _make(tmp_path, "Slide_{}", "GT_{}")
    for folder in ("Slide", "GT"):
        (root / f"{folder}_02" / "02_1.png").rename(root / f"{folder}_02" / "01_1.png")
    with pytest.raises(UserError, match=r"Slide_02/01_1\.png: expected each image once, found .*Slide_01/01_1\.png"):
        load_tnbc(root)


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"Slide_01 .* GT_01 .*https://zenodo\.org"):
            load_tnbc(root)


def _sample(root: Path, name: str):
    dataset = load_tnbc(root)
    return next(sample for sample in dataset.train + dataset.test if sample.id == name)


@pytest.mark.realdata
def test_the_real_images() -> None:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / "tnbc"
    if not root.is_dir():
        pytest.skip(f"needs the real TNBC images in {root}: set GRADPROM_DATA to the folder that holds tnbc")
    dataset = load_tnbc(root)
    samples = dataset.train + dataset.test
    assert (len(samples), len({sample.group for sample in samples})) == (50, 11)
    assert len({sample.group for sample in dataset.test}) == 2
    for sample in samples[::5]:
        image, mask = sample.read_image(), sample.read_mask()
        assert (image.shape, mask.shape) == ((512, 512, 3), (512, 512))
        # haematoxylin makes nuclei darker than what is around them
        assert image[mask == 1].mean() < image[mask == 0].mean()
