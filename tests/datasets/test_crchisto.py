from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from gradprom.datasets import load_dataset
from gradprom.datasets.crchisto import load_crchisto
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

CLASSES = ("epithelial", "inflammatory", "fibroblast", "others")
# nuclei of each class in a tile, and the class its label is
TILES = {
    "img1": ((5, 2, 0, 1), 0),
    "img2": ((0, 3, 0, 0), 1),
    "img3": ((1, 2, 4, 3), 2),
    "img4": ((0, 0, 0, 1), 3),
    "img5": ((2, 2, 1, 2), 0),
    "img10": ((0, 1, 4, 4), 2),
}


def _pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _points(count: int) -> list[list[float]]:
    return [[1.5 + index, 20] for index in range(count)]


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """images/imgN.png and points/imgN.json."""
    for folder in ("images", "points"):
        (tmp_path / "converted" / folder).mkdir(parents=True)
    for index, (name, (counts, _)) in enumerate(TILES.items()):
        Image.fromarray(_pixels(index)).save(tmp_path / "converted" / "images" / f"{name}.png")
        points = {"detection": _points(sum(counts)), **dict(zip(CLASSES, map(_points, counts), strict=True))}
        (tmp_path / "converted" / "points" / f"{name}.json").write_text(json.dumps(points), encoding="utf-8")
    return tmp_path / "converted"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Classification/imgN/imgN.bmp and imgN_CLASS.mat."""
    for index, (name, (counts, _)) in enumerate(TILES.items()):
        folder = tmp_path / "original" / "Classification" / name
        folder.mkdir(parents=True)
        Image.fromarray(_pixels(index)).save(folder / f"{name}.bmp")
        for class_, count in zip(CLASSES, counts, strict=True):
            # MATLAB's own empty array has no columns either
            detection = np.array(_points(count)) if count else np.zeros((0, 0))
            savemat(folder / f"{name}_{class_}.mat", {"detection": detection})
    return tmp_path / "original"


def _by_id(dataset: Dataset) -> dict[str, Sample]:
    return {sample.id: sample for sample in dataset.train + dataset.test}


@pytest.mark.parametrize("layout", ["converted", "original"])
def test_reads_both_layouts(request: pytest.FixtureRequest, layout: str) -> None:
    dataset = load_crchisto(request.getfixturevalue(layout), test_fraction=0.3)
    assert (dataset.channels, dataset.classes, dataset.mask_classes) == (3, CLASSES, ())
    assert (len(dataset.train), len(dataset.test)) == (4, 2)
    samples = _by_id(dataset)
    assert {name: sample.label for name, sample in samples.items()} == {
        name: label for name, (_, label) in TILES.items()
    }
    for index, name in enumerate(TILES):
        np.testing.assert_array_equal(samples[name].read_image(), _pixels(index))
        assert samples[name].read_mask is None


def test_null_is_no_nucleus(converted: Path) -> None:
    path = converted / "points" / "img1.json"
    points = json.loads(path.read_text())
    path.write_text(json.dumps({**points, "epithelial": None}))
    assert _by_id(load_crchisto(converted))["img1"].label == CLASSES.index("inflammatory")


def test_empty_array_with_two_columns(original: Path) -> None:
    savemat(original / "Classification" / "img1" / "img1_epithelial.mat", {"detection": np.zeros((0, 2))})
    assert _by_id(load_crchisto(original))["img1"].label == CLASSES.index("inflammatory")


def test_bitmaps_with_alpha_and_of_grey(original: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(original / "Classification" / "img1" / "img1.bmp")
    Image.fromarray(pixels[..., 0]).save(original / "Classification" / "img2" / "img2.bmp")
    samples = _by_id(load_crchisto(original))
    np.testing.assert_array_equal(samples["img1"].read_image(), pixels[..., :3])
    np.testing.assert_array_equal(samples["img2"].read_image(), np.repeat(pixels[..., :1], 3, axis=2))


def _json(text: str) -> Callable[[Path], None]:
    return lambda root: (root / "points" / "img3.json").write_text(text, encoding="utf-8") and None


def _with(name: str, value: str) -> Callable[[Path], None]:
    lists = {**dict.fromkeys(CLASSES, "[[1, 2]]"), name: value}
    return _json("{" + ", ".join(f'"{class_}": {text}' for class_, text in lists.items()) + "}")


OTHERS = r"points/img3\.json: expected a list of points \[x, y\] or null under fibroblast"
BAD_JSON = {
    "not JSON": (_json("{"), r"points/img3\.json: expected points in JSON"),
    "not UTF-8": (
        lambda root: (root / "points" / "img3.json").write_bytes(b'"\xe9"') and None,
        r"img3\.json: .* in JSON",
    ),
    "nested without end": (_json("[" * 100_000), r"img3\.json: expected points in JSON"),
    "a list": (_json("[1, 2]"), r"points/img3\.json: expected an object with the keys epithelial"),
    "a class is missing": (
        _json('{"epithelial": []}'),
        r"points/img3\.json: expected an object with the keys epithelial",
    ),
    "a number": (_with("fibroblast", "3"), OTHERS),
    "three coordinates": (_with("fibroblast", "[[1, 2, 3]]"), OTHERS),
    "text": (_with("fibroblast", '[["a", "b"]]'), OTHERS),
    "not finite": (_with("fibroblast", "[[NaN, 1]]"), OTHERS),
    "negative": (_with("fibroblast", "[[-1, 1]]"), OTHERS),
    "truth values": (_with("fibroblast", "[[true, false]]"), OTHERS),
    "null among points": (_with("fibroblast", "[[1, 2], null]"), OTHERS),
    "no nucleus at all": (
        _json(json.dumps({class_: [] for class_ in CLASSES})),
        r"images/img3\.png: expected at least one classified nucleus, found none",
    ),
}


@pytest.mark.parametrize(("harm", "message"), BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_points_are_refused_in_one_sentence(converted: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(converted)
    with pytest.raises(UserError, match=message) as caught:
        load_crchisto(converted)
    assert "\n" not in str(caught.value)


def _matlab(**variables: object) -> Callable[[Path], None]:
    return lambda folder: savemat(folder / "img3_others.mat", variables)


BAD_MATLAB = {
    "no variable": (_matlab(points=np.ones((3, 2))), r"img3_others\.mat: .* called detection, found only points"),
    "text": (_matlab(detection="abc"), r"img3_others\.mat: .* called detection, found something else"),
    "three columns": (_matlab(detection=np.ones((4, 3))), r"img3_others\.mat: .* n x 2, found 4 x 3"),
}


@pytest.mark.parametrize(("harm", "message"), BAD_MATLAB.values(), ids=BAD_MATLAB.keys())
def test_bad_detections_are_refused_in_one_sentence(original: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(original / "Classification" / "img3")
    with pytest.raises(UserError, match=message) as caught:
        load_crchisto(original)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("converted", ["images/img10.jpg", "points/img2.json", "points/img3.json"]),
        ("original", ["img10/img10.bmp", "img2/img2_others.mat", "img3/img3_epithelial.mat"]),
    ],
)
def test_missing_files_are_refused_or_listed(request: pytest.FixtureRequest, layout: str, names: list[str]) -> None:
    root = request.getfixturevalue(layout)
    paths = [root / ("Classification" if layout == "original" else "") / name for name in names]
    for path in paths:
        # the name of an image that is not there is a guess
        (path if path.exists() else path.with_suffix(".png")).unlink()
    with pytest.raises(UserError, match=rf"^{paths[0]}: .* 3 of 6 images incomplete") as caught:
        load_dataset("crchisto", root)
    assert "\n" not in str(caught.value)
    samples = _by_id(load_dataset("crchisto", root, whole=False))
    assert {name: sample.missing() for name, sample in samples.items() if sample.missing()} == {
        name: [path] for name, path in zip(("img10", "img2", "img3"), paths, strict=True)
    }
    assert samples["img1"].label == 0
    assert samples["img2"].label is None


def test_no_folders_of_images(tmp_path: Path) -> None:
    (tmp_path / "Classification").mkdir()
    with pytest.raises(UserError, match=r"Classification: expected a folder for each image, such as img1"):
        load_crchisto(tmp_path)


def test_bad_bitmaps(original: Path) -> None:
    folder = original / "Classification"
    Image.new("RGB", (8, 20)).save(folder / "img1" / "img1.bmp")
    data = (folder / "img2" / "img2.bmp").read_bytes()
    (folder / "img2" / "img2.bmp").write_bytes(data[: len(data) // 2])
    Image.fromarray(_pixels(0)).save(folder / "img3" / "img3.bmp", format="PNG")
    samples = _by_id(load_crchisto(original))
    for name, message in (
        ("img1", r"img1\.bmp: expected at least 11 pixels on each side .* found 8 x 20"),
        ("img2", r"img2\.bmp: expected a BMP image, but it cannot be read"),
        ("img3", r"img3\.bmp: expected a BMP image, but it cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            samples[name].read_image()


@pytest.mark.parametrize("layout", ["converted", "original"])
def test_large_images_are_refused(request: pytest.FixtureRequest, layout: str) -> None:
    samples = _by_id(load_crchisto(request.getfixturevalue(layout), max_pixels=599))
    with pytest.raises(UserError, match=r"img1\.(png|bmp): .* at most 599 .*dataset\.max_pixels"):
        samples["img1"].read_image()
    samples = _by_id(load_crchisto(request.getfixturevalue(layout), max_pixels=600))
    assert samples["img1"].read_image().shape == (20, 30, 3)


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"Classification, or images and points .*https://warwick\.ac\.uk"):
            load_crchisto(root)


@pytest.mark.realdata
def test_the_real_images() -> None:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / "crchisto"
    if not root.is_dir():
        pytest.skip(f"needs the real CRCHisto images in {root}: set GRADPROM_DATA to the folder that holds crchisto")
    dataset = load_crchisto(root)
    assert (len(dataset.train), len(dataset.test)) == (80, 20)
    labels = Counter(sample.label for sample in dataset.train + dataset.test)
    assert labels == {0: 41, 1: 24, 2: 23, 3: 12}
    assert {sample.read_image().shape for sample in dataset.test} == {(500, 500, 3)}
