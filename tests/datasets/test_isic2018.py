from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.datasets import load_dataset
from gradprom.datasets.cache import PixelCache
from gradprom.errors import UserError

MASKS = "ISIC2018_Task1_Training_GroundTruth"


def test_reads_images_masks_and_diagnoses(make_isic: Callable[..., Path]) -> None:
    root = make_isic(["nevus", "melanoma"] * 5)
    dataset = load_dataset("isic2018", root)
    assert (dataset.channels, dataset.classes) == (3, ("melanoma", "nevus"))
    assert dataset.mask_classes == ("background", "lesion")
    assert len(dataset.train) == 8
    assert sorted(sample.label for sample in dataset.test) == [0, 1]
    for sample in dataset.train + dataset.test:
        index = int(sample.id[-7:])
        assert sample.label == 1 - index % 2
        assert sample.read_image().shape == (20, 30, 3)
        mask = sample.read_mask()
        assert mask.dtype == np.uint8
        assert mask.sum() == 5 * (1 + index)


@pytest.mark.parametrize("column", ["isic_id", "image_id", "image"])
def test_knows_the_archives_column_names(make_isic: Callable[..., Path], column: str) -> None:
    assert load_dataset("isic2018", make_isic(["a"] * 10, column=column)).classes == ("a",)


def test_without_metadata_there_are_no_labels(make_isic: Callable[..., Path]) -> None:
    dataset = load_dataset("isic2018", make_isic(), test_fraction=0.3)
    assert dataset.classes == ()
    assert {sample.label for sample in dataset.train + dataset.test} == {None}
    assert len(dataset.test) == 3


def test_missing_masks_are_counted_and_the_first_is_named(make_isic: Callable[..., Path]) -> None:
    root = make_isic()
    for index in (4, 7):
        (root / MASKS / f"ISIC_{index:07d}_segmentation.png").unlink()
    with pytest.raises(UserError, match=r"ISIC_0000004_segmentation\.png: .* 2 of 10"):
        load_dataset("isic2018", root)


def test_a_mask_without_an_image_is_an_image_that_is_missing(make_isic: Callable[..., Path]) -> None:
    root = make_isic(["nevus", "melanoma"] * 5)
    image = root / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000004.jpg"
    image.unlink()
    with pytest.raises(UserError, match=rf"^{image}: .* 1 of 10 images incomplete: get them from https://challenge"):
        load_dataset("isic2018", root)


def test_missing_diagnosis(make_isic: Callable[..., Path]) -> None:
    root = make_isic(["nevus"] * 9 + [""])
    with pytest.raises(UserError, match=r"metadata\.csv: .* 1 of 10 .* ISIC_0000009"):
        load_dataset("isic2018", root)


def test_mask_with_other_values(make_isic: Callable[..., Path]) -> None:
    root = make_isic()
    path = root / MASKS / "ISIC_0000000_segmentation.png"
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(path)
    dataset = load_dataset("isic2018", root)
    (sample,) = (s for s in dataset.train + dataset.test if s.id == "ISIC_0000000")
    with pytest.raises(UserError, match=r"ISIC_0000000_segmentation\.png: .* 0 and 255 alone, found 7"):
        sample.read_mask()


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"Training_Input and .*GroundTruth.*https://challenge\.isic-archive\.com"):
            load_dataset("isic2018", root)


@pytest.mark.realdata
def test_the_real_images(real_isic: Path) -> None:
    dataset = load_dataset("isic2018", real_isic)
    assert (len(dataset.train), len(dataset.test)) == (443, 111)
    assert dataset.classes == ("melanoma", "nevus", "seborrheic keratosis")
    assert Counter(sample.label for sample in dataset.test) == {0: 25, 1: 79, 2: 7}
    cache = PixelCache()
    for sample in dataset.test[::10]:
        image, mask = cache.get(sample, 3)
        assert max(image.shape) == 512
        assert image.shape[:2] == mask.shape
        assert set(np.unique(mask)) == {0, 1}
