"""A split written to a file, and samples dealt out by one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gradprom._files import atomic_path
from gradprom.datasets._tables import read_table
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

PARTS = ("train", "test")
_REST = ("*", "none")
"""The line of a split that leaves out all that it does not name."""


def write_split(dataset: Dataset, path: str | Path) -> None:
    """Write which sample is in which part: a CSV file (UTF-8) of columns ``id`` and ``part``, sorted by id.

    Args:
        dataset: its ``train`` and ``test`` become the parts of these names.
        path: the file, replaced if it is there.

    Example:
        >>> import tempfile
        >>> from gradprom.datasets import load_dataset
        >>> path = Path(tempfile.mkdtemp()) / "split.csv"
        >>> write_split(load_dataset("brain_mr"), path)
        >>> path.read_text().splitlines()[:3]
        ['id,part', 'z+000,train', 'z+001,train']
    """
    rows = sorted((sample.id, part) for part in PARTS for sample in getattr(dataset, part))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "part"))
        writer.writerows(rows)


def apply_split(dataset: Dataset, path: str | Path) -> Dataset:
    """The same samples, dealt out anew as a file of columns ``id`` and ``part`` (``train`` or ``test``) says.

    Samples come sorted by id in either part, so that what is drawn from them later depends on the file alone and not on
    how ``dataset`` was split before. Blanks around an id are not looked at.

    A line ``*,none`` leaves out all samples that are not named: those under another licence, for one.

    Args:
        dataset: every sample of its two parts must be named once, unless the rest is left out, and no other.
        path: a CSV file in UTF-8, such as `write_split` writes.

    Raises:
        UserError: there is no such file, it is no such table, it names an id twice, one the dataset does not have or
            another part, leaves a sample out, leaves a part empty, or separates samples of one group.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a file of columns id and part, found none: check the split's name")
    samples = {sample.id.strip(): sample for sample in dataset.train + dataset.test}
    if len(samples) != len(dataset.train) + len(dataset.test):
        raise UserError(f"dataset {dataset.name} has two samples of one id: a split cannot tell them apart")
    rows = read_table(path, key=("id",), value="part")
    whole = _REST not in rows
    rows = [row for row in rows if row != _REST]
    _refuse_wrong_rows(path, rows, samples, dataset.name, whole)
    dealt: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for name, part in sorted(rows):
        dealt[part].append(samples[name])
    for part in PARTS:
        if not dealt[part]:
            raise UserError(f"{path}: expected ids in both parts, found none in {part}: give it some")
    torn = groups_in_both(dealt["train"], dealt["test"])
    if torn:
        raise UserError(
            f"{path}: expected all images of a patient in one part, {len(torn)} patients are in both, "
            f"{torn[0]!r} first: move their images together"
        )
    return replace(dataset, train=tuple(dealt["train"]), test=tuple(dealt["test"]))


def groups_in_both(train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """The groups (patients) that have samples on both sides, sorted."""
    return sorted({s.group for s in train if s.group is not None} & {s.group for s in test if s.group is not None})


def _refuse_wrong_rows(
    path: Path, rows: list[tuple[str, str]], samples: dict[str, Sample], dataset: str, whole: bool
) -> None:
    other = [(name, part) for name, part in rows if part not in PARTS]
    if other:
        raise UserError(
            f"{path}: expected train or test as the part of each id, {len(other)} of {len(rows)} have another, "
            f"{other[0][0]!r} first with {other[0][1]!r}: correct them"
        )
    unknown = [name for name, _ in rows if name not in samples]
    if unknown:
        raise UserError(
            f"{path}: expected ids of dataset {dataset} alone, it has no {len(unknown)} of these {len(rows)}, "
            f"{unknown[0]!r} first: remove their lines, or take the split of this dataset"
        )
    named = {name for name, _ in rows}
    missing = sorted(name for name in samples if name not in named)
    if missing and whole:
        raise UserError(
            f"{path}: expected every image of dataset {dataset} to be named, {len(missing)} of {len(samples)} are "
            f"not, {missing[0]!r} first: add a line for each, or a line {','.join(_REST)} to leave them out"
        )
