"""The demonstration: everything once, on images that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from rich.console import Console

from gradprom._files import atomic_path
from gradprom.datasets.loader import test_key
from gradprom.degradations import build_degradation, degrade
from gradprom.errors import UserError
from gradprom.evaluation import read_clean
from gradprom.experiments.evaluate import dataset_of, evaluate_run
from gradprom.experiments.page import report
from gradprom.inference.files import enhance_files
from gradprom.inference.load import load
from gradprom.training.config import parse
from gradprom.training.folder import read_config
from gradprom.training.run import train

# sizes that two CPU cores get through in a few minutes
SETTINGS = {
    "dataset.name": "brain_mr",
    "degradation": "gaussian 0.1",
    "enhancer.name": "residual_unet",
    "enhancer.blocks": "1",
    "segmentation.encoder": "resnet18",
    "training.size": "64",
    "training.rotate": "0.0",
    "training.warmup.steps": "400",
    "training.warmup.learning_rate": "1e-3",
    "training.warmup.schedule": "cosine",
    "training.pretrain.steps": "200",
    "training.pretrain.learning_rate": "1e-3",
    "training.pretrain.schedule": "cosine",
    "training.cascade.steps": "200",
    "training.cascade.learning_rate": "2e-4",
    "training.cascade.schedule": "cosine",
    "training.validate_every": "100",
}
STRATEGIES = ("enhancer_only", "gradprom")
# all that a demonstration leaves in its folder
OWN = (*STRATEGIES, "stages", "slices", "enhanced", "report.html")


def demo(
    output: str | Path, *, overwrite: bool = False, settings: dict[str, str] | None = None, limit: int | None = None
) -> Path:
    """Train enhancer_only and gradprom on the embedded brain images, evaluate both, enhance a slice, write a report.

    Args:
        output: folder for all of it.
        overwrite: replace an earlier demonstration.
        settings: options of the configuration that differ from :data:`SETTINGS`.
        limit: measure only so many test slices.

    Returns:
        The report page.

    Raises:
        UserError: the folder exists and ``overwrite`` is false.
    """
    folder = Path(output)
    if folder.is_file():
        raise UserError(f"{folder}: is a file, give the name of a folder")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(f"{folder}: exists and is not empty, give another folder or --overwrite")
        if not (folder / STRATEGIES[0] / "config.yaml").exists():
            raise UserError(f"{folder}: holds something else than a demonstration, give another folder")
        for name in OWN:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    console = Console(stderr=True)
    options = SETTINGS | {"training.stages": str(folder / "stages")} | (settings or {})
    for strategy in STRATEGIES:
        console.rule(f"{strategy}: training")
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        train(parse(arguments=["--strategy", strategy, *arguments]), folder / strategy)
    for strategy in STRATEGIES:
        console.rule(f"{strategy}: evaluation")
        console.print(
            evaluate_run(folder / strategy, output=folder / strategy, cache=folder / "stages", limit=limit).table()
        )
    console.rule("enhancing a slice")
    slice_path = _write_slice(folder / "slices", folder / "gradprom")
    enhanced = enhance_files(load(folder / "gradprom"), [slice_path], folder / "enhanced")
    console.print(f"{slice_path} -> {enhanced.written[0]}")
    notes = [
        "The demonstration of gradprom: slices of the MNI152 T1 template with added noise, two strategies from one "
        "warmed-up enhancer, the same steps and the same seed.",
        "One seed and a few minutes of training: enough to see all parts at work, not to tell the strategies apart.",
    ]
    return report([folder / strategy for strategy in STRATEGIES], folder / "report.html", notes=notes)


def _write_slice(folder: Path, run: Path) -> Path:
    """A degraded test slice as a file, as one might come from a scanner."""
    from PIL import Image

    config = read_config(run)
    sample = dataset_of(config, None, None, 1).test[0]
    degraded = degrade(build_degradation(config.degradation), read_clean(sample, 1), test_key(sample.id, 0))
    path = folder / f"{sample.id}.png"
    with atomic_path(path) as temporary:
        Image.fromarray((degraded[0].numpy() * 255).round().astype(np.uint8)).save(temporary, format="PNG")
    return path
