"""The gates of gradient promotion, as pure functions of inner products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GateName = Literal["hard", "soft", "per_tensor", "projection", "always"]
Combine = Literal["each", "any", "all"]
# by auxiliary: keep, shape (units, n), and add, shape (units, 1), as in Gate, the weight included
Decisions = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Products:
    """What a gate may know of two gradients: inner products, shape (units, n), float64 on the CPU.

    A unit is what is judged by itself: all of θ in n parameter tensors, or a sample at the interface.

    Attributes:
        main: ⟨G_i, G_i⟩.
        auxiliary: ⟨A_i, A_i⟩.
        cross: ⟨G_i, A_i⟩.
    """

    main: Tensor
    auxiliary: Tensor
    cross: Tensor

    @property
    def main_norm(self) -> Tensor:
        """‖G‖ of each unit, shape (units,)."""
        return self.main.sum(-1).sqrt()

    @property
    def auxiliary_norm(self) -> Tensor:
        """‖A‖ of each unit, shape (units,)."""
        return self.auxiliary.sum(-1).sqrt()

    @property
    def alignment(self) -> Tensor:
        """s = cos(G, A) in [-1, 1] of each unit, shape (units,); nan where a norm is zero, for then it is undefined.

        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> Products(main=4 * one, auxiliary=9 * one, cross=-6 * one).alignment
        tensor([-1.], dtype=torch.float64)
        """
        norms = self.main_norm * self.auxiliary_norm
        return torch.where(norms > 0, (self.cross.sum(-1) / norms).clamp(-1, 1), torch.nan)


@dataclass(frozen=True)
class Gate:
    """A gate as a pure function of inner products: the promoted part is P_i = keep_i · A_i + add · G_i.

    Attributes:
        coefficients: gives ``keep``, shape (units, n), and ``add``, shape (units, 1).
        decides_by_alignment: whether the gate is shut as a whole unless s ≥ 0.
        is_whole: whether each A_i is promoted whole or not at all.
    """

    coefficients: Callable[[Products], tuple[Tensor, Tensor]]
    decides_by_alignment: bool
    is_whole: bool = False


def decide(
    products: Mapping[str, Products],
    weights: Mapping[str, float],
    usable: Mapping[str, bool],
    gate: GateName,
    combine: Combine,
    *,
    bounded: bool,
) -> Decisions:
    """The coefficients ``keep`` and ``add`` of every auxiliary, the weight included, zero where the gate is shut.

    Args:
        products: of each auxiliary, all with the same G.
        weights: λ of each auxiliary.
        usable: whether everything of an auxiliary is finite.
        gate, combine: as in :class:`gradprom.promotion.GradientPromotion`.
        bounded: whether there is a cone: around G = 0 it leaves no room for A.
    """
    rule = GATES[gate]
    alignment = {
        name: p.alignment if usable[name] else torch.full_like(p.main_norm, torch.nan) for name, p in products.items()
    }
    aligned = [s >= 0 for s in alignment.values()]  # nan is not aligned
    found: Decisions = {}
    for (name, of), own in zip(products.items(), aligned, strict=True):
        # s is undefined where a norm is zero: nothing to judge by; joint training does not judge
        is_open = ~alignment[name].isnan()
        if gate == "always":
            is_open |= (of.auxiliary_norm > 0) & usable[name] & (not bounded)
        elif combine == "each":
            is_open &= own | (not rule.decides_by_alignment)
        else:
            together = torch.stack(aligned)
            is_open &= together.all(0) if combine == "all" else together.any(0)
        keep, add = (factors.masked_fill(~is_open[:, None], 0) for factors in rule.coefficients(of))
        found[name] = weights[name] * keep, weights[name] * add
    return found


def _whole(products: Products) -> tuple[Tensor, Tensor]:
    return torch.ones_like(products.cross), _nothing(products)


def _soft(products: Products) -> tuple[Tensor, Tensor]:
    return products.alignment.clamp(min=0)[:, None].expand_as(products.cross), _nothing(products)


def _per_tensor(products: Products) -> tuple[Tensor, Tensor]:
    defined = (products.main > 0) & (products.auxiliary > 0)
    return ((products.cross >= 0) & defined).to(products.cross), _nothing(products)


def _projection(products: Products) -> tuple[Tensor, Tensor]:
    opposing = products.cross.sum(-1, keepdim=True).clamp(max=0)
    return torch.ones_like(products.cross), -opposing / products.main.sum(-1, keepdim=True)


def _nothing(products: Products) -> Tensor:
    return torch.zeros_like(products.cross[:, :1])


GATES: dict[str, Gate] = {
    "hard": Gate(_whole, decides_by_alignment=True, is_whole=True),  # the paper's rule
    "soft": Gate(_soft, decides_by_alignment=True),  # Lemma 3.1, also called weighted cosine
    # the hard gate, each parameter tensor by itself
    "per_tensor": Gate(_per_tensor, decides_by_alignment=False, is_whole=True),
    "projection": Gate(_projection, decides_by_alignment=False),  # PCGrad's projection, of the auxiliary only
    "always": Gate(_whole, decides_by_alignment=False, is_whole=True),  # joint training (Eq. 6)
}
