"""A folder of one's own: images, with masks and labels where there are some."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradprom.datasets._progress import map_files
from gradprom.datasets._read import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    files_in,
    read_binary_mask,
    read_mask,
    read_pixels,
)
from gradprom.datasets._split import split
from gradprom.datasets._tables import read_table
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS

_EXPECTED = (
    "expected a folder with images/ and, where there are some, masks/ (files of the same names), "
    "labels.csv (columns image,label) and test/ (with the same in it)"
)
_PROBED = 16  # images looked at to tell grey from colour


@dataclass(frozen=True)
class _Part:
    """One of the two places images can lie in: the root itself, or its ``test``."""

    images: dict[str, Path]
    masks: list[Path] | None
    labels: dict[str, str] | None


def load_folder(
    root: str | Path | None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The images in ``root/images``, with what lies beside them.

    - ``masks/NAME.*``: one for each image; grey, each pixel the number of its class, or 0 and 255 alone for
      background and foreground. Every mask is read once to know the classes.
    - ``labels.csv``: columns ``image`` (with or without suffix) and ``label`` (any text), a line for each image.
    - ``test/``: the same again, to be tested on; its samples' ids begin with ``test-``. Without it the test set is
      drawn by ``test_fraction`` and ``split_seed``, stratified by label.

    ``channels`` is 1 when up to 16 images, evenly spread, are all grey (colour files with three equal channels are),
    else 3, unless given.

    Raises:
        UserError: when anything is missing, named twice, or not readable.
    """
    if root is None:
        raise UserError(f"dataset folder needs a root, {_EXPECTED}")
    root = Path(root)
    if not (root / "images").is_dir():
        raise UserError(f"{root / 'images'}: no such folder; root is {root}, {_EXPECTED}")
    parts = [_read_part(root)]
    if (root / "test").is_dir():
        parts.append(_read_part(root / "test"))
        _refuse_unlike(root, *parts)

    classes = tuple(sorted({label for part in parts for label in (part.labels or {}).values()}))
    binary, mask_classes = _mask_classes(parts, max_pixels)
    samples = [
        _samples(part, classes, binary, prefix, max_pixels) for part, prefix in zip(parts, ("", "test-"), strict=False)
    ]
    if len(parts) == 2:
        train, test = samples
        clash = {sample.id for sample in train} & {sample.id for sample in test}
        if clash:
            raise UserError(f"{root}: {min(clash)} would name an image in images and one in test: rename one of them")
    else:
        ids = [sample.id for sample in samples[0]]
        drawn = split(ids, [sample.label for sample in samples[0]], fraction=test_fraction, seed=split_seed)
        train, test = ([samples[0][i] for i in indices] for indices in drawn)
    return Dataset(
        name="folder",
        channels=channels or (1 if _all_grey([*train, *test]) else 3),
        train=tuple(train),
        test=tuple(test),
        classes=classes,
        mask_classes=mask_classes,
    )


def _read_part(root: Path) -> _Part:
    images = files_in(root / "images", IMAGE_SUFFIXES)
    masks = None
    if (root / "masks").is_dir():
        found = files_in(root / "masks", MASK_SUFFIXES)
        # people keep masks of images that they have taken out: of no image of theirs is one missing for that
        masks = [found.get(stem, root / "masks" / f"{stem}.png") for stem in images]
    labels = None
    if (root / "labels.csv").is_file():
        labels = _read_labels(root / "labels.csv", images)
    return _Part(images, masks, labels)


def _read_labels(path: Path, images: dict[str, Path]) -> dict[str, str]:
    by_name = {file.name: stem for stem, file in images.items()} | {stem: stem for stem in images}
    labels: dict[str, str] = {}
    for name, label in read_table(path, key=("image",), value="label"):
        if name not in by_name:
            raise UserError(
                f"{path}: expected names of files in {path.parent / 'images'}, found {name!r}: "
                "add the file or remove the line"
            )
        stem = by_name[name]
        if stem in labels:
            raise UserError(f"{path}: expected each image once, found {stem!r} twice: remove one of the lines")
        if not label:
            raise UserError(f"{path}: expected a label for {name!r}, found none: fill it in")
        labels[stem] = label
    missing = [stem for stem in images if stem not in labels]
    if missing:
        raise UserError(
            f"{path}: expected a line for each image, {len(missing)} of {len(images)} have none, "
            f"{images[missing[0]].name} first: add them"
        )
    return labels


def _refuse_unlike(root: Path, train: _Part, test: _Part) -> None:
    for name, here, there in (("masks", train.masks, test.masks), ("labels.csv", train.labels, test.labels)):
        if (here is None) != (there is None):
            have, lack = (root, root / "test") if there is None else (root / "test", root)
            raise UserError(f"{lack / name}: missing, but {have / name} is there: give both or neither")


def _mask_classes(parts: list[_Part], max_pixels: int) -> tuple[bool, tuple[str, ...]]:
    """Whether masks are 0 and 255, and the names of the classes: by all masks, as one may lack some classes."""
    pairs = [
        (mask, image)
        for part in parts
        for mask, image in zip(part.masks or (), part.images.values(), strict=False)
        if mask.is_file()
    ]
    if not pairs:
        return False, ()
    values = map_files(functools.partial(_values_of, max_pixels=max_pixels), pairs, "Reading masks")
    largest, path = max((found[-1], str(path)) for found, (path, _) in zip(values, pairs, strict=True))
    if set().union(*values) <= {0, 255}:
        return True, ("background", "foreground")
    if largest == 255:
        raise UserError(
            f"{path}: found the value 255 in a dataset whose masks hold others than 0 and 255: "
            "use class numbers 0, 1, 2 and so on, or 0 and 255 alone"
        )
    return False, ("background", *(f"class {number}" for number in range(1, largest + 1)))


def _values_of(pair: tuple[Path, Path], max_pixels: int) -> list[int]:
    return [int(value) for value in np.flatnonzero(np.bincount(read_mask(*pair, max_pixels).ravel(), minlength=256))]


def _samples(part: _Part, classes: tuple[str, ...], binary: bool, prefix: str, max_pixels: int) -> list[Sample]:
    read = read_binary_mask if binary else read_mask
    masks: Sequence[Path | None] = part.masks or [None] * len(part.images)
    return [
        Sample(
            id=prefix + stem,
            read_image=functools.partial(read_pixels, path, max_pixels),
            read_mask=None if mask is None else functools.partial(read, mask, path, max_pixels),
            label=None if part.labels is None else classes.index(part.labels[stem]),
            files=(path,) if mask is None else (path, mask),
        )
        for (stem, path), mask in zip(part.images.items(), masks, strict=True)
    ]


def _all_grey(samples: list[Sample]) -> bool:
    step = max(1, -(-len(samples) // _PROBED))
    return all(map_files(_is_grey, samples[::step], "Looking at images"))


def _is_grey(sample: Sample) -> bool:
    pixels = sample.read_image()
    return bool((pixels == pixels[..., :1]).all())
