"""ISIC 2018, task 1: dermoscopy images with lesion masks, and diagnoses from the archive's metadata.

Codella et al., "Skin Lesion Analysis Toward Melanoma Detection 2018", arXiv:1902.03368.
"""

from __future__ import annotations

import functools
from pathlib import Path

from gradprom.datasets._read import files_in, pair_files, read_binary_mask, read_pixels
from gradprom.datasets._split import split
from gradprom.datasets._tables import read_table
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
METADATA = "metadata.csv"
_MASK_ENDING = "_segmentation"
_ID_COLUMNS = ("isic_id", "image_id", "image")
_WHERE = f"download both from {ABOUT['isic2018'].where}"


def load_isic2018(
    root: str | Path | None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The images under ``root``, with masks (background, lesion) and, given ``metadata.csv``, diagnoses.

    ``root`` holds ``ISIC2018_Task1-2_Training_Input/ISIC_*.jpg`` and
    ``ISIC2018_Task1_Training_GroundTruth/ISIC_*_segmentation.png`` as they are distributed. The challenge has no
    diagnoses for these images; the ISIC archive does: a table ``metadata.csv`` beside the two folders with the
    columns ``isic_id`` (or ``image_id``, ``image``) and ``diagnosis``. Without it samples have no labels. The split is
    random by seed, stratified by diagnosis (the paper's is 80/20, section 4.1).

    Raises:
        UserError: when a folder or a diagnosis is missing.
    """
    expected = f"expected the folders {IMAGES} and {MASKS} in it"
    if root is None:
        raise UserError(f"dataset isic2018 needs a root, {expected}: {_WHERE}")
    root = Path(root)
    for folder in (root, root / IMAGES, root / MASKS):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; root is {root}, {expected}: {_WHERE}")

    images = files_in(root / IMAGES, (".jpg",))
    masks = {stem.removesuffix(_MASK_ENDING): path for stem, path in files_in(root / MASKS, (".png",)).items()}
    pairs = pair_files(
        images,
        masks,
        lambda stem: root / IMAGES / f"{stem}.jpg",
        lambda stem: root / MASKS / f"{stem}{_MASK_ENDING}.png",
    )
    diagnoses = _diagnoses(root / METADATA, list(images))
    classes = tuple(sorted(set(diagnoses.values())))
    samples = [
        Sample(
            id=stem,
            read_image=functools.partial(read_pixels, path, max_pixels),
            read_mask=functools.partial(read_binary_mask, mask, path, max_pixels),
            label=classes.index(diagnoses[stem]) if stem in diagnoses else None,
            files=(path, mask),
        )
        for stem, (path, mask) in pairs.items()
    ]
    train, test = split(list(pairs), [s.label for s in samples], fraction=test_fraction, seed=split_seed)
    return Dataset(
        name="isic2018",
        channels=channels or 3,
        train=tuple(samples[i] for i in train),
        test=tuple(samples[i] for i in test),
        classes=classes,
        mask_classes=("background", "lesion"),
    )


def _diagnoses(path: Path, ids: list[str]) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = dict(read_table(path, key=_ID_COLUMNS, value="diagnosis"))
    missing = [name for name in ids if not table.get(name)]
    if missing:
        raise UserError(
            f"{path}: expected a diagnosis for each image, {len(missing)} of {len(ids)} have none, {missing[0]} first: "
            f"complete the table, or move it away to go without diagnoses"
        )
    return {name: table[name] for name in ids}
