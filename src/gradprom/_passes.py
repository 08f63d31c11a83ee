"""The backward passes of a step: which graphs they run through, and what may be freed behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from gradprom._gradients import Gradients, add, own


@dataclass
class Found:
    """What the passes brought, before anything is decided.

    Attributes:
        main: G as the gate compares it: an entry for each tensor of θ; at the interface for each micro-batch or sample.
        auxiliaries: each A likewise.
        recognition: ∇φ of each auxiliary loss, an entry for each tensor of φ.
        interfaces: from where to carry on to θ, an entry for each micro-batch; empty when G and A are gradients of θ.
        signals: what to carry on from there; ``main`` holds these tensors or views of them.
        losses: of main and auxiliaries, shape (1 + K,), float32 or wider.
    """

    main: Gradients = field(default_factory=list)
    auxiliaries: dict[str, Gradients] = field(default_factory=dict)
    recognition: dict[str, Gradients] = field(default_factory=dict)
    interfaces: list[Tensor] = field(default_factory=list)
    signals: Gradients = field(default_factory=list)
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, more: Found) -> None:
        """Take in another micro-batch's: gradients of parameters are summed, those at interfaces stand side by side."""
        for name, gradients in more.recognition.items():
            add(self.recognition[name], gradients)
        pairs = [(self.main, more.main), *((held, more.auxiliaries[n]) for n, held in self.auxiliaries.items())]
        for held, gradients in pairs:
            if self.interfaces:
                held += gradients
            else:
                add(held, gradients)
        self.interfaces += more.interfaces
        self.signals += more.signals
        self.losses = self.losses + more.losses


def at_parameters(
    main: Tensor, auxiliaries: Mapping[str, Tensor], interface: Tensor | None, theta: list[Tensor], phi: list[Tensor]
) -> Found:
    """One pass through each recognizer and, for each loss, one through the enhancer."""
    keep = _must_be_kept(main, auxiliaries, interface, theta)
    found = Found()
    for name, loss in auxiliaries.items():
        if interface is None:
            gradients = _grad([loss], [*theta, *phi])
            found.auxiliaries[name], found.recognition[name] = gradients[: len(theta)], gradients[len(theta) :]
            continue
        signal, *found.recognition[name] = _grad([loss], [interface, *phi], keep=keep[name])
        carried: Gradients = [None] * len(theta)
        found.auxiliaries[name] = carried if signal is None else _grad([interface], theta, [signal])
    found.main = _grad([main], theta, keep=False)
    own(found.main, *found.auxiliaries.values(), *found.recognition.values())
    return found


def at_interface(
    main: Tensor,
    auxiliaries: Mapping[str, Tensor],
    interface: Tensor,
    theta: list[Tensor],
    phi: list[Tensor],
    *,
    samples: bool,
) -> Found:
    """One pass through each recognizer; the enhancer is left for :func:`carry`.

    Args:
        main, auxiliaries, interface, theta, phi: losses, the enhancer's output, parameters.
        samples: give an entry for each sample along the first dimension, not one for all.

    Raises:
        ValueError: the main loss depends on θ in another way than through the interface.
    """
    keep = _must_be_kept(main, auxiliaries, interface, theta)
    if _reaches(_between(main, interface), theta):
        raise ValueError(
            "the main loss depends on the enhancer's parameters in another way than through interface, so its gradient "
            "cannot be taken there: leave what bypasses the interface out of the loss, or use gate_at='parameters'"
        )
    # the main loss goes first: often it shares nothing, and the recognizer's graph need not wait for it
    found = Found(interfaces=[interface], signals=_grad([main], [interface], keep=keep[""]))
    received: dict[str, Gradients] = {"": found.signals}
    for name, loss in auxiliaries.items():
        signal, *found.recognition[name] = _grad([loss], [interface, *phi], keep=keep[name])
        received[name] = [signal]
    for held in received.values():
        held[:] = [torch.zeros_like(interface, requires_grad=False) if signal is None else signal for signal in held]
    own(*received.values(), *found.recognition.values())
    entries: dict[str, Gradients] = {
        name: [part for signal in held if signal is not None for part in (signal.unbind(0) if samples else (signal,))]
        for name, held in received.items()
    }
    found.main = entries.pop("")
    found.auxiliaries = entries
    return found


def carry(interfaces: list[Tensor], signals: Gradients, theta: list[Tensor]) -> Gradients:
    """The one pass through the enhancer, from its output to θ, summed over micro-batches."""
    gradients = _grad(interfaces, theta, signals, keep=False)
    own(gradients)
    return gradients


def _must_be_kept(
    main: Tensor, auxiliaries: Mapping[str, Tensor], interface: Tensor | None, theta: list[Tensor]
) -> dict[str, bool]:
    """By name, "" for the main loss: whether another loss needs the graph between this loss and the interface, too.

    Raises:
        ValueError: an auxiliary depends on θ in another way than through the interface.
    """
    if interface is None:
        return {}
    nodes = {"": _between(main, interface)}
    for name, loss in auxiliaries.items():
        nodes[name] = _between(loss, interface)
        if _reaches(nodes[name], theta):
            raise ValueError(
                f"auxiliary {name!r} depends on the enhancer's parameters in another way than through interface: pass "
                "as interface the very tensor that the recognizers read, or leave it out"
            )
    # a parameter's own node keeps nothing, so that two graphs may meet there
    inner = {name: {node for node in own if not _is_leaf(node)} for name, own in nodes.items()}
    return {name: any(own & other for key, other in inner.items() if key != name) for name, own in inner.items()}


def _between(output: Tensor, interface: Tensor) -> set[Any]:
    """The nodes of autograd's graph from the output down, without the interface and what lies below it alone."""
    goal = get_gradient_edge(interface)
    start = get_gradient_edge(output)
    waiting: list[tuple[Any, int]] = [(start.node, start.output_nr)]
    found: set[Any] = set()
    while waiting:
        node, index = waiting.pop()
        if node is None or node in found or (node is goal.node and index == goal.output_nr):
            continue
        found.add(node)
        waiting += node.next_functions
    return found


def _reaches(nodes: set[Any], parameters: list[Tensor]) -> bool:
    """Whether a parameter is among the leaves."""
    leaves = {id(parameter) for parameter in parameters}
    return any(id(node.variable) in leaves for node in nodes if _is_leaf(node))


def _is_leaf(node: Any) -> bool:
    return bool(node.name() == "torch::autograd::AccumulateGrad")


def _grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    signals: Sequence[Tensor | None] | None = None,
    *,
    keep: bool = True,
) -> Gradients:
    """Gradients, with or without keeping the graph for another pass."""
    try:
        return list(torch.autograd.grad(outputs, inputs, signals, retain_graph=keep, allow_unused=True))
    except RuntimeError as error:
        if "donated" not in str(error):
            raise
        raise RuntimeError(
            "a model compiled with donated buffers allows for one backward pass, but each loss needs its own: "
            "set torch._functorch.config.donated_buffer = False before the model is compiled"
        ) from error
