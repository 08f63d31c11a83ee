"""CRCHistoPhenotypes: H&E tiles of colorectal cancer with the centres of the nuclei, by class.

Sirinukunwattana et al., "Locality Sensitive Deep Learning for Detection and Classification of Nuclei in Routine Colon
Cancer Histology Images", IEEE Transactions on Medical Imaging 35 (2016), doi:10.1109/TMI.2016.2525803.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradprom.datasets._matlab import shapes_in
from gradprom.datasets._progress import map_files
from gradprom.datasets._read import IMAGE_SUFFIXES, MIN_SIDE, files_in, pair_files, read_pixels
from gradprom.datasets._split import split
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError, reason_of
from gradprom.images import MAX_PIXELS

CLASSES = ("epithelial", "inflammatory", "fibroblast", "others")
_EXPECTED = "expected a folder Classification, or images and points in it"
_WHERE = f"download it from {ABOUT['crchisto'].where}"


def load_crchisto(
    root: str | Path | None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The tiles under ``root``, labelled by their most frequent nucleus; only centres are known, so there are no masks.

    ``root`` holds one of two layouts:

    - ``Classification/imgN/imgN.bmp`` with ``imgN_epithelial.mat``, ``imgN_inflammatory.mat``, ``imgN_fibroblast.mat``
      and ``imgN_others.mat`` beside it, as they are distributed: the variable ``detection`` has a row for each nucleus.
    - ``images/imgN.jpg`` (or .png, .tif) with ``points/imgN.json``: an object with a list of [x, y] for each class,
      or null where there is none of it.

    A tile's label is the class most of its nuclei have; of classes with equally many it is the first of ``CLASSES``.
    A tile without a classified nucleus has no label and is refused (none of the 100 is). The split is random by seed,
    stratified by label. The tiles are cut from ten slides, and the distribution does not say which from which, so tiles
    of one slide may lie on both sides.

    Raises:
        UserError: when a folder is missing, or a file does not hold what it should.
    """
    if root is None:
        raise UserError(f"dataset crchisto needs a root, {_EXPECTED}: {_WHERE}")
    root = Path(root)
    read: Callable[[Path, int], NDArray[np.uint8] | NDArray[np.uint16]]
    count: Callable[[Sequence[Path]], list[int]]
    tiles: Mapping[str, tuple[Path, ...]]
    if (root / "Classification").is_dir():
        tiles, read, count = _bitmaps(root / "Classification"), _read_bitmap, _count_matlab
    elif (root / "images").is_dir() and (root / "points").is_dir():
        tiles, read, count = _converted(root / "images", root / "points"), read_pixels, _count_json
    else:
        raise UserError(f"{root}: no images with nuclei are there, {_EXPECTED}: {_WHERE}")

    labels = map_files(functools.partial(_label, count), list(tiles.values()), "Reading nuclei")
    samples = [
        Sample(id=name, read_image=functools.partial(read, files[0], max_pixels), label=label, files=files)
        for (name, files), label in zip(tiles.items(), labels, strict=True)
    ]
    train, test = split(list(tiles), labels, fraction=test_fraction, seed=split_seed)
    return Dataset(
        name="crchisto",
        channels=channels or 3,
        train=tuple(samples[i] for i in train),
        test=tuple(samples[i] for i in test),
        classes=CLASSES,
    )


def _label(count: Callable[[Sequence[Path]], list[int]], files: Sequence[Path]) -> int | None:
    """The class of a tile, by its image and the files of its nuclei; None where one of those is missing."""
    image, *nuclei = files
    if not all(path.is_file() for path in nuclei):
        return None
    counts = count(nuclei)
    if not any(counts):
        raise UserError(f"{image}: expected at least one classified nucleus, found none: take the image out")
    return counts.index(max(counts))


def _count_json(paths: Sequence[Path]) -> list[int]:
    """How many nuclei of each class the one file of an image's points has."""
    (path,) = paths
    try:
        points = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected points in JSON, found {reason_of(error)}: copy it again") from error
    if not isinstance(points, dict) or not points.keys() >= set(CLASSES):
        raise UserError(f"{path}: expected an object with the keys {', '.join(CLASSES)}: replace the file")
    return [_count(path, name, points[name]) for name in CLASSES]


def _count(path: Path, name: str, points: object) -> int:
    if points is None:
        return 0
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise UserError(
            f"{path}: expected a list of points [x, y] or null under {name}, found something else: replace the file"
        )
    return len(points)


def _is_point(point: object) -> bool:
    if not isinstance(point, list) or len(point) != 2:
        return False
    return all(type(number) in (int, float) and 0 <= number < math.inf for number in point)


def _count_matlab(paths: Sequence[Path]) -> list[int]:
    """How many nuclei of each class the files beside an image have, one a class."""
    counts = []
    for path in paths:
        shape = shapes_in(path, ["detection"])["detection"]
        if 0 not in shape and shape[1:] != (2,):
            raise UserError(
                f"{path}: expected x and y of each nucleus in detection, n x 2, "
                f"found {' x '.join(map(str, shape))}: replace the file"
            )
        counts.append(0 if 0 in shape else shape[0])
    return counts


def _bitmaps(folder: Path) -> dict[str, tuple[Path, ...]]:
    """``NAME/NAME.bmp`` of each folder NAME in ``folder``, and the files of its nuclei, by name."""
    homes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not homes:
        raise UserError(f"{folder}: expected a folder for each image, such as img1, found none: {_WHERE}")
    return {
        home.name: (home / f"{home.name}.bmp", *(home / f"{home.name}_{class_}.mat" for class_ in CLASSES))
        for home in homes
    }


def _converted(images: Path, points: Path) -> dict[str, tuple[Path, Path]]:
    """Each image and its points, by name."""
    return pair_files(
        files_in(images, IMAGE_SUFFIXES),
        files_in(points, (".json",)),
        lambda stem: images / f"{stem}.jpg",
        lambda stem: points / f"{stem}.json",
    )


def _read_bitmap(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """The BMP file at ``path`` as (height, width, 3); its size is looked at before any pixel is decoded."""
    try:
        with Image.open(path, formats=["BMP"]) as file:
            width, height = file.size
            fits = min(width, height) >= MIN_SIDE and width * height <= max_pixels
            pixels = np.array(file.convert("RGB")) if fits else None
    except Exception as error:  # Pillow raises whatever broken files make it raise
        raise UserError(f"{path}: expected a BMP image, but it cannot be read ({error}): replace the file") from error
    if pixels is None:
        raise UserError(
            f"{path}: expected at least {MIN_SIDE} pixels on each side and at most {max_pixels} in all, "
            f"found {width} x {height}: take the image out of the dataset, or raise dataset.max_pixels"
        )
    return pixels
