"""Arithmetic on lists of gradients, one entry per parameter tensor; an entry is None where nothing arrived."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Gradients = list[Tensor | None]


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


def inner(xs: Sequence[Tensor | None], ys: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """⟨x_i, y_i⟩ for each i, shape (n,), in float32 or the gradients' own type, whichever is wider."""
    products = []
    for x, y in zip(xs, ys, strict=True):
        if x is None or y is None:
            products.append(torch.zeros((), device=device))
            continue
        wide = torch.promote_types(x.dtype, torch.float32)
        products.append((x.to(wide) * y.to(wide)).sum().to(device))
    widest = torch.float64 if any(product.dtype == torch.float64 for product in products) else torch.float32
    return torch.stack([product.to(widest) for product in products])


def checksum(gradients: Gradients, device: torch.device) -> Tensor:
    """Zero, shape (1,), when all the gradients are finite, otherwise nan."""
    present = [gradient for gradient in gradients if gradient is not None and gradient.numel()]
    if not present:
        return torch.zeros(1, device=device)
    # largest magnitudes, not sums of squares: those overflow in half precision where the gradients do not
    largest = torch._foreach_norm(present, math.inf)
    return torch.stack([(value - value).float().to(device) for value in largest]).sum().reshape(1)


def combine(xs: Gradients, keep: list[float], ys: Gradients, add: float) -> Gradients:
    """keep_i · x_i + add · y_i; changes the x_i in place."""
    present = [(x, factor) for x, factor in zip(xs, keep, strict=True) if x is not None]
    torch._foreach_mul_([x for x, _ in present], [factor for _, factor in present])
    return weighted_sum(xs, ys, alpha=add) if add else xs


def weighted_sum(xs: Gradients, ys: Gradients, alpha: float = 1.0) -> Gradients:
    """x_i + alpha · y_i; changes the x_i in place where there are any."""
    both = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    if both:
        torch._foreach_add_([x for x, _ in both], [y for _, y in both], alpha=alpha)
    return [x if x is not None or y is None else y * alpha for x, y in zip(xs, ys, strict=True)]


def add(held: Gradients, more: Gradients) -> None:
    held[:] = weighted_sum(held, more)


def add_to_grad(parameters: list[Tensor], gradients: Gradients) -> None:
    """Add to ``.grad``, as autograd's own accumulation does."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad = parameter.grad.add_(gradient)


def reduce_all(
    reduce: Callable[[list[Tensor]], None], lists: list[tuple[list[Tensor], Gradients]], losses: Tensor
) -> None:
    """Average all gradients at once; a parameter that no process used keeps None, so that its optimizer state rests."""
    used = torch.tensor(
        [float(gradient is not None) for _, gradients in lists for gradient in gradients],
        device=losses.device,
    )
    for parameters, gradients in lists:
        gradients[:] = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    reduce([gradient for _, gradients in lists for gradient in gradients if gradient is not None] + [losses, used])
    flags = iter(used.tolist())
    for _, gradients in lists:
        gradients[:] = [gradient if next(flags) > 0 else None for gradient in gradients]
