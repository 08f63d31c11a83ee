from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.datasets import load_dataset
from gradprom.datasets.cache import PixelCache
from gradprom.datasets.covid_ct import load_covid_ct
from gradprom.errors import UserError

Make = Callable[[], Path]
PARTS = ("train", "val", "test", "train", "test")  # of images 0 to 4 of each class


def draw(path: Path, mode: str, seed: int) -> None:
    """Noise of 20 x 30 pixels; JPEG where the mode says so, whatever the name."""
    values = np.random.default_rng(seed).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if mode.startswith("JPEG") else "PNG"
    Image.fromarray(values).convert(mode.removeprefix("JPEG")).save(path, format=kind)


def set_list(root: Path, name: str, part: str, files: list[str], end: str = "\n") -> None:
    path = root / "Data-split" / name / f"{part}CT_{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join(files).encode())  # no end after the last, as in the real ones


@pytest.fixture
def make_covid(tmp_path: Path) -> Make:
    def make() -> Path:
        root = tmp_path / "covid"
        modes = ("L", "RGB", "RGBA", "JPEGRGB", "L")
        for name, suffix, end in (("COVID", ".png", "\n"), ("NonCOVID", ".jpg", "\r\n")):
            files = [f"2020.03.{index}-p1%{index}{suffix}" for index in range(5)]
            for seed, (file, mode) in enumerate(zip(files, modes, strict=True)):
                draw(root / "Images-processed" / f"CT_{name}" / file, mode, seed)
            for part in ("train", "val", "test"):
                set_list(
                    root, name, part, [file for file, where in zip(files, PARTS, strict=True) if where == part], end
                )
        return root

    return make


def test_official_split_labels_and_ids(make_covid: Make) -> None:
    dataset = load_covid_ct(make_covid())
    assert (dataset.channels, dataset.classes, dataset.mask_classes) == (1, ("COVID", "NonCOVID"), ())
    assert {sample.id: sample.label for sample in dataset.test} == {
        "COVID-2020.03.2-p1_2": 0,
        "COVID-2020.03.4-p1_4": 0,
        "NonCOVID-2020.03.2-p1_2": 1,
        "NonCOVID-2020.03.4-p1_4": 1,
    }
    assert Counter(sample.label for sample in dataset.train) == {0: 3, 1: 3}
    assert all(sample.read_mask is None for sample in dataset.train)


def test_grey_colour_and_alpha_all_become_one_channel(make_covid: Make) -> None:
    root = make_covid()
    dataset = load_covid_ct(root)
    cache = PixelCache()
    for sample in dataset.train + dataset.test:
        assert cache.get(sample, dataset.channels)[0].shape == (20, 30, 1)
    (with_alpha,) = (sample for sample in dataset.test if sample.id == "COVID-2020.03.2-p1_2")
    stored = np.asarray(Image.open(root / "Images-processed" / "CT_COVID" / "2020.03.2-p1%2.png"))
    assert stored.shape == (20, 30, 4)
    np.testing.assert_array_equal(with_alpha.read_image(), stored[..., :3])
    assert load_covid_ct(root, channels=3).channels == 3


def test_random_split_is_by_class_and_needs_no_lists(tmp_path: Path) -> None:
    for name, count in (("COVID", 10), ("NonCOVID", 20)):
        for index in range(count):
            draw(tmp_path / "Images-processed" / f"CT_{name}" / f"{index}.png", "L", index)
    dataset = load_covid_ct(tmp_path, split="random")
    assert Counter(sample.label for sample in dataset.test) == {0: 2, 1: 4}
    assert Counter(sample.label for sample in dataset.train) == {0: 8, 1: 16}
    again, other = (load_covid_ct(tmp_path, split="random", split_seed=seed) for seed in (0, 1))
    assert [sample.id for sample in again.test] == [sample.id for sample in dataset.test]
    assert {sample.id for sample in other.test} != {sample.id for sample in dataset.test}
    assert len(load_covid_ct(tmp_path, split="random", test_fraction=0.5).test) == 15


@pytest.mark.parametrize(("fraction", "tested"), [(0.2, 146), (0.1, 75), (0.201, 150)])
def test_random_split_of_the_whole_is_the_papers(tmp_path: Path, fraction: float, tested: int) -> None:
    for name, count in (("COVID", 349), ("NonCOVID", 397)):
        folder = tmp_path / "Images-processed" / f"CT_{name}"
        folder.mkdir(parents=True)
        for index in range(count):
            (folder / f"{index}.png").touch()  # pixels are not looked at before they are needed
    dataset = load_covid_ct(tmp_path, split="random", test_fraction=fraction)
    assert (len(dataset.train), len(dataset.test)) == (746 - tested, tested)


def test_archives_that_are_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "Images-processed").mkdir()
    (tmp_path / "Images-processed" / "CT_COVID.zip").touch()
    with pytest.raises(UserError, match=r"CT_COVID: .* only CT_COVID\.zip: unpack it"):
        load_covid_ct(tmp_path)


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"CT_COVID and .*CT_NonCOVID.*https://github\.com/UCSD-AI4H/COVID-CT"):
            load_covid_ct(root)


def test_unknown_split(make_covid: Make) -> None:
    with pytest.raises(UserError, match=r"'paper': expected official or random"):
        load_covid_ct(make_covid(), split="paper")


def test_lists_and_images_must_fit(make_covid: Make) -> None:
    root = make_covid()
    image = root / "Images-processed" / "CT_COVID" / "2020.03.0-p1%0.png"
    draw(image.with_name("new.png"), "L", 0)
    with pytest.raises(UserError, match=r"new\.png: .* 1 of 6 are in none"):
        load_covid_ct(root)
    image.with_name("new.png").unlink()
    image.unlink()
    with pytest.raises(UserError, match=r"CT_COVID/2020\.03\.0-p1%0\.png: .* --split random"):
        load_dataset("covid_ct", root)
    draw(image, "L", 0)
    set_list(root, "COVID", "val", ["2020.03.1-p1%1.png", "2020.03.0-p1%0.png"])
    with pytest.raises(UserError, match=r"valCT_COVID\.txt: names '2020\.03\.0-p1%0\.png', as trainCT_COVID\.txt does"):
        load_covid_ct(root)
    for part in ("val", "test"):
        (root / "Data-split" / "COVID" / f"{part}CT_COVID.txt").unlink()
    with pytest.raises(UserError, match=r"valCT_COVID\.txt, .*testCT_COVID\.txt: .* no such files"):
        load_covid_ct(root)


def test_listed_images_that_are_missing_stay_in_their_part(make_covid: Make) -> None:
    root = make_covid()
    folder = root / "Images-processed" / "CT_COVID"
    for index in (0, 2):
        (folder / f"2020.03.{index}-p1%{index}.png").unlink()
    dataset = load_dataset("covid_ct", root, whole=False)
    missing = [[path for sample in part for path in sample.missing()] for part in (dataset.train, dataset.test)]
    assert missing == [[folder / "2020.03.0-p1%0.png"], [folder / "2020.03.2-p1%2.png"]]
    assert len(load_dataset("covid_ct", root, split="random").train) == 6


def test_lists_of_other_editors(make_covid: Make) -> None:
    root = make_covid()
    files = ["2020.03.2-p1%2.png", "2020.03.4-p1%4.png"]
    path = root / "Data-split" / "COVID" / "testCT_COVID.txt"
    path.write_bytes("\ufeff{} \r\n\r\n\t{}\r\n".format(*files).encode())
    assert len(load_covid_ct(root).test) == 4
    path.write_bytes("\n".join([*files, files[0]]).encode())
    with pytest.raises(UserError, match=r"testCT_COVID\.txt: names '2020\.03\.2-p1%2\.png', as testCT_COVID\.txt does"):
        load_covid_ct(root)
    path.write_bytes("\n".join(files).encode("utf-16"))
    with pytest.raises(UserError, match=r"testCT_COVID\.txt: .* cannot be read"):
        load_covid_ct(root)


def test_without_lists_the_random_split_is_proposed(tmp_path: Path) -> None:
    for name in ("COVID", "NonCOVID"):
        draw(tmp_path / "Images-processed" / f"CT_{name}" / "a.png", "L", 0)
    with pytest.raises(UserError, match=r"Data-split: .* set the split to random"):
        load_covid_ct(tmp_path)
    assert len(load_covid_ct(tmp_path, split="random").test) == 1


def test_names_that_would_get_one_id(make_covid: Make) -> None:
    root = make_covid()
    draw(root / "Images-processed" / "CT_COVID" / "2020.03.0-P1_0.png", "L", 0)
    with pytest.raises(UserError, match=r"p1%0\.png: would get the same id as 2020\.03\.0-P1_0\.png"):
        load_covid_ct(root)


def test_large_images_are_refused(make_covid: Make) -> None:
    sample = load_covid_ct(make_covid(), max_pixels=599).test[0]
    with pytest.raises(UserError, match=r"at most 599 pixels, found 30×20; .* dataset\.max_pixels 600"):
        sample.read_image()


@pytest.fixture
def real_covid() -> Path:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / "covid_ct"
    if not root.is_dir():
        pytest.skip(f"needs the real COVID-CT images in {root}: set GRADPROM_DATA to the folder that holds covid_ct")
    return root


@pytest.mark.realdata
def test_the_real_images(real_covid: Path) -> None:
    dataset = load_covid_ct(real_covid)
    assert (len(dataset.train), len(dataset.test)) == (191 + 60 + 234 + 58, 98 + 105)
    assert Counter(sample.label for sample in dataset.test) == {0: 98, 1: 105}
    everything = dataset.train + dataset.test
    assert len({sample.id.casefold() for sample in everything}) == 746
    channels = {sample.read_image().shape[2] for sample in everything[::10]}
    assert channels == {1, 3}
    drawn = load_covid_ct(real_covid, split="random")
    assert (len(drawn.train), len(drawn.test)) == (600, 146)
    assert Counter(sample.label for sample in drawn.test) == {0: 68, 1: 78}
