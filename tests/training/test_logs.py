"""Logs that can be cut back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gradprom.promotion import Step
from gradprom.training.logs import METRICS, Logs


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def record(loss: float) -> Step:
    return Step(loss, {"segmentation": 2 * loss}, 1.0, {"segmentation": 3.0}, {"segmentation": -0.5}, {}, skipped=False)


def test_rows_are_what_was_logged(tmp_path: Path) -> None:
    logs = Logs(tmp_path, ["segmentation"], None, 0)
    logs.metrics(1, {"stage": "warmup", "step": 1, "loss": 0.123456789})
    logs.promotion(1, 1, record(0.25))
    logs.close()
    (row,) = read(tmp_path / "metrics.csv")
    assert list(row) == list(METRICS)
    assert (row["stage"], row["step"], row["loss"], row["validation_psnr"]) == ("warmup", "1", "0.123457", "")
    (row,) = read(tmp_path / "promotion.csv")
    assert (row["main_loss"], row["loss_segmentation"]) == ("0.25", "0.5")
    assert (row["alignment_segmentation"], row["norm_segmentation"]) == ("-0.5", "3")
    assert (row["promoted_segmentation"], row["skipped"]) == ("0", "0")


@pytest.mark.parametrize("torn", ["", "3,0.2"])
def test_what_was_logged_after_the_checkpoint_is_cut_off(torn: str, tmp_path: Path) -> None:
    logs = Logs(tmp_path, ["segmentation"], None, 0)
    logs.promotion(1, 1, record(0.25))
    sizes = logs.sizes()
    assert sizes["promotion.csv"] == (tmp_path / "promotion.csv").stat().st_size
    logs.promotion(2, 2, record(0.5))
    logs.close()
    with (tmp_path / "promotion.csv").open("a") as file:
        file.write(torn)  # a kill may leave half a row

    logs = Logs(tmp_path, ["segmentation"], sizes, 1)
    assert logs.sizes() == sizes
    logs.promotion(2, 2, record(0.75))
    logs.close()
    assert [row["main_loss"] for row in read(tmp_path / "promotion.csv")] == ["0.25", "0.75"]


def test_a_new_run_starts_new_files(tmp_path: Path) -> None:
    for _ in range(2):
        logs = Logs(tmp_path, [], None, 0)
        logs.metrics(1, {"stage": "warmup", "step": 1})
        logs.close()
    assert len(read(tmp_path / "metrics.csv")) == 1


def test_rows_of_a_shared_stage_are_copied(tmp_path: Path) -> None:
    one = Logs(_made(tmp_path / "one"), [], None, 0)
    one.metrics(1, {"stage": "warmup", "step": 1, "loss": 0.5})
    one.metrics(2, {"stage": "cascade", "step": 1, "loss": 0.25})
    rows = one.rows_of("warmup")
    one.close()
    other = Logs(_made(tmp_path / "other"), [], None, 0)
    other.copy(rows)
    other.close()
    (row,) = read(tmp_path / "other" / "metrics.csv")
    assert (row["stage"], row["loss"]) == ("warmup", "0.5")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
