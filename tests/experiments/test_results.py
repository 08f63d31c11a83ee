"""Tables out of what runs left behind: every figure against a hand-made evaluation."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradprom.experiments.groups import groups_of
from gradprom.experiments.plan import Grid, Plan, PlannedRun, expand, shipped_plans
from gradprom.experiments.records import RUNS, summarise
from gradprom.experiments.results import RESULTS, TABLES, results_of, write
from gradprom.experiments.tables import COLUMNS, Result, read_results

IMAGES = [f"i{number}" for number in range(8)]
Measure = Callable[[PlannedRun], dict[str, float]]


def make_plan(**axes: tuple[object, ...]) -> Plan:
    grid = {"strategy": ("enhancer_only", "gradprom", "joint"), "auxiliary": ("segmentation",), **axes}
    base = {"dataset": {"name": "isic2018", "root": "."}, "segmentation": {"encoder": "resnet18"}}
    return Plan("table2", "A table", "table2", base, {}, (Grid(grid),))


def leave(
    directory: Path, run: PlannedRun, psnr: float, *, iou: float = 0.5, on: str | None = None, groups_of_images: int = 1
) -> None:
    """What training and measuring leave: image number n has n / 10 dB more than the mean of them."""
    folder = directory / RUNS / run.name / (f"on-{on}" if on else "")
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.arange(len(IMAGES)) / 10
    offsets -= offsets.mean()
    with (folder / "evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "id", "psnr", "ssim", "iou", "group", "independent_matrix"])
        for number, (name, offset) in enumerate(zip(IMAGES, offsets, strict=True)):
            group = f"p{number // groups_of_images}" if groups_of_images > 1 else ""
            writer.writerow(["input", name, 20.0, 0.4, "", group, ""])
            # of 100 pixels half are of each class, and of each class the share iou is read correctly
            right = round(50 * iou)
            matrix = f"{right} {50 - right} {50 - right} {right}"
            writer.writerow(["enhanced", name, psnr + offset, 0.9, iou, group, matrix])
    enhanced = {"images": 8, "psnr": psnr, "ssim": 0.9, "miou": iou, "independent_miou": iou / 2}
    summary = {"enhanced": enhanced}
    if run.axes["strategy"] == "enhancer_only":
        summary["enhanced"] = enhanced | {"miou": None}
        summary = {"input": {"images": 8, "psnr": 20.0, "ssim": 0.4, "independent_miou": 0.1}} | summary
        summary |= {"clean": {"images": 8, "psnr": None, "ssim": None, "independent_miou": 0.8}}
    elif run.axes["strategy"] == "recognizer_only":
        summary = {"input": enhanced}
    (folder / "evaluation.json").write_text(json.dumps({"summary": summary}))


def begin(directory: Path, run: PlannedRun, digest: str) -> None:
    (directory / RUNS / run.name / "measured.json").write_text(json.dumps({"reader": None, "begun_from": digest}))


def differences_in(directory: Path) -> list[dict[str, str]]:
    with (directory / TABLES / "table2-differences.csv").open() as file:
        return list(csv.DictReader(file))


def by_method(results: list[Result], **values: object) -> dict[str, Result]:
    chosen = [r for r in results if all(getattr(r, name) == value for name, value in values.items())]
    assert len({r.method for r in chosen}) == len(chosen)
    return {result.method: result for result in chosen}


def test_runs_that_began_from_other_enhancers_are_not_compared(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), seed=(0, 1))
    psnr = {"enhancer_only": 30.0, "gradprom": 31.0, "joint": 29.0}
    for run in expand(plan):
        leave(tmp_path, run, psnr[run.axes["strategy"]] + run.axes["seed"])
        # of seed 0 joint was trained on another machine, of seed 1 the enhancer alone
        strategy = ("joint", "enhancer_only")[run.axes["seed"]]
        begin(tmp_path, run, "another" if run.axes["strategy"] == strategy else "one")
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert results["gradprom"].psnr == pytest.approx(31.5)
    rows = {row["less"]: row for row in differences_in(tmp_path) if row["measure"] == "psnr"}
    assert {less: (row["seeds"], row["difference"]) for less, row in rows.items()} == {
        "enhancer_only": ("1", "1"),
        "joint": ("1", "2"),
    }
    for run in expand(plan):
        begin(tmp_path, run, run.axes["strategy"])
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert not differences_in(tmp_path)
    assert results["gradprom"].difference is None


def test_cells_are_means_over_seeds_with_the_papers_beside(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), seed=(0, 1, 2))
    psnr = {"enhancer_only": 30.0, "gradprom": 31.0, "joint": 29.0}
    for run in expand(plan):
        leave(tmp_path, run, psnr[run.axes["strategy"]] + run.axes["seed"])
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert set(results) == {"input", "clean", *psnr}
    assert (results["clean"].psnr, results["clean"].independent_recognition) == (None, 0.8)  # no reading is better
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
    assert results["gradprom"].paper_recognition == 0.895
    assert (results["enhancer_only"].auxiliary, results["gradprom"].auxiliary) == ("none", "segmentation")
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
    # what was measured is taken away, and with it the plan's tables: of others that begin alike nothing
    other = tmp_path / TABLES / "table2b.csv"
    other.write_text("another plan's")
    shutil.rmtree(tmp_path / RUNS)
    write(tmp_path, [plan], "laptop", None)
    assert list((tmp_path / TABLES).iterdir()) == [other]


def test_differences_are_taken_between_runs_that_differ_in_nothing_else(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), weight=(1e-4, 1.0), gate=("hard", "cone 0.5"))
    for run in expand(plan):
        loss = {None: 0.0, 1e-4: 0.0, 1.0: 2.0}[run.axes["weight"]]
        gain = 1.0 if run.axes["gate"] == "cone 0.5" else 0.0
        leave(tmp_path, run, 30.0 - loss + gain, iou=0.5 + gain / 10)
    write(tmp_path, [plan], "laptop", None)
    rows = differences_in(tmp_path)
    found = {
        (row["method"], row["less"], float(row["weight"]), row["measure"]): float(row["difference"]) for row in rows
    }
    assert found["gradprom", "enhancer_only", 1.0, "psnr"] == pytest.approx(-2.0)
    assert found["gradprom cone 0.5", "enhancer_only", 1.0, "psnr"] == pytest.approx(-1.0)
    assert found["gradprom", "joint", 1.0, "psnr"] == pytest.approx(0.0)
    assert found["gradprom cone 0.5", "gradprom", 1e-4, "psnr"] == pytest.approx(1.0)
    assert found["gradprom cone 0.5", "joint cone 0.5", 1e-4, "psnr"] == pytest.approx(0.0)
    # pooled: 25 of 50 + 25 right and 30 of 50 + 20 right of each class
    assert found["gradprom cone 0.5", "gradprom", 1e-4, "independent_miou"] == pytest.approx(30 / 70 - 25 / 75)
    # another weight is another thing, and it is gradprom that is judged
    assert all(row["method"].startswith("gradprom") for row in rows)
    verdicts = {row["verdict"] for row in rows if float(row["difference"]) < 0}
    assert verdicts == {"worse"}


def test_several_weights_give_a_picture_of_the_trade_off(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.2",), weight=(1e-4, 1e-2, 1.0))
    for run in expand(plan):
        leave(tmp_path, run, 30.0 - (run.axes["weight"] or 0), iou=0.4 + (run.axes["weight"] or 0) / 10)
    write(tmp_path, [plan], "laptop", None)
    (picture,) = (tmp_path / TABLES).glob("*.png")
    assert picture.name == "tradeoff-isic2018-0.2-segmentation-supervised.png"
    with picture.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["weight"]) for row in rows] == [
        ("enhancer_only", ""),
        *((strategy, weight) for strategy in ("gradprom", "joint") for weight in ("0.0001", "0.01", "1")),
    ]


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


def test_a_diverged_run_is_shown_and_not_compared(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",))
    for run in expand(plan):
        leave(tmp_path, run, float("nan") if run.axes["strategy"] == "joint" else 30.0)
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert results["joint"].psnr != results["joint"].psnr
    assert results["joint"].difference is None
    assert results["gradprom"].difference is not None
    rows = differences_in(tmp_path)
    assert {row["less"] for row in rows if row["measure"] == "psnr"} == {"enhancer_only"}


def test_images_of_one_patient_count_once(tmp_path: Path) -> None:
    plan = make_plan(strategy=("enhancer_only", "gradprom"), degradation=("gaussian 0.1",))
    for run in expand(plan):
        leave(tmp_path, run, 31.0 if run.axes["strategy"] == "gradprom" else 30.0, groups_of_images=4)
    difference = by_method(write(tmp_path, [plan], "laptop", None))["gradprom"].difference
    assert difference is not None
    assert difference.mean == pytest.approx(1.0)
    assert (difference.n, difference.low) == (2, None)  # two patients: too few for an interval


def test_seeds_that_lie_apart_leave_no_difference_told(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), seed=(0, 1, 2))
    gains = {"gradprom": (1.0, 1.1, 0.9), "joint": (1.0, -1.0, 0.6), "enhancer_only": (0.0, 0.0, 0.0)}
    for run in expand(plan):
        gain = gains[run.axes["strategy"]][run.axes["seed"]]
        leave(tmp_path, run, 30.0 + gain, iou=0.5 + gain / 10)
    write(tmp_path, [plan], "laptop", None)
    rows = {(row["less"], row["measure"]): row for row in differences_in(tmp_path)}
    alone = rows["enhancer_only", "psnr"]
    half = 4.303 * 0.1 / 3**0.5  # every image of a seed differs by the same, so that only Student's is left
    assert [float(alone[end]) for end in ("low", "difference", "high")] == pytest.approx([1 - half, 1, 1 + half], 1e-3)
    assert alone["verdict"] == rows["enhancer_only", "independent_miou"]["verdict"] == "better"
    assert rows["joint", "psnr"]["verdict"] == rows["joint", "independent_miou"]["verdict"] == "no difference told"


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), seed=(0, 1, 2))
    for run in expand(plan):
        if run.axes["strategy"] != "enhancer_only" or run.axes["seed"] == 0:
            leave(tmp_path, run, 30.0 + run.axes["seed"])
    results = by_method(write(tmp_path, [plan], "laptop", None))
    assert results["gradprom"].psnr == pytest.approx(31.0)
    assert results["gradprom"].difference is not None
    assert results["gradprom"].difference.mean == pytest.approx(0.0)  # of seed 0 alone
    rows = differences_in(tmp_path)
    assert {(row["less"], row["seeds"]) for row in rows} == {("enhancer_only", "1"), ("joint", "3")}


def test_values_of_every_axis_have_rows_of_their_own(tmp_path: Path) -> None:
    plan = make_plan(
        strategy=("gradprom",),
        degradation=("gaussian 0.1",),
        recognizer=("resnet18", "resnet34"),
        gate=("hard", "soft", "always"),
        enhancer=("unet", "residual_unet"),
    )
    runs = expand(plan)
    for run in runs:
        leave(tmp_path, run, 30.0)
    results = write(tmp_path, [plan], "laptop", None)
    assert len(results) == len(runs) == 12
    assert {result.method for result in results} == {"gradprom", "gradprom soft", "gradprom always"}


def test_a_plan_of_two_tasks_shows_what_each_reader_read_of_the_enhancer_alone(tmp_path: Path) -> None:
    plan = make_plan(degradation=("gaussian 0.1",), auxiliary=("diagnosis", "segmentation"))
    plan = replace(plan, base=plan.base | {"diagnosis": {"encoder": "resnet18"}, "training": {"view": "whole"}})
    for run in expand(plan):
        leave(tmp_path, run, 30.0)
        path = tmp_path / RUNS / run.name / "evaluation.json"
        summary = json.loads(path.read_text())["summary"]
        summary["enhanced"]["independent_accuracy"] = 0.7
        path.write_text(json.dumps({"summary": summary}))
    alone = [result for result in write(tmp_path, [plan], "laptop", None) if result.method == "enhancer_only"]
    assert {row.auxiliary: row.independent_recognition for row in alone} == {"diagnosis": 0.7, "segmentation": 0.25}


def test_our_best_stands_beside_the_papers(tmp_path: Path) -> None:
    plan = replace(make_plan(degradation=("gaussian 0.1",)), name="table5", paper="table5")
    psnr = {"enhancer_only": 36.0, "gradprom": 36.2, "joint": 35.0}
    for run in expand(plan):
        leave(tmp_path, run, psnr[run.axes["strategy"]])
    write(tmp_path, [plan], "laptop", None)
    assert "| 5 | isic2018 | 0.1 | 36.200 (gradprom) | 36.173 | +0.027 |" in (tmp_path / "claims.md").read_text()


def test_every_row_of_all_shipped_plans_can_be_told_apart(tmp_path: Path) -> None:
    results = []
    for plan in shipped_plans():
        runs = expand(plan, data=tmp_path)
        for run in runs:
            for on in (None, *run.test_on):
                leave(tmp_path, run, 30.0, on=on)
        results += results_of(plan, groups_of(plan, summarise(tmp_path, runs)))
    words = [tuple(getattr(r, name) for name in COLUMNS[: COLUMNS.index("psnr")]) for r in results]
    assert len(set(words)) == len(words) > 200
