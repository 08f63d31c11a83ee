"""Arithmetic on lists of gradients."""

import math

import pytest
import torch

from gradprom import _gradients
from gradprom._gradients import add, add_scaled, add_to_grad, all_finite, checksum, combine, inner, own, reduce_all

CPU = torch.device("cpu")


def values(gradients: list) -> list:
    return [None if gradient is None else gradient.tolist() for gradient in gradients]


def test_own_clones_what_is_shared_or_expanded_and_nothing_else() -> None:
    alone, shared, storage = torch.ones(2), torch.ones(2), torch.arange(6.0)
    first = [alone, None, shared, torch.tensor(1.0).expand(3)]
    second = [shared, storage[:3], storage[3:], storage[0].expand(6)]
    expected = values(first), values(second)
    own(first, second)
    assert (values(first), values(second)) == expected
    assert first[0] is alone
    assert first[2] is shared
    found = [gradient for gradient in [*first, *second] if gradient is not None]
    for i, gradient in enumerate(found):
        gradient.fill_(i)  # each can be written to, and none is seen in another
    assert [set(gradient.tolist()) for gradient in found] == [{i} for i in range(len(found))]


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return inner([[x], [y]], [(0, 1)], CPU)


def test_inner_products_by_hand_and_in_the_wider_type() -> None:
    xs = [torch.tensor([1.0, 2]), None, torch.tensor([[3.0]]), None]
    ys = [torch.tensor([3.0, 4]), torch.ones(1), torch.tensor([[-1.0]]), None]
    products = inner([xs, ys], [(1, 1), (0, 0), (0, 1)], CPU)
    assert products.tolist() == [[25, 1, 1, 0], [5, 0, 9, 0], [11, 0, -3, 0]]
    assert products.dtype == torch.float32
    assert product(torch.ones(1).half(), torch.ones(1).half()).dtype == torch.float32
    # 300² does not fit into float16
    assert product(torch.full((1,), 300.0).half(), torch.full((1,), 300.0).half()).item() == 90_000
    assert inner([[torch.ones(1), torch.ones(1).double()]], [(0, 0)], CPU).dtype == torch.float64
    assert product(torch.zeros(0), torch.zeros(0)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_is_told_from_what_is_not(dtype: torch.dtype) -> None:
    largest = torch.full((5,), torch.finfo(dtype).max, dtype=dtype)
    # the norms of all but float16 are too large for float32, and the numbers finite all the same
    assert checksum([largest, largest], CPU).isfinite().all() == (dtype is torch.float16)
    assert all_finite([largest, None, -largest, torch.zeros(0)])
    assert checksum([torch.ones(25, dtype=dtype), None, torch.zeros(0)], CPU).tolist() == [5]
    for bad in (math.nan, math.inf, -math.inf):
        for others in ([], [largest], [torch.tensor([-bad], dtype=dtype)]):
            gradients = [torch.tensor([1, bad, 2], dtype=dtype), *others]
            assert not checksum(gradients, CPU).isfinite().any()
            assert not all_finite(gradients)
    assert not checksum([torch.tensor([complex(1, math.nan)])], CPU).isfinite().any()
    for nothing in ([None], []):
        assert checksum(nothing, CPU).tolist() == [0]
        assert all_finite(nothing)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (64, 256, 5, 5)])
def test_inner_product_whatever_the_layout_and_the_length(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, *shape).unbind()
    expected = (x.double() * y.double()).sum().item()
    got = product(x.to(memory_format=layout), y).item()
    # as if float32 products were summed without error
    assert got == pytest.approx(expected, abs=1e-6 * (x.double().norm() * y.double().norm()).item())


@pytest.mark.parametrize("joined", [0, 1 << 14])
def test_inner_products_of_many_tensors_large_and_small_some_missing(
    joined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_gradients._SMALL, "cpu", joined)
    torch.manual_seed(0)
    sizes = [(7,), (300, 400), (), (0,), (128, 128), (1 << 18,), (5, 4)] * 12
    lists: list[list[torch.Tensor | None]] = [[torch.randn(size) for size in sizes] for _ in range(3)]
    for i in range(len(sizes)):  # each is missing in one list or another, some in all
        for which, gradients in enumerate(lists):
            if (i // 7) & (1 << which):
                gradients[i] = None
    for i in (7, 8):  # a small one and a large one that are missing in the first list alone
        assert lists[0][i] is None
        lists[1][i] = torch.full(sizes[i], math.inf)
    pairs = [(0, 0), (1, 1), (1, 0), (2, 2), (2, 0)]
    products = inner(lists, pairs, CPU)
    assert products.shape == (len(pairs), len(sizes))
    for (x, y), row in zip(pairs, products.tolist(), strict=True):
        for a, b, got in zip(lists[x], lists[y], row, strict=True):
            if a is None or b is None:
                assert got == 0  # also where the other is not finite
            elif a.isfinite().all() and b.isfinite().all():
                bound = 1e-6 * float(a.double().norm() * b.double().norm())
                assert got == pytest.approx(float((a.double() * b.double()).sum()), abs=bound)


def test_without_any_gradient_there_are_zeros() -> None:
    assert inner([[None, None], [None, None]], [(0, 0), (0, 1), (1, 1)], CPU).tolist() == [[0, 0]] * 3
    assert inner([[]], [(0, 0)], CPU).shape == (1, 0)


@pytest.mark.parametrize("joined", [0, 1 << 14])
def test_of_complex_numbers_it_is_the_real_part(joined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_gradients._SMALL, "cpu", joined)
    x, y = torch.tensor([[1 + 2j, 3j]]), torch.tensor([[2 - 1j, 1 + 1j]])
    assert inner([[x], [y]], [(0, 0), (0, 1)], CPU).tolist() == [[14], [3]]
    assert inner([[x], [y.conj()]], [(0, 1)], CPU).tolist() == [[4 - 3]]


def test_who_visits_sees_every_number_once_in_the_order_of_the_first() -> None:
    torch.manual_seed(0)
    x = [torch.randn(3, 5), None, torch.randn(400, 30, 5, 5).to(memory_format=torch.channels_last), torch.zeros(0)]
    y = [torch.randn(3, 5), torch.randn(2), torch.randn(400, 30, 5, 5), torch.zeros(0)]
    seen: dict[int, list[tuple]] = {}
    inner([x, y], [(0, 1)], CPU, lambda i, runs: seen.setdefault(i, []).append(tuple(runs)))
    assert list(seen) == [0, 1, 2, 3]
    assert len(seen[2]) > 1  # a run at a time
    assert seen[1][0][0] is None
    for i, order in ((0, (0, 1)), (2, (0, 2, 3, 1))):
        for whole, parts in zip((x[i], y[i]), zip(*seen[i], strict=True), strict=True):
            assert torch.equal(torch.cat(parts), whole.permute(order).flatten())


def test_long_sums_keep_their_digits() -> None:
    x = torch.full((3_000_000,), 0.1)  # the worst case: every rounding goes the same way
    exact = 3_000_000 * float(x[0].double()) ** 2
    assert torch.dot(x, x).item() != pytest.approx(exact, rel=1e-4)
    assert product(x, x).item() == pytest.approx(exact, rel=5e-5)


def test_sums_with_and_without_none() -> None:
    def lists() -> tuple[list, list]:
        return [torch.ones(1), torch.ones(1), None, None], [torch.ones(1), None, torch.ones(1), None]

    xs, ys = lists()
    first = xs[0]
    assert values(add_scaled(xs, ys, [2.0] * 4)) == [[3], [1], [2], None]
    assert first.item() == 3  # in place
    assert ys[2].item() == 1
    xs, ys = lists()
    add(xs, ys)
    assert values(xs) == [[2], [1], [1], None]
    xs, ys = lists()
    assert values(combine(xs, [2.0, 3.0, 9.0, 9.0], ys, [0.5] * 4)) == [[2.5], [3], [0.5], None]
    xs, ys = lists()
    assert values(combine(xs, [2.0, 3.0, 9.0, 9.0], ys, [0.0] * 4)) == [[2], [3], None, None]
    xs, ys = lists()
    assert values(combine(xs, [0.0, 3.0, 9.0, 9.0], ys, [0.0, 1.0, 0.0, 1.0])) == [None, [3], None, None]


def test_a_factor_for_each_and_a_factor_of_zero_shuts_out_what_is_not_finite() -> None:
    xs = [torch.ones(2) for _ in range(4)]
    ys = [torch.ones(2), torch.full((2,), math.inf), torch.ones(2), torch.full((2,), 2.0)]
    assert values(add_scaled(xs, ys, [1.0, 0.0, -2.0, 1.0])) == [[2, 2], [1, 1], [-1, -1], [3, 3]]


def test_add_to_grad() -> None:
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(3)]
    parameters[1].grad = held = torch.ones(1)
    add_to_grad(parameters, [torch.ones(1), torch.ones(1), None])
    assert values([p.grad for p in parameters]) == [[1], [2], None]
    assert parameters[1].grad is held


def test_reduce_all_keeps_none_where_no_process_has_a_gradient() -> None:
    parameters = [torch.zeros(2), torch.zeros(1), torch.zeros(1)]
    gradients = [torch.ones(2), None, None]
    losses = torch.tensor([4.0])

    def with_a_process_that_has_the_second(tensors: list) -> None:
        others = [torch.zeros(2), torch.tensor([6.0]), torch.zeros(1), torch.tensor([2.0]), torch.tensor([0.0, 1, 0])]
        for tensor, other in zip(tensors, others, strict=True):
            tensor.add_(other).div_(2)

    reduce_all(with_a_process_that_has_the_second, [(parameters, gradients)], losses)
    assert values(gradients) == [[0.5, 0.5], [3], None]
    assert losses.item() == 3


def test_reduce_all_leaves_what_follows_the_parameters_gradients() -> None:
    seen = []
    gradients = [torch.ones(2), torch.full((3,), 7.0)]
    reduce_all(lambda tensors: seen.extend(values(tensors)), [([torch.zeros(2)], gradients), ([], [torch.ones(1)])])
    assert seen == [[1, 1], [1]]
    assert values(gradients) == [[1, 1], [7, 7, 7]]
