"""What could stand in for the exact gate's ⟨G, A⟩, each asked about one and the same batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.functional import cosine_similarity

HELD = (2, 5, 10)
Said = dict[str, float]


def last_quarter(enhancer: nn.Module) -> list[Tensor]:
    theta = list(enhancer.parameters())
    return theta[-max(1, len(theta) // 4) :]


def ask(enhancer: nn.Module, degraded: Tensor, enhanced: Tensor, main: Tensor, auxiliary: Tensor) -> Said:
    """By gate what it decides by, open where that is at least 0; the graph is kept.

    ``samples`` is the share of the batch's samples that would be promoted at the interface. ``certain, ...`` is 1 where
    a part's product is so large that the rest's cannot turn its sign, whatever the angle there: of ⟨G, A⟩ =
    ⟨G_s, A_s⟩ + ⟨G_r, A_r⟩ the second term is at most ‖G_r‖ ‖A_r‖. Here those norms are known; a gate that saved the
    passes would have to guess them, and could not be certain more often.
    """
    theta = list(enhancer.parameters())
    g, a = (torch.autograd.grad(loss, [*theta, enhanced], retain_graph=True) for loss in (main, auxiliary))
    parts = {
        "exact": theta,
        "last layer": theta[-2:],  # weight and bias
        "last quarter": last_quarter(enhancer),
    }
    said = {
        name: float(cosine_similarity(*(_flat(found[-1 - len(part) : -1]) for found in (g, a)), dim=0))
        for name, part in parts.items()
    }
    said["interface"] = float(cosine_similarity(_flat(g[-1:]), _flat(a[-1:]), dim=0))
    said["samples"] = float(((g[-1] * a[-1]).flatten(1).sum(1) >= 0).double().mean())
    for name in ("last layer", "last quarter"):
        first = len(theta) - len(parts[name])
        (g_rest, g_part), (a_rest, a_part) = ((_flat(x[:first]), _flat(x[first:-1])) for x in (g, a))
        said[f"certain, {name}"] = float(torch.dot(g_part, a_part).abs() > g_rest.norm() * a_rest.norm())
    norms = float(_flat(g[:-1]).norm() * _flat(a[:-1]).norm())
    said["forward mode"] = forward_mode(enhancer, degraded, g[:-1], a[-1]) / norms
    said["central difference"] = central_difference(enhancer, degraded, g[:-1], a[-1]) / norms
    return said


def forward_mode(enhancer: nn.Module, degraded: Tensor, g: tuple[Tensor, ...], signal: Tensor) -> float:
    """⟨a, J G⟩ by forward-mode differentiation: exact, and G is needed first."""
    with torch.no_grad(), forward_ad.dual_level():
        named = zip(enhancer.named_parameters(), g, strict=True)
        theta = {name: forward_ad.make_dual(p.detach(), tangent) for (name, p), tangent in named}
        return float(torch.sum(signal * forward_ad.unpack_dual(_function(enhancer, degraded)(theta)).tangent))


def central_difference(enhancer: nn.Module, degraded: Tensor, g: tuple[Tensor, ...], signal: Tensor) -> float:
    """⟨a, (f(θ + εG) - f(θ - εG)) / 2ε⟩, with ε so that θ moves by a thousandth of its length."""
    function = _function(enhancer, degraded)
    theta = {name: p.detach() for name, p in enhancer.named_parameters()}
    step = 1e-3 * _flat(list(theta.values())).norm() / _flat(g).norm()

    def moved(sign: int) -> Tensor:
        along = zip(theta.items(), g, strict=True)
        return function({name: p + sign * step.to(p) * direction for (name, p), direction in along})

    with torch.no_grad():
        return float(torch.sum(signal * (moved(1) - moved(-1))) / (2 * step))


def decisions(said: list[Said]) -> dict[str, list[bool]]:
    """By gate what it decided at each step; held k is the exact decision of the latest step that k divides."""
    gates = ("exact", "last layer", "last quarter", "interface", "forward mode", "central difference")
    found = {name: [one[name] >= 0 for one in said] for name in gates}
    exact = found["exact"]
    found |= {f"held {k}": [exact[i - i % k] for i in range(len(exact))] for k in HELD}
    return found | {"always the commoner answer": [2 * sum(exact) >= len(exact)] * len(exact)}


def agreement(decided: list[bool], exact: list[bool]) -> dict[str, float]:
    """Shares of steps: the exact decision, wrong promotions, wrong refusals, and agreement in the first and last third.

    >>> agreement([True, True, False], [True, False, True])["agrees"]
    0.3333333333333333
    """
    pairs = list(zip(decided, exact, strict=True))
    third = max(1, len(pairs) // 3)

    def share(of: list[tuple[bool, bool]], right: Callable[[bool, bool], bool]) -> float:
        return sum(right(d, e) for d, e in of) / len(of)

    return {
        "agrees": share(pairs, lambda d, e: d == e),
        "promotes wrongly": share(pairs, lambda d, e: d and not e),
        "refuses wrongly": share(pairs, lambda d, e: e and not d),
        "agrees, first third": share(pairs[:third], lambda d, e: d == e),
        "agrees, last third": share(pairs[-third:], lambda d, e: d == e),
    }


def _function(enhancer: nn.Module, degraded: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
    # batch norm counts what it sees in its buffers: these questions must leave no trace there
    buffers = {name: buffer.clone() for name, buffer in enhancer.named_buffers()}
    return lambda theta: functional_call(enhancer, (theta, buffers), (degraded,))


def _flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).double()
