"""Arithmetic on lists of gradients, one entry per parameter tensor; an entry is None where nothing arrived."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat

import torch
from torch import Tensor

Gradients = list[Tensor | None]

# as many products are summed in one go: a longer float32 sum loses digits, shorter ones cost calls, and so much of
# several gradients stays in a processor's cache while it is used again
_RUN = 1 << 17

# smaller tensors than this are joined, to a run at a time, where it is the calls that cost: on any other device
_SMALL = defaultdict(lambda: 1 << 14, cpu=0)


def own(*lists: Gradients) -> None:
    """Make every gradient safe to change in place: autograd may return one tensor twice, or a view with stride 0."""
    seen: set[int] = set()
    for gradients in lists:
        for i, gradient in enumerate(gradients):
            if gradient is None:
                continue
            storage = gradient.untyped_storage()
            # a stride of 0 is looked for, too: the storage that is seen through it may have room enough by chance
            dense = storage.nbytes() >= gradient.numel() * gradient.element_size() and 0 not in gradient.stride()
            if not dense or storage.data_ptr() in seen:
                gradient = gradients[i] = gradient.clone(memory_format=torch.contiguous_format)
                storage = gradient.untyped_storage()
            seen.add(storage.data_ptr())


def inner(
    lists: Sequence[Sequence[Tensor | None]],
    pairs: Sequence[tuple[int, int]],
    device: torch.device,
    visit: Callable[[int, Sequence[Tensor | None]], None] | None = None,
) -> Tensor:
    """⟨x_i, y_i⟩ for each pair (x, y) of the lists and each i, shape (pairs, n); of complex numbers, the real part.

    They are taken in float32 or the gradients' own type, whichever is wider, and memory is gone through once. On that
    way ``visit`` gets i and a run of each list's tensor i as vectors, while a processor's cache still holds them.

    >>> x, y = [torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, 4.0]), torch.ones(1)]
    >>> inner([x, y], [(0, 0), (0, 1)], torch.device("cpu"))
    tensor([[ 5.,  0.], [11.,  0.]])
    """
    # what joins two lists goes first: both are then read from memory at once, sooner than one after the other
    order = sorted(pairs, key=lambda pair: pair[0] == pair[1])
    dots, owners, small = list[Tensor](), list[int](), dict[int, list[Tensor]]()
    for i, parts in enumerate(zip(*lists, strict=True)):
        present = [part for part in parts if part is not None]
        if not present:
            continue
        if len(present) == len(parts) and present[0].numel() < _SMALL[present[0].device.type]:
            small[i] = present
            continue
        found = _dots(parts, present[0], order, visit and partial(visit, i))
        dots += found if present[0].device == device else [dot.to(device) for dot in found]
        owners += [i] * (len(found) // len(pairs))
    rows = [torch.stack(dots).view(-1, len(pairs))] if dots else [torch.zeros(0, len(pairs), device=device)]
    for some in _groups({i: parts[0].numel() for i, parts in small.items()}):
        vectors = [[_vector(part, small[i][0]).to(device) for part in small[i]] for i in some]
        joined = [torch.cat(of_list) for of_list in zip(*vectors, strict=True)]
        products = torch.stack([joined[x] * joined[y] for x, y in order])
        sizes = [of_tensor[0].numel() for of_tensor in vectors]
        rows.append(torch.stack([part.sum(1) for part in torch.split(products, sizes, dim=1)]))
        owners += some
    numbers = torch.cat(rows)
    of_row = torch.tensor(owners, dtype=torch.long, device=device)
    table = numbers.new_zeros(len(lists[0]), len(pairs)).index_add_(0, of_row, numbers)
    return table.T[[order.index(pair) for pair in pairs]]


def _dots(
    parts: Sequence[Tensor | None],
    first: Tensor,
    pairs: Sequence[tuple[int, int]],
    visit: Callable[[Sequence[Tensor | None]], None] | None,
) -> list[Tensor]:
    """The inner products of one parameter's gradients: for each run, those of all pairs."""
    vectors = [None if part is None else _vector(part, first) for part in parts]
    every: Iterable[Sequence[Tensor | None]] = [vectors]
    if first.device.type == "cpu" and first.numel() > _RUN:
        every = zip(*(repeat(None) if x is None else torch.split(x, _RUN) for x in vectors), strict=False)
    found = list[Tensor]()
    for runs in every:
        found += [_dot(runs[x], runs[y], first.device) for x, y in pairs]
        if visit is not None:
            visit(runs)
    return found


def _dot(x: Tensor | None, y: Tensor | None, device: torch.device) -> Tensor:
    # by BLAS: a tensor of their products would cost several times as much as all else here
    return torch.zeros((), device=device) if x is None or y is None else torch.dot(x, y)


def _vector(x: Tensor, like: Tensor) -> Tensor:
    """Its numbers in the order in which ``like`` is stored, in float32 or wider."""
    flat = (x if x.is_contiguous() and like.is_contiguous() else x.permute(_as_stored(like))).reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()


def _groups(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Keys in order, in groups whose sizes come to no more than a run."""
    group, total = list[int](), 0
    for key, size in sizes.items():
        if group and total + size > _RUN:
            yield group
            group, total = [], 0
        group.append(key)
        total += size
    if group:
        yield group


def _as_stored(tensor: Tensor) -> list[int]:
    """The dimensions from the outermost in memory to the innermost: gone through so, nothing has to be copied."""
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)


def checksum(gradients: Gradients, device: torch.device) -> Tensor:
    """Finite, shape (1,), only where all the gradients are; where it is not, :func:`all_finite` tells.

    Norms cannot hide what is not finite, and cost no more than reading it; but they overflow where that does not.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    norms = list[Tensor]()
    for dtype in dict.fromkeys(gradient.dtype for gradient in present):
        alike = [gradient for gradient in present if gradient.dtype == dtype]
        norms += torch._foreach_norm(alike, dtype=torch.promote_types(dtype, torch.float32))
    return torch.stack([torch.zeros(1, device=device), *(norm.to(device).reshape(1) for norm in norms)]).sum(0).float()


def all_finite(gradients: Gradients) -> bool:
    """Whether every number is finite, however large; waits for the device."""
    return all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


def combine(xs: Gradients, keep: list[float], ys: Gradients, add: list[float]) -> Gradients:
    """keep_i · x_i + add_i · y_i; changes the x_i in place. What has no factor but zero is None."""
    kept = [x if factor else None for x, factor in zip(xs, keep, strict=True)]
    present = [(x, factor) for x, factor in zip(kept, keep, strict=True) if x is not None]
    torch._foreach_mul_([x for x, _ in present], [factor for _, factor in present])
    return add_scaled(kept, ys, add)


def add_scaled(xs: Gradients, ys: Gradients, factors: list[float]) -> Gradients:
    """x_i + factor_i · y_i; changes the x_i in place where there are any, and otherwise may give y_i itself."""
    result, alike = list(xs), dict[float, tuple[list[Tensor], list[Tensor]]]()
    for i, (x, y, factor) in enumerate(zip(xs, ys, factors, strict=True)):
        # what a factor of zero shuts out may be infinite
        if y is None or factor == 0:
            continue
        if x is None:
            result[i] = y if factor == 1 else y * factor
            continue
        both = alike.setdefault(factor, ([], []))
        both[0].append(x)
        both[1].append(y)
    for factor, (to, what) in alike.items():
        torch._foreach_add_(to, what, alpha=factor)
    return result


def add(held: Gradients, more: Gradients) -> None:
    """Add to the list in place."""
    held[:] = add_scaled(held, more, [1.0] * len(held))


def add_to_grad(parameters: list[Tensor], gradients: Gradients) -> None:
    """Add to ``.grad``, as autograd's own accumulation does: stored in the parameter's order.

    Gradients of ``autograd.grad`` come in any order, and fused Adam on a CPU goes by the order alone.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is not None:
            parameter.grad = parameter.grad.add_(gradient)
        elif parameter.stride() == gradient.stride() or _strides(parameter) == _strides(gradient):
            parameter.grad = gradient
        else:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


def _strides(tensor: Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def reduce_all(
    reduce: Callable[[list[Tensor]], None], lists: list[tuple[list[Tensor], Gradients]], *others: Tensor
) -> None:
    """Average all gradients at once; a parameter that no process used keeps None, so that its optimizer state rests.

    What follows the parameters' gradients in a list is of this process alone and stays.
    """
    filled, flags = list[Tensor](), list[float]()
    for parameters, gradients in lists:
        present = gradients[: len(parameters)]
        flags += [float(gradient is not None) for gradient in present]
        filled += [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, present, strict=True)]
    used = torch.tensor(flags, device=(*others, *filled)[0].device)
    reduce([*filled, *others, used])
    averaged = iter([gradient if flag > 0 else None for gradient, flag in zip(filled, used.tolist(), strict=True)])
    for parameters, gradients in lists:
        gradients[: len(parameters)] = [next(averaged) for _ in parameters]


def average_over_processes(tensors: list[Tensor]) -> None:
    """Average ``tensors`` over all processes of ``torch.distributed``, in place; the ``reduce`` of distributed
    training.

    Every process must call it with tensors of the same shapes, in the same order. Without an initialised process group
    there is one process, and nothing to do.

    Example:
        >>> value = torch.tensor([2.0])
        >>> average_over_processes([value])
        >>> value
        tensor([2.])
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    size = torch.distributed.get_world_size()
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        torch.distributed.all_reduce(flat)
        flat.div_(size)
        for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(part.view(tensor.shape))
