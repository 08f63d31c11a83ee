"""TNBC: H&E tiles of triple-negative breast cancer with masks of the nuclei.

Naylor et al., "Segmentation of Nuclei in Histopathology Images by Deep Regression of the Distance Map", IEEE
Transactions on Medical Imaging 38 (2019), doi:10.1109/TMI.2018.2865709.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets._read import files_in, pair_files, read_mask, read_pixels
from gradprom.datasets._split import split
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS

_NAME = re.compile(r"(\d+)_\d+")
_EXPECTED = "expected folders Slide_01 and so on with GT_01 and so on, or images and masks in it"
_WHERE = f"download them from {ABOUT['tnbc'].where}"


def load_tnbc(
    root: str | Path | None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The tiles under ``root``, with masks (background, nucleus); there are no diagnoses.

    ``root`` holds ``Slide_NN/NN_M.png`` and ``GT_NN/NN_M.png`` as they are distributed, or ``images/NN_M.png`` and
    ``masks/NN_M.png``. NN is the patient (the sample's ``group``) and M the tile. Masks are 0 and 255, or of one bit.
    The split is random by seed and by patient: ``test_fraction`` is a share of the patients, 2 of 11 by default.

    Raises:
        UserError: when there are no such folders, or a file is not named so.
    """
    if root is None:
        raise UserError(f"dataset tnbc needs a root, {_EXPECTED}: {_WHERE}")
    root = Path(root)
    pairs: dict[str, tuple[Path, Path]] = {}
    for folders in _folders(root):
        for stem, pair in _pairs(*folders).items():
            if stem in pairs:
                raise UserError(
                    f"{pair[0]}: expected each image once, found {pairs[stem][0]} as well: remove one of the two"
                )
            pairs[stem] = pair

    samples = [
        Sample(
            id=stem,
            read_image=functools.partial(read_pixels, path, max_pixels),
            read_mask=functools.partial(_read_nuclei, mask, path, max_pixels),
            group=_patient(path),
            files=(path, mask),
        )
        for stem, (path, mask) in pairs.items()
    ]
    train, test = split(
        list(pairs),
        [None] * len(samples),
        fraction=test_fraction,
        seed=split_seed,
        groups=[sample.group for sample in samples],
    )
    return Dataset(
        name="tnbc",
        channels=channels or 3,
        train=tuple(samples[i] for i in train),
        test=tuple(samples[i] for i in test),
        mask_classes=("background", "nucleus"),
    )


def _folders(root: Path) -> list[tuple[Path, Path]]:
    if (root / "images").is_dir():
        return [(root / "images", root / "masks")]
    slides = sorted(path for path in root.glob("Slide_*") if path.is_dir())
    if not slides:
        raise UserError(f"{root}: no images are there, {_EXPECTED}: {_WHERE}")
    return [(slide, slide.with_name(slide.name.replace("Slide", "GT", 1))) for slide in slides]


def _pairs(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    some = images.name == "images"  # a slide of a few tiles may have lost them all, or its masks
    return pair_files(
        files_in(images, (".png",), some=some),
        {stem: path for stem, path in files_in(masks, (".png",), some=some).items() if _NAME.fullmatch(stem)},
        lambda stem: images / f"{stem}.png",
        lambda stem: masks / f"{stem}.png",
    )


def _patient(path: Path) -> str:
    named = _NAME.fullmatch(path.stem)
    if named is None:
        raise UserError(f"{path}: expected a name such as 01_2.png, the patient before the underscore: rename the file")
    return named[1]


def _read_nuclei(path: Path, image_path: Path, max_pixels: int) -> NDArray[np.uint8]:
    values = read_mask(path, image_path, max_pixels)
    foreground = values[values > 0]
    other = foreground[foreground != (255 if 255 in foreground else 1)]
    if other.size:
        raise UserError(f"{path}: expected a mask of 0 and 255, or of 0 and 1, found {other[0]}: replace the file")
    return (values > 0).astype(np.uint8)
