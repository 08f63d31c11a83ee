from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.datasets import load_dataset
from gradprom.errors import UserError

Make = Callable[..., Path]


def test_images_alone(make_folder: Make) -> None:
    dataset = load_dataset("folder", make_folder())
    assert (len(dataset.train), len(dataset.test), dataset.channels) == (8, 2, 3)
    assert (dataset.classes, dataset.mask_classes) == ((), ())
    assert all(s.read_mask is None and s.label is None for s in dataset.train + dataset.test)
    np.testing.assert_array_equal(
        dataset.train[0].read_image(), np.asarray(Image.open(_image(dataset.train[0].id, make_folder())))
    )


def _image(name: str, root: Path) -> Path:
    return root / "images" / f"{name}.png"


def test_grey_is_seen_in_grey_and_in_colour_files(make_folder: Make) -> None:
    root = make_folder(grey=True)
    assert load_dataset("folder", root).channels == 1
    for path in (root / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert load_dataset("folder", root).channels == 1
    assert load_dataset("folder", root, channels=3).channels == 3


def test_masks_of_classes(make_folder: Make) -> None:
    root = make_folder(mask_values=[0, 1, 3])
    dataset = load_dataset("folder", root)
    assert dataset.mask_classes == ("background", "class 1", "class 2", "class 3")
    for sample in dataset.train:
        np.testing.assert_array_equal(sample.read_mask(), np.asarray(Image.open(root / "masks" / f"{sample.id}.png")))


def test_masks_of_0_and_255(make_folder: Make) -> None:
    root = make_folder(mask_values=[0, 255])
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(root / "masks" / "a.png")
    dataset = load_dataset("folder", root)
    assert dataset.mask_classes == ("background", "foreground")
    values = {s.id: set(np.unique(s.read_mask())) for s in dataset.train + dataset.test}
    assert values.pop("a") == {1}
    assert all(found == {0, 1} for found in values.values())


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "LA", "RGBA", "I;16"])
def test_masks_in_other_modes(make_folder: Make, mode: str) -> None:
    root = make_folder(mask_values=[0, 1])
    expected = {path.stem: np.asarray(Image.open(path)) for path in (root / "masks").iterdir()}
    for name, values in expected.items():
        image = Image.fromarray(values * np.uint8(255) if mode == "1" else values)
        if mode == "P":
            image.putpalette([9, 9, 9, 200, 0, 0])
        elif mode == "I;16":
            image = Image.fromarray(values.astype(np.uint16))
        else:
            image = image.convert(mode)
        assert image.mode == mode
        image.save(root / "masks" / f"{name}.png")
    for sample in load_dataset("folder", root).train:
        np.testing.assert_array_equal(sample.read_mask(), expected[sample.id])


def test_labels_with_and_without_suffix(make_folder: Make) -> None:
    root = make_folder(labels=["dog", "cat"] * 5)
    table = (root / "labels.csv").read_text().replace("b.png", " b ")
    (root / "labels.csv").write_text("\ufeff" + table, encoding="utf-8")
    dataset = load_dataset("folder", root)
    assert dataset.classes == ("cat", "dog")
    assert {s.id: s.label for s in dataset.train + dataset.test} == {
        name: 1 - index % 2 for index, name in enumerate("abcdefghij")
    }
    assert sorted(s.label for s in dataset.test) == [0, 1]


def test_explicit_test_set(make_folder: Make) -> None:
    make_folder(4, mask_values=[0, 1], labels=["x", "y", "x", "y"])
    root = make_folder(3, part="test", mask_values=[0, 1, 2], labels=["x", "z", "z"])
    dataset = load_dataset("folder", root)
    assert [s.id for s in dataset.train] == ["a", "b", "c", "d"]
    assert [s.id for s in dataset.test] == ["test-a", "test-b", "test-c"]
    assert dataset.classes == ("x", "y", "z")
    assert [s.label for s in dataset.test] == [0, 2, 2]
    assert len(dataset.mask_classes) == 3


def test_other_files_are_left_alone(make_folder: Make) -> None:
    root = make_folder()
    (root / "images" / ".hidden.png").write_bytes(b"")
    (root / "images" / "Thumbs.db").write_bytes(b"")
    (root / "images" / "deeper").mkdir()
    assert len(load_dataset("folder", root).train) == 8


def _unmask(root: Path) -> None:
    (root / "masks" / "c.png").unlink()


def _resize_mask(root: Path) -> None:
    Image.fromarray(np.zeros((20, 31), np.uint8)).save(root / "masks" / "c.png")


def _colour_mask(root: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (20, 30, 3), dtype=np.uint8)).save(root / "masks" / "c.png")


def _float_mask(root: Path) -> None:
    (root / "masks" / "c.png").unlink()
    Image.fromarray(np.zeros((20, 30), np.float32)).save(root / "masks" / "c.tif")


def _large_class(root: Path) -> None:
    Image.fromarray(np.full((20, 30), 999, np.uint16)).save(root / "masks" / "c.png")


def _mixed_mask(root: Path) -> None:
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(root / "masks" / "c.png")


def _truncate_mask(root: Path) -> None:
    path = root / "masks" / "c.png"
    path.write_bytes(path.read_bytes()[:100])


def _truncate_image(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.write_bytes(path.read_bytes()[:500])


def _bomb(root: Path) -> None:
    Image.new("1", (20000, 20000)).save(root / "masks" / "c.png")


def _no_pixels(root: Path) -> None:
    for folder in ("images", "masks"):
        for path in (root / folder).iterdir():
            Image.new("L", (1, 1)).save(path)


def _twins(root: Path) -> None:
    Image.open(root / "images" / "c.png").save(root / "images" / "c.tif")


def _empty(root: Path) -> None:
    shutil.rmtree(root / "images")
    (root / "images").mkdir()


def _no_images(root: Path) -> None:
    shutil.rmtree(root / "images")


def _one_image(root: Path) -> None:
    shutil.rmtree(root / "masks")
    (root / "labels.csv").unlink()
    for path in list((root / "images").iterdir())[1:]:
        path.unlink()


def _table(text: str) -> Callable[[Path], None]:
    return lambda root: (root / "labels.csv").write_bytes(text.encode("latin-1")) and None


LINES = "\n".join(f"{name},x" for name in "abcdefghij")
BAD = {
    "missing mask": (_unmask, r"masks/c\.png: .* 1 of 10 images incomplete"),
    "mask of another size": (_resize_mask, r"masks/c\.png: expected 30 x 20 pixels .* c\.png .* found 31 x 20"),
    "coloured mask": (_colour_mask, r"masks/c\.png: .* found colours"),
    "mask of floats": (_float_mask, r"masks/c\.tif: .* found float32"),
    "class over 255": (_large_class, r"masks/c\.png: .* found uint16 from 999 to 999"),
    "255 among classes": (_mixed_mask, r"masks/c\.png: found the value 255"),
    "truncated mask": (_truncate_mask, r"masks/c\.png: expected a mask, but it cannot be read"),
    "huge mask": (_bomb, r"masks/c\.png: "),
    "truncated image": (_truncate_image, r"images/a\.png: "),
    "image of one pixel": (_no_pixels, r"images/a\.png: expected at least 11 pixels .* found 1 x 1"),
    "two images of one name": (_twins, r"c\.tif: differs from c\.png by its suffix alone"),
    "empty folder": (_empty, r"images: expected files ending in \.png.* found none"),
    "no folder of images": (_no_images, r"images: no such folder; .* expected a folder with images/"),
    "one image": (_one_image, "cannot be split"),
    "label of a missing file": (_table(f"image,label\n{LINES}\nk.png,x"), r"labels\.csv: .* found 'k\.png'"),
    "image named twice": (_table(f"image,label\n{LINES}\na,x"), r"labels\.csv: .* found 'a' twice"),
    "image named in two ways": (_table(f"image,label\n{LINES}\na.png,x"), r"labels\.csv: .* found 'a' twice"),
    "image without label": (_table("image,label\n" + LINES[4:]), r"labels\.csv: .* 1 of 10 have none, a\.png first"),
    "empty label": (_table("image,label\na,\n" + LINES[4:]), r"labels\.csv: expected a label for 'a'"),
    "short line": (_table("image,label\na\n" + LINES[4:]), r"labels\.csv: expected a label for 'a'"),
    "other columns": (
        _table("file,label\n" + LINES),
        r"labels\.csv: expected the columns image, and label, found file",
    ),
    "empty table": (_table(" "), r"labels\.csv: expected the columns"),
    "not UTF-8": (_table("image,label\na,\xe9\n" + LINES[4:]), r"labels\.csv: expected a table in CSV"),
    "binary table": (_table('image,label\na,"x'), r"labels\.csv: expected a table in CSV"),
}


@pytest.mark.parametrize(("harm", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_one_sentence(make_folder: Make, harm: Callable[[Path], None], message: str) -> None:
    root = make_folder(mask_values=[0, 1], labels=["x", "y"] * 5)
    harm(root)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset("folder", root)
    assert "\n" not in str(caught.value)


def test_missing_masks_are_listed_and_masks_of_no_image_left_alone(make_folder: Make) -> None:
    root = make_folder(mask_values=[0, 255])
    _unmask(root)
    _image("e", root).unlink()
    dataset = load_dataset("folder", root, whole=False)
    assert dataset.mask_classes == ("background", "foreground")
    samples = {s.id: s for s in dataset.train + dataset.test}
    assert set(samples) == set("abcdfghij")
    missing = {name: sample.missing() for name, sample in samples.items() if sample.missing()}
    assert missing == {"c": [root / "masks" / "c.png"]}


def test_test_set_unlike_the_training_set(make_folder: Make) -> None:
    make_folder(labels=["x"] * 10)
    root = make_folder(2, part="test")
    with pytest.raises(UserError, match=r"test/labels\.csv: missing, but .*root/labels\.csv is there"):
        load_dataset("folder", root)


def test_no_root() -> None:
    with pytest.raises(UserError, match="needs a root, expected a folder with images/"):
        load_dataset("folder")
