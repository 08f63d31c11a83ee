"""The same tile through PyTorch and through ONNX Runtime: for which networks is the latter faster?

    python benchmarks/runtimes.py [--sizes 256 512] [--repeats 9] [--threads 1]

The networks are as they begin, which costs what trained ones cost. Each is exported and loaded as ``gradprom export``
and ``gradprom enhance`` do. Ours takes bfloat16 for images of 8 bits where the processor has it, and float32 for finer
ones; ONNX Runtime takes float32 for all.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from _measure import interleaved, options, pinned, ratio, row, write_rows

from gradprom import load
from gradprom._precision import has_bf16
from gradprom._process import tune_malloc
from gradprom.enhancers import build_enhancer
from gradprom.export import export_model
from gradprom.inference.model import Model
from gradprom.training.config import EnhancerConfig

ENHANCERS = ("residual_unet", "srresnet", "unet", "estr")


def measure(name: str, size: int, repeats: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    ours = Model(build_enhancer(EnhancerConfig(name), 1), channels=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "enhancer.onnx"
        export_model(ours, path)
        theirs = load(path)
    coarse = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    images = {"8 bits": coarse, "floating point": np.float32(coarse / 255)}
    apart = float(np.abs(ours.enhance(images["floating point"]) - theirs.enhance(images["floating point"])).max())
    if apart > 1e-4:
        raise SystemExit(f"{name}: the outputs are {apart:.1e} apart: nothing is timed")
    pins = pinned(repeats=repeats, onnxruntime=onnxruntime.__version__, bf16=has_bf16("cpu"))
    rows = []
    for kind, image in images.items():
        calls = {"ours": lambda image=image: ours.enhance(image), "onnx": lambda image=image: theirs.enhance(image)}
        times = interleaved(calls, repeats)
        for clock in ("cpu", "wall"):
            value = ratio(getattr(times["onnx"], clock), getattr(times["ours"], clock))
            what = f"runtimes, {name}, {size} px: ONNX Runtime / PyTorch, {kind}, {clock}"
            rows.append(row(what, value, None, pins))
    return rows


def main() -> None:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="pixels a side of the tile")
    arguments = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(arguments.threads)
    cases = [(name, size) for name in ENHANCERS for size in arguments.sizes]
    chosen = [case for case in cases if arguments.only in "runtimes, {}, {} px".format(*case)]
    if not chosen:
        raise SystemExit(f"--only {arguments.only!r} is in no case such as 'runtimes, unet, 512 px'")
    for name, size in chosen:
        write_rows(measure(name, size, arguments.repeats), arguments.results)


if __name__ == "__main__":
    main()
