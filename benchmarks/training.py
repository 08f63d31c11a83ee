"""Images a second of a whole training, against a plain PyTorch loop, and what each ingredient brings.

    python benchmarks/training.py [--repeats 5] [--steps 60] [--threads 2] [--data ISIC]
    python benchmarks/training.py --quality --data ISIC --steps 2000       validation PSNR of both, over three seeds

Everything counts that a training does between two steps: data, degradation, step, logs. Each training is a process of
its own, for the allocator's settings are a process's; they take turns, and the first steps of each are not measured.
Images are made up, JPEG of 512 pixels, or come from ISIC 2018, brought down to 512 pixels first; both loops read the
same files. Before anything is timed the gradients of both loops' steps are compared.

plain        float32, DataLoader, torchvision's transforms, Adam, the default allocator: see _plain.py
gradprom     gradprom.train with its defaults
without X    gradprom with one ingredient less
compiled     gradprom with training.compile
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from _measure import Ratio, options, pinned, ratio, rotated, row, write_rows
from PIL import Image
from scipy.stats import t as student

STRATEGIES = ("enhancer_only", "gradprom")
INGREDIENTS = ("bf16", "channels_last", "malloc", "fused Adam", "choice of prefetch", "cache")
SIGMA, RATE, VALIDATION = 0.2, 5e-4, 8


def make_images(root: Path, count: int, data: Path | None) -> None:
    """A dataset of kind ``folder``: made up, or of ISIC 2018."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    pairs = map(made_up, range(count)) if data is None else of_isic(data, count)
    for index, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(root / "images" / f"{index:04d}.jpg", quality=92)
        Image.fromarray(np.uint8(255 * (mask > 0))).save(root / "masks" / f"{index:04d}.png")


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Discs in the colours of skin, with a little texture; the mask is of what is bright."""
    from enhancement import scene

    grey = scene(512, seed)
    texture = np.random.default_rng(seed).normal(0, 0.02, (512, 512, 1))
    colours = np.stack([grey, 0.7 * grey, 0.6 * grey], 2) + texture
    return np.uint8(255 * colours.clip(0, 1)), grey > 0.5


def of_isic(data: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from gradprom.datasets import load_dataset

    for sample in load_dataset("isic2018", data, max_side=512).train[:count]:
        yield sample.read_image(), sample.read_mask()


def config_words(strategy: str, root: Path, arguments: argparse.Namespace, seed: int = 0) -> list[str]:
    """The options of ``gradprom train``; the stage that is measured is the last."""
    stage = {
        "strategy": strategy,
        "dataset.name": "folder",
        "dataset.root": root,
        "dataset.channels": 3,
        "dataset.validation_images": VALIDATION,
        "dataset.test_fraction": 0.01,
        "degradation": f"gaussian {SIGMA}",
        "enhancer.name": arguments.enhancer,
        "training.seed": seed,
        "training.batch_size": arguments.batch,
        "training.size": arguments.size,
        "training.rotate": 0,
        "training.centre_crop": 1,
        "training.accelerator": "cpu",
        "training.warmup.steps": 0,
        "training.pretrain.steps": 0,
        "training.cascade.steps": arguments.steps,
        "training.cascade.learning_rate": RATE,
        "training.cascade.schedule": "cosine",
        "training.validate_every": 10**9,
        "training.checkpoint_every": 10**9,
    }
    if strategy != "enhancer_only":
        stage["segmentation.encoder"] = "resnet18"
    return [word for name, value in stage.items() for word in (f"--{name}", str(value))]


def gradprom_once(spec: dict) -> None:
    """In a process of its own: train, and print when each step began."""
    import gradprom.training.data as data
    import gradprom.training.loop as loop
    import gradprom.training.run as run
    from gradprom.training.config import parse

    config, without = parse(arguments=spec["config"]), spec["without"]
    if without == "bf16":
        config.training.precision = "32-true"
    elif without == "channels_last":
        torch.channels_last = torch.contiguous_format
    elif without == "malloc":
        run.tune_malloc = lambda: False
    elif without == "fused Adam":
        adam = torch.optim.Adam
        torch.optim.Adam = lambda parameters, lr, fused: adam(parameters, lr=lr)
    elif without == "choice of prefetch":  # a thread makes batches ahead even where no processor is to spare
        data.processors = lambda: 10**6
    elif without == "cache":
        config.training.cache_gb = 1e-9
    elif without == "eager mode":
        config.training.compile = True
    stamps, step = [], loop.Trainer._step

    def stamped(self: loop.Trainer, *batch: object) -> object:
        stamps.append((time.perf_counter(), time.process_time()))
        return step(self, *batch)

    loop.Trainer._step = stamped
    run.tune_malloc()  # as the command line does before anything is allocated
    torch.set_num_threads(spec["threads"])
    run.train(config, spec["output"], overwrite=True)
    print(json.dumps(stamps))


class Runner:
    """Starts trainings, and knows how to judge what came of them."""

    def __init__(self, strategy: str, root: Path, folder: Path, arguments: argparse.Namespace, seed: int = 0) -> None:
        from gradprom.training.config import parse
        from gradprom.training.data import RunData, build_dataset

        self.words = config_words(strategy, root, arguments, seed)
        config = parse(arguments=self.words)
        self.data = RunData(config, build_dataset(config.dataset))
        self.spec = {
            "strategy": strategy,
            "root": str(root),
            "names": [sample.id for sample in self.data.training],
            "config": self.words,
            "batch": arguments.batch,
            "size": arguments.size,
            "sigma": SIGMA,
            "rate": RATE,
            "steps": arguments.steps,
            "seed": seed,
            "workers": arguments.workers,
            "threads": arguments.threads,
        }
        self.folder = folder
        # a shell's settings of the allocator would be the plain loop's, too
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "LD_PRELOAD"}
        self.environment["OMP_NUM_THREADS"] = str(arguments.threads)

    def start(self, script: str, name: str, without: str = "") -> list[tuple[float, float]]:
        output = self.folder / name
        output.mkdir(parents=True, exist_ok=True)
        spec = json.dumps(self.spec | {"output": str(output), "without": without})
        command = [sys.executable, str(Path(__file__).with_name(script)), "--one", spec]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def psnr(self, path: Path) -> float:
        """Of the validation images, enhanced in float32 by weights at a path."""
        from contextlib import nullcontext

        from gradprom.enhancers import build_enhancer
        from gradprom.training.config import parse
        from gradprom.weights import read_weights

        enhancer = build_enhancer(parse(arguments=self.words).enhancer, 3)
        enhancer.load_state_dict(read_weights(path))
        return self.data.validate(enhancer, torch.device("cpu"), nullcontext)


def check_equality(runner: Runner, strategy: str) -> None:
    """The gradients of one batch, by the plain step and by ours, both in float32."""
    import _plain

    from gradprom.strategies import CascadeStep, EnhancerStep

    ours = _plain.models_of(runner.spec)
    with torch.no_grad():
        for model in ours.values():
            for parameter in model.parameters():  # off a beginning as the identity
                parameter.add_(0.01 * torch.randn_like(parameter))
    plain = copy.deepcopy(ours)
    batch = runner.data.loader("cascade").batch(0)
    degraded = (batch.clean + SIGMA * torch.randn_like(batch.clean)).clamp(0, 1)
    if strategy == "enhancer_only":
        EnhancerStep(ours["enhancer"])(degraded, batch.clean, {})
        _plain.enhancer_step(plain["enhancer"], degraded, batch.clean)
    else:
        segmenter = {"segmentation": ours["segmentation"]}
        CascadeStep("gradprom", ours["enhancer"], segmenter)(degraded, batch.clean, {"segmentation": batch.mask})
        _plain.cascade_step(plain["enhancer"], plain["segmentation"], degraded, batch.clean, batch.mask)
    for name, model in ours.items():
        a, b = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (model, plain[name]))
        off = float((a - b).norm() / b.norm())
        if not off < 1e-5:
            raise SystemExit(f"training, {strategy}: gradients of the {name} are off by {off:.1e}: nothing is measured")


def measure_speed(
    strategy: str, runner: Runner, arguments: argparse.Namespace, pins: Mapping[str, object]
) -> list[dict[str, object]]:
    """Rows of how many times as fast as all else gradprom is."""
    trainings = {"plain": ("_plain.py", ""), "gradprom": ("training.py", "")}
    trainings |= {f"without {name}": ("training.py", name) for name in arguments.ingredients}
    if not arguments.no_compile:
        trainings["compiled"] = ("training.py", "eager mode")
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in trainings}
    for repeat in range(arguments.repeats):
        for name in rotated(list(trainings), repeat):
            script, without = trainings[name]
            stamps = runner.start(script, name, without)[arguments.skip :]
            wall, cpu = ((last - first) / (len(stamps) - 1) for first, last in zip(stamps[0], stamps[-1], strict=True))
            spent[name].append((wall, cpu))
    rows = []
    for index, clock in enumerate(("wall", "cpu of the main process")):
        ours = [pair[index] for pair in spent["gradprom"]]
        speed = arguments.batch / statistics.median(ours)
        print(f"training, {strategy}: {speed:.1f} images a second by {clock}")
        for name in trainings:
            if name != "gradprom":
                value = ratio([pair[index] for pair in spent[name]], ours)
                goal = ">= 2" if (name, clock) == ("plain", "wall") else None
                what = f"training, {strategy}: gradprom / {name}, images a second, {clock}"
                rows.append(row(what, value, goal, pins))
    return rows


def measure_quality(
    strategy: str, root: Path, folder: Path, arguments: argparse.Namespace, pins: Mapping[str, object]
) -> list[dict]:
    """A row of the validation PSNR of gradprom less that of the plain loop, mean over seeds."""
    apart = []
    for seed in arguments.seeds:
        runner = Runner(strategy, root, folder, arguments, seed)
        runner.start("_plain.py", "plain")
        runner.start("training.py", "gradprom")
        values = [runner.psnr(folder / path) for path in ("gradprom/enhancer.safetensors", "plain/enhancer.pt")]
        print(f"training, {strategy}, seed {seed}: gradprom {values[0]:.3f} dB, plain {values[1]:.3f} dB", flush=True)
        apart.append(values[0] - values[1])
    mean, interval = statistics.fmean(apart), None
    if len(apart) > 1:
        low, high = student.interval(0.95, len(apart) - 1, mean, statistics.stdev(apart) / len(apart) ** 0.5)
        interval = float(low), float(high)
    value = Ratio(mean, (max(apart) - min(apart)) / 2, interval)
    name = f"training, {strategy}: validation PSNR of gradprom less plain, dB, mean over {len(apart)} seeds"
    return [row(name, value, "-0.05 to 0.05", {**pins, "seeds": arguments.seeds})]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        gradprom_once(json.loads(sys.argv[2]))
        return
    parser = options(__doc__, repeats=5)
    parser.set_defaults(threads=os.cpu_count())
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--skip", type=int, default=15, help="steps that are not measured, at the beginning of each")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--images", type=int, default=64, help="to learn from and to validate by")
    parser.add_argument("--enhancer", default="residual_unet", choices=("residual_unet", "srresnet", "estr", "unet"))
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--data", type=Path, help="folder of ISIC 2018, in place of made-up images")
    parser.add_argument(
        "--ingredients", nargs="*", default=INGREDIENTS, choices=INGREDIENTS, help="to leave out, in turn"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--quality", action="store_true", help="validation PSNR in place of speed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of --quality")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pins = pinned(
        repeats=1 if arguments.quality else arguments.repeats,
        steps=arguments.steps,
        batch=arguments.batch,
        size=arguments.size,
        enhancer=arguments.enhancer,
        recognizer="U-Net-ResNet-18",
        workers=arguments.workers,
        images="made up, JPEG of 512 pixels" if arguments.data is None else "ISIC 2018 at 512 pixels",
    )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        make_images(root, arguments.images, arguments.data)
        for strategy in STRATEGIES:
            if arguments.only not in f"training, {strategy}":
                continue
            runner = Runner(strategy, root, Path(name), arguments)
            check_equality(runner, strategy)
            if arguments.quality:
                rows = measure_quality(strategy, root, Path(name), arguments, pins)
            else:
                rows = measure_speed(strategy, runner, arguments, pins)
            write_rows(rows, arguments.results)


if __name__ == "__main__":
    main()
