"""Splitting samples into training and test, the same way on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gradprom.errors import UserError


def split(
    ids: Sequence[str],
    strata: Sequence[int | None],
    *,
    fraction: float,
    seed: int,
    groups: Sequence[str | None] | None = None,
) -> tuple[list[int], list[int]]:
    """Indices of the training and of the test samples, each in the order of ``ids``.

    Every stratum gives its share to the test set, rounded by largest remainder so that the test set has
    ``round(fraction * n)`` samples (at least one, and at least one is left to train on). Which samples of a stratum
    go is decided by a hash of the seed and the id: it depends neither on the order of files nor on a library.

    Samples of one group (a patient) are never separated: it is the groups that are counted, drawn and dealt out then,
    each in the stratum of its first sample.

    Raises:
        UserError: for fewer than two samples, or groups.

    Example:
        >>> train, test = split(["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1], fraction=0.4, seed=0)
        >>> len(train), len(test)
        (3, 2)
        >>> split(["p1-ED", "p1-ES", "p2-ED"], [None] * 3, fraction=0.5, seed=1, groups=["p1", "p1", "p2"])
        ([0, 1], [2])
    """
    named = groups or [None] * len(ids)
    members: dict[str, list[int]] = {}
    for index, (name, group) in enumerate(zip(ids, named, strict=True)):
        members.setdefault(name if group is None else group, []).append(index)
    units = list(members)
    if len(units) < 2:
        kind = "patient" if groups else "image"
        raise UserError(f"{len(units)} {kind} cannot be split into training and test: give at least two")
    by_stratum: dict[int, list[str]] = {}
    for unit in units:
        stratum = strata[members[unit][0]]
        by_stratum.setdefault(-1 if stratum is None else stratum, []).append(unit)

    total = min(max(round(fraction * len(units)), 1), len(units) - 1)
    shares = {stratum: total * len(alike) / len(units) for stratum, alike in by_stratum.items()}
    counts = {stratum: int(share) for stratum, share in shares.items()}
    by_remainder = sorted(by_stratum, key=lambda stratum: (counts[stratum] - shares[stratum], stratum))
    for stratum in by_remainder[: total - sum(counts.values())]:
        counts[stratum] += 1

    test: set[int] = set()
    for stratum, alike in by_stratum.items():
        drawn = sorted(alike, key=lambda unit: hashlib.sha256(f"split/{seed}/{unit}".encode()).digest())
        test.update(index for unit in drawn[: counts[stratum]] for index in members[unit])
    return [i for i in range(len(ids)) if i not in test], sorted(test)
