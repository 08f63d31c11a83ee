r"""Gradient promotion: let a recognizer help to train an enhancer, but never pull against it.

This module needs nothing but PyTorch; the gates are in ``_gates.py``, arithmetic on lists of gradients is in
``_gradients.py``. Notation, after section 3.2 of the paper (arXiv 2501.01114): θ are the enhancer's
parameters and φ the recognizers'; G = ∇θ L_IP is the gradient of the enhancement loss and A = ∇θ L_VR that of a
recognition loss, each one flat vector over all of θ; s = cos(G, A) is their alignment; λ is the weight. A step gives θ
the gradient

    u = G + P,    P = λ A  if s ≥ 0, else 0        (the hard gate, the paper's G_T)

and φ always its own ∇φ L_VR, unweighted.

**The guarantee.** Every gate but ``always`` yields ⟨P, G⟩ ≥ 0, hence ⟨u, G⟩ = ‖G‖² + ⟨P, G⟩ ≥ ‖G‖² (Eq. 7 and 8). It
holds with ``combine="each"`` and ``"all"``, not with ``"any"``, and it is a property of the vector handed to the
optimizer: Adam then rescales that vector coordinate by coordinate.

**The cone** (``max_ratio=ρ``) also bounds the length: P is scaled down until ‖P‖ ≤ ρ ‖G‖. Then u never leaves the cone
of half angle arctan ρ around G, that is ⟨u, G⟩ ≥ ‖u‖ ‖G‖ / √(1+ρ²). Proof: split P into its part along G, of length
a = ⟨P, G⟩ / ‖G‖ ≥ 0 by the guarantee, and its part across G, of length b ≤ ‖P‖ ≤ ρ ‖G‖. The angle between u and G has
the tangent b / (‖G‖ + a) ≤ ρ ‖G‖ / ‖G‖ = ρ. ∎  Without the guarantee (``always``, ``any``) and for ρ < 1, u lies in a
ball of radius ρ ‖G‖ around G, which is seen from the origin under the half angle arcsin ρ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gradprom._gates import GATES, GateName, Products
from gradprom._gradients import (
    Gradients,
    add,
    add_to_grad,
    checksum,
    combine,
    inner,
    own,
    reduce_all,
    weighted_sum,
)

Combine = Literal["each", "any", "all"]


@dataclass
class Step:
    """What happened in one step; mappings are keyed by the auxiliaries' names.

    Attributes:
        main_loss: the enhancement loss, summed over micro-batches.
        losses: the auxiliary losses, likewise.
        main_norm: ‖G‖, without the scaler's factor.
        norms: ‖A‖ before the weight, without the scaler's factor.
        alignment: s in [-1, 1], nan where undefined.
        promoted: whether anything of this auxiliary reached θ.
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
    ratio: float = 0.0
    skipped: bool = False
    overflow: bool = False


@dataclass
class _Auxiliary:
    loss: Tensor
    theta: Gradients
    phi: Gradients


@dataclass
class _Judged:
    step: Step
    products: dict[str, Products]
    finite: dict[str, bool]


class GradientPromotion:
    """Backward passes of an enhancer and its recognizers under the rule of gradient promotion.

    Args:
        enhancer_parameters: θ; those that do not require gradients are left alone.
        recognizer_parameters: φ of all recognizers together; empty for a frozen recognizer.
        weight: λ ≥ 0, for all auxiliaries or by name. The paper uses 1e-4.
        gate: ``hard`` (the paper's), ``soft`` (Lemma 3.1: λ max(0, s) A), ``per_tensor`` (the hard gate for each
            parameter tensor by itself), ``projection`` (an opposing A loses its part along G) or ``always`` (joint
            training, Eq. 6, whatever ``combine`` says).
        combine: with several auxiliaries, ``each`` is judged by itself; ``all``: all must be aligned, or none is
            promoted; ``any``: one aligned auxiliary opens the gate for all, which gives up the guarantee.
        max_ratio: ρ > 0 of the cone, or None for no bound on the length of what is promoted.
        reduce: averages a list of tensors over processes, in place; called once a step, before the gate, so that every
            process takes the same decision. See :func:`average_over_processes`.
        scaler: a ``torch.amp.GradScaler``; gradients are then left scaled, for its ``step`` to unscale.

    Raises:
        ValueError: an option is not one of the above, or θ and φ share a parameter.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> enhancer, recognizer = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Linear(64, 2)
        >>> promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), weight=1e-4)
        >>> degraded, clean, label = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
        >>> enhanced = enhancer(degraded)
        >>> step = promotion.backward(
        ...     main=torch.nn.functional.mse_loss(enhanced, clean),
        ...     auxiliaries={"diagnosis": torch.nn.functional.cross_entropy(recognizer(enhanced.flatten(1)), label)},
        ...     interface=enhanced,
        ... )
        >>> step.promoted["diagnosis"] == (step.alignment["diagnosis"] >= 0)
        True
    """

    def __init__(
        self,
        enhancer_parameters: Iterable[Tensor],
        recognizer_parameters: Iterable[Tensor] = (),
        *,
        weight: float | Mapping[str, float] = 1e-4,
        gate: GateName = "hard",
        combine: Combine = "each",
        max_ratio: float | None = None,
        reduce: Callable[[list[Tensor]], None] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._theta = list(dict.fromkeys(enhancer_parameters))
        self._phi = list(dict.fromkeys(recognizer_parameters))
        if not set(self._theta).isdisjoint(self._phi):
            raise ValueError("the enhancer and a recognizer share a parameter: each must belong to one of them")
        if gate not in GATES:
            raise ValueError(f"gate {gate!r} is unknown: use one of {', '.join(GATES)}")
        if combine not in ("each", "any", "all"):
            raise ValueError(f"combine {combine!r} is unknown: use one of each, any, all")
        for value in weight.values() if isinstance(weight, Mapping) else [weight]:
            if not 0 <= value < math.inf:
                raise ValueError(f"weight {value} is not a finite number of at least 0")
        if max_ratio is not None and not 0 < max_ratio < math.inf:
            raise ValueError(f"max_ratio {max_ratio} is not a finite number above 0; leave it None for no bound")
        self.weight = weight
        self.gate = gate
        self.combine = combine
        self.max_ratio = max_ratio
        self._reduce = reduce
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._pending: tuple[Tensor, Gradients, dict[str, _Auxiliary]] | None = None
        self._accumulating = False

    def backward(
        self,
        main: Tensor,
        auxiliaries: Mapping[str, Tensor] | None = None,
        interface: Tensor | None = None,
    ) -> Step:
        """Add this batch's gradients to ``.grad`` of θ and φ, as ``Tensor.backward`` would, under the rule.

        Args:
            main: the enhancement loss, a scalar.
            auxiliaries: recognition losses by name, scalars.
            interface: the enhancer's output, where the two models meet. Optional; given, each recognizer is passed
                through once and its gradient carried on from here. Then no auxiliary may depend on θ in another way.

        Returns:
            The record of the step. Within :meth:`accumulate` only its losses are filled in.

        Raises:
            ValueError: a loss is not a scalar or does not depend on any parameter, the interface does not depend on θ,
                or an auxiliary has no weight.
            RuntimeError: a model is compiled with donated buffers, which allow for one backward pass only.
        """
        auxiliaries = auxiliaries or {}
        for name, loss in {"main": main, **auxiliaries}.items():
            if loss.numel() != 1:
                raise ValueError(f"loss {name!r} has shape {tuple(loss.shape)}: a scalar is needed, take its mean")
            if not loss.requires_grad:
                raise ValueError(f"loss {name!r} does not depend on any parameter that requires a gradient")
        for name in auxiliaries:
            self._weight(name)
        if interface is not None and not interface.requires_grad:
            raise ValueError("interface does not require a gradient: pass what the enhancer returned, not detached")
        theta, phi = self._active(self._theta), self._active(self._phi)
        if not theta:
            raise ValueError("no enhancer parameter requires a gradient: there is nothing to promote into")
        found = {name: self._auxiliary(loss, theta, phi, interface) for name, loss in auxiliaries.items()}
        main_theta: Gradients = [*torch.autograd.grad(self._scaled(main), theta, allow_unused=True)]
        own(main_theta, *(gradients for a in found.values() for gradients in (a.theta, a.phi)))
        self._collect(main.detach(), main_theta, found)
        if self._accumulating:
            return Step(main.item(), {name: loss.item() for name, loss in auxiliaries.items()})
        return self._finish()

    @contextmanager
    def accumulate(self) -> Iterator[Step]:
        """Gate once over several micro-batches: gradients and losses of the calls within are summed, as PyTorch's are.

        Divide each loss by the number of micro-batches to get the step of the whole batch. The record that is yielded
        is filled in when the block ends; an exception within leaves ``.grad`` as it was.

        Example:
            >>> theta = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
            >>> promotion = GradientPromotion([theta], weight=1.0)
            >>> with promotion.accumulate() as step:
            ...     for part in range(2):
            ...         _ = promotion.backward((theta**2).sum() / 2, {"help": theta.sum() / 2})
            >>> theta.grad, step.promoted
            (tensor([3., 1.]), {'help': True})
        """
        if self._accumulating:
            raise RuntimeError("accumulate() is already open: gate each step once, in one block")
        step = Step()
        self._accumulating = True
        try:
            yield step
            if self._pending is not None:
                vars(step).update(vars(self._finish()))
        finally:
            self._accumulating = False
            self._pending = None

    def _weight(self, name: str) -> float:
        if not isinstance(self.weight, Mapping):
            return self.weight
        if name not in self.weight:
            raise ValueError(f"auxiliary {name!r} has no weight: there are weights for {', '.join(self.weight)}")
        return self.weight[name]

    @staticmethod
    def _active(parameters: list[Tensor]) -> list[Tensor]:
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self._scaler is None else self._scaler.scale(loss)

    def _current_scale(self) -> float:
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    def _auxiliary(self, loss: Tensor, theta: list[Tensor], phi: list[Tensor], interface: Tensor | None) -> _Auxiliary:
        """One backward through the recognizer, one vector-Jacobian product through the enhancer."""
        scaled = self._scaled(loss)
        if interface is None:
            gradients = _grad(scaled, [*theta, *phi])
            return _Auxiliary(loss.detach(), list(gradients[: len(theta)]), list(gradients[len(theta) :]))
        signal, *rest = _grad(scaled, [interface, *phi])
        carried: Sequence[Tensor | None] = [None] * len(theta)
        if signal is not None:
            carried = _grad(interface, theta, signal)
        return _Auxiliary(loss.detach(), list(carried), list(rest))

    def _collect(self, main: Tensor, main_theta: Gradients, found: dict[str, _Auxiliary]) -> None:
        if self._pending is None:
            self._pending = (main, main_theta, found)
            return
        held_main, held_theta, held = self._pending
        if set(held) != set(found):
            raise ValueError("every micro-batch of a step must have the same auxiliaries")
        add(held_theta, main_theta)
        for name, auxiliary in found.items():
            held[name].loss = held[name].loss + auxiliary.loss
            add(held[name].theta, auxiliary.theta)
            add(held[name].phi, auxiliary.phi)
        self._pending = (held_main + main, held_theta, held)

    def _finish(self) -> Step:
        """Average over processes, judge, and hand the gradients over."""
        assert self._pending is not None  # noqa: S101 - callers collect before they finish
        main, gradient, auxiliaries = self._pending
        self._pending = None
        scalars = [loss.reshape(()).to(main.device) for loss in [main, *(a.loss for a in auxiliaries.values())]]
        losses = torch.stack(scalars)
        losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
        if self._reduce is not None:
            lists = [(self._active(self._theta), gradient)]
            for a in auxiliaries.values():
                lists += [(self._active(self._theta), a.theta), (self._active(self._phi), a.phi)]
            reduce_all(self._reduce, lists, losses)
        judged = self._judge(losses, gradient, auxiliaries)
        step, parameters = judged.step, (*self._active(self._theta), *self._active(self._phi))
        if step.overflow:
            # the scaler looks for a non-finite gradient when it steps; without one it would never lower its scale
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, math.inf)
        elif step.skipped:
            for parameter in parameters:
                parameter.grad = None
        else:
            promoted = self._promoted(gradient, auxiliaries, judged)
            total = gradient if promoted is None else weighted_sum(gradient, promoted)
            add_to_grad(self._active(self._theta), total)
            for name, auxiliary in auxiliaries.items():
                if judged.finite[name]:
                    add_to_grad(self._active(self._phi), auxiliary.phi)
        return step

    def _judge(self, losses: Tensor, gradient: Gradients, auxiliaries: dict[str, _Auxiliary]) -> _Judged:
        """Take all norms and inner products, and say what is finite and how it is aligned."""
        rows = [inner(gradient, gradient, losses.device)]
        for a in auxiliaries.values():
            rows += [inner(a.theta, a.theta, losses.device), inner(a.theta, gradient, losses.device)]
        checks = [checksum(a.phi, losses.device) for a in auxiliaries.values()]
        # everything that is decided by crosses from the device at once
        numbers = torch.cat([*rows, losses, *checks]).cpu().double()
        table = numbers[: len(rows) * len(gradient)].view(len(rows), len(gradient))
        main_loss, *rest = numbers[table.numel() :].tolist()
        loss = dict(zip(auxiliaries, rest, strict=False))
        phi_finite = dict(zip(auxiliaries, map(math.isfinite, rest[len(auxiliaries) :]), strict=True))
        products = {name: Products(table[0], table[2 * k + 1], table[2 * k + 2]) for k, name in enumerate(auxiliaries)}
        finite = {
            name: math.isfinite(loss[name]) and phi_finite[name] and math.isfinite(products[name].auxiliary_norm)
            for name in auxiliaries
        }
        main_finite = math.isfinite(main_loss) and math.isfinite(float(table[0].sum()))
        scale, overflow = self._current_scale(), False
        # a scale that fell to 1 is not what made a gradient too large: then it is judged as without a scaler
        if scale > 1 and math.isfinite(main_loss):
            overflow = not main_finite or any(math.isfinite(loss[name]) and not finite[name] for name in auxiliaries)
        step = Step(
            main_loss=main_loss,
            losses=loss,
            main_norm=math.sqrt(float(table[0].sum())) / scale,
            norms={name: p.auxiliary_norm / scale for name, p in products.items()},
            alignment={n: p.alignment if main_finite and finite[n] else math.nan for n, p in products.items()},
            promoted=dict.fromkeys(auxiliaries, False),
            skipped=not main_finite and not overflow,
            overflow=overflow,
        )
        return _Judged(step, products, finite)

    def _promoted(
        self,
        gradient: Gradients,
        auxiliaries: dict[str, _Auxiliary],
        judged: _Judged,
    ) -> Gradients | None:
        """P, summed over auxiliaries and bounded by the cone; None where nothing is promoted."""
        step = judged.step
        aligned = {name: step.alignment[name] >= 0 for name in auxiliaries}  # nan is not aligned
        gate = GATES[self.gate]
        total: Gradients | None = None
        for name, auxiliary in auxiliaries.items():
            # s is undefined where a norm is zero: nothing to judge by; joint training does not judge
            defined = not math.isnan(step.alignment[name])
            if self.gate == "always":
                is_open = True
                # (within the cone around G = 0 there is no room for A)
                defined = defined or (self.max_ratio is None and step.norms[name] > 0)
            elif self.combine == "each":
                is_open = aligned[name] or not gate.decides_by_alignment
            else:
                is_open = all(aligned.values()) if self.combine == "all" else any(aligned.values())
            weight = self._weight(name)
            if not (judged.finite[name] and defined and is_open and weight > 0):
                continue
            keep, add = gate.coefficients(judged.products[name])
            if not keep.any() and not add:
                continue
            step.promoted[name] = True
            part = combine(auxiliary.theta, (weight * keep).tolist(), gradient, weight * add)
            total = part if total is None else weighted_sum(total, part)
        if total is None:
            return None
        main_norm = step.main_norm * self._current_scale()
        length = math.sqrt(float(inner(total, total, self._theta[0].device).double().sum()))
        if not math.isfinite(length):  # a huge weight: each part was finite, its multiple is not
            step.promoted = dict.fromkeys(auxiliaries, False)
            return None
        step.ratio = length / main_norm if main_norm > 0 else math.inf
        if self.max_ratio is not None and length > self.max_ratio * main_norm:
            factor = self.max_ratio * main_norm / length
            torch._foreach_mul_([part for part in total if part is not None], factor)
            step.ratio = self.max_ratio
        return total


def _grad(output: Tensor, inputs: Sequence[Tensor], signal: Tensor | None = None) -> tuple[Tensor | None, ...]:
    """Gradients of a pass that is not the last one through its graph."""
    try:
        return torch.autograd.grad(output, inputs, signal, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "donated" not in str(error):
            raise
        raise RuntimeError(
            "a model compiled with donated buffers allows for one backward pass, but each loss needs its own: "
            "set torch._functorch.config.donated_buffer = False before the model is compiled"
        ) from error


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
