"""Run folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradprom._versions import versions
from gradprom.errors import UserError
from gradprom.training.config import Config
from gradprom.training.folder import (
    RunRecord,
    check_folder,
    create_folder,
    read_config,
    read_record,
    weights_path,
    write_record,
)

RECORD = RunRecord("folder", 1, ["a", "b"], [], 1, 2, 3, seed=0, device="cpu", threads=1, started="2025-01-01")
CONFIG = Config(strategy="enhancer_only")


def test_config_and_record_read_back(tmp_path: Path) -> None:
    create_folder(tmp_path / "new" / "run", CONFIG, RECORD)
    assert read_config(tmp_path / "new" / "run") == CONFIG
    assert read_record(tmp_path / "new" / "run") == RECORD


def test_only_what_gradprom_wrote_is_replaced(tmp_path: Path) -> None:
    create_folder(tmp_path, CONFIG, RECORD)
    (tmp_path / "tensorboard").mkdir()
    for name in ("enhancer.safetensors", "checkpoint.pt", "tensorboard/events", ".partial-x", "mine.csv"):
        (tmp_path / name).write_text("x")
    check_folder(tmp_path, overwrite=True)
    create_folder(tmp_path, CONFIG, RECORD)
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "run.json", "mine.csv"}


def test_places_where_no_run_can_be(tmp_path: Path) -> None:
    check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "config.yaml").write_text("mine: 1")
    with pytest.raises(UserError, match="exists and is not empty"):
        check_folder(tmp_path, overwrite=False)
    with pytest.raises(UserError, match="is not a run folder and will not be overwritten"):
        check_folder(tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        check_folder(tmp_path / "config.yaml", overwrite=True)


def test_weights_by_task(tmp_path: Path) -> None:
    for name in ("enhancer", "recognizer"):
        (tmp_path / f"{name}.safetensors").touch()
    assert weights_path(tmp_path, "enhancer").name == "enhancer.safetensors"
    assert weights_path(tmp_path, "segmentation").name == "recognizer.safetensors"
    (tmp_path / "segmentation.safetensors").touch()
    assert weights_path(tmp_path, "segmentation").name == "segmentation.safetensors"
    (tmp_path / "enhancer.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no enhancer\.safetensors"):
        weights_path(tmp_path, "enhancer")


def test_a_record_of_a_later_version(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"seed"', '"seeds"'))
    with pytest.raises(UserError, match="damaged or of another version"):
        read_record(tmp_path)


def test_versions_name_what_results_depend_on() -> None:
    assert {"python", "gradprom", "torch", "numpy"} <= set(versions())
