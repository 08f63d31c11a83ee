"""Super-resolution from training to an enhanced file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradprom
from gradprom import cli
from gradprom.experiments.evaluate import evaluate_run
from gradprom.experiments.page import report
from gradprom.training.config import Config
from gradprom.training.run import train

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize(("scale", "enhancer"), [(2, "residual_unet"), (4, "residual_unet"), (2, "estr")])
def test_a_run_makes_images_larger_by_its_scale(
    scale: int, enhancer: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    options = {"degradation": f"downsample {scale}", "enhancer.name": enhancer, "training.stages": tmp_path / "stages"}
    if enhancer == "estr":
        options |= {"enhancer.residual": True}
    folder = train(make_config(options), tmp_path / "run")
    grey = np.random.default_rng(0).integers(0, 256, (21, 30), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "small.png")
    assert cli.main(["enhance", str(folder), str(tmp_path / "small.png"), "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "small.png") as large:
        assert large.size == (30 * scale, 21 * scale)
        enhanced = np.array(large, dtype=np.float64)
    # mirrored borders apart it is the same picture: brought down again it comes close to what was given
    again = enhanced.reshape(21, scale, 30, scale).mean(axis=(1, 3))
    assert np.corrcoef(again.ravel(), grey.ravel())[0, 1] > 0.9
    result = evaluate_run(folder)
    assert list(result.summary) == ["bicubic", "enhanced", "clean"]
    assert result.summary["enhanced"]["miou"] is not None
    with (folder / "promotion.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    assert report([folder], tmp_path / "report.html").is_file()


def test_without_training_it_is_the_bicubic_baseline(make_config: MakeConfig, tmp_path: Path) -> None:
    nothing = {f"training.{stage}.steps": 0 for stage in ("warmup", "pretrain", "cascade")}
    folder = train(
        make_config({"degradation": "downsample 2", "strategy": "enhancer_only"} | nothing), tmp_path / "run"
    )
    evaluate_run(folder)
    summary = json.loads((folder / "evaluation.json").read_text())["summary"]
    assert summary["enhanced"]["psnr"] == pytest.approx(summary["bicubic"]["psnr"], abs=1e-4)
    assert gradprom.load(folder).scale == 2


def test_a_recognizer_alone_reads_the_bicubic_images(make_config: MakeConfig, tmp_path: Path) -> None:
    options = {"degradation": "downsample 2", "strategy": "recognizer_only"}
    result = evaluate_run(train(make_config(options), tmp_path / "run"))
    assert result.summary["bicubic"]["miou"] is not None
    assert "enhanced" not in result.summary
