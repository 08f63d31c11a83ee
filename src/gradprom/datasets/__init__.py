"""Datasets by name: what is on disk becomes training and test samples of one shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

__all__ = ["DATASET_NAMES", "Dataset", "Sample", "load_dataset"]

DATASET_NAMES = ("brain_mr", "folder", "isic2018")


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_pixels: int = 100_000_000,
    max_side: int | None = None,
) -> Dataset:
    """Find the samples of a dataset and split them into training and test samples; pixels are read later.

    Args:
        name: one of ``DATASET_NAMES``.
        root: the dataset's folder; `brain_mr` is embedded and takes none.
        channels: 1 (grey) or 3 (colour); None takes what the dataset is.
        test_fraction: share of the samples that are tested on, where the dataset brings no test set of its
            own (`brain_mr` and a `folder` with a ``test`` folder do).
        split_seed: another seed gives another split; the same seed gives the same split on every machine.
        max_pixels: images with more are refused before they are decoded.
        max_side: images that are higher or wider are brought down to it; None leaves them as they are.

    Raises:
        UserError: for an unknown name, a missing root, or a root that is not whole.

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

    if name == "brain_mr":
        from gradprom.datasets.brain_mr import load_brain_mr

        if root is not None:
            raise UserError(f"dataset brain_mr is embedded and takes no root, found {str(root)!r}: leave it out")
        return load_brain_mr(channels=channels)
    if name == "isic2018":
        from gradprom.datasets.isic2018 import load_isic2018

        load = load_isic2018
    else:
        from gradprom.datasets.folder import load_folder

        load = load_folder
    dataset = load(root, channels=channels, test_fraction=test_fraction, split_seed=split_seed, max_pixels=max_pixels)
    if max_side is None:
        return dataset
    from gradprom.datasets._shrink import shrunk

    train, test = (tuple(shrunk(sample, max_side) for sample in part) for part in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test)
