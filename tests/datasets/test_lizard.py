from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat, whosmat

from gradprom.datasets import load_dataset
from gradprom.datasets._matlab import read_numbers, shapes_in
from gradprom.datasets.lizard import load_lizard
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

CLASSES = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")
# the classes (1 to 6) of a tile's nuclei, and the index of the class its label is
TILES = {
    "crag_1": ([2, 2, 6], 1),
    "crag_2": ([6, 1, 6], 5),
    "glas_1": ([5], 4),
    "dpath_1": ([4, 3, 3, 4], 2),
    "dpath_2": ([1, 2, 3, 4, 5, 6, 6], 5),
    "dpath_10": ([2, 2], 1),
}
HEIGHT, WIDTH = 20, 30


def _label(classes: list[int], **changes: object) -> dict[str, object]:
    """Nucleus i is the rows 2i and 2i + 1 from column 3 on; ids are neither in order nor without gaps."""
    ids = [7 * (len(classes) - index) for index in range(len(classes))]
    inst_map = np.zeros((HEIGHT, WIDTH), np.int32)
    for index, number in enumerate(ids):
        inst_map[2 * index : 2 * index + 2, 3:] = number
    column = (-1, 1)
    label = {
        "inst_map": inst_map,
        "id": np.array(ids, np.int32).reshape(column),
        "class": np.array(classes, np.uint8).reshape(column),
        "bbox": np.zeros((len(ids), 4)),
        "centroid": np.zeros((len(ids), 2)),
    }
    return {name: value for name, value in {**label, **changes}.items() if value is not None}


def _mask(classes: list[int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), int)
    for index, number in enumerate(classes):
        mask[2 * index : 2 * index + 2, 3:] = number
    return mask


def _make(root: Path, first: str = "Lizard_Images1", second: str = "Lizard_Images2", labels: str = "Labels") -> Path:
    for folder in {first, second, labels}:
        (root / folder).mkdir(parents=True)
    for index, (name, (classes, _)) in enumerate(TILES.items()):
        pixels = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / (second if name.startswith("dpath") else first) / f"{name}.png")
        savemat(root / labels / f"{name}.mat", _label(classes), do_compression=True)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _make(tmp_path)


def _by_id(dataset: Dataset) -> dict[str, Sample]:
    return {sample.id: sample for sample in dataset.train + dataset.test}


@pytest.mark.parametrize(
    "folders",
    [
        ("Lizard_Images1", "Lizard_Images2", "Lizard_Labels/Labels"),
        ("Lizard_Images1", "Lizard_Images2", "Labels"),
        ("Images", "Images", "Labels"),
    ],
)
def test_reads_images_masks_and_labels(tmp_path: Path, folders: tuple[str, str, str]) -> None:
    dataset = load_lizard(_make(tmp_path, *folders), test_fraction=0.3)
    assert (dataset.channels, dataset.classes, dataset.mask_classes) == (3, CLASSES, ("background", *CLASSES))
    assert (len(dataset.train), len(dataset.test)) == (4, 2)
    samples = _by_id(dataset)
    assert {name: sample.label for name, sample in samples.items()} == {
        name: label for name, (_, label) in TILES.items()
    }
    for name, (classes, _) in TILES.items():
        assert samples[name].read_image().shape == (HEIGHT, WIDTH, 3)
        mask = samples[name].read_mask()
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, _mask(classes))


def test_numbers_may_be_stored_as_doubles_and_in_rows(root: Path) -> None:
    label = {name: np.asarray(value, float) for name, value in _label([3, 5, 5]).items()}
    savemat(root / "Labels" / "glas_1.mat", {**label, "id": label["id"].T, "class": label["class"].T})
    sample = _by_id(load_lizard(root))["glas_1"]
    assert sample.label == CLASSES.index("eosinophil")
    np.testing.assert_array_equal(sample.read_mask(), _mask([3, 5, 5]))


def test_the_papers_split(tmp_path: Path) -> None:
    images, labels = tmp_path / "Images", tmp_path / "Labels"
    images.mkdir()
    labels.mkdir()
    for index in range(238):
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"tile_{index}.png")
        savemat(labels / f"tile_{index}.mat", _label([2 if index < 119 else 6]))
    dataset = load_lizard(tmp_path, test_fraction=58 / 238)
    assert (len(dataset.train), len(dataset.test)) == (180, 58)
    assert Counter(sample.label for sample in dataset.test) == {1: 29, 5: 29}


COLUMN = np.array([[7], [14]], np.int32)
BAD_AT_ONCE = {
    "class 7": ({"class": np.array([[7], [1]])}, r"glas_1\.mat: expected whole numbers from 1 to 6 in class, found 7"),
    "class 0": ({"class": np.array([[0], [1]])}, r"glas_1\.mat: expected whole numbers from 1 to 6 in class, found 0"),
    "a broken class": ({"class": np.array([[1.5], [1]])}, r"glas_1\.mat: .* in class, found 1\.5"),
    "class NaN": ({"class": np.array([[np.nan], [1]])}, r"glas_1\.mat: .* in class, found nan"),
    "complex classes": (
        {"class": np.array([[1 + 1j], [1]])},
        r"glas_1\.mat: .* real numbers called class, found something else",
    ),
    "two columns": ({"class": np.ones((2, 2))}, r"glas_1\.mat: expected a single column in class, found 2 x 2"),
    "no nucleus": ({"class": np.zeros((0, 1))}, r"glas_1\.mat: expected at least one nucleus, found none"),
    "no classes": (
        {"class": None},
        r"glas_1\.mat: expected an array of real numbers called class, found only inst_map, id, bbox",
    ),
    "cells": ({"class": np.array([1, "a"], object)}, r"glas_1\.mat: .* called class, found something else"),
    "text": ({"class": "epithelial"}, r"glas_1\.mat: .* called class, found something else"),
    "a structure": ({"class": {"a": 1}}, r"glas_1\.mat: .* called class, found something else"),
}
BAD_WHEN_READ = {
    "another size": (
        {"inst_map": np.zeros((HEIGHT, WIDTH + 1))},
        r"glas_1\.mat: expected an inst_map of 30 x 20 pixels as its image glas_1\.png has, found 31 x 20",
    ),
    "turned": ({"inst_map": np.zeros((WIDTH, HEIGHT))}, r"glas_1\.mat: .* 30 x 20 .* found 20 x 30"),
    "three dimensions": ({"inst_map": np.zeros((HEIGHT, WIDTH, 2))}, r"glas_1\.mat: .* found 2 x 30 x 20"),
    "no inst_map": (
        {"inst_map": None},
        r"glas_1\.mat: expected an array of real numbers called inst_map, found only id",
    ),
    "a nucleus without id": ({"id": COLUMN + 7}, r"glas_1\.mat: .* 1 are missing, 7 first"),
    "an id twice": ({"id": COLUMN * 0 + 7}, r"glas_1\.mat: .* found 2 classes for 2 ids, 1 of them different"),
    "fewer ids": ({"id": COLUMN[:1]}, r"glas_1\.mat: .* found 2 classes for 1 ids"),
    "id 0": ({"id": COLUMN - 7}, r"glas_1\.mat: expected whole numbers from 1 to \d+ in id, found 0"),
    "more ids than pixels": (
        {"id": np.ones((HEIGHT * WIDTH + 1, 1))},
        r"glas_1\.mat: expected at most 600 numbers in id",
    ),
    "negative pixels": ({"inst_map": np.full((HEIGHT, WIDTH), -1)}, r"glas_1\.mat: .* 1 are missing, -1 first"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_AT_ONCE.values(), ids=BAD_AT_ONCE.keys())
def test_bad_classes_are_refused_in_one_sentence(root: Path, changes: dict[str, object], message: str) -> None:
    savemat(root / "Labels" / "glas_1.mat", _label([1, 1], **changes))
    with pytest.raises(UserError, match=message) as caught:
        load_lizard(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), BAD_WHEN_READ.values(), ids=BAD_WHEN_READ.keys())
def test_bad_maps_are_refused_in_one_sentence(root: Path, changes: dict[str, object], message: str) -> None:
    savemat(root / "Labels" / "glas_1.mat", _label([1, 1], **changes))
    sample = _by_id(load_lizard(root))["glas_1"]
    with pytest.raises(UserError, match=message) as caught:
        sample.read_mask()
    assert "\n" not in str(caught.value)


def _version_7_3(path: Path) -> None:
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def _damaged_type(path: Path) -> None:
    # savemat without compression: class is stored as one byte each (2), a code that is changed to one there is not
    savemat(path, {"class": np.ones((9, 1), np.uint8)})
    data = path.read_bytes()
    stored = np.array([2, 9], "<u4").tobytes()
    assert data.count(stored) == 1
    path.write_bytes(data.replace(stored, np.array([99, 9], "<u4").tobytes()))


def _damaged_content(path: Path) -> None:
    savemat(path, {"class": np.arange(2000).reshape(-1, 1)}, do_compression=True)
    data = bytearray(path.read_bytes())
    data[len(data) - 30] ^= 255
    path.write_bytes(bytes(data))


WHOLE = r"glas_1\.mat: expected a MATLAB file of version 5 to 7, found"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), rf"{WHOLE} another kind of file"),
    "an image": (lambda path: Image.new("L", (99, 99)).save(path, "PNG"), rf"{WHOLE} another kind of file"),
    "of version 4": (
        lambda path: savemat(path, {"class": np.ones((9, 1))}, format="4"),
        rf"{WHOLE} another kind of file",
    ),
    "of version 7.3": (_version_7_3, rf"{WHOLE} version 7\.3, which can be saved anew with -v7"),
    "cut short": (_half, rf"{WHOLE} one that is cut short"),
    "an unknown type": (_damaged_type, rf"{WHOLE} numbers of an unknown type, 99"),
    "damaged": (_damaged_content, rf"{WHOLE} one that is (corrupt|cut short)"),
}


@pytest.mark.parametrize(("harm", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused_in_one_sentence(root: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(root / "Labels" / "glas_1.mat")
    with pytest.raises(UserError, match=message) as caught:
        load_lizard(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_any_damage_is_refused_or_harmless(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "label.mat"
    savemat(path, _label([1, 2, 3]), do_compression=compressed)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=8):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            read = read_numbers(path, ["inst_map", "id", "class"], HEIGHT * WIDTH)
        except UserError:
            refused += 1
        else:
            assert all(values.size <= HEIGHT * WIDTH for values in read.values())
    assert refused


def test_large_arrays_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "label.mat"
    savemat(path, {"inst_map": np.zeros((300, 400), np.int32)}, do_compression=True)
    # what follows the header is overwritten: whoever goes on to read it stumbles
    data = bytearray(path.read_bytes())
    data[-40:] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"label\.mat: expected at most 119999 numbers in inst_map, found 300 x 400"):
        read_numbers(path, ["inst_map"], 300 * 400 - 1)
    with pytest.raises(UserError, match=r"label\.mat: .* one that is (corrupt|cut short)"):
        read_numbers(path, ["inst_map"], 300 * 400)


@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
    shape=st.lists(st.integers(0, 7), min_size=2, max_size=3),
    name=st.text("abcxyz_", min_size=1, max_size=31).filter(lambda name: not name.startswith("_")),
    compressed=st.booleans(),
)
@settings(deadline=None)
def test_reads_what_scipy_writes(dtype: str, shape: list[int], name: str, compressed: bool) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.mat"
        savemat(path, {"before": "text", name: values, "after": [[1.5]]}, do_compression=compressed)
        assert shapes_in(path, [name]) == {name: values.shape}
        np.testing.assert_array_equal(read_numbers(path, [name], values.size)[name], values)


def test_reads_what_matlab_wrote() -> None:
    """Files of MATLAB 6 and 7, of either order of bytes, as scipy brings them along, read as scipy reads them."""
    files = sorted((Path(scipy.__file__).parent / "io" / "matlab" / "tests" / "data").glob("test*_[67].*.mat"))
    if not files:
        pytest.skip("needs the files of MATLAB's own that scipy's tests use: this scipy comes without them")
    compared = 0
    for path in files:
        if "hdf5" in path.name:
            continue
        for name, _, kind in whosmat(path):
            if kind in ("double", "logical", "uint8") and not np.iscomplexobj(expected := loadmat(path)[name]):
                np.testing.assert_array_equal(read_numbers(path, [name], 1000)[name], expected)
                compared += 1
    assert compared > 10


def test_missing_labels_are_counted_and_the_first_is_named(root: Path) -> None:
    for name in ("glas_1", "crag_2"):
        (root / "Labels" / f"{name}.mat").unlink()
    with pytest.raises(UserError, match=r"Labels/crag_2\.mat: .* 2 of 6 images incomplete"):
        load_dataset("lizard", root)


def test_half_of_the_images(root: Path) -> None:
    (root / "Lizard_Images2").rename(root / "elsewhere")
    with pytest.raises(UserError, match=r"Lizard_Images\*/dpath_1\.png: .* 3 of 6 images incomplete"):
        load_dataset("lizard", root)


def test_images_without_label_files_are_listed(root: Path) -> None:
    (root / "Labels" / "glas_1.mat").unlink()
    (root / "Lizard_Images2" / "dpath_2.png").unlink()
    samples = _by_id(load_dataset("lizard", root, whole=False))
    assert {name: sample.missing() for name, sample in samples.items() if sample.missing()} == {
        "glas_1": [root / "Labels" / "glas_1.mat"],
        "dpath_2": [root / "Lizard_Images*" / "dpath_2.png"],
    }
    assert samples["glas_1"].label is None


def test_one_name_in_both_folders(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "Lizard_Images2" / "glas_1.png")
    with pytest.raises(UserError, match=r"Images2/glas_1\.png: expected each image once, found .*Images1/glas_1\.png"):
        load_lizard(root)


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    (tmp_path / "images alone" / "Images").mkdir(parents=True)
    for root in (None, tmp_path, tmp_path / "nothing", tmp_path / "images alone"):
        with pytest.raises(UserError, match=r"Lizard_Images1 and .*Lizard_Labels/Labels.*https://warwick\.ac\.uk"):
            load_lizard(root)
