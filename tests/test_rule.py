"""What the rule makes of gradients, held against its formulas; most of it is tested through GradientPromotion."""

import copy
import math

import pytest
import torch

from gradprom._gates import GATES, GateName, decide
from gradprom._passes import Found
from gradprom._rule import judge, products_of, promote

Entries = list[torch.Tensor | None]


def gradients(dtype: torch.dtype) -> tuple[Entries, Entries]:
    """G and A of tensors with agreeing and opposing parts, large and small, in several layouts, some missing."""
    torch.manual_seed(0)
    shapes = [(3, 2), (500, 300), (), (40, 30, 5, 5), (40, 30, 5, 5), (7,), (7,), (7,)]
    g: Entries = [torch.randn(shape, dtype=dtype) for shape in shapes]
    a: Entries = [
        torch.randn(shape, dtype=dtype) + sign * x for shape, x, sign in zip(shapes, g, [1, -1] * 4, strict=True)
    ]
    a[3] = a[3].to(memory_format=torch.channels_last)
    g[4], a[4] = (x.to(memory_format=torch.channels_last) for x in (g[4], a[4]))
    g[5] = a[6] = g[7] = a[7] = None
    return g, a


def promoted(g: Entries, a: Entries, gate: GateName, weight: float, foreseen: float | None) -> tuple[Entries, Found]:
    found = Found([torch.zeros(0)] * len(g), copy.deepcopy(g), {"help": copy.deepcopy(a)}, {"help": []})
    found.losses = torch.ones(2)
    table = products_of(found, foreseen)
    judged = judge(found, table[:, None], table, scale=1)
    decided = decide(judged.products, {"help": weight}, judged.finite, gate, "each", bounded=False)
    return promote(found, judged, decided, None, lambda numbers: numbers, samples=False), found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("gate", [name for name, gate in GATES.items() if gate.is_whole])
def test_what_was_made_beforehand_is_the_very_sum_or_not_used(gate: GateName, sign: int, dtype: torch.dtype) -> None:
    g, a = gradients(dtype)
    a = [None if x is None else sign * x for x in a]
    update, found = promoted(g, a, gate, 0.3, foreseen=0.3)
    assert (1 in found.sums) == (dtype is not torch.bfloat16)  # of a narrower type nothing is made beforehand
    assert 3 not in found.sums  # nor where the two are stored in another order
    dot = sum(float((x.double() * y.double()).sum()) for x, y in zip(g, a, strict=True) if None not in (x, y))
    for x, y, got in zip(g, a, update, strict=True):
        agrees = x is not None and y is not None and float((x.double() * y.double()).sum()) >= 0
        is_open = {"hard": dot >= 0, "per_tensor": agrees, "always": True}[gate]
        if not is_open or y is None:
            assert got is x or torch.equal(got, x)
        else:
            assert torch.equal(got, 0.3 * y if x is None else torch.add(x, y, alpha=0.3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_was_made_of_an_auxiliary_that_is_not_finite_is_not_used(bad: float) -> None:
    g, a = gradients(torch.float32)
    a[1][400, 200] = bad
    update, found = promoted(g, a, "always", 0.3, foreseen=0.3)
    assert 1 in found.sums
    assert all(got is x or torch.equal(got, x) for got, x in zip(update, g, strict=True))
