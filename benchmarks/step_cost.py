"""What a promoted step costs, against joint training and against the floor of arithmetic.

    python benchmarks/step_cost.py [--only "SRResNet 5x32"] [--repeats 9] [--batch 4]

With F and B the enhancer's forward and backward pass and V a recognizer's whole pass, joint training costs
F + B + ΣV, the exact rule with K auxiliaries F + (1 + K) B + ΣV, and the gate at the interface again F + B + ΣV.
All of them, and F, B and V by themselves, are measured in turn in one process. Before anything is timed the gradients
are compared with those of a separate graph for every loss.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from _measure import interleaved, options, peak_memory, pinned, ratio, row, write_rows
from _models import ENHANCERS, RECOGNIZERS, WEIGHT, Cascade, build, difference

from gradprom import GradientPromotion


def joint(c: Cascade) -> None:
    """Eq. 6 as anyone would write it; φ gets its gradient with the weight, which costs the same."""
    enhanced = c.enhance()
    (c.main(enhanced) + WEIGHT * sum(c.recognize(enhanced).values())).backward()


def promoted(c: Cascade, gate_at: str = "parameters", gate: str = "hard") -> None:
    promotion = GradientPromotion(c.theta, c.phi, weight=WEIGHT, gate_at=gate_at, gate=gate)
    enhanced = c.enhance()
    promotion.backward(c.main(enhanced), c.recognize(enhanced), interface=enhanced)


def expected(c: Cascade, gate_at: str) -> list[torch.Tensor]:
    """The rule, with a graph of its own for every gradient."""

    def gradients(loss_of: Callable[[torch.Tensor], torch.Tensor], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss_of(c.enhance()), inputs))

    def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([t.flatten() for t in tensors]).double()

    leaf = c.enhance().detach().requires_grad_()
    main = gradients(c.main, c.theta)
    g = torch.autograd.grad(c.main(leaf), leaf)[0]
    phi = {id(p): torch.zeros_like(p) for p in c.phi}
    for name, recognizer in c.recognizers.items():
        upstream = gradients(lambda enhanced, name=name: c.recognize(enhanced)[name], c.theta)
        a = torch.autograd.grad(c.recognize(leaf)[name], leaf)[0]
        pair = (flat(main), flat(upstream)) if gate_at == "parameters" else (g.flatten(), a.flatten())
        if torch.dot(*pair) >= 0:
            main = [m + WEIGHT * u for m, u in zip(main, upstream, strict=True)]
        own = list(recognizer.parameters())
        for p, gradient in zip(own, gradients(lambda e, name=name: c.recognize(e)[name], own), strict=True):
            phi[id(p)] += gradient
    return [*main, *phi.values()]


def parts(c: Cascade) -> dict[str, float]:
    """Processor and wall seconds of F, B (one pass through the enhancer), ΣV and L, a gate on the last layer alone."""
    found = {}

    def clocked(name: str, function: Callable[[], object]) -> object:
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        found[f"{name} wall"], found[f"{name} cpu"] = time.perf_counter() - wall, time.process_time() - cpu
        return result

    enhanced = clocked("F", c.enhance)
    signal = torch.autograd.grad(c.main(enhanced), enhanced)[0]
    leaf = enhanced.detach().requires_grad_()
    clocked("V", lambda: torch.autograd.grad(sum(c.recognize(leaf).values()), [leaf, *c.phi]))
    last = c.theta[-2:]  # weight and bias
    clocked("L", lambda: [torch.autograd.grad(enhanced, last, signal, retain_graph=True) for _ in range(2)])
    clocked("B", lambda: torch.autograd.grad(enhanced, c.theta, signal))
    return found


def measure(name: str, c: Cascade, repeats: int, pins: dict[str, object]) -> list[dict[str, object]]:
    count = len(c.recognizers)
    for gate_at in ("parameters", "interface"):
        c.forget()
        promoted(c, gate_at)
        off = difference(c, c.gradients(), expected(c, gate_at))
        if not off < (2e-2 if c.bf16 else 1e-5):
            raise SystemExit(f"{name}: gradients with the gate at {gate_at} are off by {off:.1e}: nothing is measured")
    found: list[dict[str, float]] = []
    times = interleaved(
        {
            "parts": lambda: found.append(parts(c)),
            "joint": lambda: joint(c),
            "exact": lambda: promoted(c),
            "interface": lambda: promoted(c, "interface"),
        },
        repeats,
        c.forget,
    )
    found = found[1:]  # the first was the unmeasured one
    rows = []
    for clock in ("cpu", "wall"):
        seconds = {what: getattr(times[what], clock) for what in ("joint", "exact", "interface")}
        share = {part: [f[f"{part} {clock}"] for f in found] for part in "FBVL"}
        one = [f + b + v for f, b, v in zip(share["F"], share["B"], share["V"], strict=True)]
        floor = [o + count * b for o, b in zip(one, share["B"], strict=True)]
        rows += [
            row(f"{name}: exact / floor, {clock}", ratio(seconds["exact"], floor), "<= 1.05", pins),
            row(f"{name}: interface / joint, {clock}", ratio(seconds["interface"], seconds["joint"]), "<= 1.05", pins),
            row(f"{name}: exact / joint, {clock}", ratio(seconds["exact"], seconds["joint"]), None, pins),
            row(f"{name}: joint / (F + B + V), {clock}", ratio(seconds["joint"], one), None, pins),
            row(f"{name}: B / (F + B + V), {clock}", ratio(share["B"], one), None, pins),
            row(f"{name}: a gate on the last layer / joint, {clock}", ratio(share["L"], seconds["joint"]), None, pins),
        ]
    theta = sum(p.numel() * p.element_size() for p in c.theta)
    peaks = {}
    for what, step in (("joint", joint), ("exact", promoted), ("interface", lambda c: promoted(c, "interface"))):
        c.forget()
        peaks[what] = peak_memory(lambda step=step: step(c))
    beyond = {what: (peaks[what] - peaks["joint"]) / theta for what in ("exact", "interface")}
    rows += [
        row(f"{name}: peak memory beyond joint's in copies of θ, exact", beyond["exact"], f"<= {count}", pins),
        row(f"{name}: peak memory beyond joint's in copies of θ, interface", beyond["interface"], None, pins),
        row(f"{name}: peak memory, exact / joint", peaks["exact"] / peaks["joint"], None, pins),
        row(f"{name}: peak memory, interface / joint", peaks["interface"] / peaks["joint"], "<= 1.05", pins),
    ]
    return rows


def main() -> None:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels a side")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [(e, [r], s) for e, r, s in itertools.product(ENHANCERS, RECOGNIZERS, arguments.sizes)]
    cases.append(("SRResNet 5x32", ["ResNet-18", "ResNet-18"], arguments.sizes[0]))
    for enhancer, recognizers, size in cases:
        name = f"step cost, {enhancer}, {' and '.join(recognizers)}, {size} px"
        if arguments.only not in name:
            continue
        pins = pinned(batch=arguments.batch, repeats=arguments.repeats, precision="float32")
        cascade = build(enhancer, recognizers, size, arguments.batch)
        write_rows(measure(name, cascade, arguments.repeats, pins), arguments.results)


if __name__ == "__main__":
    main()
