"""Lizard: H&E tiles of colon tissue in which every nucleus is outlined and classified.

Graham et al., "Lizard: A Large-Scale Dataset for Colonic Nuclear Instance Segmentation and Classification",
ICCV Workshops 2021, arXiv:2108.11195.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets._matlab import read_numbers, shapes_in, times
from gradprom.datasets._progress import map_files
from gradprom.datasets._read import files_in, pair_files, read_pixels, size_of
from gradprom.datasets._split import split
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS

CLASSES = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")  # 1 to 6 in the files
IMAGES = ("Lizard_Images1", "Lizard_Images2", "Images")
LABELS = ("Lizard_Labels/Labels", "Labels")
_EXPECTED = f"expected {' and '.join(IMAGES[:2])} (or {IMAGES[2]}), and {' or '.join(LABELS)} in it"
_WHERE = f"download them from {ABOUT['lizard'].where}"


def load_lizard(
    root: str | Path | None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The tiles under ``root``, with the class of each pixel's nucleus, labelled by their most frequent nucleus.

    ``root`` holds ``Lizard_Images1/*.png``, ``Lizard_Images2/*.png`` and ``Lizard_Labels/Labels/*.mat`` as they are
    distributed, or ``Images`` and ``Labels``. Masks are 0 (background) or the class of the nucleus, 1 to 6. A tile's
    label is the class most of its nuclei have; of classes with equally many it is the first in the dataset's order.

    The split is random by seed, stratified by label; ``test_fraction=58 / 238`` gives the paper's 180 and 58 of all
    238 tiles (section 4.1). It knows tiles alone, so tiles of one slide or patient may lie on both sides.

    Raises:
        UserError: when a folder is missing, or a label file is not what it should be.
    """
    if root is None:
        raise UserError(f"dataset lizard needs a root, {_EXPECTED}: {_WHERE}")
    root = Path(root)
    image_folders = [root / name for name in IMAGES if (root / name).is_dir()]
    label_folders = [root / name for name in LABELS if (root / name).is_dir()]
    if not image_folders or not label_folders:
        raise UserError(f"{root}: not all of its folders are there, {_EXPECTED}: {_WHERE}")

    # which of the two folders a missing image belongs into is not known
    home = image_folders[0] if image_folders[0].name == IMAGES[2] else root / "Lizard_Images*"
    pairs = pair_files(
        _images_in(image_folders),
        files_in(label_folders[0], (".mat",)),
        lambda stem: home / f"{stem}.png",
        lambda stem: label_folders[0] / f"{stem}.mat",
    )
    paths = [path for _, path in pairs.values()]
    labels = map_files(functools.partial(_label, max_pixels=max_pixels), paths, "Reading nuclei")
    samples = [
        Sample(
            id=stem,
            read_image=functools.partial(read_pixels, image, max_pixels),
            read_mask=functools.partial(_read_mask, path, image, max_pixels),
            label=label,
            files=(image, path),
        )
        for (stem, (image, path)), label in zip(pairs.items(), labels, strict=True)
    ]
    train, test = split(list(pairs), labels, fraction=test_fraction, seed=split_seed)
    return Dataset(
        name="lizard",
        channels=channels or 3,
        train=tuple(samples[i] for i in train),
        test=tuple(samples[i] for i in test),
        classes=CLASSES,
        mask_classes=("background", *CLASSES),
    )


def _images_in(folders: list[Path]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for folder in folders:
        for stem, path in files_in(folder, (".png",)).items():
            if stem in images:
                raise UserError(
                    f"{path}: expected each image once, found {images[stem]} as well: remove one of the two"
                )
            images[stem] = path
    return dict(sorted(images.items()))


def _label(path: Path, max_pixels: int) -> int | None:
    if not path.is_file():
        return None
    numbers = _column(path, "class", read_numbers(path, ["class"], max_pixels)["class"], len(CLASSES))
    if not numbers.size:
        raise UserError(f"{path}: expected at least one nucleus, found none: take the image out of the dataset")
    return int(np.bincount(numbers).argmax()) - 1


def _read_mask(path: Path, image_path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """The class of each pixel, (height, width), 0 to 6; the size is held against the image's before it is read."""
    width, height = size_of(image_path, max_pixels)
    found = shapes_in(path, ["inst_map"])["inst_map"]
    if found != (height, width):
        raise UserError(
            f"{path}: expected an inst_map of {width} x {height} pixels as its image {image_path.name} has, "
            f"found {times(found[::-1])}: make the two the same size"
        )
    read = read_numbers(path, ["inst_map", "id", "class"], height * width)
    ids = _column(path, "id", read["id"], np.iinfo(np.int32).max)
    classes = _column(path, "class", read["class"], len(CLASSES))
    if len(ids) != len(classes) or len(set(ids.tolist())) != len(ids):
        raise UserError(
            f"{path}: expected a class for each id and each id once, found {len(classes)} classes for {len(ids)} ids, "
            f"{len(set(ids.tolist()))} of them different: replace the file"
        )
    class_of = {0: 0, **dict(zip(ids.tolist(), classes.tolist(), strict=True))}
    values, places = np.unique(read["inst_map"], return_inverse=True)
    unknown = [value for value in values.tolist() if value not in class_of]
    if unknown:
        raise UserError(
            f"{path}: expected every nucleus of inst_map in id, {len(unknown)} are missing, {unknown[0]} first: "
            "replace the file"
        )
    mask: NDArray[np.uint8] = np.array([class_of[value] for value in values.tolist()], np.uint8)[places]
    return mask.reshape(height, width)


def _column(path: Path, name: str, values: NDArray[Any], largest: int) -> NDArray[np.int64]:
    """``values`` as a vector of whole numbers from 1 to ``largest``."""
    if values.size > max(values.shape):
        raise UserError(f"{path}: expected a single column in {name}, found {times(values.shape)}: replace the file")
    wrong = values[~((values >= 1) & (values <= largest) & (values == np.floor(values)))]
    if wrong.size:
        raise UserError(
            f"{path}: expected whole numbers from 1 to {largest} in {name}, found {wrong.flat[0]}: replace the file"
        )
    return values.astype(np.int64).ravel()
