"""The backward passes of a step: which graphs they run through, and what may be freed behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from gradprom._gradients import Gradients, add, add_scaled, own

# of an auxiliary: there already, or to be built when its turn comes
Loss = Tensor | Callable[[], Tensor]

# what autograd's complaints mean here
_MEANINGS = {
    "donated": "a model compiled with donated buffers allows for one backward pass, but each loss needs its own: set "
    "torch._functorch.config.donated_buffer = False before the model is compiled",
    "backward through the graph a second time": "a part of the graph was freed by an earlier pass: build all losses "
    "anew for every call, and where auxiliaries are functions, let all losses start from the interface alone",
}


@dataclass
class Found:
    """What the passes brought, before anything is decided.

    Attributes:
        parameters: those of θ whose gradients are here; the rest of θ gets its own from :func:`carry`.
        main: G, an entry for each of ``parameters``; then, where there is something to carry on, an entry for each
            interface or each sample of it.
        auxiliaries: each A likewise.
        recognition: ∇φ of each auxiliary loss, an entry for each tensor of φ.
        interfaces: from where to carry on to the rest of θ, an entry for each micro-batch.
        signals: what to carry on from there; ``main`` holds these tensors or views of them.
        losses: of main and auxiliaries, shape (1 + K,), float32 or wider.
        sums: G + λ A by entry, where it was made beforehand in A's memory, and A is None.
    """

    parameters: list[Tensor] = field(default_factory=list)
    main: Gradients = field(default_factory=list)
    auxiliaries: dict[str, Gradients] = field(default_factory=dict)
    recognition: dict[str, Gradients] = field(default_factory=dict)
    interfaces: list[Tensor] = field(default_factory=list)
    signals: Gradients = field(default_factory=list)
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))
    sums: dict[int, Tensor] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """How many entries, from the first on, the gate compares: the parameters', or all where there are none."""
        return len(self.parameters) or len(self.main)

    def add(self, more: Found) -> None:
        """Take in another micro-batch's: gradients of parameters are summed, those at interfaces stand side by side.

        Raises:
            ValueError: the gate compares gradients of other parameters there.
        """
        if list(map(id, self.parameters)) != list(map(id, more.parameters)):
            raise ValueError(
                "the micro-batches of a step do not have the same last layer: name the gate's parameters in gate_at"
            )
        for name, gradients in more.recognition.items():
            add(self.recognition[name], gradients)
        count = len(self.parameters)
        pairs = [(self.main, more.main), *((held, more.auxiliaries[n]) for n, held in self.auxiliaries.items())]
        for held, gradients in pairs:
            summed = add_scaled(held[:count], gradients[:count], [1.0] * count)
            held[:] = summed + held[count:] + gradients[count:]
        self.interfaces += more.interfaces
        self.signals += more.signals
        self.losses = self.losses + more.losses


def at_parameters(
    main: Tensor, auxiliaries: Mapping[str, Loss], interface: Tensor | None, theta: list[Tensor], phi: list[Tensor]
) -> Found:
    """One pass through each recognizer and, for each loss, one through the enhancer.

    What is built already goes first, so that the recognizers' graphs are freed, and functions come last: with an
    interface (and a main loss that does not bypass it) no other graph is held then but the enhancer's, which the last
    of these passes frees behind it.
    """
    built, later = _in_turn(auxiliaries)
    keep = _must_be_kept(main, auxiliaries, interface, theta)

    def passed(name: str) -> Gradients:
        return _by_interface(name, auxiliaries[name], interface, theta, phi, keep=keep.get(name, False))

    received = {name: passed(name) for name in built}
    found = Found(parameters=theta)
    if later and interface is not None and not _reaches(_between(main, interface), theta):
        # its own graph, which may hold another network, is freed before a recognizer's is built
        found.main = _by_interface("", main, interface, theta, [], keep=False)
    else:
        found.main = _grad([main], theta, keep=bool(later))
    received |= {name: passed(name) for name in later[:-1]}
    for name in later[-1:]:
        received[name] = _grad([_loss(name, auxiliaries[name], interface, theta)], [*theta, *phi], keep=False)
    found.auxiliaries = {name: received[name][: len(theta)] for name in auxiliaries}
    found.recognition = {name: received[name][len(theta) :] for name in auxiliaries}
    own(found.main, *found.auxiliaries.values(), *found.recognition.values())
    return found


def at_interface(
    main: Tensor,
    auxiliaries: Mapping[str, Loss],
    interface: Tensor,
    theta: list[Tensor],
    phi: list[Tensor],
    compared: list[Tensor],
    *,
    samples: bool,
) -> Found:
    """One pass through each recognizer and, for each loss, one through the enhancer as far as ``compared`` lies.

    Args:
        main, auxiliaries, interface, theta, phi: losses, the enhancer's output, parameters.
        compared: the part of θ whose gradients the gate compares; empty: it compares those at the interface.
        samples: give an entry for each sample along the interface's first dimension, not one for all.

    Raises:
        ValueError: the main loss depends on θ in another way than through the interface.
    """
    built, later = _in_turn(auxiliaries)
    keep = _must_be_kept(main, auxiliaries, interface, theta)
    if _reaches(_between(main, interface), theta):
        raise ValueError(
            "the main loss depends on the enhancer's parameters in another way than through interface, so its gradient "
            "cannot be taken there: leave what bypasses the interface out of the loss, or use gate_at='parameters'"
        )
    found = Found(parameters=compared, interfaces=[interface])
    # the main loss goes first: often it shares nothing, and the recognizer's graph need not wait for it
    received: dict[str, Gradients] = {"": _grad([main], [interface], keep=keep[""])}
    recognition: dict[str, Gradients] = {}
    for name in (*built, *later):
        loss = [_loss(name, auxiliaries[name], interface, theta)]
        signal, *recognition[name] = _grad(loss, [interface, *phi], keep=keep.get(name, False))
        received[name] = [signal]
    received = {name: received[name] for name in ("", *auxiliaries)}
    found.recognition = {name: recognition[name] for name in auxiliaries}
    for held in received.values():
        if held[0] is None:
            held[0] = torch.zeros_like(interface, requires_grad=False)
        held += _grad([interface], compared, held) if compared else []
    own(*received.values(), *found.recognition.values())
    found.signals = received[""][:1]
    entries: dict[str, Gradients] = {
        name: [*gradients, *(signal.unbind(0) if samples and signal is not None else (signal,))]
        for name, (signal, *gradients) in received.items()
    }
    found.main = entries.pop("")
    found.auxiliaries = entries
    return found


def carry(found: Found, rest: list[Tensor]) -> Gradients:
    """The one pass through the enhancer, from its output to the rest of θ, summed over micro-batches."""
    if not found.interfaces or not rest:
        return []
    gradients = _grad(found.interfaces, rest, found.signals, keep=False)
    own(gradients)
    return gradients


def last_layer(interface: Tensor, theta: list[Tensor]) -> list[Tensor]:
    """The parameters that a backward pass meets first, down to the first of two or more dimensions.

    Autograd's graph is gone down level by level; an operation on one tensor (an activation, a view, a cast) is no level
    of its own. Where everything is a single operation, as in a compiled model, this is all of θ.

    >>> enhancer = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    >>> [tuple(parameter.shape) for parameter in last_layer(enhancer(torch.ones(1, 2)), list(enhancer.parameters()))]
    [(2, 3), (2,)]
    """
    known = {id(parameter) for parameter in theta}
    level, seen, found = {_past_unary(get_gradient_edge(interface).node)}, set[Any](), dict[int, Tensor]()
    while level:
        leaves = [node.variable for node in level if _is_leaf(node)]
        found |= {id(leaf): leaf for leaf in leaves if id(leaf) in known}
        if any(parameter.dim() > 1 for parameter in found.values()):
            break
        seen |= level
        below = [node for upper in level for node, _ in upper.next_functions if node is not None]
        level = {_past_unary(node) for node in below} - seen
    return [parameter for parameter in theta if id(parameter) in found]


def _in_turn(auxiliaries: Mapping[str, Loss]) -> tuple[list[str], list[str]]:
    """The names of the losses that are built already, and of those that are not."""
    built = [name for name, loss in auxiliaries.items() if isinstance(loss, Tensor)]
    return built, [name for name in auxiliaries if name not in built]


def _must_be_kept(
    main: Tensor, auxiliaries: Mapping[str, Loss], interface: Tensor | None, theta: list[Tensor]
) -> dict[str, bool]:
    """By name, "" for the main loss: whether another loss needs the graph between this loss and the interface, too.

    Of what is not built yet nothing is said: it shares no such graph.

    Raises:
        ValueError: an auxiliary depends on θ in another way than through the interface.
    """
    if interface is None:
        return {}
    nodes = {"": _between(main, interface)}
    for name, loss in auxiliaries.items():
        if isinstance(loss, Tensor):
            nodes[name] = _between(loss, interface)
            _refuse_bypass(name, nodes[name], theta)
    # a parameter's own node keeps nothing, so that two graphs may meet there
    inner = {name: {node for node in own if not _is_leaf(node)} for name, own in nodes.items()}
    return {name: any(own & other for key, other in inner.items() if key != name) for name, own in inner.items()}


def _refuse_bypass(name: str, nodes: set[Any], theta: list[Tensor]) -> None:
    if _reaches(nodes, theta):
        raise ValueError(
            f"auxiliary {name!r} depends on the enhancer's parameters in another way than through interface: pass "
            "as interface the very tensor that the recognizers read, or leave it out"
        )


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


def _by_interface(
    name: str, auxiliary: Loss, interface: Tensor | None, theta: list[Tensor], phi: list[Tensor], *, keep: bool
) -> Gradients:
    """The gradients of θ, then those of φ; the enhancer's graph is kept, that beyond the interface if told so."""
    if interface is None:
        return _grad([_loss(name, auxiliary, interface, theta)], [*theta, *phi])
    signal, *of_phi = _grad([_loss(name, auxiliary, interface, theta)], [interface, *phi], keep=keep)
    carried: Gradients = [None] * len(theta) if signal is None else _grad([interface], theta, [signal])
    return [*carried, *of_phi]


def _loss(name: str, auxiliary: Loss, interface: Tensor | None, theta: list[Tensor]) -> Tensor:
    if isinstance(auxiliary, Tensor):
        return auxiliary
    version = None if interface is None else interface._version
    loss = auxiliary()
    if interface is not None:
        if interface._version != version:
            raise ValueError(
                f"auxiliary {name!r} changes the interface in place, which other losses read, too: let its recognizer "
                "work on a copy, or give the loss itself in place of a function"
            )
        _refuse_bypass(name, _between(loss, interface), theta)
    return loss


def _reaches(nodes: set[Any], parameters: list[Tensor]) -> bool:
    """Whether a parameter is among the leaves."""
    leaves = {id(parameter) for parameter in parameters}
    return any(id(node.variable) in leaves for node in nodes if _is_leaf(node))


def _past_unary(node: Any) -> Any:
    """The first node from here down that is a leaf or has several operands."""
    while len(node.next_functions) == 1 and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return node


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
        for words, meaning in _MEANINGS.items():
            if words in str(error):
                raise RuntimeError(meaning) from error
        raise
