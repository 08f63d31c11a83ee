from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gradprom.datasets import load_dataset
from gradprom.datasets.camus import load_camus
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

HEIGHT, WIDTH = 24, 16
# a made-up view: the probe on top, below it the ventricle in its wall, below that the atrium
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[4:14, 3:11] = 2
MASK[6:14, 5:9] = 1
MASK[14:20, 5:9] = 3
IMAGE = np.where(MASK == 2, 200.3, 40.7).astype(np.float32)
IMAGE[0, 6] = 255

Write = Callable[[Path, np.ndarray], None]
Make = Callable[..., Path]


def write_nifti(path: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values.T.astype(np.float32), np.eye(4)), path)


def write_metaimage(path: Path, values: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(values[None].astype(np.uint8)), path)


def write_patient(
    folder: Path, number: int, views: Sequence[str] = ("2CH", "4CH"), *, masks: bool = True, older: bool = False
) -> None:
    patient = folder / f"patient{number:04d}"
    patient.mkdir(parents=True)
    write, ending = (write_metaimage, ".mhd") if older else (write_nifti, ".nii.gz")
    for view in views:
        (patient / f"Info_{view}.cfg").write_text("ED: 1\n", encoding="utf-8")
        (patient / f"{patient.name}_{view}_half_sequence{ending}").touch()  # not to be opened
        for phase in ("ED", "ES"):
            write(patient / f"{patient.name}_{view}_{phase}{ending}", IMAGE)
            if masks:
                write(patient / f"{patient.name}_{view}_{phase}_gt{ending}", MASK)


@pytest.fixture
def make_nifti(tmp_path: Path) -> Make:
    def make(numbers: Sequence[int] = (1, 2, 3, 450, 451, 500), **options: object) -> Path:
        for number in numbers:
            write_patient(tmp_path / "camus" / "database_nifti", number, **options)
        return tmp_path / "camus"

    return make


@pytest.fixture
def make_older(tmp_path: Path) -> Make:
    def make(training: int = 3, testing: int = 2, masks: bool = True) -> Path:
        for number in range(1, training + 1):
            write_patient(tmp_path / "older" / "training", number, older=True)
        for number in range(1, testing + 1):
            write_patient(tmp_path / "older" / "testing", number, older=True, masks=masks)
        return tmp_path / "older"

    return make


def groups(samples: tuple[Sample, ...]) -> set[str | None]:
    return {sample.group for sample in samples}


def pick(dataset: Dataset, name: str) -> Sample:
    (sample,) = (sample for sample in dataset.train + dataset.test if sample.id == name)
    return sample


def test_official_split_of_the_nifti_release(make_nifti: Make) -> None:
    dataset = load_camus(make_nifti())
    assert (dataset.channels, dataset.classes) == (1, ())
    assert groups(dataset.train) == {"patient0001", "patient0002", "patient0003", "patient0450"}
    assert groups(dataset.test) == {"patient0451", "patient0500"}
    assert [sample.id for sample in dataset.test[:4]] == [
        "patient0451_2CH_ED",
        "patient0451_2CH_ES",
        "patient0451_4CH_ED",
        "patient0451_4CH_ES",
    ]
    assert {sample.label for sample in dataset.train} == {None}


def test_lists_of_the_cross_validation_change_nothing(make_nifti: Make) -> None:
    root = make_nifti()
    (root / "database_split").mkdir()
    (root / "database_split" / "subgroup_testing.txt").write_text("patient0001\n", encoding="utf-8")
    assert groups(load_camus(root).test) == {"patient0451", "patient0500"}


def test_images_are_upright_and_rounded(make_nifti: Make) -> None:
    sample = pick(load_camus(make_nifti()), "patient0001_4CH_ED")
    image = sample.read_image()
    assert (image.dtype, image.shape) == (np.uint8, (HEIGHT, WIDTH, 1))
    assert np.unravel_index(image.argmax(), image.shape) == (0, 6, 0)
    assert np.unique(image).tolist() == [41, 200, 255]
    np.testing.assert_array_equal(image[..., 0] == 200, MASK == 2)


def test_masks_of_the_endocardium_and_of_all(make_nifti: Make) -> None:
    root = make_nifti((1, 451))
    one, every = load_camus(root), load_camus(root, labels="all")
    assert one.mask_classes == ("background", "left ventricle")
    assert every.mask_classes == ("background", "left ventricle", "myocardium", "left atrium")
    for dataset, expected in ((one, MASK == 1), (every, MASK)):
        mask = pick(dataset, "patient0451_2CH_ES").read_mask()
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)


def test_one_view(make_nifti: Make) -> None:
    root = make_nifti((1, 451), views=("4CH",))
    dataset = load_camus(root, views=("4CH",))
    assert [sample.id for sample in dataset.train] == ["patient0001_4CH_ED", "patient0001_4CH_ES"]
    with pytest.raises(UserError, match=r"patient0001_2CH_ED\.nii\.gz: .* 4 of 8 images incomplete: .* --views 4CH"):
        load_dataset("camus", root)


def test_the_root_may_be_the_folder_of_patients(
    make_nifti: Make, make_older: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, older = make_nifti(), make_older()
    expected = [sample.id for sample in load_camus(root).test]
    assert [sample.id for sample in load_camus(str(root / "database_nifti")).test] == expected
    monkeypatch.chdir(root / "database_nifti")
    assert [sample.id for sample in load_camus(".").test] == expected
    assert groups(load_camus(older / "training").test) == {"test-patient0001", "test-patient0002"}


def test_the_older_release(make_older: Make) -> None:
    dataset = load_camus(make_older(), labels="all")
    assert groups(dataset.train) == {"patient0001", "patient0002", "patient0003"}
    assert groups(dataset.test) == {"test-patient0001", "test-patient0002"}
    assert len({sample.id for sample in dataset.train + dataset.test}) == 20
    sample = pick(dataset, "test-patient0002_4CH_ES")
    image = sample.read_image()
    assert (image.dtype, image.shape) == (np.uint8, (HEIGHT, WIDTH, 1))
    np.testing.assert_array_equal(image[..., 0], IMAGE.astype(np.uint8))
    np.testing.assert_array_equal(sample.read_mask(), MASK)


def test_test_patients_without_masks(make_older: Make) -> None:
    root = make_older(training=4, masks=False)
    with pytest.raises(UserError, match=r"testing.*_gt\.mhd: expected masks .* set the split to random"):
        load_camus(root)
    drawn = load_camus(root, split="random", test_fraction=0.25)
    assert (len(groups(drawn.train)), len(groups(drawn.test))) == (3, 1)
    assert not any(group.startswith("test-") for group in groups(drawn.train + drawn.test))


def test_random_split_is_by_patient_and_of_all_with_masks(make_nifti: Make) -> None:
    root = make_nifti((*range(1, 9), 451, 500), views=("2CH",))
    seen = set()
    for seed in range(5):
        dataset = load_camus(root, split="random", views=("2CH",), test_fraction=0.3, split_seed=seed)
        assert not groups(dataset.train) & groups(dataset.test)
        assert (len(dataset.train), len(dataset.test)) == (14, 6)
        seen.add(frozenset(groups(dataset.test)))
    assert len(seen) > 1
    assert {"patient0451", "patient0500"} & frozenset.union(*seen)


def test_one_side_of_the_official_split_is_empty(make_nifti: Make, make_older: Make) -> None:
    root = make_nifti((1, 2))
    with pytest.raises(UserError, match=r"patients to test on .* set the split to random"):
        load_camus(root)
    assert groups(load_camus(root, split="random").test) < {"patient0001", "patient0002"}
    with pytest.raises(UserError, match=r"patients to test on"):
        load_camus(make_older(testing=0))


def test_patients_that_are_not_whole(make_nifti: Make) -> None:
    root = make_nifti((1, 2, 451))
    patient = root / "database_nifti" / "patient0002"
    (patient / "patient0002_2CH_ES_gt.nii.gz").unlink()
    (patient / "patient0002_4CH_ES_gt.nii.gz").unlink()
    with pytest.raises(UserError, match=r"patient0002_2CH_ES_gt\.nii\.gz: .* found none here, and 2 of 12"):
        load_dataset("camus", root)
    (patient / "patient0002_4CH_ED.nii.gz").unlink()
    dataset = load_dataset("camus", root, whole=False)
    assert {sample.id: [path.name for path in sample.missing()] for sample in dataset.train if sample.missing()} == {
        "patient0002_2CH_ES": ["patient0002_2CH_ES_gt.nii.gz"],
        "patient0002_4CH_ED": ["patient0002_4CH_ED.nii.gz"],
        "patient0002_4CH_ES": ["patient0002_4CH_ES_gt.nii.gz"],
    }


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "training"):
        with pytest.raises(UserError, match=r"database_nifti, or training and testing.*https://humanheart-project"):
            load_camus(root)
    (tmp_path / "training" / "patient1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"training: expected folders named patient0001"):
        load_camus(tmp_path)


def test_two_releases_in_one_folder(make_nifti: Make) -> None:
    root = make_nifti()
    write_patient(root / "training", 1, older=True)
    with pytest.raises(UserError, match=r"one release, found database_nifti and training"):
        load_camus(root)
    assert len(groups(load_camus(root / "database_nifti").train)) == 4


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"split": "lists"}, "split of camus is 'lists': expected official or random"),
        ({"labels": "epicardium"}, "'epicardium': expected endocardium or all"),
        ({"views": ("3CH",)}, "3CH: expected both, 2CH or 4CH"),
        ({"views": ()}, "empty: expected both, 2CH or 4CH"),
    ],
)
def test_options_that_are_none(tmp_path: Path, options: dict[str, object], found: str) -> None:
    with pytest.raises(UserError, match=found):
        load_camus(tmp_path, **options)


@pytest.mark.parametrize("values", [IMAGE * 2, IMAGE - 41, IMAGE / 255])
def test_intensities_that_are_none(make_nifti: Make, values: np.ndarray) -> None:
    root = make_nifti((1, 451))
    write_nifti(root / "database_nifti" / "patient0001" / "patient0001_2CH_ED.nii.gz", values)
    sample = pick(load_camus(root), "patient0001_2CH_ED")
    with pytest.raises(UserError, match=r"patient0001_2CH_ED\.nii\.gz: expected intensities from 0 to 255, found"):
        sample.read_image()


def test_masks_that_are_none(make_nifti: Make) -> None:
    root = make_nifti((1, 451))
    path = root / "database_nifti" / "patient0001" / "patient0001_2CH_ED_gt.nii.gz"
    sample = pick(load_camus(root), "patient0001_2CH_ED")
    for wrong in (4, -1, 1.5, 300):
        write_nifti(path, np.where(MASK == 2, wrong, MASK.astype(float)))
        with pytest.raises(UserError, match=rf"_gt\.nii\.gz: expected 0, 1, 2 and 3 alone, found {wrong}"):
            sample.read_mask()
    write_nifti(path, MASK[:-1])
    with pytest.raises(UserError, match=r"_gt\.nii\.gz: expected 16 x 24 .* patient0001_2CH_ED\.nii\.gz .* 16 x 23"):
        sample.read_mask()


def test_images_that_are_too_small_or_too_large(make_nifti: Make) -> None:
    root = make_nifti((1, 451))
    write_nifti(root / "database_nifti" / "patient0001" / "patient0001_2CH_ED.nii.gz", IMAGE[:, :10])
    dataset = load_camus(root, max_pixels=HEIGHT * WIDTH - 1)
    with pytest.raises(UserError, match=r"at least 11 pixels .* found 10 x 24"):
        pick(dataset, "patient0001_2CH_ED").read_image()
    other = pick(dataset, "patient0001_2CH_ES")
    for read in (other.read_image, other.read_mask):
        with pytest.raises(UserError, match=r"at most 383 pixels"):
            read()


@pytest.fixture
def real_camus() -> Path:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / "camus"
    if not root.is_dir():
        pytest.skip(f"needs the real CAMUS images in {root}: set GRADPROM_DATA to the folder that holds camus")
    return root


@pytest.mark.realdata
def test_the_real_images(real_camus: Path) -> None:
    dataset = load_camus(real_camus, views=("4CH",), labels="all")
    assert (len(groups(dataset.train)), len(groups(dataset.test))) == (85, 25)
    assert (len(dataset.train), len(dataset.test)) == (170, 50)
    darker = []
    for sample in dataset.test[::5]:
        image, mask = sample.read_image()[..., 0], sample.read_mask()
        assert image.shape == mask.shape
        assert set(np.unique(mask)) == {0, 1, 2, 3}
        # upright: the sector is a point on top, in the middle, and wide below
        seen = image > 0
        widths = [np.ptp(np.flatnonzero(row)) for row in seen if row.any()]
        assert widths[2] < 0.1 * image.shape[1] < 0.5 * image.shape[1] < max(widths)
        top = np.flatnonzero(seen[np.flatnonzero(seen.any(axis=1))[0]])
        assert abs(top.mean() / image.shape[1] - 0.5) < 0.1
        # in views of this dataset the atrium lies below the ventricle
        heights = [np.argwhere(mask == structure)[:, 0].mean() for structure in (1, 3)]
        assert heights[0] < heights[1]
        darker.append(image[mask == 1].mean() < image[mask == 2].mean())
    assert np.mean(darker) >= 0.9  # blood is darker than muscle, if the mask fits its image
