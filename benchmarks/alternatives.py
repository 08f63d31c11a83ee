"""A promoted step against what one would write or take instead: time and peak memory, at the same gradients.

    python benchmarks/alternatives.py [--only "SRResNet 5x32"] [--repeats 25] [--batch 4] [--bf16]

All give θ the gradient of the hard gate and φ its own. First it is checked that they do, to 1e-5.

two backwards       a backward pass for each loss with retain_graph, gradients cloned in between
three backwards     θ's gradients by autograd.grad of each loss, then a backward pass for φ
torchjd             TorchJD's mtl_backward, batched by vmap as is its default, and the hard gate as a weighting
torchjd one by one  the same with parallel_chunk_size=1
pcgrad-like         as in wrappers around an optimizer: forward and backward again for every loss, flattened gradients

"At equal passes": two of them run the very passes that a promoted step runs. Theirs and ours are timed within the
steps, and what the steps take beyond them is compared as if they took equally long: a few thousandths are told so,
however noisy the machine is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from _measure import interleaved, options, peak_memory, pinned, ratio, row, write_rows
from _models import ENHANCERS, RECOGNIZERS, WEIGHT, Cascade, build, difference
from step_cost import beyond_passes, promoted
from torch import Tensor
from torchjd.aggregation import Weighting
from torchjd.autojac import mtl_backward


def losses(c: Cascade) -> tuple[Tensor, Tensor, Tensor]:
    enhanced = c.enhance()
    (auxiliary,) = c.recognize(enhanced).values()
    return c.main(enhanced), auxiliary, enhanced


def cosine(xs: list[Tensor], ys: list[Tensor]) -> Tensor:
    flat = (torch.cat([z.flatten() for z in zs]) for zs in (xs, ys))
    return torch.nn.functional.cosine_similarity(*flat, dim=0)


def two_backwards(c: Cascade) -> None:
    main, auxiliary, _ = losses(c)
    auxiliary.backward(retain_graph=True)
    upstream = [p.grad.clone() for p in c.theta]
    recognition = [p.grad.clone() for p in c.phi]
    c.forget()
    main.backward()
    if cosine([p.grad for p in c.theta], upstream) >= 0:
        for p, gradient in zip(c.theta, upstream, strict=True):
            p.grad.add_(gradient, alpha=WEIGHT)
    for p, gradient in zip(c.phi, recognition, strict=True):
        p.grad = gradient


def three_backwards(c: Cascade) -> None:
    main, auxiliary, _ = losses(c)
    own = torch.autograd.grad(main, c.theta, retain_graph=True)
    upstream = torch.autograd.grad(auxiliary, c.theta, retain_graph=True)
    is_open = cosine(list(own), list(upstream)) >= 0
    auxiliary.backward(inputs=c.phi)
    for p, g, a in zip(c.theta, own, upstream, strict=True):
        p.grad = g + WEIGHT * a if is_open else g


class HardGate(Weighting):
    """The rule as weights of the rows of a Jacobian, from its Gramian."""

    def forward(self, gramian: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(gramian[0, 0]), WEIGHT * (gramian[0, 1] >= 0)])


def torchjd(c: Cascade, chunk: int | None = None) -> None:
    from torchjd.aggregation import GramianWeightedAggregator
    from torchjd.autojac import jac_to_grad

    main, auxiliary, enhanced = losses(c)
    mtl_backward(
        [main, auxiliary], enhanced, tasks_params=[[], c.phi], shared_params=c.theta, parallel_chunk_size=chunk
    )
    jac_to_grad(c.theta, GramianWeightedAggregator(HardGate()))


def pcgrad_like(c: Cascade) -> None:
    def flat(loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        c.forget()
        enhanced = c.enhance()
        loss = loss_of(enhanced)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in c.theta])

    own = flat(c.main)
    upstream = flat(lambda enhanced: next(iter(c.recognize(enhanced).values())))
    total = own + WEIGHT * upstream if torch.dot(own, upstream) >= 0 else own
    for p, part in zip(c.theta, total.split([p.numel() for p in c.theta]), strict=True):
        p.grad = part.view_as(p).clone()


ALTERNATIVES: dict[str, Callable[[Cascade], None]] = {
    "two backwards": two_backwards,
    "three backwards": three_backwards,
    "torchjd": torchjd,
    "torchjd one by one": lambda c: torchjd(c, 1),
    "pcgrad-like": pcgrad_like,
}
OF_EQUAL_PASSES = {"two backwards", "torchjd one by one"}


def measure(name: str, c: Cascade, repeats: int, pins: dict[str, object]) -> list[dict[str, object]]:
    def gradients(step: Callable[[Cascade], None]) -> list[Tensor]:
        c.forget()
        step(c)
        return c.gradients()

    ours, taken = gradients(promoted), {}
    for what, step in ALTERNATIVES.items():
        try:
            off = difference(c, gradients(step), ours)
        except (RuntimeError, ValueError) as error:
            print(f"{name}: {what} fails and is left out: {str(error).splitlines()[0]}")
            continue
        print(f"{name}: {what} is within {off:.1e} of ours")
        if off < 1e-5:
            taken[what] = step
        else:
            print(f"{name}: {what} gives other gradients and is left out")
    functions = {"ours": promoted, **taken}
    inside: dict[str, list[float]] = {what: [] for what in functions}

    def timed(what: str) -> None:
        whole, passes = beyond_passes(c, functions[what])
        inside[what].append(whole / passes)

    times = interleaved({what: partial(timed, what) for what in functions}, repeats, c.forget)
    peaks = {}
    for what, step in functions.items():
        c.forget()
        peaks[what] = peak_memory(lambda step=step: step(c))
    rows = []
    for what in taken:
        for clock in ("cpu", "wall"):
            value = ratio(getattr(times["ours"], clock), getattr(times[what], clock))
            rows.append(row(f"{name}: ours / {what}, {clock}", value, "< 1", pins))
        if what in OF_EQUAL_PASSES:
            value = ratio(inside["ours"][1:], inside[what][1:])  # the first was the unmeasured one
            rows.append(row(f"{name}: ours / {what}, at equal passes", value, "< 1", pins))
        rows.append(row(f"{name}: ours / {what}, peak memory", peaks["ours"] / peaks[what], "< 1", pins))
    return rows


def main() -> None:
    parser = options(__doc__, repeats=25)
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels a side")
    parser.add_argument("--precision", nargs="+", default=["float32", "bf16"], choices=["float32", "bf16"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for cases in itertools.product(ENHANCERS, RECOGNIZERS, arguments.sizes, arguments.precision):
        enhancer, recognizer, size, precision = cases
        name = f"alternatives, {enhancer}, {recognizer}, {size} px, {precision}"
        if arguments.only not in name:
            continue
        pins = pinned(batch=arguments.batch, repeats=arguments.repeats, precision=precision)
        cascade = build(enhancer, [recognizer], size, arguments.batch, bf16=precision == "bf16")
        write_rows(measure(name, cascade, arguments.repeats, pins), arguments.results)


if __name__ == "__main__":
    main()
