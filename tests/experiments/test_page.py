"""The report page of runs, from what lies in their folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gradprom.errors import UserError
from gradprom.experiments.evaluate import evaluate_run
from gradprom.experiments.page import report

Trained = Callable[[str], Path]


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def test_two_runs_side_by_side(trained: Trained, tmp_path: Path) -> None:
    runs = [copied(trained(strategy), tmp_path) for strategy in ("enhancer_only", "gradprom")]
    for run in runs:
        evaluate_run(run, baselines=False)
    text = report(runs, tmp_path / "report.html", notes=["one < two"]).read_text(encoding="utf-8")
    assert "<title>gradprom: enhancer_only, gradprom</title>" in text
    assert "one &lt; two" in text
    assert text.count("<table>") == 1
    assert len(re.findall(r"<figcaption>(?:before|after), \d+\.\d\d dB", text)) == 4
    assert "Pretraining of the recognizer on clean images" in text
    assert "segmentation: promoted in" in text  # of gradprom's steps
    assert "strategy: enhancer_only" in text
    assert not re.search(r"(?:src|href)=['\"](?!data:)", text)  # self-contained


def test_a_run_without_enhancer_and_one_that_was_not_evaluated(trained: Trained, tmp_path: Path) -> None:
    text = report([trained("recognizer_only")], tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "strategy: recognizer_only" in text
    assert "<table>" not in text
    assert "before," not in text


def test_damage_is_named(trained: Trained, tmp_path: Path) -> None:
    run = copied(trained("gradprom"), tmp_path)
    for text in ("", "[]", "{}"):  # nothing was written, so no page is in the way
        (run / "evaluation.json").write_text(text)
        with pytest.raises(UserError, match=r"evaluation\.json: is damaged, run gradprom evaluate"):
            report([run], tmp_path / "report.html")
    with pytest.raises(UserError, match="is not a run folder"):
        report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
