"""Whether a dataset is whole: its images and masks are read once, and all that is wrong is collected."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets._alike import nearest, thumbnail
from gradprom.datasets._missing import remedy
from gradprom.datasets._progress import map_files
from gradprom.datasets._read import MIN_SIDE
from gradprom.datasets.sample import Dataset, Sample
from gradprom.datasets.splits import groups_in_both
from gradprom.errors import UserError
from gradprom.images import to_channels

ALIKE = 0.98  # correlation of thumbnails; between unlike images of the datasets we know it stays below 0.96


@dataclass(frozen=True)
class Part:
    """What was counted in the training or in the test samples.

    Attributes:
        images: how many there are, read or not.
        groups: how many groups (patients) they are from; 0 where none are known.
        labels: how many there are of each of the dataset's ``classes``.
        pixels: how many pixels of each of its ``mask_classes`` the masks have that were read.
    """

    images: int
    groups: int
    labels: tuple[int, ...]
    pixels: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What was found in a dataset.

    Attributes:
        dataset: what was looked at: the images all of whose files are there.
        train: counts of the training samples.
        test: counts of the test samples.
        missing: the files that are not there, sorted.
        incomplete: how many images lack one of them, beside those of ``dataset``.
        read: how many images were read without a fault.
        whole: how many of these have no fault in their masks either.
        widths: of the narrowest and of the widest image, in pixels; zeros where none was read.
        heights: of the lowest and of the highest.
        grey: images without colour, also those that are stored with three equal channels.
        colour: images with colour.
        bits: how many images have 8, and how many 16 bits a channel.
        problems: what must be mended before the dataset can be used, a sentence each.
        warnings: what can be used and will mislead, a sentence each.
    """

    dataset: Dataset
    train: Part
    test: Part
    missing: tuple[Path, ...]
    incomplete: int
    read: int
    whole: int
    widths: tuple[int, int]
    heights: tuple[int, int]
    grey: int
    colour: int
    bits: dict[int, int]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Image:
    height: int
    width: int
    bits: int
    grey: bool
    digest: bytes
    thumbnail: NDArray[np.float32]


@dataclass(frozen=True)
class _Seen:
    """What reading one sample showed; None for what could not be read, or is not there."""

    sample: Sample
    in_test: bool
    image: _Image | None
    pixels: NDArray[np.int64] | None
    problems: tuple[str, ...]


def check_dataset(dataset: Dataset, *, limit: int | None = None) -> Report:
    """Read the images and masks of a dataset, with a few threads and a progress bar, and hold them against it.

    Problems are files that are missing, cannot be read or do not fit together, masks with values that are no class,
    images too small to be measured, samples that lack what others have, and groups (patients) that are on both sides of
    the split.
    Warnings are images that are there twice, pixel by pixel (in the channels that are trained on), test images that
    look the same as a training image (their thumbnails correlate by over 0.98: a rescaled or recompressed copy, or a
    neighbouring slice), and classes that one of the two parts does not have.

    Args:
        dataset: of any origin; of `load_dataset` with ``whole=False`` it may lack files of some images.
        limit: read so many images at most, evenly spread, instead of all; twins among the others are not found.

    Example:
        >>> from gradprom.datasets import load_dataset
        >>> report = check_dataset(load_dataset("brain_mr"))
        >>> report.read, report.train.images, report.widths, report.problems
        (103, 82, (197, 197), ())
    """
    lacking = {sample.id: paths for sample in dataset.train + dataset.test if (paths := sample.missing())}
    missing = sorted({path for paths in lacking.values() for path in paths})
    train, test = (tuple(s for s in part if s.id not in lacking) for part in (dataset.train, dataset.test))
    dataset = replace(dataset, train=train, test=test)
    samples = [*((sample, False) for sample in dataset.train), *((sample, True) for sample in dataset.test)]
    step = 1 if limit is None else max(1, -(-len(samples) // limit))
    seen = map_files(functools.partial(_see, dataset=dataset), samples[::step], "Reading images")
    images = [one.image for one in seen if one.image is not None]
    widths, heights = [image.width for image in images] or [0], [image.height for image in images] or [0]
    return Report(
        dataset=dataset,
        train=_count(dataset, dataset.train, [one for one in seen if not one.in_test]),
        test=_count(dataset, dataset.test, [one for one in seen if one.in_test]),
        missing=tuple(missing),
        incomplete=len(lacking),
        read=len(images),
        whole=sum(one.image is not None and not one.problems for one in seen),
        widths=(min(widths), max(widths)),
        heights=(min(heights), max(heights)),
        grey=sum(image.grey for image in images),
        colour=sum(not image.grey for image in images),
        bits=dict(sorted(Counter(image.bits for image in images).items())),
        problems=(
            *_lost(dataset, missing, len(lacking)),
            *_unfit(dataset),
            *(problem for one in seen for problem in one.problems),
        ),
        warnings=(*_twins(seen), *_lookalikes(seen), *_lacking(dataset)),
    )


def _see(item: tuple[Sample, bool], dataset: Dataset) -> _Seen:
    sample, in_test = item
    problems: list[str] = []
    image = pixels = None
    try:
        image = _describe(sample.read_image(), dataset.channels)
        if min(image.height, image.width) < MIN_SIDE:
            problems.append(
                f"{sample.id}: expected at least {MIN_SIDE} pixels on each side (the window of SSIM), "
                f"found {image.width} x {image.height}: take the image out of the dataset"
            )
    except (UserError, OSError) as error:
        problems.append(str(error))
    try:
        if sample.read_mask is not None:
            mask = sample.read_mask()
            pixels = np.bincount(mask.ravel(), minlength=len(dataset.mask_classes))
            problems += _misfits(sample, mask, image, dataset.mask_classes)
    except (UserError, OSError) as error:
        # where the image is at fault, reading its mask may well say so once more
        problems += [str(error)] if str(error) not in problems else []
    return _Seen(sample, in_test, image, pixels, tuple(problems))


def _describe(pixels: NDArray[Any], channels: int) -> _Image:
    height, width = pixels.shape[:2]
    used = np.ascontiguousarray(to_channels(pixels, channels))
    digest = hashlib.blake2b(f"{used.shape}{used.dtype}".encode(), digest_size=16)
    digest.update(used.data)
    return _Image(
        height=height,
        width=width,
        bits=8 * pixels.dtype.itemsize,
        grey=bool((pixels == pixels[..., :1]).all()),
        digest=digest.digest(),
        thumbnail=thumbnail(used),
    )


def _misfits(sample: Sample, mask: NDArray[np.uint8], image: _Image | None, classes: tuple[str, ...]) -> list[str]:
    problems = []
    if image is not None and mask.shape != (image.height, image.width):
        problems.append(
            f"{sample.id}: expected a mask of {image.width} x {image.height} pixels as its image has, "
            f"found {mask.shape[1]} x {mask.shape[0]}: make the two the same size"
        )
    if mask.max(initial=0) >= len(classes):
        problems.append(
            f"{sample.id}: expected mask values from 0 to {len(classes) - 1} ({', '.join(classes)}), "
            f"found {mask.max()}: correct the mask"
        )
    return problems


def _count(dataset: Dataset, samples: Sequence[Sample], seen: list[_Seen]) -> Part:
    labels = Counter(sample.label for sample in samples)
    pixels = np.zeros(len(dataset.mask_classes), np.int64)
    for one in seen:
        if one.pixels is not None:
            pixels += one.pixels[: len(pixels)]
    return Part(
        images=len(samples),
        groups=len({sample.group for sample in samples} - {None}),
        labels=tuple(labels[index] for index in range(len(dataset.classes))),
        pixels=tuple(pixels.tolist()),
    )


def _lost(dataset: Dataset, missing: list[Path], incomplete: int) -> list[str]:
    if not missing:
        return []
    images = len(dataset.train) + len(dataset.test) + incomplete
    return [
        f"expected all files of each image, found {incomplete} of {images} images incomplete "
        f"(files missing: {len(missing)}): {remedy(dataset.name)}"
    ]


def _unfit(dataset: Dataset) -> list[str]:
    """What is wrong with the samples before any file is read."""
    samples = dataset.train + dataset.test
    problems = [
        f"the {part} set is empty: give it at least one image"
        for part in ("train", "test")
        if not getattr(dataset, part)
    ]
    twice = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if twice:
        problems.append(f"{len(twice)} ids name several images, {twice[0]!r} first: rename all but one")
    for what, lacking in (
        ("mask", [sample.id for sample in samples if sample.read_mask is None]),
        ("label", [sample.id for sample in samples if sample.label is None]),
    ):
        if 0 < len(lacking) < len(samples):
            problems.append(
                f"expected a {what} for each image or for none, {len(lacking)} of {len(samples)} have none, "
                f"{lacking[0]!r} first: add them, or take these images out"
            )
    wrong = [s.id for s in samples if s.label is not None and not 0 <= s.label < len(dataset.classes)]
    if wrong:
        problems.append(
            f"expected labels from 0 to {len(dataset.classes) - 1}, {len(wrong)} of {len(samples)} images have others, "
            f"{wrong[0]!r} first: correct them"
        )
    torn = groups_in_both(dataset.train, dataset.test)
    if torn:
        problems.append(
            f"expected all images of a patient in one part, {len(torn)} patients are in training and in test, "
            f"{torn[0]!r} first: split by patient"
        )
    return problems


def _twins(seen: list[_Seen]) -> list[str]:
    """Images that are there more than once: each that leaks or contradicts another, and a line for all others."""
    alike: dict[bytes, list[_Seen]] = {}
    for one in seen:
        if one.image is not None:
            alike.setdefault(one.image.digest, []).append(one)
    warnings, others = [], []
    for same in alike.values():
        first = same[0]  # of the training set, if any is
        for other in same[1:]:
            leaks = other.in_test and not first.in_test
            contradicts = other.sample.label != first.sample.label
            if leaks or contradicts:
                places = (" in test", " in training") if leaks else ("", "")
                warnings.append(
                    f"{other.sample.id}{places[0]} is the same image as {first.sample.id}{places[1]}"
                    + (", with another label" if contradicts else "")
                )
            else:
                others.append(f"{other.sample.id} and {first.sample.id}")
    if others:
        warnings.append(f"{len(others)} images are there twice in one part, {others[0]} first")
    return warnings


def _lookalikes(seen: list[_Seen]) -> list[str]:
    """Test images that look the same as a training image and are not the same pixel by pixel."""
    train = [(one.sample, one.image) for one in seen if one.image is not None and not one.in_test]
    test = [(one.sample, one.image) for one in seen if one.image is not None and one.in_test]
    found = nearest([image.thumbnail for _, image in test], [image.thumbnail for _, image in train])
    warnings = []
    for (sample, image), (index, correlation) in zip(test, found, strict=False):  # none without training images
        other, twin = train[index]
        if correlation > ALIKE and image.digest != twin.digest:
            warnings.append(
                f"{sample.id} in test looks the same as {other.id} in training (correlation {correlation:.3f})"
                + (", with another label" if sample.label != other.label else "")
            )
    return warnings


def _lacking(dataset: Dataset) -> list[str]:
    absent = []
    for part, where in ((dataset.train, "training"), (dataset.test, "test")):
        have = {sample.label for sample in part}
        absent += [f"no {where} image is of class {c}" for i, c in enumerate(dataset.classes) if i not in have]
    return absent
