"""CAMUS: apical views of the heart by ultrasound, at end-diastole and end-systole, with their structures.

Leclerc et al., "Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D Echocardiography", IEEE
Transactions on Medical Imaging 38 (2019), doi:10.1109/TMI.2019.2900516.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets._read import MIN_SIDE
from gradprom.datasets._split import split as split_by_seed
from gradprom.datasets._volume import read_slice, slice_size
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError
from gradprom.images import MAX_PIXELS

VIEWS = ("2CH", "4CH")
PHASES = ("ED", "ES")
STRUCTURES = ("background", "left ventricle", "myocardium", "left atrium")  # by their numbers in the masks
LABELS = {"endocardium": STRUCTURES[:2], "all": STRUCTURES}
TEST_PATIENTS = range(451, 501)  # what was the testing folder of the older release
_NIFTI, _TRAINING, _TESTING = "database_nifti", "training", "testing"
_ENDINGS = {_NIFTI: ".nii.gz", _TRAINING: ".mhd", _TESTING: ".mhd"}
_PATIENT = re.compile(r"patient(\d{4})")
_WHERE = f"get it from {ABOUT['camus'].where}"
_RANDOM = "set the split to random to draw test patients from those with masks"


@dataclass(frozen=True)
class _Pair:
    """An image and its mask, whether they are there or not, of a patient whose name is unique."""

    id: str
    patient: str
    image: Path
    mask: Path
    held_out: bool


def load_camus(
    root: str | Path | None,
    *,
    channels: int | None = None,
    split: str = "official",
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    views: Sequence[str] = VIEWS,
    labels: str = "endocardium",
) -> Dataset:
    """The images at end-diastole and end-systole under ``root``, with masks; there are no diagnoses.

    Two releases are known. The NIfTI release has ``database_nifti/patientNNNN/patientNNNN_{2CH,4CH}_{ED,ES}.nii.gz``,
    the older one ``training`` and ``testing`` with the same in ``.mhd`` and ``.raw``; each image has its mask beside
    it, of the same name with ``_gt``. Sequences and texts are passed over. Images are turned upright, the probe on top,
    and keep their pixels, which in the older release are not square. Values are intensities from 0 to 255 (the NIfTI
    release has fractions of them) and are rounded to whole ones.

    Ids are as ``patient0001_4CH_ED``, groups as ``patient0001``; both begin with ``test-`` for the older release's
    ``testing``, which counts its patients from 1 again.

    Args:
        root: the folder that holds ``database_nifti``, or ``training`` and ``testing``; or one of these itself.
        channels: 1 (None, too) or 3.
        split: ``official`` tests on patients 451 to 500 of the NIfTI release, or on ``testing``, and trains on all
            others. ``random`` draws patients by seed, among those with masks. The lists in ``database_split`` are
            folds of a cross-validation, their test patients are others, and they are not looked at.
        test_fraction: of ``random``: share of the patients.
        split_seed: of ``random``.
        max_pixels: images with more are refused before they are decoded.
        views: ``2CH``, ``4CH`` or both.
        labels: ``endocardium`` (background, left ventricle) or ``all`` (background, left ventricle, myocardium, left
            atrium).

    Raises:
        UserError: when an option is none of the above, a folder is missing, or there is nothing to test or to train on.
    """
    if split not in ("official", "random"):
        raise UserError(f"split of camus is {split!r}: expected official or random")
    if labels not in LABELS:
        raise UserError(f"labels of camus is {labels!r}: expected {' or '.join(LABELS)}")
    if not views or not set(views) <= set(VIEWS):
        raise UserError(f"views of camus is {', '.join(views) or 'empty'}: expected both, {' or '.join(VIEWS)}")
    pairs = _masked(_pairs(_folders(root), views), official=split == "official")
    samples = [
        Sample(
            id=pair.id,
            read_image=functools.partial(_read_image, pair.image, max_pixels),
            read_mask=functools.partial(_read_mask, pair.mask, pair.image, labels, max_pixels),
            group=pair.patient,
            files=(pair.image, pair.mask),
        )
        for pair in pairs
    ]
    if split == "official":
        test = [index for index, pair in enumerate(pairs) if pair.held_out]
        train = [index for index, pair in enumerate(pairs) if not pair.held_out]
        for part, what in ((train, "train"), (test, "test")):
            if not part:
                raise UserError(f"{root}: expected patients to {what} on in the official split, found none: {_RANDOM}")
    else:
        train, test = split_by_seed(
            [sample.id for sample in samples],
            [None] * len(samples),
            fraction=test_fraction,
            seed=split_seed,
            groups=[sample.group for sample in samples],
        )
    return Dataset(
        name="camus",
        channels=channels or 1,
        train=tuple(samples[i] for i in train),
        test=tuple(samples[i] for i in test),
        mask_classes=LABELS[labels],
    )


def _folders(root: str | Path | None) -> list[Path]:
    """The folders of patients: ``database_nifti``, or ``training`` and ``testing`` as far as they are there."""
    expected = f"the folder {_NIFTI}, or {_TRAINING} and {_TESTING}"
    if root is None:
        raise UserError(f"dataset camus needs a root, expected {expected} in it: {_WHERE}")
    root = Path(root)
    folders = [root / name for name in _ENDINGS if (root / name).is_dir()]
    itself = root.absolute()
    if not folders and root.is_dir() and itself.name in _ENDINGS:
        release = (_NIFTI,) if itself.name == _NIFTI else (_TRAINING, _TESTING)
        folders = [itself.with_name(name) for name in release if itself.with_name(name).is_dir()]
    if not folders:
        raise UserError(f"{root}: expected {expected} in it, found neither: {_WHERE}")
    names = [folder.name for folder in folders]
    if _NIFTI in names and len(names) > 1:
        raise UserError(f"{root}: expected one release, found {' and '.join(names)}: name one of them as the root")
    return folders


def _pairs(folders: Iterable[Path], views: Sequence[str]) -> list[_Pair]:
    """What there ought to be: every view and phase in every patient's folder."""
    pairs = []
    for folder in folders:
        patients = sorted(path for path in folder.iterdir() if _PATIENT.fullmatch(path.name) and path.is_dir())
        if not patients:
            raise UserError(f"{folder}: expected folders named patient0001 and so on, found none: {_WHERE}")
        older_test = folder.name == _TESTING
        prefix, ending = "test-" if older_test else "", _ENDINGS[folder.name]
        for patient in patients:
            number = int(patient.name.removeprefix("patient"))
            held_out = older_test or (folder.name == _NIFTI and number in TEST_PATIENTS)
            for view, phase in itertools.product(VIEWS, PHASES):
                if view in views:
                    stem = f"{patient.name}_{view}_{phase}"
                    image, mask = patient / f"{stem}{ending}", patient / f"{stem}_gt{ending}"
                    pairs.append(_Pair(prefix + stem, prefix + patient.name, image, mask, held_out))
    return pairs


def _masked(pairs: list[_Pair], official: bool) -> list[_Pair]:
    """The pairs; where no test patient has any mask, these are refused, or left out of a draw."""
    held_out = [pair for pair in pairs if pair.held_out]
    if held_out and not any(pair.mask.is_file() for pair in held_out):
        if official:
            raise UserError(
                f"{held_out[0].mask}: expected masks of the official test patients, found none (there are copies of "
                f"the dataset without them): {_RANDOM}"
            )
        pairs = [pair for pair in pairs if not pair.held_out]
    return pairs


def _read_image(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """The image at ``path`` as (height, width, 1), its intensities rounded to whole ones."""
    values = read_slice(path, max_pixels)
    height, width = values.shape
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"{path}: expected at least {MIN_SIDE} pixels on each side (the window of SSIM), "
            f"found {width} x {height}: take the patient out of the dataset"
        )
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 255 or highest <= 1:
        raise UserError(
            f"{path}: expected intensities from 0 to 255, found {lowest:g} to {highest:g}: "
            f"use the files as they were distributed"
        )
    whole: NDArray[np.uint8] = np.rint(values).astype(np.uint8)
    return whole[..., np.newaxis]


def _read_mask(path: Path, image: Path, labels: str, max_pixels: int) -> NDArray[np.uint8]:
    """The classes at ``path`` as (height, width), once it is known to be as large as its image."""
    expected, found = slice_size(image), slice_size(path)
    if found != expected:
        raise UserError(
            f"{path}: expected {expected[1]} x {expected[0]} pixels as its image {image.name} has, "
            f"found {found[1]} x {found[0]}: copy both files again"
        )
    values = read_slice(path, max_pixels)
    classes: NDArray[np.uint8] = values.clip(0, len(STRUCTURES) - 1).astype(np.uint8)
    other = values[classes != values]
    if other.size:
        raise UserError(f"{path}: expected 0, 1, 2 and 3 alone, found {other[0]:g}: copy the file again")
    return classes if labels == "all" else np.where(classes == 1, np.uint8(1), np.uint8(0))
