"""Samples of which files are missing: refused before training, and what to do about them."""

from __future__ import annotations

from pathlib import Path

from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset
from gradprom.errors import UserError


def refuse_incomplete(dataset: Dataset, root: str | Path | None) -> None:
    """Raise a `UserError` that names the first missing file, where any of the samples' files is missing."""
    samples = dataset.train + dataset.test
    lacking = [paths for sample in samples if (paths := sample.missing())]
    if lacking:
        raise UserError(
            f"{min(min(paths) for paths in lacking)}: expected all files of each image, found none here, and "
            f"{len(lacking)} of {len(samples)} images incomplete: {remedy(dataset.name)}; "
            f"gradprom data check {dataset.name} {root} says more"
        )


def remedy(name: str) -> str:
    """Where the missing files of a dataset are had, and how to do without them.

    Example:
        >>> remedy("tnbc")
        'get them from https://zenodo.org/record/2579118, or move away the other files of these images'
    """
    about = ABOUT.get(name, ABOUT["folder"])
    return f"get them from {about.where}, or {about.without}"
