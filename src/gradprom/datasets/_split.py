"""Splitting samples into training and test, the same way on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gradprom.errors import UserError


def split(
    ids: Sequence[str], strata: Sequence[int | None], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of the training and of the test samples, each in the order of ``ids``.

    Every stratum gives its share to the test set, rounded by largest remainder so that the test set has
    ``round(fraction * n)`` samples (at least one, and at least one is left to train on). Which samples of a stratum
    go is decided by a hash of the seed and the id: it depends neither on the order of files nor on a library.

    Raises:
        UserError: for fewer than two samples.

    Example:
        >>> train, test = split(["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1], fraction=0.4, seed=0)
        >>> len(train), len(test)
        (3, 2)
    """
    if len(ids) < 2:
        raise UserError(f"{len(ids)} image cannot be split into training and test: give at least two")
    groups: dict[int, list[int]] = {}
    for index, stratum in enumerate(strata):
        groups.setdefault(-1 if stratum is None else stratum, []).append(index)

    total = min(max(round(fraction * len(ids)), 1), len(ids) - 1)
    shares = {stratum: total * len(members) / len(ids) for stratum, members in groups.items()}
    counts = {stratum: int(share) for stratum, share in shares.items()}
    by_remainder = sorted(groups, key=lambda stratum: (counts[stratum] - shares[stratum], stratum))
    for stratum in by_remainder[: total - sum(counts.values())]:
        counts[stratum] += 1

    test: set[int] = set()
    for stratum, members in groups.items():
        drawn = sorted(members, key=lambda index: hashlib.sha256(f"split/{seed}/{ids[index]}".encode()).digest())
        test.update(drawn[: counts[stratum]])
    return [i for i in range(len(ids)) if i not in test], sorted(test)
