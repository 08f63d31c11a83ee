from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradprom.datasets import load_dataset
from gradprom.datasets.check import check_dataset
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError


def noise(seed: int, height: int = 20, width: int = 30, channels: int = 1, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, (height, width, channels), dtype=dtype, endpoint=True)


def make(
    name: str, image: np.ndarray, mask: np.ndarray | None = None, label: int | None = None, group: str | None = None
) -> Sample:
    return Sample(name, lambda: image, None if mask is None else lambda: mask, label, group)


def failing(error: Exception) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise error

    return read


def dataset(train: list[Sample], test: list[Sample], **options: object) -> Dataset:
    return Dataset("folder", **{"channels": 1, "train": tuple(train), "test": tuple(test), **options})


def plain(count: int, start: int = 0) -> list[Sample]:
    return [make(f"s{seed}", noise(seed)) for seed in range(start, start + count)]


def test_counts_what_is_there() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:5] = 2
    colour = noise(2, 25, 40, 3)
    stored_as_colour = np.repeat(noise(3, 20, 28), 3, axis=2)
    train = [
        make("a", noise(1), mask, 0, "p1"),
        make("b", colour, mask[:1].repeat(25, 0).repeat(2, 1)[:, :40], 1, "p1"),
    ]
    test = [
        make("c", stored_as_colour, np.ones((20, 28), np.uint8), 1, "p2"),
        make("d", noise(4, dtype=np.uint16), mask * 0, 0, "p3"),
    ]
    report = check_dataset(
        dataset(train, test, channels=3, classes=("x", "y"), mask_classes=("background", "one", "two"))
    )
    assert (report.problems, report.warnings, report.read) == ((), (), 4)
    assert (report.train.images, report.train.groups, report.train.labels) == (2, 1, (1, 1))
    assert (report.test.images, report.test.groups, report.test.labels) == (2, 2, (1, 1))
    assert report.train.pixels == (450, 0, 150 + 1000)
    assert report.test.pixels == (600, 560, 0)
    assert (report.widths, report.heights) == ((28, 40), (20, 25))
    assert (report.grey, report.colour, report.bits) == (3, 1, {8: 3, 16: 1})


def test_every_problem_is_collected_in_order() -> None:
    fine = np.zeros((20, 30), np.uint8)
    train = [
        make("narrow", noise(1, 10), fine[:10]),
        Sample("unreadable", failing(UserError("a.png: broken")), lambda: fine),
        Sample("both", failing(UserError("b.png: broken")), failing(UserError("b.png: broken"))),
        Sample("lost", failing(OSError("disk lost")), failing(UserError("c.png: too blue"))),
        make("unfit", noise(2), fine[:, :29]),
        make("high", noise(3), fine + 2),
    ]
    report = check_dataset(dataset(train, [make("fine", noise(4), fine)], mask_classes=("background", "nucleus")))
    expected = [
        "narrow: expected at least 11 pixels",
        "a.png: broken",
        "b.png: broken",
        "disk lost",
        "c.png: too blue",
        "unfit: expected a mask of 30 x 20 pixels as its image has, found 29 x 20",
        "high: expected mask values from 0 to 1 (background, nucleus), found 2",
    ]
    assert len(report.problems) == len(expected)
    for problem, beginning in zip(report.problems, expected, strict=True):
        assert problem.startswith(beginning)
    assert report.read == 4


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (plain(2), [], "the test set is empty"),
        ([], plain(2), "the train set is empty"),
        (plain(2), plain(1), "1 ids name several images, 's0' first"),
        (
            [make("a", noise(1), group="p1"), make("b", noise(2), group="p2")],
            [make("c", noise(3), group="p1"), make("d", noise(4), group="p2"), make("e", noise(5))],
            "2 patients are in training and in test, 'p1' first",
        ),
        (
            [make("a", noise(1), label=0), make("b", noise(2))],
            [make("c", noise(3), label=0)],
            "a label for each image or for none, 1 of 3 have none, 'b' first",
        ),
        (
            [make("a", noise(1), np.zeros((20, 30), np.uint8)), make("b", noise(2))],
            [make("c", noise(3))],
            "a mask for each image or for none, 2 of 3 have none, 'b' first",
        ),
        (
            [make("a", noise(1), label=0), make("b", noise(2), label=2)],
            [make("c", noise(3), label=0)],
            "expected labels from 0 to 0, 1 of 3 images have others, 'b' first",
        ),
    ],
)
def test_samples_that_do_not_go_together(train: list[Sample], test: list[Sample], sentence: str) -> None:
    report = check_dataset(dataset(train, test, classes=("x",), mask_classes=("background",)))
    assert len(report.problems) == 1
    assert sentence in report.problems[0]


def test_an_image_on_both_sides_is_a_leak() -> None:
    train = plain(5)
    test = [*plain(5, start=10), make("copy", noise(3).copy())]
    assert check_dataset(dataset(train, test)).warnings == ("copy in test is the same image as s3 in training",)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_files_of_the_same_pixels_are_the_same(channels: int) -> None:
    copy = make("copy", np.repeat(noise(3), 3, axis=2))
    report = check_dataset(dataset(plain(5), [copy], channels=channels))
    assert report.warnings == ("copy in test is the same image as s3 in training",)


def test_other_shapes_of_the_same_bytes_are_not_the_same() -> None:
    report = check_dataset(dataset([make("a", noise(1))], [make("b", noise(1).reshape(30, 20, 1))]))
    assert report.warnings == ()


def test_the_same_image_with_two_labels() -> None:
    train = [make("a", noise(1), label=0), make("b", noise(1), label=1)]
    test = [make("c", noise(1), label=1), make("d", noise(2), label=0)]
    assert check_dataset(dataset(train, test, classes=("x", "y"))).warnings == (
        "b is the same image as a, with another label",
        "c in test is the same image as a in training, with another label",
    )


def test_twins_within_a_part_are_counted() -> None:
    train = [*plain(3), make("again", noise(1))]
    test = [*plain(2, start=7), make("and again", noise(7))]
    assert check_dataset(dataset(train, test)).warnings == ("2 images are there twice in one part, again and s1 first",)


def test_a_rescaled_copy_on_the_other_side_looks_the_same() -> None:
    small = noise(1, 32, 32)
    train = [*plain(3), make("small", small, label=None)]
    test = [make("large", small.repeat(3, 0).repeat(2, 1)), make("other", noise(9, 32, 32))]
    (warning,) = check_dataset(dataset(train, test)).warnings
    assert warning == "large in test looks the same as small in training (correlation 1.000)"


def test_a_class_that_one_part_lacks() -> None:
    train = [make("a", noise(1), label=0), make("b", noise(2), label=1)]
    report = check_dataset(dataset(train, [make("c", noise(3), label=1)], classes=("x", "y", "z")))
    assert report.problems == ()
    assert report.warnings == (
        "no training image is of class z",
        "no test image is of class x",
        "no test image is of class z",
    )


@pytest.mark.parametrize(("limit", "read"), [(1, 1), (5, 4), (7, 6), (12, 12), (100, 12)])
def test_a_limit_bounds_what_is_read_and_not_what_is_counted(limit: int, read: int) -> None:
    report = check_dataset(dataset(plain(8), plain(4, start=8)), limit=limit)
    assert report.read == read
    assert (report.train.images, report.test.images) == (8, 4)


def test_a_broken_file_of_a_real_layout(make_isic: Callable[..., Path]) -> None:
    root = make_isic(["nevus", "melanoma"] * 5)
    broken = root / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000004.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    mask = root / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000006_segmentation.png"
    mask.write_bytes(b"")
    report = check_dataset(load_dataset("isic2018", root))
    assert report.read == 9
    found = sorted(report.problems)
    assert len(found) == 2
    assert str(broken) in found[0]
    assert str(mask) in found[1]


def test_missing_files_are_counted_and_the_rest_is_read(make_isic: Callable[..., Path]) -> None:
    root = make_isic(["nevus", "melanoma"] * 5)
    images, masks = root / "ISIC2018_Task1-2_Training_Input", root / "ISIC2018_Task1_Training_GroundTruth"
    lacking = [images / "ISIC_0000005.jpg", *(masks / f"ISIC_000000{index}_segmentation.png" for index in (2, 7))]
    for path in lacking:
        path.unlink()
    (images / "ISIC_0000003.jpg").write_bytes(b"")
    (masks / "ISIC_0000004_segmentation.png").write_bytes(b"")
    report = check_dataset(load_dataset("isic2018", root, whole=False))
    assert report.missing == tuple(lacking)
    assert (report.train.images + report.test.images, report.incomplete) == (7, 3)
    assert (report.read, report.whole) == (6, 5)
    missing, *damaged = report.problems
    assert "3 of 10 images incomplete (files missing: 3): get them from https://challenge.isic-archive.com" in missing
    assert len(damaged) == 2


def real(name: str) -> Path:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / name
    if not root.is_dir():
        pytest.skip(f"needs the real images in {root}: set GRADPROM_DATA to the folder that holds {name}")
    return root


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "options", "images", "groups"),
    [
        ("isic2018", {}, 554, 0),
        ("camus", {"views": "4CH", "structures": "all"}, 220, 110),
        ("crchisto", {}, 100, 0),
        ("tnbc", {}, 50, 11),
    ],
)
def test_the_real_images_are_whole(name: str, options: dict[str, str], images: int, groups: int) -> None:
    report = check_dataset(load_dataset(name, real(name), **options))
    assert (report.problems, report.warnings) == ((), ())
    assert report.read == images
    assert report.train.groups + report.test.groups == groups


@pytest.mark.realdata
def test_two_images_of_covid_ct_have_both_diagnoses() -> None:
    report = check_dataset(load_dataset("covid_ct", real("covid_ct")))
    assert report.problems == ()
    assert (report.read, report.train.labels, report.test.labels) == (746, (251, 292), (98, 105))
    # seen by eye: the same slices with the same arrows, once large as COVID and once small as NonCOVID
    pairs = (("COVID-kjr-21-e24-p5-29", "NonCOVID-71_0"), ("COVID-kjr-21-e24-p5-31", "NonCOVID-71_1"))
    assert len(report.warnings) == len(pairs)
    for warning, (tested, trained) in zip(report.warnings, pairs, strict=True):
        assert warning.startswith(f"{tested} in test looks the same as {trained} in training")
        assert warning.endswith("with another label")
