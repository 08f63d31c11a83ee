r"""Gradient promotion: let a recognizer help to train an enhancer, but never pull against it.

This module needs nothing but PyTorch. The backward passes are in ``_passes.py``, what is finite, aligned and promoted
is found out in ``_rule.py``, the gates are in ``_gates.py`` and arithmetic on lists of gradients in ``_gradients.py``.

Notation, after section 3.2 of the paper (arXiv 2501.01114): θ are the enhancer's parameters and φ the recognizers';
G = ∇θ L_IP is the gradient of the enhancement loss and A = ∇θ L_VR that of a recognition loss, each one flat vector
over all of θ; s = cos(G, A) is their alignment; λ is the weight. A step gives θ the gradient

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

**Cheaper gates** (``gate_at``) are approximations. The rule takes one backward pass through the enhancer for every
loss. With J = ∂y/∂θ of the enhancer's output y, g = ∂L_IP/∂y and a = ∂L_VR/∂y, it is G = Jᵀg and A = Jᵀa: once
something cheaper has decided on p, the multiple of a that is promoted, u = Jᵀ(g + p) takes one pass in all.

- ``last_layer`` compares G_s and A_s, the parts of G and A that belong to the last layer's parameters; the passes that
  bring them end there. Of u_s all that is said above holds: ⟨P_s, G_s⟩ ≥ 0, ‖P_s‖ ≤ ρ ‖G_s‖, and the angle. Of the rest
  nothing is known: ⟨P, G⟩ = ⟨P_s, G_s⟩ + ⟨P_r, G_r⟩ may be negative, and ‖P‖ larger than ρ ‖G‖. Other parameters may
  be named in the last layer's stead; with all of θ this is the rule itself.
- ``interface`` compares g and a. ⟨G, A⟩ = gᵀ(J Jᵀ)a is another product than ⟨g, a⟩, and all that is said above holds of
  g and p, of nothing over θ.

Under autocast the one pass rounds g + p, and in bf16 a p a hundred times smaller than g drowns in that, as it does in
any joint training by one backward pass; the rule carries G and A by themselves and loses nothing. And an auxiliary that
is not finite, but only where nothing is compared, spoils the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from gradprom._gates import GATES, Combine, GateName, decide
from gradprom._gradients import Gradients, add_to_grad, all_finite, average_over_processes, checksum, reduce_all
from gradprom._passes import Found, at_interface, at_parameters, carry, last_layer
from gradprom._rule import Step, judge, products_of, promote

GateAt = Literal["parameters", "last_layer", "interface"]
GatePer = Literal["batch", "sample"]

__all__ = ["Combine", "GateAt", "GateName", "GatePer", "GradientPromotion", "Step", "average_over_processes"]


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
        gate_at: where gradients are compared. ``parameters``: over θ, the rule. ``last_layer``: over those parameters
            alone that a backward pass meets first, down to the first weight; or give some of θ. ``interface``: at the
            enhancer's output. All but the first are approximations that save one backward pass through the enhancer for
            each auxiliary (see above). With ``always`` and no cone there is nothing to approximate.
        gate_per: at the interface, one decision for the ``batch``, or one for each ``sample`` of its first dimension.
        reduce: averages a list of tensors over processes, in place; called before the gate, so that every process takes
            the same decision, once a step (with a cheaper gate a few times). See :func:`average_over_processes`.
        scaler: a ``torch.amp.GradScaler``; gradients are then left scaled, for its ``step`` to unscale.

    Raises:
        ValueError: an option is not one of the above or does not go with another, or θ and φ share a parameter.

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
        gate_at: GateAt | Iterable[Tensor] = "parameters",
        gate_per: GatePer = "batch",
        reduce: Callable[[list[Tensor]], None] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._theta = list(dict.fromkeys(enhancer_parameters))
        self._phi = list(dict.fromkeys(recognizer_parameters))
        if not set(self._theta).isdisjoint(self._phi):
            raise ValueError("the enhancer and a recognizer share a parameter: each must belong to one of them")
        self.gate_at = gate_at if isinstance(gate_at, str) else list(dict.fromkeys(gate_at))
        for option, value, known in (
            ("gate", gate, GateName),
            ("combine", combine, Combine),
            ("gate_at", self.gate_at, GateAt),
            ("gate_per", gate_per, GatePer),
        ):
            if not isinstance(value, list) and value not in get_args(known):
                raise ValueError(f"{option} {value!r} is unknown: use one of {', '.join(get_args(known))}")
        if not isinstance(self.gate_at, str) and not set(self.gate_at) <= set(self._theta):
            raise ValueError("gate_at holds a tensor that is not among the enhancer's parameters: choose some of them")
        if gate == "per_tensor" and self.gate_at != "parameters":
            raise ValueError("gate 'per_tensor' judges every tensor of θ: it needs gate_at='parameters'")
        if gate_per == "sample" and self.gate_at != "interface":
            raise ValueError("gate_per 'sample' needs gate_at='interface': gradients of θ are sums over the samples")
        for number in weight.values() if isinstance(weight, Mapping) else [weight]:
            if not 0 <= number < math.inf:
                raise ValueError(f"weight {number} is not a finite number of at least 0")
        if max_ratio is not None and not 0 < max_ratio < math.inf:
            raise ValueError(f"max_ratio {max_ratio} is not a finite number above 0; leave it None for no bound")
        self.weight = weight
        self.gate = gate
        self.combine = combine
        self.max_ratio = max_ratio
        self.gate_per = gate_per
        self._reduce = reduce
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._pending: Found | None = None
        self._accumulating = False

    def backward(
        self,
        main: Tensor,
        auxiliaries: Mapping[str, Tensor | Callable[[], Tensor]] | None = None,
        interface: Tensor | None = None,
    ) -> Step:
        """Add this batch's gradients to ``.grad`` of θ and φ, as ``Tensor.backward`` would, under the rule.

        The gradients of θ that autograd gives are changed in place: a hook that keeps one has to clone it.

        Args:
            main: the enhancement loss, a scalar.
            auxiliaries: recognition losses by name, scalars; or functions without arguments that build them. A function
                is called when its turn comes, after the main loss was passed through: with an interface that takes the
                least memory, as of several recognizers only one graph is held at a time. Nothing but the interface
                may then be shared with other losses, and autocast, where wanted, is the function's own to enter.
            interface: the enhancer's output, where the two models meet. Given, each recognizer is passed through once,
                its graph is freed, and its gradient is carried on from here; then no auxiliary may depend on θ in
                another way. A cheaper gate needs it, and the same holds for the main loss.

        Returns:
            The record of the step. Within :meth:`accumulate` only its losses are filled in.

        Raises:
            ValueError: a loss is not a scalar or does not depend on any parameter, the interface does not depend on θ
                or is bypassed, missing or changed in place by a function, an auxiliary has no weight, or no parameter
                of the gate requires a gradient.
            RuntimeError: a model is compiled with donated buffers, which allow for one backward pass only; or a part of
                the graph was freed before: by an earlier call, or as a function's loss shares more than the interface.
        """
        auxiliaries = auxiliaries or {}
        for name in auxiliaries:
            self._weight(name)
        values: dict[str, Tensor] = {}

        def ready(name: str, loss: object) -> Tensor:
            """An auxiliary: built, noted, and scaled."""
            scalar = _scalar(name, loss() if callable(loss) else loss)
            values[name] = scalar.detach()
            return self._scaled(scalar)

        theta, phi = self._active(self._theta), self._active(self._phi)
        if not theta:
            raise ValueError("no enhancer parameter requires a gradient: there is nothing to promote into")
        if interface is not None and not interface.requires_grad:
            raise ValueError("interface does not require a gradient: pass what the enhancer returned, not detached")
        if self._pending is not None:
            if set(self._pending.auxiliaries) != set(auxiliaries):
                raise ValueError("every micro-batch of a step must have the same auxiliaries")
            auxiliaries = {name: auxiliaries[name] for name in self._pending.auxiliaries}
        scaled = self._scaled(_scalar("main", main))
        by_name = {n: ready(n, x) if isinstance(x, Tensor) else partial(ready, n, x) for n, x in auxiliaries.items()}
        if self.gate_at == "parameters":
            found = at_parameters(scaled, by_name, interface, theta, phi)
        elif interface is None:
            raise ValueError("a gate_at other than 'parameters' needs the interface: pass what the enhancer returned")
        else:
            compared, samples = self._compared(interface, theta), self.gate_per == "sample"
            found = at_interface(scaled, by_name, interface, theta, phi, compared, samples=samples)
        all_values = (main, *(values[name] for name in auxiliaries))
        losses = torch.stack([loss.detach().reshape(()).to(main.device) for loss in all_values])
        found.losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
        if self._pending is None:
            self._pending = found
        else:
            self._pending.add(found)
        if self._accumulating:
            return Step(main.item(), {name: values[name].item() for name in auxiliaries})
        return self._finish()

    @contextmanager
    def accumulate(self) -> Iterator[Step]:
        """Gate once over several micro-batches: gradients and losses of the calls within are summed, as PyTorch's are.

        Divide each loss by the number of micro-batches to get the step of the whole batch. The record that is yielded
        is filled in when the block ends; an exception within leaves ``.grad`` as it was. With a cheaper gate the
        enhancer's graphs are held until then, as one pass through all of them follows the decision: that takes the
        memory of the whole batch.

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

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self._scaler is None else self._scaler.scale(loss)

    def _weight(self, name: str) -> float:
        if not isinstance(self.weight, Mapping):
            return self.weight
        if name not in self.weight:
            raise ValueError(f"auxiliary {name!r} has no weight: there are weights for {', '.join(self.weight)}")
        return self.weight[name]

    def _compared(self, interface: Tensor, theta: list[Tensor]) -> list[Tensor]:
        """The part of θ whose gradients a cheaper gate compares; empty: those at the interface."""
        if self.gate_at == "interface":
            return []
        chosen = last_layer(interface, theta) if isinstance(self.gate_at, str) else self._active(self.gate_at)
        if not chosen:
            raise ValueError("no parameter whose gradient the gate compares requires one: name others in gate_at")
        return chosen

    @staticmethod
    def _active(parameters: list[Tensor]) -> list[Tensor]:
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _finish(self) -> Step:
        """Average over processes, judge, promote, carry on to θ where that is left to do, and hand over."""
        assert self._pending is not None  # noqa: S101 - callers collect before they finish
        found, self._pending = self._pending, None
        scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        table, totals = self._products(found)
        judged = judge(found, table, totals, scale)
        step = judged.step
        if not (step.skipped or step.overflow):
            weights = {name: self._weight(name) for name in found.auxiliaries}
            decided = decide(
                judged.products, weights, judged.finite, self.gate, self.combine, bounded=self.max_ratio is not None
            )
            update = promote(found, judged, decided, self.max_ratio, self._mean, samples=self.gate_per == "sample")
            rest, carried = self._carried(found)
            is_finite = bool(checksum(carried, found.losses.device).isfinite()) or all_finite(carried)
            if not is_finite:  # an enhancer's own pass overflows, too
                step.spoil(overflow=scale > 1)
        if step.skipped or step.overflow:
            self._refuse(step)
            return step
        add_to_grad(found.parameters, update[: len(found.parameters)])
        add_to_grad(rest, carried)
        for name, gradients in found.recognition.items():
            if judged.finite[name]:
                add_to_grad(self._active(self._phi), gradients)
        return step

    def _products(self, found: Found) -> tuple[Tensor, Tensor]:
        """Inner products by unit, shape (1 + 2K, units, n), and over all units, the same in every process."""
        lists = [(found.parameters, gradients) for gradients in (found.main, *found.auxiliaries.values())]
        lists += [(self._active(self._phi), gradients) for gradients in found.recognition.values()]
        self._average(lists, found.losses)
        rows = products_of(found, self._foreseen(found))
        if self.gate_at == "parameters":
            return rows[:, None], rows
        totals = rows.sum(1, keepdim=True)
        if self.gate_at == "interface":
            self._average([], totals)
        return (rows[:, :, None] if self.gate_per == "sample" else totals[:, None]), totals

    def _foreseen(self, found: Found) -> float | None:
        """λ, where an open gate can give nothing but G + λ A, and a CPU's cache makes it pay to add beforehand."""
        is_sure = GATES[self.gate].is_whole and self.max_ratio is None and self.gate_at == "parameters"
        if not is_sure or len(found.auxiliaries) != 1 or found.losses.device.type != "cpu":
            return None
        weight = float(self._weight(next(iter(found.auxiliaries))))
        return weight if 0 < weight <= 1 else None  # of a larger one, λ A need not be finite where A is

    def _carried(self, found: Found) -> tuple[list[Tensor], Gradients]:
        """The parameters that the passes before the gate did not reach, and their gradients."""
        reached = set(found.parameters)
        rest = [parameter for parameter in self._active(self._theta) if parameter not in reached]
        gradients = carry(found, rest)
        if rest:
            self._average([(rest, gradients)])
        return rest, gradients

    def _mean(self, numbers: Tensor) -> Tensor:
        """Over processes, of what each knows of its own interface alone; gradients of θ are averaged already."""
        if self.gate_at != "interface":
            return numbers
        on_device = numbers.to(self._theta[0].device)
        self._average([], on_device)
        return on_device.to(numbers)

    def _average(self, lists: list[tuple[list[Tensor], Gradients]], *others: Tensor) -> None:
        if self._reduce is not None:
            reduce_all(self._reduce, lists, *others)

    def _refuse(self, step: Step) -> None:
        """Leave no gradient, or one that tells the scaler of an overflow."""
        for parameter in (*self._active(self._theta), *self._active(self._phi)):
            # the scaler looks for a non-finite gradient when it steps; without one it would never lower its scale
            parameter.grad = torch.full_like(parameter, math.inf) if step.overflow else None


def _scalar(name: str, loss: object) -> Tensor:
    if not isinstance(loss, Tensor):
        raise ValueError(f"loss {name!r} is {loss!r}: a scalar tensor is needed")
    if loss.numel() != 1:
        raise ValueError(f"loss {name!r} has shape {tuple(loss.shape)}: a scalar is needed, take its mean")
    if not loss.requires_grad:
        raise ValueError(f"loss {name!r} does not depend on any parameter that requires a gradient")
    return loss
