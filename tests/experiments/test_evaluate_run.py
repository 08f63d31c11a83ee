"""Measuring runs on their own test images and on others'."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradprom.datasets import load_dataset
from gradprom.datasets.loader import test_key as key_of
from gradprom.degradations import GaussianNoise, degrade
from gradprom.errors import UserError
from gradprom.experiments.evaluate import evaluate_run
from gradprom.inference.load import load

Trained = Callable[[str], Path]


def test_what_is_written_is_what_the_models_do(trained: Trained, images: Path, tmp_path: Path) -> None:
    folder = trained("gradprom")
    result = evaluate_run(folder, output=tmp_path)
    assert list(result.summary) == ["input", "non-local means", "enhanced", "clean"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.csv", "evaluation.json"]
    summary = json.loads((tmp_path / "evaluation.json").read_text())["summary"]
    model, values = load(folder), {"input": [], "enhanced": []}
    test = load_dataset("folder", images).test
    for sample in test:
        clean = torch.from_numpy(sample.read_image()[..., 0] / np.float32(255))[None]
        noisy = degrade(GaussianNoise(0.1), clean, key_of(sample.id, 0))
        with torch.inference_mode():
            enhanced = model.enhancer(noisy[None])[0].clamp(0, 1)
        for method, image in (("input", noisy), ("enhanced", enhanced)):
            values[method].append(-10 * math.log10(((image - clean) ** 2).mean().item()))
    for method, taken in values.items():
        assert summary[method]["psnr"] == pytest.approx(np.mean(taken), abs=1e-3)
        assert summary[method]["images"] == len(test) == 2
    assert 0 < summary["enhanced"]["miou"] <= 1
    with (tmp_path / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * len(test)


@pytest.mark.parametrize(
    ("strategy", "methods"),
    [("enhancer_only", ["enhanced"]), ("recognizer_only", ["input", "clean"])],
)
def test_what_a_strategy_lacks_is_left_out(strategy: str, methods: list[str], trained: Trained, tmp_path: Path) -> None:
    result = evaluate_run(trained(strategy), output=tmp_path, baselines=False, limit=1)
    assert list(result.summary) == methods
    assert {row.id for row in result.rows} == {result.rows[0].id}
    assert (result.summary[methods[0]]["miou"] is None) == (strategy == "enhancer_only")


def test_every_strategy_sees_the_same_noise(trained: Trained, tmp_path: Path) -> None:
    runs = [
        evaluate_run(trained(strategy), output=tmp_path, limit=1, seed=seed).summary["input"]["psnr"]
        for strategy, seed in (("joint", 0), ("frozen", 0), ("frozen", 1))
    ]
    assert runs[0] == runs[1] != runs[2]


def test_another_dataset(trained: Trained, own_images: Path, tmp_path: Path) -> None:
    for path in (own_images / "images").iterdir():  # colour, for a grey model
        grey = np.array(Image.open(path))
        Image.fromarray(np.stack([grey, grey // 2, grey], axis=2)).save(path)
    known = evaluate_run(trained("joint"), dataset="folder", root=str(own_images), output=tmp_path, baselines=False)
    assert known.summary["enhanced"]["miou"] is not None
    brain = evaluate_run(trained("joint"), dataset="brain_mr", output=tmp_path, baselines=False, limit=1)
    assert brain.summary["enhanced"]["miou"] is None  # background and foreground say nothing of grey and white matter
    assert brain.summary["enhanced"]["psnr"] is not None


def test_a_dataset_that_has_moved(trained: Trained, own_images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained("enhancer_only"), tmp_path / "run"))
    text = (folder / "config.yaml").read_text().splitlines()
    moved = [f"  root: {tmp_path / 'gone'}" if line.startswith("  root:") else line for line in text]
    (folder / "config.yaml").write_text("\n".join(moved) + "\n")
    with pytest.raises(UserError, match="gone"):
        evaluate_run(folder)
    assert not (folder / "evaluation.csv").exists()
    evaluate_run(folder, root=str(own_images), baselines=False)
    assert (folder / "evaluation.csv").exists()


def test_non_local_means_is_kept(trained: Trained, tmp_path: Path) -> None:
    first = evaluate_run(trained("joint"), output=tmp_path, cache=tmp_path / "cache", limit=1)
    kept = list((tmp_path / "cache").iterdir())
    second = evaluate_run(trained("frozen"), output=tmp_path, cache=tmp_path / "cache", limit=1)
    assert list((tmp_path / "cache").iterdir()) == kept
    assert first.summary["non-local means"]["psnr"] == second.summary["non-local means"]["psnr"]


def test_a_device_that_is_not_there(trained: Trained) -> None:
    with pytest.raises(UserError, match="device 'nonsense' cannot be used"):
        evaluate_run(trained("recognizer_only"), device="nonsense")
