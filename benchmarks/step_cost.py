"""What a promoted step costs, against joint training and against the floor of arithmetic.

    python benchmarks/step_cost.py [--quick] [--only "SRResNet 5x32"] [--repeats 25] [--seconds 60] [--batch 8]

With F and B the enhancer's forward and backward pass and V a recognizer's whole pass (without labels the target's pass
over the clean image is part of it), joint training costs F + B + ΣV, the exact rule with K auxiliaries
F + (1 + K) B + ΣV, and the gate at the interface again F + B + ΣV; the gate on the last layer adds to that (1 + K) L, a
pass through one layer. F, B, V and all of these steps are measured in turn in one process. Before anything is timed the
gradients are compared with those of a separate graph for every loss.

"Its own passes" are the forward and backward passes within the very step that is measured: what is left is the rule's
own work, told apart from them however noisy the machine is.

Peak memory is that of PyTorch's tensors. "Passes alone" takes the gradients of the exact rule one after the other and
neither compares nor adds them. All passes but the last go through a graph that stays whole; where the last recognizer's
graph and gradients, which are not there yet, are larger than what such a pass needs, no more than K copies of θ's
gradients are taken beyond joint training.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from unittest import mock

import torch
from _measure import interleaved, options, peak_memory, pinned, ratio, row, write_rows
from _models import ENHANCERS, RECOGNIZERS, WEIGHT, Cascade, build, difference
from torch import Tensor

from gradprom import GradientPromotion
from gradprom._process import tune_malloc

LEAST = 3  # repeats of a case, however long they take
ROUND = 11  # joint steps that a round of all measured functions takes, about
BATCH = 8  # images, as in the paper


def joint(c: Cascade) -> None:
    """Eq. 6 as anyone would write it; φ gets its gradient with the weight, which costs the same."""
    enhanced = c.enhance()
    main, losses = c.main(enhanced), c.recognize(enhanced)
    (main + WEIGHT * sum(losses.values())).backward()


def promoted(c: Cascade, gate_at: str = "parameters") -> None:
    promotion = GradientPromotion(c.theta, c.phi, weight=WEIGHT, gate_at=gate_at)
    enhanced = c.enhance()
    promotion.backward(c.main(enhanced), c.recognize_later(enhanced), interface=enhanced)


STEPS = {
    "exact": promoted,
    "last layer": partial(promoted, gate_at="last_layer"),
    "interface": partial(promoted, gate_at="interface"),
}


def passes_alone(c: Cascade) -> None:
    enhanced = c.enhance()
    main = c.main(enhanced)
    held = [torch.autograd.grad(main, c.theta, retain_graph=True)]
    *names, last = c.recognizers
    for name in names:
        of_phi = list(c.recognizers[name].parameters())
        signal, *found = torch.autograd.grad(c.recognition(name, enhanced), [enhanced, *of_phi])
        held += [torch.autograd.grad(enhanced, c.theta, signal, retain_graph=True), tuple(found)]
        del signal
    held.append(torch.autograd.grad(c.recognition(last, enhanced), [*c.theta, *c.recognizers[last].parameters()]))


def expected(c: Cascade) -> dict[str, list[Tensor]]:
    """By kind of gate: the rule, with a graph of its own for every loss."""

    def gradients(name: str) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        enhanced = c.enhance()
        loss = c.recognize(enhanced)[name] if name else c.main(enhanced)
        inputs = [*c.theta, enhanced, *(c.recognizers[name].parameters() if name else ())]
        found = torch.autograd.grad(loss, inputs)
        return list(found[: len(c.theta)]), found[len(c.theta)], list(found[len(c.theta) + 1 :])

    def flat(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.flatten() for t in tensors]).double()

    main, main_signal, _ = gradients("")
    update, of_phi = {kind: list(main) for kind in STEPS}, []
    for name in c.recognizers:
        upstream, signal, own = gradients(name)
        of_phi += own
        pairs = {
            "exact": (flat(main), flat(upstream)),
            "last layer": (flat(main[-2:]), flat(upstream[-2:])),  # weight and bias
            "interface": (main_signal.flatten(), signal.flatten()),
        }
        for kind, pair in pairs.items():
            if torch.dot(*pair) >= 0:
                update[kind] = [u + WEIGHT * a for u, a in zip(update[kind], upstream, strict=True)]
    return {kind: [*u, *of_phi] for kind, u in update.items()}


def parts(c: Cascade) -> dict[str, float]:
    """Processor and wall seconds of F, B (one pass through the enhancer) and ΣV."""
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
    clocked("B", lambda: torch.autograd.grad(enhanced, c.theta, signal))
    return found


def beyond_passes(c: Cascade, step: Callable[[Cascade], None]) -> tuple[float, float]:
    """Processor seconds of a step, and of the passes within it: what slows one slows the other."""
    within = [0.0]

    def clocked(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            began = time.process_time()
            result = function(*arguments, **options)
            within[0] += time.process_time() - began
            return result

        return call

    methods = [(c, "enhance"), (c, "main"), (c, "recognition"), (torch.autograd, "grad"), (torch.autograd, "backward")]
    with ExitStack() as stack:
        for owner, method in methods:
            stack.enter_context(mock.patch.object(owner, method, clocked(getattr(owner, method))))
        began = time.process_time()
        step(c)
        return time.process_time() - began, within[0]


def check(name: str, c: Cascade) -> None:
    for kind, reference in expected(c).items():
        c.forget()
        STEPS[kind](c)
        off = difference(c, c.gradients(), reference)
        if not off < (2e-2 if c.bf16 else 1e-5):
            raise SystemExit(f"{name}: gradients of {kind} are off by {off:.1e}: nothing is measured")
    c.forget()


def measure(name: str, c: Cascade, repeats: int, pins: dict[str, object]) -> list[dict[str, object]]:
    count = len(c.recognizers)
    found: list[dict[str, float]] = []
    beyond: dict[str, list[tuple[float, float]]] = {kind: [] for kind in STEPS}
    times = interleaved(
        {
            "parts": lambda: found.append(parts(c)),
            "joint": lambda: joint(c),
            **{kind: partial(step, c) for kind, step in STEPS.items()},
            **{f"beyond {kind}": lambda k=kind: beyond[k].append(beyond_passes(c, STEPS[k])) for kind in STEPS},
        },
        repeats,
        c.forget,
    )
    found = found[1:]  # the first was the unmeasured one
    goals = {"exact": "<= 1.05", "interface": "<= 1.05"}
    rows = [
        row(f"{name}: {kind} / its own passes, cpu", ratio(*zip(*taken[1:], strict=True)), goals.get(kind), pins)
        for kind, taken in beyond.items()
    ]
    for clock in ("cpu", "wall"):
        seconds = {what: getattr(times[what], clock) for what in ("joint", *STEPS)}
        share = {part: [f[f"{part} {clock}"] for f in found] for part in "FBV"}
        one = [f + b + v for f, b, v in zip(share["F"], share["B"], share["V"], strict=True)]
        floor = [o + count * b for o, b in zip(one, share["B"], strict=True)]
        rows += [
            row(f"{name}: exact / floor, {clock}", ratio(seconds["exact"], floor), "<= 1.05", pins),
            row(f"{name}: interface / joint, {clock}", ratio(seconds["interface"], seconds["joint"]), "<= 1.05", pins),
            row(f"{name}: last layer / joint, {clock}", ratio(seconds["last layer"], seconds["joint"]), None, pins),
            row(f"{name}: exact / joint, {clock}", ratio(seconds["exact"], seconds["joint"]), None, pins),
            row(f"{name}: joint / (F + B + V), {clock}", ratio(seconds["joint"], one), None, pins),
            row(f"{name}: B / (F + B + V), {clock}", ratio(share["B"], one), None, pins),
        ]
    return rows + memory(name, c, pins)


def memory(name: str, c: Cascade, pins: dict[str, object]) -> list[dict[str, object]]:
    peaks = {}
    for what, step in {"joint": joint, "passes alone": passes_alone, **STEPS}.items():
        c.forget()
        peaks[what] = peak_memory(lambda step=step: step(c))
    theta, count = sum(p.numel() * p.element_size() for p in c.theta), len(c.recognizers)
    title = f"{name}: peak memory"

    def copies(what: str, other: str) -> float:
        return (peaks[what] - peaks[other]) / theta

    return [
        row(f"{title} beyond joint's in copies of θ, exact", copies("exact", "joint"), f"<= {count}", pins),
        row(f"{title} beyond joint's in copies of θ, passes alone", copies("passes alone", "joint"), None, pins),
        row(f"{title} beyond passes alone in copies of θ, exact", copies("exact", "passes alone"), "<= 0.01", pins),
        *(row(f"{title}, {kind} / joint", peaks[kind] / peaks["joint"], None, pins) for kind in STEPS),
    ]


def fitting(c: Cascade, most: int, seconds: float) -> int:
    """How many repeats fit into the time that a case is given."""
    began = time.perf_counter()
    joint(c)
    return max(LEAST, min(most, int(seconds / (ROUND * (time.perf_counter() - began))) - 1))


def main() -> None:
    parser = options(__doc__, repeats=25)
    parser.add_argument(
        "--batch",
        type=int,
        default=BATCH,
        help="images of 64 pixels a step; larger ones are fewer by pixels",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels a side")
    parser.add_argument("--seconds", type=float, default=60, help="for a case; but at least 3 repeats")
    parser.add_argument("--malloc", choices=["tuned", "default"], default="tuned", help="tuned: as gradprom train does")
    parser.add_argument("--quick", action="store_true", help="three small cases, to try it; writes nothing")
    arguments = parser.parse_args()
    if arguments.malloc == "tuned":
        tune_malloc()
    torch.set_num_threads(arguments.threads)
    cases = [(e, [r], s, True) for e, r, s in itertools.product(ENHANCERS, RECOGNIZERS, arguments.sizes)]
    smallest = (next(iter(ENHANCERS)), next(iter(RECOGNIZERS)), 32 if arguments.quick else arguments.sizes[0])
    more = [(smallest[0], [smallest[1]] * 2, smallest[2], True), (smallest[0], [smallest[1]], smallest[2], False)]
    cases = [(smallest[0], [smallest[1]], smallest[2], True), *more] if arguments.quick else cases + more
    for enhancer, recognizers, size, supervised in cases:
        what = "" if supervised else ", unsupervised"
        batch = max(2, arguments.batch * 64**2 // max(size, 64) ** 2)
        what += "" if arguments.batch == BATCH else f", {batch} images"
        name = f"step cost, {enhancer}, {' and '.join(recognizers)}, {size} px{what}"
        if arguments.only not in name:
            continue
        cascade = build(enhancer, recognizers, size, batch, supervised=supervised)
        check(name, cascade)
        repeats = fitting(cascade, LEAST if arguments.quick else arguments.repeats, arguments.seconds)
        pins = pinned(batch=batch, repeats=repeats, precision="float32", allocator=arguments.malloc)
        rows = measure(name, cascade, repeats, pins)
        if not arguments.quick:
            write_rows(rows, arguments.results)


if __name__ == "__main__":
    main()
