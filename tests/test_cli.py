"""The command line: words to calls, and exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradprom
from gradprom import cli
from gradprom.inference.files import Enhanced
from gradprom.training.run import train as train_run

COMMANDS = ("data", "experiment", "demo", "train", "evaluate", "enhance", "models", "export", "serve", "report")
Options = Callable[..., list[str]]
Trained = Callable[[str], Path]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: gradprom {command}".strip() in text
    for expected in COMMANDS if not command else ["--help"]:
        assert expected in text


@pytest.mark.parametrize("command", ["", *COMMANDS, "data list", "data check"])
def test_every_help_fits_a_screen(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(max(1, -(-len(line) // 80)) for line in lines) <= 40


@pytest.mark.parametrize("low", ["-1e3", "-1.0E+3", "-1000", "-1000."])
def test_a_window_may_be_written_as_any_number(low: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def enhance_files(*_: object, **options: object) -> Enhanced:
        given.update(options)
        return Enhanced(())

    monkeypatch.setattr("gradprom.inference.files.enhance_files", enhance_files)
    monkeypatch.setattr("gradprom.inference.load.load", lambda *_, **__: None)
    assert cli.main(["enhance", "run", "a.nii", "-o", str(tmp_path), "--window", low, "4e2"]) == 0
    assert given["window"] == (-1000.0, 400.0)


def test_every_option_of_a_run_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help-all"])
    text = capsys.readouterr().out
    for option in ("--degradation", "--promotion.max_ratio", "--training.warmup.steps", "--segmentation.help"):
        assert option in text
    assert '"gaussian SIGMA", "poisson RATE"' in " ".join(text.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gradprom {gradprom.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["nonsense"], ["enhance"], ["enhance", "run", "in"], ["evaluate", "run", "--limit", "0"], ["report"]],
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: gradprom" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "train needs a folder for the run: give -o RUN"),
        (["--resume", "run", "--training.seed", "3"], "--resume goes on with a run as it was configured"),
        (["-o", "run", "--nonsense", "3"], "unrecognized arguments: --nonsense"),
        (["-o", "run", "--config", "missing.yaml"], "File does not exist"),
        (["-o", "run", "--training.seed", "x"], "training.seed: expected a whole number, found x"),
        (["--resume", "missing"], "missing: is not a run folder"),
    ],
)
def test_wrong_words_for_train(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradprom: ")
    assert error.count("\n") == 1
    assert sentence in error


def test_a_run_from_training_to_the_page(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text("strategy: enhancer_only\ndegradation: gaussian 0.2\n")
    words = options({"segmentation.encoder": None, "training.warmup.steps": 3})
    assert cli.main(["train", "--config", str(config), *words, "-o", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}\n"
    assert gradprom.parse(run / "config.yaml").degradation == "gaussian 0.2"
    assert cli.main(["train", "--config", str(config), *words, "-o", str(run)]) == 2
    assert cli.main(["train", "--config", str(config), *words, "-o", str(run), "--overwrite"]) == 0
    assert cli.main(["train", "--resume", str(run)]) == 0
    capsys.readouterr()

    assert cli.main(["evaluate", str(run), "--no-baselines", "--limit", "1"]) == 2
    capsys.readouterr()
    part = str(tmp_path / "part")
    assert cli.main(["evaluate", str(run), "--no-baselines", "--limit", "1", "-o", part]) == 0
    assert "PSNR" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "part" / "evaluation.json").read_text())["summary"]) == ["enhanced"]
    assert not (run / "evaluation.json").exists()

    noisy = tmp_path / "noisy"
    noisy.mkdir()
    Image.fromarray(np.full((9, 7), 99, np.uint8)).save(noisy / "a.png")
    (noisy / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    assert cli.main(["enhance", str(run), str(noisy), "-o", str(out)]) == 0
    assert capsys.readouterr().out == "1 enhanced, 0 existed already, 1 other file passed over\n"
    assert cli.main(["enhance", str(run), str(noisy), "-o", str(out)]) == 2
    assert cli.main(["enhance", str(run), str(noisy), "-o", str(out), "--skip-existing"]) == 0
    capsys.readouterr()

    page = tmp_path / "page.html"
    assert cli.main(["report", str(run), "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.exists()
    assert cli.main(["report", str(run), "-o", str(page)]) == 2
    assert cli.main(["report", str(run), "-o", str(page), "--overwrite"]) == 0


def test_the_list_of_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, listed = tmp_path / "noisy, and more", tmp_path / "failed.csv"
    noisy.mkdir()
    words = ["enhance", "brain-mr", str(noisy), "--failed", str(listed)]
    for number in range(5):
        (noisy / f"{number}.png").touch()
    assert cli.main([*words, "-o", str(tmp_path / "none")]) == 2
    Image.fromarray(np.full((9, 7), 99, np.uint8)).save(noisy / "a.png")
    assert cli.main([*words, "-o", str(tmp_path / "some")]) == 1
    assert "and 2 more: " in capsys.readouterr().err
    with listed.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "reason"]
    assert [Path(path) for path, _ in rows] == [noisy / f"{number}.png" for number in range(5)]
    assert {reason[:20] for _, reason in rows} == {"expected a PNG, JPEG"}

    for number in range(5):
        (noisy / f"{number}.png").unlink()
    assert cli.main([*words, "-o", str(tmp_path / "all")]) == 0
    assert listed.read_text() == "file,reason\n"

    listed.write_text("my only copy")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for path, sentence in (
        (listed, "expected an earlier list of what failed, found another file"),
        (tmp_path / "pipe.csv", "found a folder, a pipe or a device"),
        (tmp_path / "folder.csv", "found a folder, a pipe or a device"),
        (tmp_path / "other" / "a.png", "expected a name for the list that ends in .csv"),
        (tmp_path / "other" / "recognition.csv", "and is not recognition.csv"),
        (noisy / "a.png" / "list.csv", "a.png takes no files"),
    ):
        assert cli.main([*words[:3], "--failed", str(path), "-o", str(tmp_path / "other")]) == 2
        assert sentence in capsys.readouterr().err
    assert listed.read_text() == "my only copy"
    assert not (tmp_path / "other").exists()


def test_a_list_that_cannot_be_written_hides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((9, 7), 99, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    words = ["enhance", "brain-mr", *images, "--failed", "/proc/list.csv", "-o", str(tmp_path / "out")]
    assert cli.main(words) == 1
    first, second, third = capsys.readouterr().err.splitlines()[-3:]
    assert "1 of 2 images could not be enhanced" in first
    assert "b.png: expected" in second
    assert third.startswith("/proc/list.csv: ")
    assert cli.main([word for word in words if "b.png" not in word] + ["--overwrite"]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("1 enhanced")
    assert "/proc/list.csv: " in captured.err


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (folder / name).write_text("no image")
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    listed = tmp_path / "failed.csv"
    assert cli.main(["enhance", "brain-mr", str(folder), "--failed", str(listed), "-o", str(tmp_path / "out")]) == 2
    assert listed.read_bytes().startswith(b'file,reason\n"' + os.fsencode(folder / name) + b'","')


def test_demo_says_where_its_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "gradprom.experiments.demo.demo", lambda output, overwrite: Path(output) / f"report-{overwrite}.html"
    )
    assert cli.main(["demo", "-o", str(tmp_path), "--overwrite"]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'report-True.html'}\n"


def test_an_interrupt_says_how_to_go_on(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradprom.training.run.train", interrupted)
    assert train_run is not interrupted
    assert cli.main(["train", *options(), "-o", str(tmp_path / "run")]) == 130
    assert "--resume RUN" in capsys.readouterr().err


def test_the_system_s_refusal_is_a_sentence(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("joint")
    capsys.readouterr()
    assert cli.main(["report", str(run), "-o", "/dev/null/report.html"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradprom: /dev/null")
    assert error.count("\n") == 1


def test_words_alone_import_nothing_heavy() -> None:
    words = [["--help"], ["train"], ["data", "check", "--help"], *([command, "--help"] for command in COMMANDS)]
    code = (
        "import sys, gradprom.cli\n"
        f"for words in {words}:\n"
        "    try: gradprom.cli.main(words)\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'PIL', 'rich', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
