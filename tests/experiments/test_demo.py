"""The demonstration, with as few steps as there can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.errors import UserError
from gradprom.experiments.demo import OWN, demo

SETTINGS = {
    "enhancer.channels": "4",
    "segmentation.encoder": "test_resnet",
    "training.batch_size": "2",
    "training.size": "32",
    "training.precision": "32-true",
    "training.accelerator": "cpu",
    "training.warmup.steps": "4",
    "training.pretrain.steps": "3",
    "training.cascade.steps": "3",
    "dataset.validation_images": "1",
}


def test_the_demonstration(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    page = demo(folder, settings=SETTINGS, limit=1)
    assert page == folder / "report.html"
    assert {path.name for path in folder.iterdir()} == set(OWN)
    text = page.read_text(encoding="utf-8")
    for part in ("<table>", "non-local means", "enhancer_only", "gradprom", "<figcaption>after", "Promotion rate"):
        assert part in text
    (slice_path,) = (folder / "slices").iterdir()
    with Image.open(slice_path) as before, Image.open(folder / "enhanced" / slice_path.name) as after:
        assert before.size == after.size == (197, 233)
        assert (np.array(before) != np.array(after)).any()
    assert len(list((folder / "stages").glob("warmup-*.safetensors"))) == 1  # trained once, for both strategies

    with pytest.raises(UserError, match="exists and is not empty, give another folder or --overwrite"):
        demo(folder, settings=SETTINGS)
    (folder / "notes.txt").write_text("mine")
    demo(folder, settings=SETTINGS, limit=1, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else than a demonstration"):
        demo(tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        demo(tmp_path / "thesis.txt", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
