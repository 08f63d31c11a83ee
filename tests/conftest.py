"""A small dataset, a small configuration and runs of it, trained once a session."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from gradprom.training.config import Config, parse

# timm's own model for tests: a ResNet of 0.4 million parameters
ENCODER = "test_resnet"
OPTIONS = {
    "dataset.name": "folder",
    "dataset.validation_images": "1",
    "enhancer.name": "residual_unet",
    "enhancer.blocks": "1",
    "enhancer.channels": "4",
    "segmentation.encoder": ENCODER,
    "training.batch_size": "2",
    "training.size": "32",
    "training.precision": "32-true",
    "training.accelerator": "cpu",
    "training.warmup.steps": "12",
    "training.warmup.learning_rate": "1e-3",
    "training.pretrain.steps": "4",
    "training.cascade.steps": "5",
    "training.checkpoint_every": "6",
    "training.validate_every": "5",
}


def make_images(root: Path, count: int = 12, height: int = 40, width: int = 48) -> Path:
    """A grey folder dataset: discs of growing size on noise, their masks, and labels a (dark) and b (bright)."""
    rows, columns = np.mgrid[:height, :width]
    lines = ["image,label"]
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        disc = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < (6 + index) ** 2
        texture = np.random.default_rng(index).normal(0, 4, (height, width))
        image = (60 + 40 * (index % 2) + 100 * disc + texture).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"i{index:02d}.png")
        Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(root / "masks" / f"i{index:02d}.png")
        lines.append(f"i{index:02d},{'ab'[index % 2]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file may grow beyond so many bytes: writing fails as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="needs limits as POSIX has them")

    @contextmanager
    def full(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Import a script of the repository that is no part of the package, by its path from the root."""

    def load(path: str) -> ModuleType:
        place = Path(__file__).parents[1] / path
        spec = importlib.util.spec_from_file_location(f"script_{place.stem}", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # dataclasses look their module up
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run_together() -> Callable[..., None]:
    """Run commands at the same time; all of them must end well: ``run_together(commands, env=..., timeout=60)``."""

    def run(commands: list[list[str]], env: dict[str, str] | None = None, timeout: float = 120) -> None:
        processes = [
            subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        try:
            for process in processes:
                _, errors = process.communicate(timeout=timeout)
                assert process.returncode == 0, errors
        finally:
            for process in processes:
                process.kill()

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a small dataset; not to be changed."""
    return make_images(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    """The root of a small dataset of the test's own."""
    return make_images(tmp_path / "own_images")


@pytest.fixture(scope="session")
def options(images: Path) -> Callable[..., list[str]]:
    """Words on the command line for a small run: ``options({"strategy": "joint"})``."""

    def make(changes: dict[str, object] | None = None) -> list[str]:
        merged = {**OPTIONS, "dataset.root": str(images), **(changes or {})}
        return [word for name, value in merged.items() if value is not None for word in (f"--{name}", str(value))]

    return make


@pytest.fixture(scope="session")
def make_config(options: Callable[..., list[str]]) -> Callable[..., Config]:
    """The configuration of a small run."""
    return lambda changes=None: parse(arguments=options(changes))


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of ``trained`` share their stages."""
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="session")
def trained(
    make_config: Callable[..., Config], stages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A finished small run of a strategy; not to be changed."""
    from gradprom.training.run import train

    @functools.cache
    def run(strategy: str) -> Path:
        config = make_config({"strategy": strategy, "training.stages": stages})
        return train(config, tmp_path_factory.mktemp("runs") / strategy)

    return run
