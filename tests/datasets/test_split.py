from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradprom.datasets._split import split
from gradprom.errors import UserError

STRATA = st.lists(st.integers(0, 3), min_size=2, max_size=60)


@given(STRATA, st.floats(0.01, 0.99), st.integers(0, 5))
def test_splits_every_sample_once_and_by_share(strata: list[int], fraction: float, seed: int) -> None:
    ids = [f"image{i}" for i in range(len(strata))]
    train, test = split(ids, strata, fraction=fraction, seed=seed)
    assert sorted(train + test) == list(range(len(ids)))
    assert len(test) == min(max(round(fraction * len(ids)), 1), len(ids) - 1)
    # each stratum's share is exact but for rounding
    in_test = Counter(strata[i] for i in test)
    for stratum, count in Counter(strata).items():
        assert abs(in_test[stratum] - len(test) * count / len(ids)) < 1


@given(STRATA)
def test_does_not_depend_on_the_order_of_files(strata: list[int]) -> None:
    ids = [f"image{i}" for i in range(len(strata))]
    _, test = split(ids, strata, fraction=0.3, seed=1)
    _, reverse = split(ids[::-1], strata[::-1], fraction=0.3, seed=1)
    assert {ids[i] for i in test} == {ids[::-1][i] for i in reverse}


def test_seeds_differ() -> None:
    ids = [f"image{i}" for i in range(50)]
    drawn = {tuple(split(ids, [None] * 50, fraction=0.2, seed=seed)[1]) for seed in range(5)}
    assert len(drawn) == 5


def test_is_the_same_for_ever() -> None:
    # a published split must not change with a version of ours
    assert split(list("abcdefghij"), [None] * 10, fraction=0.3, seed=0)[1] == [3, 4, 6]


def test_one_image_is_refused() -> None:
    with pytest.raises(UserError, match="at least two"):
        split(["a"], [None], fraction=0.2, seed=0)
