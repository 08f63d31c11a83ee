"""``gradprom export``: words to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from gradprom import cli
from gradprom.inference.load import load

Trained = Callable[[str], Path]


def test_a_run_becomes_an_onnx_file(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "enhancer.onnx"
    assert cli.main(["export", str(trained("gradprom")), "-o", str(target)]) == 0
    assert f"{target}: differs from PyTorch by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert (said["dataset"], said["name"], said["channels"]) == ("folder", "gradprom", "1")
    noisy = np.random.default_rng(0).random((21, 34), np.float32)
    (found,) = session.run(None, {"image": noisy[None, None]})
    np.testing.assert_allclose(found[0, 0], load(trained("gradprom")).enhance(noisy), atol=1e-4)


def test_an_existing_file_stays_unless_told_otherwise(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "enhancer.pt2"
    target.write_text("something")
    words = ["export", str(trained("gradprom")), "-o", str(target)]
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "something"
    assert cli.main([*words, "--overwrite"]) == 0
    assert torch.export.load(target).module()(torch.zeros(1, 1, 5, 6)).shape == (1, 1, 5, 6)


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tmp_path), "-o", str(tmp_path / "a.onnx")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_help_fits_a_screen_and_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert any(line.startswith("  gradprom export runs/isic -o isic.onnx") for line in lines)
