"""Planes of image quality and independent recognition, against hand-made measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradprom.experiments.groups import Group, groups_of
from gradprom.experiments.plan import Grid, Plan, PlannedRun, expand
from gradprom.experiments.planes import plane_markdown, planes_of
from gradprom.experiments.records import RUNS, summarise


def make_plan(**axes: tuple[object, ...]) -> Plan:
    grid = {"strategy": ("enhancer_only", "gradprom", "joint"), "auxiliary": ("segmentation",), **axes}
    base = {"dataset": {"name": "isic2018", "root": "."}, "segmentation": {"encoder": "resnet18"}}
    return Plan("sweep", "A sweep", None, base, {}, (Grid({"degradation": ("gaussian 0.2",), **grid}),))


def leave(directory: Path, run: PlannedRun, psnr: float, right: int = 25) -> None:
    """What measuring leaves of 8 images, each with ``right`` of the 50 pixels of either class read correctly."""
    folder = directory / RUNS / run.name
    folder.mkdir(parents=True)
    wrong = 50 - right
    lines = [f"enhanced,i{number},{psnr},{right} {wrong} {wrong} {right}" for number in range(8)]
    (folder / "evaluation.csv").write_text("\n".join(["method,id,psnr,independent_matrix", *lines]) + "\n")
    enhanced = {"images": 8, "psnr": psnr, "independent_miou": right / (right + 2 * wrong)}
    (folder / "evaluation.json").write_text(json.dumps({"summary": {"enhanced": enhanced}}))


def groups_in(directory: Path, plan: Plan) -> list[Group]:
    return groups_of(plan, summarise(directory, expand(plan)))


def test_the_points_of_a_plane_are_of_the_same_seeds(tmp_path: Path) -> None:
    plan = make_plan(weight=(1e-4, 1e-2, 1.0), seed=(0, 1))
    for run in expand(plan):
        # of joint at one weight, and of gradprom at another, a seed is not run yet
        missing = {("joint", 1.0): 1, ("gradprom", 1e-2): 0}.get((run.axes["strategy"], run.axes["weight"]))
        if run.axes["seed"] != missing:
            leave(tmp_path, run, 30.0 + 2 * run.axes["seed"])
    (plane,) = planes_of(groups_in(tmp_path, plan))
    assert {point.psnr for point in plane.points} == {31.0}
    shown = {(point.strategy, point.weight) for point in plane.points}
    assert shown == {("enhancer_only", None), *((s, w) for s in ("gradprom", "joint") for w in (1e-4, 1e-2, 1.0))} - {
        ("joint", 1.0),
        ("gradprom", 1e-2),
    }


def test_rows_say_how_far_a_point_lies_from_the_enhancer_alone_and_what_can_be_told(tmp_path: Path) -> None:
    plan = make_plan(weight=(1e-4, 1e-2, 1.0), gate=("hard", "cone 0.5"), seed=(0, 1, 2))
    gains = {  # of each seed, in dB, and of the reader
        ("gradprom", 1e-4, "hard"): ((0.5, 0.5, 0.5), 5),  # better in both
        ("gradprom", 1e-2, "hard"): ((1.0, -1.0, 0.3), 0),  # trainings differ
        ("joint", 1.0, None): ((-2.0, -2.0, -2.0), 0),
    }
    for run in expand(plan):
        key = (run.axes["strategy"], run.axes["weight"], run.axes["gate"])
        gain, read = gains.get(key, ((0.0,) * 3, 0))
        leave(tmp_path, run, 30.0 + gain[run.axes["seed"]], 25 + read)
    (plane,) = planes_of(groups_in(tmp_path, plan))
    rows = {(row["method"], row["weight"], row["max_ratio"]): row for row in plane.rows()}
    alone, better, unsure, worse, cone = (
        rows[key]
        for key in [
            ("enhancer_only", "", ""),
            ("gradprom", "0.0001", ""),
            ("gradprom", "0.01", ""),
            ("joint", "1", ""),
            ("gradprom", "1", "0.5"),
        ]
    )
    assert (alone["psnr"], alone["psnr_difference"], alone["psnr_verdict"]) == ("30", "", "")
    assert better["psnr_difference"] == "0.5"
    assert (better["psnr_verdict"], better["recognition_verdict"]) == ("better", "better")
    assert float(better["recognition_difference"]) == pytest.approx(30 / 70 - 25 / 75, abs=1e-6)
    assert (unsure["psnr_difference"], unsure["psnr_verdict"]) == ("0.1", "no difference told")
    assert (worse["psnr_difference"], worse["psnr_verdict"]) == ("-2", "worse")
    assert (cone["psnr_difference"], cone["seeds"]) == ("0", "3")
    assert {key for key, row in rows.items() if row["front"] == "yes"} == {("gradprom", "0.0001", "")}
    assert plane.title.endswith(", 3 trainings")
    lines = plane_markdown(plane.rows()).splitlines()
    assert "| gradprom | 0.0001 |  | 30.500 | **+0.5000 [+0.5000, +0.5000]** | 0.4286 | **+0.0952 [" in lines[3]
    assert "| gradprom | 0.01 |  | 30.100 | +0.1000 [" in lines[4]


def test_without_the_enhancer_alone_there_are_points_and_no_differences(tmp_path: Path) -> None:
    plan = make_plan(weight=(1e-4, 1e-2, 1.0))
    runs = [run for run in expand(plan) if run.axes["strategy"] != "enhancer_only"]
    for run in runs:
        leave(tmp_path, run, 30.0)
    (plane,) = planes_of(groups_in(tmp_path, plan))
    assert len(plane.points) == len(runs) == 6
    assert {row["psnr_difference"] for row in plane.rows()} == {""}
    assert all(point.psnr_bar is None for point in plane.points)
    assert plane.title.endswith(", one training")


def test_two_weights_make_no_plane(tmp_path: Path) -> None:
    plan = make_plan(weight=(1e-4, 1e-2))
    for run in expand(plan):
        leave(tmp_path, run, 30.0)
    assert planes_of(groups_in(tmp_path, plan)) == []
