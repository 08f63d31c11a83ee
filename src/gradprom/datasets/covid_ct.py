"""COVID-CT: slices of chest CT out of publications, with or without findings of COVID-19.

Zhao et al., "COVID-CT-Dataset: A CT Scan Dataset about COVID-19", arXiv:2003.13865.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from gradprom.datasets._read import files_in, read_pixels
from gradprom.datasets._split import split as split_by_seed
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError, reason_of
from gradprom.images import MAX_PIXELS

CLASSES = ("COVID", "NonCOVID")
IMAGES = "Images-processed"
LISTS = "Data-split"
_SUFFIXES = (".png", ".jpg", ".jpeg")
_WHOLE = {"COVID": 349, "NonCOVID": 397}
_FIFTH, _PAPERS_TEST = 0.2, 146
_WHERE = f"copy {ABOUT['covid_ct'].where} and unpack the two archives in it"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")

Images = dict[str, dict[str, Path]]  # by class and name of the file


def load_covid_ct(
    root: str | Path | None,
    *,
    channels: int | None = None,
    split: str = "official",
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The slices under ``root``, labelled COVID or NonCOVID; there are no masks.

    ``root`` holds ``Images-processed/CT_COVID`` and ``Images-processed/CT_NonCOVID`` with the images as they are
    distributed (grey and colour, with and without alpha, some of them JPEG in files named .png), and for the official
    split ``Data-split/{COVID,NonCOVID}/{train,val,test}CT_*.txt``. Colour images become grey unless ``channels`` is 3;
    alpha is left out. An id is the class and the file's name without suffix, with ``_`` for whatever is neither an
    ASCII letter or digit nor one of ``. _ -``.

    Args:
        root: the dataset's folder.
        channels: 1 (None, too) or 3.
        split: ``official`` trains on the lists train and val and tests on the list test (543 and 203 images). As far as
            the archive says who the patients are, none is on both sides. ``random`` draws images by class and seed; it
            may well part two slices of one patient.
        test_fraction: of ``random``. The default, 0.2, tests on 146 images of the whole dataset and trains on 600, as
            GradProm's paper does (section 4.1; a fifth would be 149); of any other number of images it is a fifth.
        split_seed: of ``random``.
        max_pixels: images with more are refused before they are decoded.

    Raises:
        UserError: when a folder or a list is missing, or the lists do not name every image once.
    """
    if split not in ("official", "random"):
        raise UserError(f"split of covid_ct is {split!r}: expected official or random")
    expected = f"expected the folders {' and '.join(f'{IMAGES}/CT_{name}' for name in CLASSES)} in it"
    if root is None:
        raise UserError(f"dataset covid_ct needs a root, {expected}: {_WHERE}")
    root = Path(root)
    images = _find(root, expected)
    _refuse_clashes(images)
    tested = _add_listed(images, root / LISTS) if split == "official" else set()
    samples = {
        (name, file): Sample(
            id=_id(name, path),
            read_image=functools.partial(read_pixels, path, max_pixels),
            label=CLASSES.index(name),
            files=(path,),
        )
        for name, files in images.items()
        for file, path in files.items()
    }
    ordered = list(samples.values())
    if split == "official":
        test = [index for index, key in enumerate(samples) if key in tested]
        train = [index for index, key in enumerate(samples) if key not in tested]
    else:
        fraction = test_fraction
        if fraction == _FIFTH and {name: len(files) for name, files in images.items()} == _WHOLE:
            fraction = _PAPERS_TEST / len(ordered)
        train, test = split_by_seed(
            [sample.id for sample in ordered], [sample.label for sample in ordered], fraction=fraction, seed=split_seed
        )
    return Dataset(
        name="covid_ct",
        channels=channels or 1,
        train=tuple(ordered[i] for i in train),
        test=tuple(ordered[i] for i in test),
        classes=CLASSES,
    )


def _find(root: Path, expected: str) -> Images:
    for name in CLASSES:
        folder = root / IMAGES / f"CT_{name}"
        if folder.is_dir():
            continue
        archive = folder.with_name(f"{folder.name}.zip")
        if archive.is_file():
            raise UserError(
                f"{folder}: expected a folder of images, found only {archive.name}: unpack it beside itself"
            )
        raise UserError(f"{folder}: no such folder; root is {root}, {expected}: {_WHERE}")
    return {
        name: {path.name: path for path in files_in(root / IMAGES / f"CT_{name}", _SUFFIXES).values()}
        for name in CLASSES
    }


def _id(name: str, path: Path) -> str:
    return f"{name}-{_UNSAFE.sub('_', path.stem)}"


def _refuse_clashes(images: Images) -> None:
    for name, files in images.items():
        seen: dict[str, Path] = {}
        for path in files.values():
            other = seen.setdefault(_id(name, path).casefold(), path)
            if other is not path:
                raise UserError(f"{path}: would get the same id as {other.name}: rename one of them")


def _add_listed(images: Images, folder: Path) -> set[tuple[str, str]]:
    """Class and file name of the images in the lists of the test set, once every image is found in one list.

    Files that are listed and not there are added to ``images``, in the folder where they ought to be.
    """
    advice = "copy the dataset again, or set the split to random"
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the lists of the official split, found no such folder: {advice}")
    lists = [folder / name / f"{part}CT_{name}.txt" for name in images for part in ("train", "val", "test")]
    absent = [path for path in lists if not path.is_file()]
    if absent:
        raise UserError(f"{', '.join(map(str, absent))}: expected lists of file names, found no such files: {advice}")
    tested: set[tuple[str, str]] = set()
    for name, files in images.items():
        listed: dict[str, Path] = {}
        for part in ("train", "val", "test"):
            path = folder / name / f"{part}CT_{name}.txt"
            for file in _read_list(path):
                if file in listed:
                    raise UserError(f"{path}: names {file!r}, as {listed[file].name} does: remove one of the lines")
                listed[file] = path
                if part == "test":
                    tested.add((name, file))
        missing = [path for file, path in files.items() if file not in listed]
        if missing:
            raise UserError(
                f"{missing[0]}: expected each image in one of the lists in {folder / name}, {len(missing)} of "
                f"{len(files)} are in none, this one first: take them out, or set the split to random"
            )
        home = next(iter(files.values())).parent
        files.update((file, home / file) for file in listed if file not in files)
    return tested


def _read_list(path: Path) -> list[str]:
    """The lines, without line ends of any kind, blanks around them, and empty ones."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: expected a list of file names, but it cannot be read ({reason_of(error)}): copy it again"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
