"""The gates of gradient promotion, as pure functions of inner products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GateName = Literal["hard", "soft", "per_tensor", "projection", "always"]


@dataclass(frozen=True)
class Products:
    """What a gate may know of two gradients: their inner products, one entry per parameter tensor, float64 on the CPU.

    Attributes:
        main: ⟨G_i, G_i⟩, shape (n,).
        auxiliary: ⟨A_i, A_i⟩, shape (n,).
        cross: ⟨G_i, A_i⟩, shape (n,).
    """

    main: Tensor
    auxiliary: Tensor
    cross: Tensor

    @property
    def main_norm(self) -> float:
        """‖G‖ over all parameters."""
        return math.sqrt(float(self.main.sum()))

    @property
    def auxiliary_norm(self) -> float:
        """‖A‖ over all parameters."""
        return math.sqrt(float(self.auxiliary.sum()))

    @property
    def alignment(self) -> float:
        """s = cos(G, A) in [-1, 1]; nan where a norm is zero, for then it is undefined.

        >>> one = torch.ones(1, dtype=torch.float64)
        >>> Products(main=4 * one, auxiliary=9 * one, cross=-6 * one).alignment
        -1.0
        """
        norms = self.main_norm * self.auxiliary_norm
        return max(-1.0, min(1.0, float(self.cross.sum()) / norms)) if norms > 0 else math.nan


@dataclass(frozen=True)
class Gate:
    """A gate as a pure function of inner products: the promoted part is P_i = keep_i · A_i + add · G_i.

    Attributes:
        coefficients: gives ``keep``, shape (n,), and ``add``.
        decides_by_alignment: whether the gate is shut as a whole unless s ≥ 0.
    """

    coefficients: Callable[[Products], tuple[Tensor, float]]
    decides_by_alignment: bool


def _whole(products: Products) -> tuple[Tensor, float]:
    return torch.ones_like(products.cross), 0.0


def _soft(products: Products) -> tuple[Tensor, float]:
    return torch.full_like(products.cross, max(0.0, products.alignment)), 0.0


def _per_tensor(products: Products) -> tuple[Tensor, float]:
    defined = (products.main > 0) & (products.auxiliary > 0)
    return ((products.cross >= 0) & defined).to(products.cross), 0.0


def _projection(products: Products) -> tuple[Tensor, float]:
    opposing = min(0.0, float(products.cross.sum()))
    return torch.ones_like(products.cross), -opposing / float(products.main.sum())


GATES: dict[str, Gate] = {
    "hard": Gate(_whole, decides_by_alignment=True),  # the paper's rule
    "soft": Gate(_soft, decides_by_alignment=True),  # Lemma 3.1, also called weighted cosine
    "per_tensor": Gate(_per_tensor, decides_by_alignment=False),  # the hard gate, each parameter tensor by itself
    "projection": Gate(_projection, decides_by_alignment=False),  # PCGrad's projection, of the auxiliary only
    "always": Gate(_whole, decides_by_alignment=False),  # joint training (Eq. 6)
}
