"""The rule on the gradients that the passes brought: what is finite, what is aligned, and what is promoted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradprom._gates import Decisions, Products
from gradprom._gradients import Gradients, add_scaled, all_finite, checksum, combine, inner
from gradprom._passes import Found


@dataclass
class Step:
    """What happened in one step; mappings are keyed by the auxiliaries' names.

    Gradients are those that the gate compares: over θ, over its last layer, or at the interface. There, with
    ``reduce``, norms are root mean squares over processes.

    Attributes:
        main_loss: the enhancement loss, summed over micro-batches.
        losses: the auxiliary losses, likewise.
        main_norm: ‖G‖, without the scaler's factor.
        norms: ‖A‖ before the weight, without the scaler's factor.
        alignment: s in [-1, 1], nan where undefined; of the whole batch, also where the gate judges each sample.
        promoted: whether anything of this auxiliary reached θ.
        share: of which share of the samples it did, with ``gate_per="sample"``; otherwise 0 or 1.
        ratio: ‖P‖ / ‖G‖ of what was promoted in all, after the cone; 0 where nothing was.
        skipped: the enhancement loss or its gradient was not finite: gradients are None, do not call
            ``optimizer.step()``.
        overflow: a gradient overflowed under the GradScaler, which will skip the step and lower its scale by itself.
    """

    main_loss: float = math.nan
    losses: dict[str, float] = field(default_factory=dict)
    main_norm: float = math.nan
    norms: dict[str, float] = field(default_factory=dict)
    alignment: dict[str, float] = field(default_factory=dict)
    promoted: dict[str, bool] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    ratio: float = 0.0
    skipped: bool = False
    overflow: bool = False

    def spoil(self, *, overflow: bool) -> None:
        """Note that what was decided came to nothing, for it is not finite: an overflow of the scaler's, or not."""
        self.overflow, self.skipped = overflow, not overflow
        self.promoted, self.share = dict.fromkeys(self.promoted, False), dict.fromkeys(self.share, 0.0)
        self.ratio = 0.0


@dataclass
class Judged:
    """What is known once all numbers are there.

    Attributes:
        step: the record, as far as it goes.
        products: what the gate decides by, in units.
        finite: whether the loss and all gradients of an auxiliary are.
        main_norm: ‖G‖ over everything, the scaler's factor included.
    """

    step: Step
    products: dict[str, Products]
    finite: dict[str, bool]
    main_norm: float


def products_of(found: Found, foreseen: float | None = None) -> Tensor:
    """⟨G, G⟩, then ⟨A, A⟩ and ⟨A, G⟩ of each auxiliary, one entry for each that is compared; shape (1 + 2K, n).

    With ``foreseen``, a λ in (0, 1], an only A gives way to G + λ A where that spares another way through memory:
    ``found.sums`` then has it, in A's memory, and ``found.auxiliaries`` has A no more, whatever the gate will say.
    """
    pairs = [(0, 0)]
    for k in range(1, len(found.auxiliaries) + 1):
        pairs += [(k, k), (k, 0)]
    lists = [gradients[: found.compared] for gradients in (found.main, *found.auxiliaries.values())]
    if foreseen is None:
        return inner(lists, pairs, found.losses.device)
    (auxiliary,) = found.auxiliaries.values()

    def add(i: int, runs: Sequence[Tensor | None]) -> None:
        (main, a), whole = runs, lists[1][i]
        # where A is of a narrower type or of another layout than G, its run is a copy
        if main is not None and a is not None and whole is not None and _same_memory(a, whole):
            torch.add(main, a, alpha=foreseen, out=a)
            found.sums[i], auxiliary[i] = whole, None

    return inner(lists, pairs, found.losses.device, add)


def _same_memory(x: Tensor, y: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


def judge(found: Found, table: Tensor, totals: Tensor, scale: float) -> Judged:
    """Say what is finite and how it is aligned.

    Args:
        found: what the passes brought; of it, losses and ∇φ are looked at here.
        table: products to decide by, shape (1 + 2K, units, n).
        totals: products over all units, shape (1 + 2K, n).
        scale: the scaler's factor.
    """
    names = list(found.auxiliaries)
    checks = [checksum(gradients, found.losses.device) for gradients in found.recognition.values()]
    # everything that is decided by crosses from the device at once
    numbers = torch.cat([table.flatten(), totals.flatten(), found.losses, *checks]).cpu().double()
    sizes = [table.numel(), totals.numel(), found.losses.numel() + len(checks)]
    units, whole, rest = torch.split(numbers, sizes)
    products, over_all = _by_name(names, units.view(table.shape)), _by_name(names, whole.view(len(totals), 1, -1))
    main_loss, *others = rest.tolist()
    loss = dict(zip(names, others, strict=False))
    sums = zip(others[len(names) :], found.recognition.values(), strict=True)
    checked = {name: math.isfinite(x) or all_finite(of_phi) for name, (x, of_phi) in zip(names, sums, strict=True)}
    main_norm = math.sqrt(float(whole.view(totals.shape)[0].sum()))
    norms = {name: float(p.auxiliary_norm) for name, p in over_all.items()}
    finite = {name: math.isfinite(loss[name]) and checked[name] and math.isfinite(norms[name]) for name in names}
    main_finite = math.isfinite(main_loss) and math.isfinite(main_norm)
    overflow = False
    # a scale that fell to 1 is not what made a gradient too large: then it is judged as without a scaler
    if scale > 1 and math.isfinite(main_loss):
        overflow = not main_finite or any(math.isfinite(loss[name]) and not finite[name] for name in names)
    step = Step(
        main_loss=main_loss,
        losses=loss,
        main_norm=main_norm / scale,
        norms={name: norm / scale for name, norm in norms.items()},
        alignment={n: float(p.alignment) if main_finite and finite[n] else math.nan for n, p in over_all.items()},
        promoted=dict.fromkeys(names, False),
        share=dict.fromkeys(names, 0.0),
        skipped=not main_finite and not overflow,
        overflow=overflow,
    )
    return Judged(step, products, finite, main_norm)


def promote(
    found: Found,
    judged: Judged,
    decided: Decisions,
    max_ratio: float | None,
    mean: Callable[[Tensor], Tensor],
    *,
    samples: bool,
) -> Gradients:
    """u = G + P, in the memory of G or A, and the record of it; that of the others is used up.

    Args:
        found, judged, decided: what the passes brought, what is known of it, and what the gate said of it.
        max_ratio: ρ of the cone, or None.
        mean: over processes, of numbers.
        samples: the units are samples, of which each process has its own; otherwise all have the same.
    """
    if not decided:
        return found.main
    vectors, factors, squares = _promoted(found, judged, decided)
    lengths = (squares if samples else mean(squares)).sqrt()
    fits = lengths.isfinite()  # with a huge weight: each part was finite, its multiple is not
    lengths = lengths.masked_fill(~fits, 0)
    bound = torch.inf if max_ratio is None else max_ratio * next(iter(judged.products.values())).main_norm
    within = torch.minimum(lengths, torch.as_tensor(bound).to(lengths))
    shrink = torch.where(lengths > within, within / lengths, fits.to(lengths))
    opened = [(keep.any(-1) | add.any(-1)) & fits for keep, add in decided.values()]
    length, *shares = mean(torch.stack([(within**2).sum(), *(each.double().mean() for each in opened)])).tolist()
    step = judged.step
    step.share = dict(zip(decided, shares, strict=True))
    step.promoted = {name: share > 0 for name, share in step.share.items()}
    if length > 0:
        step.ratio = math.sqrt(length) / judged.main_norm if judged.main_norm > 0 else math.inf
    spread = _spread(shrink[:, None] * factors, len(found.main))
    update = add_scaled(found.main, vectors, spread)
    return [found.sums.get(i, u) if factor else u for i, (u, factor) in enumerate(zip(update, spread, strict=True))]


def _promoted(found: Found, judged: Judged, decided: Decisions) -> tuple[Gradients, Tensor, Tensor]:
    """P before the cone, as vectors, a factor for each, shape (units, n), and ‖P‖² of each unit."""
    entries = len(found.main)
    parts = {name: (keep, add) for name, (keep, add) in decided.items() if keep.any() or add.any()}
    if not parts:
        nothing = torch.zeros(len(next(iter(decided.values()))[0]), 1, dtype=torch.float64)
        return [None] * entries, nothing, nothing[:, 0]
    (name, (keep, added)), *others = parts.items()
    if not others and not added.any():
        # a multiple of A has a known length, unless its own type cannot hold it: nothing to build or to measure
        squares = (keep**2 * judged.products[name].auxiliary).sum(-1)
        a = found.auxiliaries[name]
        # where A gave way to sums, no factor is above 1
        largest = (torch.finfo(gradient.dtype).max for gradient in a if gradient is not None)
        if keep.max() <= 1 or squares.max().sqrt() <= min(largest):
            return a, keep, squares
    total: Gradients = [None] * entries
    for name, (keep, added) in parts.items():
        part = combine(found.auxiliaries[name], _spread(keep, entries), found.main, _spread(added, entries))
        total = add_scaled(total, part, [1.0] * entries)
    squares = inner([total[: found.compared]], [(0, 0)], found.losses.device)[0].cpu().double()
    return total, torch.ones(len(keep), 1, dtype=torch.float64), squares.view(len(keep), -1).sum(-1)


def _spread(factors: Tensor, entries: int) -> list[float]:
    """Of factors of shape (units, n) or (units, 1), one for each entry of G."""
    return factors.expand(len(factors), entries // len(factors)).flatten().tolist()


def _by_name(names: list[str], table: Tensor) -> dict[str, Products]:
    return {name: Products(table[0], table[2 * k + 1], table[2 * k + 2]) for k, name in enumerate(names)}
