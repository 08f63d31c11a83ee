"""Datasets by name: what is on disk becomes training and test samples of one shape."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

__all__ = ["DATASET_NAMES", "Dataset", "Sample", "load_dataset"]

DATASET_NAMES = ("brain_mr", "camus", "covid_ct", "crchisto", "folder", "isic2018", "lizard", "tnbc")
OFFICIAL_SPLITS = ("camus", "covid_ct")
"""Datasets that say themselves what is to be tested on, and can be split at random all the same."""


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    channels: int | None = None,
    split: str | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = 100_000_000,
    max_side: int | None = None,
    views: str = "both",
    structures: str = "endocardium",
    whole: bool = True,
) -> Dataset:
    """Find the samples of a dataset and split them into training and test samples; pixels are read later.

    Args:
        name: one of ``DATASET_NAMES``.
        root: the dataset's folder; `brain_mr` is embedded and takes none.
        channels: 1 (grey) or 3 (colour); None takes what the dataset is.
        split: ``official`` (of `camus` and `covid_ct`), ``random``, the path of a file that
            :func:`gradprom.datasets.splits.write_split` wrote, or None: official where there is one, else random.
            A `folder` with a ``test`` folder, and `brain_mr`, come split and can be split otherwise by a file alone.
        test_fraction: share of the samples (of the patients, where those are known) that a random split tests on.
        split_seed: another seed gives another random split; the same seed gives the same on every machine.
        max_pixels: images with more are refused before they are decoded.
        max_side: images that are higher or wider are brought down to it; None leaves them as they are.
        views: of `camus`: ``both``, ``2CH`` or ``4CH``.
        structures: of `camus`: ``endocardium`` or ``all``.
        whole: refuse a copy that lacks files of some images; else these images are samples whose ``missing()`` names
            the files, and cannot be read.

    Raises:
        UserError: for an unknown name, a missing root, a root that is not whole, or a split that does not fit.

    Example:
        >>> load_dataset("brain_mr").mask_classes
        ('background', 'grey matter', 'white matter')
    """
    if name not in DATASET_NAMES:
        raise UserError(f"dataset {name!r} is unknown: choose one of {', '.join(DATASET_NAMES)}")
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}: expected 1 (grey), 3 (colour), or nothing to let the data decide")
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction is {test_fraction}: expected a share between 0 and 1, such as 0.2")
    file = None if split in (None, "official", "random") else Path(str(split))
    if split == "official" and name not in OFFICIAL_SPLITS:
        raise UserError(f"dataset {name} has no official split: take split random, or the path of a file of its own")
    if split == "random" and name == "brain_mr":
        raise UserError("dataset brain_mr comes split into slabs of the brain: leave split out, or give a file")

    if name == "brain_mr":
        from gradprom.datasets.brain_mr import load_brain_mr

        if root is not None:
            raise UserError(f"dataset brain_mr is embedded and takes no root, found {str(root)!r}: leave it out")
        dataset = load_brain_mr(channels=channels)
    else:
        options: dict[str, Any] = {"channels": channels, "test_fraction": test_fraction, "split_seed": split_seed}
        if name in OFFICIAL_SPLITS:
            options["split"] = "random" if file is not None else split or "official"
        if name == "camus":
            options |= {"views": ("2CH", "4CH") if views == "both" else (views,), "labels": structures}
        # the adapters are imported by name: each brings libraries that the others do not need
        load = getattr(importlib.import_module(f"gradprom.datasets.{name}"), f"load_{name}")
        dataset = load(root, max_pixels=max_pixels, **options)
    if whole:
        from gradprom.datasets._missing import refuse_incomplete

        refuse_incomplete(dataset, root)
    if file is not None:
        from gradprom.datasets.splits import apply_split

        dataset = apply_split(dataset, file)
    if max_side is None:
        return dataset
    from gradprom.datasets._shrink import shrunk

    train, test = (tuple(shrunk(sample, max_side) for sample in part) for part in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test)
