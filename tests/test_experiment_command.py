"""``gradprom experiment``: its words, its exit codes and what it prints."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradprom import _experiment_command
from gradprom.errors import PartialFailureError, UserError
from gradprom.experiments.engine import Failure
from gradprom.experiments.plan import Plan

PLAN = """
title: Small
base:
  segmentation: {encoder: test_resnet}
  training: {warmup: {steps: 100}, pretrain: {steps: 20}, cascade: {steps: 3}}
axes:
  strategy: [enhancer_only, gradprom]
  seed: [0]
"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gradprom")
    _experiment_command.add_experiment_command(parser.add_subparsers(required=True))
    return parser.parse_args(["experiment", *words])


def run(*words: object) -> int:
    options = parse([str(word) for word in words])
    code: int = options.run(options)
    return code


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been done: an experiment, and its tables."""
    calls: list[dict[str, Any]] = []

    def run_experiment(plans: Sequence[Plan], directory: Path, **options: Any) -> list[Failure]:
        calls.append({"plans": plans, "directory": directory, **options})
        return []

    def write_results(directory: Path, plans: Sequence[Plan], scale: str, data: Path | None) -> bool:
        calls.append({"tables": directory, "plans": plans, "scale": scale, "data": data})
        return True

    monkeypatch.delenv("GRADPROM_DATA", raising=False)
    monkeypatch.setattr("gradprom.experiments.engine.run_experiment", run_experiment)
    monkeypatch.setattr(_experiment_command, "write_results", write_results)
    return calls


def test_words_become_calls(
    plan: Path, tmp_path: Path, called: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(plan, "-o", out, "--scale", "paper", "--data", "data", "--workers", 3, "--seeds", 4, 5) == 0
    assert capsys.readouterr().out == f"{out}\n"
    experiment, tables = called
    (read,) = experiment["plans"]
    assert (read.title, read.grids[0].axes["seed"]) == ("Small", (4, 5))
    assert (experiment["directory"], experiment["workers"]) == (out, 3)
    assert (tables["tables"], tables["plans"]) == (out, [read])
    for call in called:
        assert (call["scale"], call["data"]) == ("paper", Path("data"))


def test_defaults(plan: Path, called: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(plan, "-o", "out") == 0
    assert (called[0]["scale"], called[0]["workers"], called[0]["data"]) == ("laptop", 1, None)
    assert called[0]["plans"][0].grids[0].axes["seed"] == (0,)
    monkeypatch.setenv("GRADPROM_DATA", "from/environment")
    assert run(plan, "-o", "out", "--tables-only") == 0
    assert called[2]["data"] == Path("from/environment")
    assert "tables" in called[2]
    assert len(called) == 3


def test_where_nothing_is_measured_there_are_no_tables(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out: holds no measured run of small: .* leave out --tables-only"):
        run(plan, "-o", tmp_path / "out", "--tables-only", "--data", tmp_path)
    assert not (tmp_path / "out").exists()


def test_failures_are_listed_and_the_rest_has_its_tables(
    plan: Path, called: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = Failure("run-1", "image.png: is not an image", Path("out/logs/run-1.txt"))
    monkeypatch.setattr("gradprom.experiments.engine.run_experiment", lambda *_, **__: [failure])
    with pytest.raises(PartialFailureError, match=r"^1 runs failed, .* the same command tries them again") as raised:
        run(plan, "-o", "out")
    assert raised.value.exit_code == 1
    assert capsys.readouterr().err == "run-1: image.png: is not an image\n"
    assert [next(iter(call)) for call in called] == ["tables"]


def test_an_interrupt_says_how_to_go_on(
    plan: Path, called: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradprom.experiments.engine.run_experiment", interrupted)
    assert run(plan, "-o", "out") == 130
    assert "interrupted; the same command goes on with out" in capsys.readouterr().err
    assert called == []


def test_a_dry_run_lists_runs_and_steps_and_does_nothing(
    plan: Path, tmp_path: Path, called: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(plan, "-o", out, "--dry-run", "--seeds", 0, 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[:4]] == [
        [steps, "steps", "to", "do"] for steps in ("103", "103", "123", "123")
    ]
    assert "enhancer_only-s0-" in lines[0]
    # two seeds of a warm-up, a pretraining, and the cascades of both strategies
    assert lines[4].startswith("4 runs, 4 to do, in 252 steps of training")
    assert not out.exists()
    assert called == []


def test_a_dry_run_needs_no_images(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(PLAN + "  dataset: [camus]\n")
    assert run(plan, "-o", tmp_path / "out", "--dry-run") == 0
    assert "camus-gaussian0.1-gradprom-seg-sup-w1e-4-s0-" in capsys.readouterr().out


def test_the_shipped_plans_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gradprom.experiments._plan_file.SHIPPED", tmp_path)
    for name in ("second", "a"):
        (tmp_path / f"{name}.yaml").write_text(f"title: The plan {name}")
    assert run("--list") == 0
    assert capsys.readouterr().out == "a       The plan a\nsecond  The plan second\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "experiment needs a plan and a folder: give PLAN -o FOLDER"),
        (["{plan}"], "experiment needs a plan and a folder"),
        (["-o", "out"], "experiment needs a plan and a folder"),
        (["missing", "-o", "out"], "missing: no such plan"),
        (["{plan}", "{plan}", "-o", "out"], "another of the plans is named small too"),
    ],
)
def test_mistakes(plan: Path, called: list[dict[str, Any]], words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        run(*(word.format(plan=plan) for word in words))
    assert called == []


@pytest.mark.parametrize(
    "words", [["--workers", "0"], ["--workers", "many"], ["--seeds", "-1"], ["--seeds"], ["--scale", "desktop"]]
)
def test_wrong_words(plan: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([str(plan), "-o", "out", *words])
    assert ended.value.code == 2
    assert "usage: gradprom experiment" in capsys.readouterr().err


def test_planning_imports_no_torch(plan: Path, tmp_path: Path) -> None:
    code = (
        "import argparse, sys\n"
        "from gradprom import _experiment_command\n"
        "parser = argparse.ArgumentParser()\n"
        "_experiment_command.add_experiment_command(parser.add_subparsers())\n"
        f"options = parser.parse_args(['experiment', {str(plan)!r}, '-o', {str(tmp_path / 'out')!r}, '--dry-run'])\n"
        "print(options.run(options), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
