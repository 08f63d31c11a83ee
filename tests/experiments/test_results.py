"""Tables out of what runs left behind: every figure against a hand-made evaluation."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradprom.experiments.plan import Grid, Plan, PlannedRun, expand
from gradprom.experiments.records import RUNS
from gradprom.experiments.results import RESULTS, TABLES, write
from gradprom.experiments.tables import Result, read_results

IMAGES = [f"i{number}" for number in range(8)]
Measure = Callable[[PlannedRun], dict[str, float]]


def make_plan(**axes: tuple[object, ...]) -> Plan:
    grid = {"strategy": ("enhancer_only", "gradprom", "joint"), "auxiliary": ("segmentation",), **axes}
    base = {"dataset": {"name": "isic2018", "root": "."}, "segmentation": {"encoder": "resnet18"}}
    return Plan("table2", "A table", "table2", base, {}, (Grid(grid),))


def leave(directory: Path, run: PlannedRun, psnr: float, *, iou: float = 0.5, on: str | None = None) -> None:
    """What training and measuring leave: image number n has n / 10 dB more than the mean of them."""
    folder = directory / RUNS / run.name / (f"on-{on}" if on else "")
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.arange(len(IMAGES)) / 10
    offsets -= offsets.mean()
    with (folder / "evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "id", "psnr", "ssim", "label", "predicted", "iou", "independent_iou"])
        for name, offset in zip(IMAGES, offsets, strict=True):
            writer.writerow(["input", name, 20.0, 0.4, "", "", "", ""])
            writer.writerow(["enhanced", name, psnr + offset, 0.9, "", "", iou, iou / 2])
    enhanced = {"images": 8, "psnr": psnr, "ssim": 0.9, "miou": iou, "independent_miou": iou / 2}
    summary = {"enhanced": enhanced}
    if run.axes["strategy"] == "enhancer_only":
        summary["enhanced"] = enhanced | {"miou": None}
        summary = {"input": {"images": 8, "psnr": 20.0, "ssim": 0.4, "independent_miou": 0.1}} | summary
    (folder / "evaluation.json").write_text(json.dumps({"summary": summary}))


def by_method(results: list[Result], **values: object) -> dict[str, Result]:
    chosen = [r for r in results if all(getattr(r, name) == value for name, value in values.items())]
    assert len({r.method for r in chosen}) == len(chosen)
    return {result.method: result for result in chosen}


def test_cells_are_means_over_seeds_with_the_papers_beside(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), seed=(0, 1, 2))
    psnr = {"enhancer_only": 30.0, "gradprom": 31.0, "joint": 29.0}
    for run in expand(plan):
        leave(tmp_path, run, psnr[run.axes["strategy"]] + run.axes["seed"])
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert set(results) == {"input", *psnr}
    for method, mean in psnr.items():
        cell = results[method]
        assert cell.psnr == pytest.approx(mean + 1)
        assert cell.psnr_std == pytest.approx(1.0)  # of 0, 1 and 2, over n - 1
        assert (cell.seeds, cell.images, cell.level, cell.table, cell.task) == (3, 8, "0.1", "2", "denoise")
    # Table 2 of the paper, sigma 0.1, supervised
    assert (results["gradprom"].paper_psnr, results["gradprom"].paper_ssim) == (34.820, 0.962)
    assert results["joint"].paper_psnr == 32.703
    assert results["enhancer_only"].paper_psnr == 27.735
    difference = results["gradprom"].difference
    assert difference is not None
    assert (difference.mean, difference.low, difference.high, difference.n) == pytest.approx((1.0, 1.0, 1.0, 8))
    assert results["enhancer_only"].difference is None
    assert (results["gradprom"].recognition, results["gradprom"].independent_recognition) == (0.5, 0.25)
    assert (results["input"].psnr, results["input"].seeds, results["input"].paper_psnr) == (20.0, None, None)


def test_steps_count_what_a_run_trained_through(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",))
    for run in expand(plan):
        leave(tmp_path, run, 30.0)
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert (results["enhancer_only"].steps, results["gradprom"].steps) == (2000, 3000)  # the default is 1000 a stage


def test_all_files_are_written_and_only_of_what_is_there(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1", "gaussian 0.2"))
    assert write(tmp_path, [plan], "laptop", None) == []
    assert list(tmp_path.iterdir()) == []
    for run in expand(plan):
        if run.axes["degradation"] == "gaussian 0.1":
            leave(tmp_path, run, 30.0)
    results = write(tmp_path, [plan], "laptop", None)
    assert {result.level for result in results} == {"0.1"}
    written = {path.name for path in (tmp_path / TABLES).iterdir()}
    assert written == {"table2.csv", "table2.md", "table2.tex", "table2-differences.csv"}
    assert "**A-3**" in (tmp_path / "claims.md").read_text()
    rows = read_results(tmp_path / RESULTS)
    assert [(row.method, row.psnr) for row in rows] == [(row.method, row.psnr) for row in results]
    assert rows == read_results(tmp_path / TABLES / "table2.csv")


def test_differences_are_taken_between_runs_that_differ_in_nothing_else(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), weight=(1e-4, 1.0), gate=("hard", "cone 0.5"))
    for run in expand(plan):
        loss = {None: 0.0, 1e-4: 0.0, 1.0: 2.0}[run.axes["weight"]]
        gain = 1.0 if run.axes["gate"] == "cone 0.5" else 0.0
        leave(tmp_path, run, 30.0 - loss + gain, iou=0.5 + gain / 10)
    write(tmp_path, [plan], "laptop", None)
    with (tmp_path / TABLES / "table2-differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["method"], row["less"], float(row["weight"]), row["measure"]): float(row["difference"]) for row in rows
    }
    assert found["gradprom", "enhancer_only", 1.0, "psnr"] == pytest.approx(-2.0)
    assert found["gradprom cone 0.5", "enhancer_only", 1.0, "psnr"] == pytest.approx(-1.0)
    assert found["gradprom", "joint", 1.0, "psnr"] == pytest.approx(0.0)
    assert found["gradprom cone 0.5", "gradprom", 1e-4, "psnr"] == pytest.approx(1.0)
    assert found["gradprom cone 0.5", "joint cone 0.5", 1e-4, "psnr"] == pytest.approx(0.0)
    assert found["gradprom cone 0.5", "gradprom", 1e-4, "independent_iou"] == pytest.approx(0.05)
    # another weight is another thing, and it is gradprom that is judged
    assert all(row["method"].startswith("gradprom") for row in rows)
    verdicts = {row["verdict"] for row in rows if float(row["difference"]) < 0}
    assert verdicts == {"worse"}


def test_several_weights_give_a_picture_of_the_trade_off(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.2",), weight=(1e-4, 1e-2, 1.0))
    for run in expand(plan):
        leave(tmp_path, run, 30.0 - (run.axes["weight"] or 0), iou=0.4 + (run.axes["weight"] or 0) / 10)
    write(tmp_path, [plan], "laptop", None)
    assert (tmp_path / TABLES / "table2-isic2018-0.2.png").is_file()


def test_on_another_dataset_the_table_is_about_that_one(tmp_path: Path) -> None:
    grid = {"strategy": ("enhancer_only", "frozen"), "auxiliary": ("diagnosis",), "degradation": ("gaussian 0.3",)}
    training = {"view": "whole"}
    base = {"dataset": {"name": "isic2018", "root": "."}, "diagnosis": {"encoder": "resnet18"}, "training": training}
    home = Grid(grid | {"dataset": ("crchisto",)}, (), {"dataset": {"root": "."}})
    plan = Plan("table4", "Elsewhere", "table4", base, {}, (Grid(grid), home), test_on=("crchisto",))
    for run in expand(plan, data=tmp_path):
        leave(tmp_path, run, 10.0)
        if run.axes["dataset"] == "isic2018":
            leave(tmp_path, run, 20.0, on="crchisto")
    results = write(tmp_path, [plan], "laptop", tmp_path)
    assert {result.dataset for result in results} == {"isic2018 to crchisto", "crchisto"}
    away, base_row = (by_method(results, dataset=name)["frozen"] for name in ("isic2018 to crchisto", "crchisto"))
    assert (away.psnr, away.paper_psnr) == (20.0, 8.262)  # of the paper's Table 4, supervised ESTR
    assert (base_row.psnr, base_row.paper_psnr) == (10.0, 16.352)


def test_a_recognizer_alone_has_recognition_and_no_image_quality(tmp_path: Path) -> None:
    plan = make_plan(strategy=("recognizer_only",), degradation=("gaussian 0.1",))
    (run,) = expand(plan)
    leave(tmp_path, run, 30.0)
    path = tmp_path / RUNS / run.name / "evaluation.json"
    path.write_text(json.dumps({"summary": {"input": {"images": 8, "psnr": 20.0, "ssim": 0.4, "miou": 0.6}}}))
    (result,) = write(tmp_path, [plan], "laptop", None)
    assert (result.psnr, result.recognition, result.supervision) == (None, 0.6, None)
