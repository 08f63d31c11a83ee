"""How a step's time and memory grow with the size of the images, of the batch, and with the number of auxiliaries.

    python benchmarks/growth.py [--repeats 5] [--output docs/growth]

One of the three varies at a time, the others stay at 64 pixels, 4 images and 1 auxiliary. All modes take turns in one
process; ``recomputed`` is gradprom with the activations within blocks computed again (training.recompute all). Before
anything is timed, its gradients are compared with those of gradprom without. Writes OUTPUT.csv, OUTPUT.png, and rows
of results for both ends of each axis.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from _measure import Ratio, interleaved, median_of, options, peak_memory, pinned, ratio, row, write_rows
from _models import Cascade, build
from step_cost import joint, promoted

from gradprom._files import atomic_path
from gradprom._process import tune_malloc
from gradprom.training._recompute import recompute_blocks

ENHANCER, RECOGNIZER = "SRResNet 5x32", "ResNet-18"
BASE = {"size": 64, "batch": 4, "auxiliaries": 1}
AXES = {
    "size": (32, 64, 96, 128, 192, 256),
    "batch": (1, 2, 4, 8, 16, 32),
    "auxiliaries": (0, 1, 2, 3, 4),
}
LABELS = {"size": "side of the images, pixels", "batch": "images a step", "auxiliaries": "auxiliaries"}
MODES = ("enhancer_only", "joint", "gradprom", "interface", "recomputed")
COLUMNS = ("axis", "size", "batch", "auxiliaries", "mode", "cpu_seconds", "spread", "wall_seconds", "peak_mib")
# after Okabe and Ito, told apart without colour by their markers and lines
STYLES = {
    "enhancer_only": ("#000000", "o", ":"),
    "joint": ("#0072B2", "s", "--"),
    "gradprom": ("#D55E00", "D", "-"),
    "interface": ("#009E73", "^", "-."),
    "recomputed": ("#CC79A7", "v", "-"),
}


def alone(c: Cascade) -> None:
    c.main(c.enhance()).backward()


def recomputing(c: Cascade) -> Cascade:
    """The same, but for activations that are computed again; checked to give the same gradients."""
    again = copy.deepcopy(c)
    for model in (again.enhancer, again.recognizers):
        recompute_blocks(model)
    gradients = []
    for cascade in (again, c):
        cascade.forget()
        promoted(cascade)
        gradients.append(torch.cat([gradient.flatten() for gradient in cascade.gradients()]))
    off = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if not off < 1e-6:
        raise SystemExit(f"gradients with recomputed activations are off by {off:.1e}: nothing is measured")
    return again


def measure(axis: str, value: int, repeats: int, pins: dict[str, object]) -> tuple[list[dict[str, object]], list]:
    """Lines of the table at a point, and rows of results."""
    point = {**BASE, axis: value}
    torch.manual_seed(0)
    c = build(ENHANCER, [RECOGNIZER] * point["auxiliaries"], point["size"], point["batch"])
    again = recomputing(c)
    functions: dict[str, Callable[[], None]] = {
        "enhancer_only": lambda: alone(c),
        "joint": lambda: joint(c),
        "gradprom": lambda: promoted(c),
        "interface": lambda: promoted(c, "interface"),
        "recomputed": lambda: promoted(again),
    }

    def forget() -> None:
        c.forget()
        again.forget()

    times = interleaved(functions, repeats, forget)
    peaks = {}
    for mode, step in functions.items():
        forget()
        peaks[mode] = peak_memory(step)
    lines = []
    for mode in MODES:
        cpu, wall = (median_of(getattr(times[mode], clock)) for clock in ("cpu", "wall"))
        numbers = (cpu.median, cpu.spread, wall.median, peaks[mode] / 2**20)
        lines.append({"axis": axis, **point, "mode": mode} | dict(zip(COLUMNS[-4:], numbers, strict=True)))
        print(f"{axis} {value}, {mode}: {cpu} s, {peaks[mode] / 2**20:.0f} MiB", flush=True)
    if value not in (AXES[axis][0], AXES[axis][-1]):
        return lines, []
    name = f"growth, {axis} {value}"
    costs: list[tuple[str, Ratio | float]] = [
        ("gradprom / joint, cpu", ratio(times["gradprom"].cpu, times["joint"].cpu)),
        ("interface / joint, cpu", ratio(times["interface"].cpu, times["joint"].cpu)),
        ("recomputed / gradprom, cpu", ratio(times["recomputed"].cpu, times["gradprom"].cpu)),
        ("gradprom / joint, peak memory", peaks["gradprom"] / peaks["joint"]),
        ("recomputed / gradprom, peak memory", peaks["recomputed"] / peaks["gradprom"]),
    ]
    return lines, [row(f"{name}: {what}", cost, None, pins) for what, cost in costs]


def draw(lines: list[dict[str, object]], path: Path, caption: str) -> None:
    """Time above, memory below, an axis to each column."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 5.2), layout="constrained")
        panels = figure.subplots(2, len(AXES), sharex="col", sharey="row")
        quantities = (("cpu_seconds", "seconds a step"), ("peak_mib", "peak memory, MiB"))
        for panel_row, (quantity, label) in zip(panels, quantities, strict=True):
            panel_row[0].set_ylabel(label)
            for panel, axis in zip(panel_row, AXES, strict=True):
                for mode, (colour, marker, line) in STYLES.items():
                    own = [found for found in lines if (found["axis"], found["mode"]) == (axis, mode)]
                    x, y = [found[axis] for found in own], [found[quantity] for found in own]
                    panel.plot(x, y, color=colour, marker=marker, ls=line, ms=4, label=mode)
                panel.grid(alpha=0.25)
                panel.set_yscale("log")
                panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.yaxis.set_major_formatter("{x:g}")
                if axis != "auxiliaries":
                    panel.set_xscale("log", base=2)
                values = sorted({found[axis] for found in lines if found["axis"] == axis})
                panel.set_xticks(values, [str(value) for value in values])
                panel.minorticks_off()
        for panel, axis in zip(panels[-1], AXES, strict=True):
            panel.set_xlabel(LABELS[axis])
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(MODES), frameon=False)
        figure.supxlabel(caption, fontsize=7)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, format="png")


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "growth", help="of files")
    parser.add_argument("--most", type=int, help="leave out sizes of images and batches above, to try the script")
    arguments = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(arguments.threads)
    pins = pinned(repeats=arguments.repeats, precision="float32", enhancer=ENHANCER, recognizer=RECOGNIZER, **BASE)
    lines: list[dict[str, object]] = []
    for axis, values in AXES.items():
        for value in values:
            if arguments.only in f"growth, {axis} {value}" and not (arguments.most and value > arguments.most):
                found, rows = measure(axis, value, arguments.repeats, pins)
                lines += found
                write_rows(rows, arguments.results)
    if not lines:
        raise SystemExit(f"nothing has {arguments.only!r} in its name: axes are {', '.join(AXES)}")
    with atomic_path(arguments.output.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines)
    caption = (
        f"{ENHANCER} and {RECOGNIZER}, float32, {pins['threads']} thread(s) of {pins['processor']}; where not varied: "
        f"{BASE['size']} pixels, {BASE['batch']} images, {BASE['auxiliaries']} auxiliary"
    )
    if not arguments.only:
        draw(lines, arguments.output.with_suffix(".png"), caption)


if __name__ == "__main__":
    main()
