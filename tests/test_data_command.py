"""``gradprom data``: what is printed, written and answered."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom._data_command import add_data_command
from gradprom.datasets import DATASET_NAMES
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The exit code of ``gradprom data WORDS`` and what it prints, at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run_words(*words: object) -> tuple[int, str]:
        parser = argparse.ArgumentParser(prog="gradprom")
        add_data_command(parser.add_subparsers(required=True))
        options = parser.parse_args(["data", *map(str, words)])
        code = options.run(options)
        return code, capsys.readouterr().out

    return run_words


def broken(name: str) -> Sample:
    def read() -> np.ndarray:
        raise UserError(f"{name}.png: broken")

    return Sample(name, read)


def whole(name: str) -> Sample:
    pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (20, 20, 1), dtype=np.uint8)
    return Sample(name, lambda: pixels)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[Sample]], None]:
    """Let a dataset's name stand for samples of the test's own, the last of which is tested on."""

    def stand_for(name: str, samples: list[Sample]) -> None:
        dataset = Dataset(name, 1, tuple(samples[:-1]), tuple(samples[-1:]))
        monkeypatch.setattr("gradprom.datasets.load_dataset", lambda *_, **__: dataset)

    return stand_for


def test_the_list_fits_80_columns_and_breaks_no_address(run: Run) -> None:
    code, out = run("list")
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line[:1].isalpha()} >= set(DATASET_NAMES)
    words = set(re.split(r"[\s;]+", out))
    for about in ABOUT.values():
        assert about.where in out
        assert set(re.split(r"[\s;]+", about.cite)) <= words | {""}


def test_a_whole_folder(run: Run, own_images: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.csv"
    code, out = run("check", "folder", own_images, "--test-fraction", "0.25", "--write-split", split)
    assert code == 0
    rows = {line.split(",")[0]: line.split(",")[1] for line in split.read_text().splitlines()[1:]}
    assert sorted(rows) == [f"i{index:02d}" for index in range(12)]
    tested = [name for name, part in rows.items() if part == "test"]
    assert len(tested) == 3
    assert re.search(r"^images +9 +3 *$", out, re.MULTILINE)
    # the labels are a and b in turn
    dark = sum(int(name[1:]) % 2 == 0 for name in tested)
    assert re.search(rf"^class a +{6 - dark} +{dark} *$", out, re.MULTILINE)
    masks = {name: np.asarray(Image.open(own_images / "masks" / f"{name}.png")) == 255 for name in rows}
    shares = [100 * np.mean([masks[name] for name in rows if rows[name] == part]) for part in ("train", "test")]
    assert re.search(rf"^mask foreground +{shares[0]:.2f} % +{shares[1]:.2f} %$", out, re.MULTILINE)
    assert "sizes: 48 to 48 pixels wide, 40 to 40 high\nimages: 12 grey, 0 colour, used as grey; 12 of 8 bits\n" in out
    assert f"12 of 12 images read, 12 whole, no problems, no warnings\nsplit written to {split}\n" in out


def test_a_split_that_was_written_is_taken(run: Run, own_images: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert run("check", "folder", own_images, "--split-seed", "5", "--write-split", first)[0] == 0
    assert run("check", "folder", own_images, "--split", first, "--write-split", second)[0] == 0
    assert first.read_bytes() == second.read_bytes()


def test_a_split_does_not_replace_another_unasked(run: Run, own_images: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.csv"
    split.write_text("dear to someone")
    words = ("check", "folder", own_images, "--write-split", split)
    with pytest.raises(UserError, match="exists already"):
        run(*words)
    assert split.read_text() == "dear to someone"
    assert run(*words, "--overwrite")[0] == 0
    assert split.read_text().startswith("id,part")


def test_the_embedded_dataset_needs_no_root(run: Run) -> None:
    code, out = run("check", "brain_mr", "--quick")
    assert code == 0
    assert "brain_mr: 103 images, as many as the published set has" in out
    read = re.search(r"(\d+) of 103 images read", out)
    assert read is not None
    assert 8 <= int(read[1]) <= 16


def test_some_broken_files(run: Run, load: Callable[[str, list[Sample]], None]) -> None:
    load("isic2018", [whole("a"), *(broken(f"b{index:02d}") for index in range(24)), whole("c")])
    code, out = run("check", "isic2018", "somewhere")
    assert code == 1
    assert "isic2018: 26 images; the published set has 2594: a subset" in out
    assert re.findall(r"^problem: b(\d\d)\.png: broken$", out, re.MULTILINE) == [f"{i:02d}" for i in range(20)]
    assert "\nproblem: and 4 more\n2 of 26 images read, 2 whole, 24 problems, no warnings: mend" in out


def test_missing_files_are_listed_up_to_twenty(run: Run, own_images: Path) -> None:
    masks = sorted((own_images / "masks").iterdir())
    for path in masks[1:4]:
        path.unlink()
    code, out = run("check", "folder", own_images)
    assert code == 1
    assert out.startswith("folder: 9 images with all their files, 3 without\n")
    assert re.findall(r"^missing: (.*)$", out, re.MULTILINE) == [str(path) for path in masks[1:4]]
    assert "problem: expected all files of each image, found 3 of 12 images incomplete (files missing: 3): get" in out
    assert "\n9 of 12 images read, 9 whole, 1 problem, no warnings: mend the problems" in out


def test_a_long_list_of_missing_files_is_cut(
    run: Run, load: Callable[[str, list[Sample]], None], tmp_path: Path
) -> None:
    lacking = [Sample(f"s{i:02d}", whole("a").read_image, files=(tmp_path / f"{i:02d}.png",)) for i in range(24)]
    load("tnbc", [whole("a"), *lacking, whole("b")])
    code, out = run("check", "tnbc", "somewhere")
    assert code == 1
    assert re.findall(r"^missing: .*/(\d\d)\.png$", out, re.MULTILINE) == [f"{i:02d}" for i in range(20)]
    assert "\nmissing: and 4 more\n" in out
    assert "found 24 of 26 images incomplete (files missing: 24): get them from https://zenodo.org" in out


def test_nothing_but_incomplete_images(run: Run, load: Callable[[str, list[Sample]], None], tmp_path: Path) -> None:
    load("tnbc", [Sample(name, whole(name).read_image, files=(tmp_path / name,)) for name in "ab"])
    assert run("check", "tnbc", "somewhere")[0] == 2


def test_a_leak_is_a_warning(run: Run, load: Callable[[str, list[Sample]], None]) -> None:
    twin = Sample("twin", whole("a").read_image)
    load("tnbc", [whole("a"), whole("b"), twin])
    code, out = run("check", "tnbc", "somewhere")
    assert code == 0
    assert "\nwarning: twin in test is the same image as a in training\n3 of 3 images read, 3 whole, no " in out
    assert out.endswith("no problems, 1 warning\n")


def test_more_images_than_were_published(run: Run, load: Callable[[str, list[Sample]], None]) -> None:
    load("tnbc", [whole(f"s{index}") for index in range(51)])
    assert (
        "tnbc: 51 images; the published set has 50: look for files that do not belong to it" in run("check", "tnbc")[1]
    )


def test_nothing_can_be_read(run: Run, load: Callable[[str, list[Sample]], None]) -> None:
    load("tnbc", [broken("a"), broken("b")])
    code, out = run("check", "tnbc", "somewhere")
    assert code == 2
    assert "sizes" not in out
    assert "0 of 2 images read, 0 whole, 2 problems" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nonsense", "somewhere"), "dataset 'nonsense' is unknown"),
        (("isic2018",), "dataset isic2018 needs a root"),
        (("tnbc", "somewhere", "--split", "official"), "no official split"),
        (("brain_mr", "--split", "missing.csv"), "missing.csv: expected a file of columns id and part"),
        (("camus", "somewhere", "--views", "4ch"), "views of camus is 4ch: expected both, 2CH or 4CH"),
    ],
)
def test_what_cannot_be_used_at_all(words: tuple[str, ...], sentence: str, run: Run) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        run("check", *words)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("words", [(), ("nonsense",), ("check",), ("check", "tnbc", "root", "--split-seed", "x")])
def test_wrong_words(words: tuple[str, ...], run: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2


def test_help_brings_nothing_heavy_with_it() -> None:
    code = "import sys, json, gradprom._data_command, gradprom.datasets.about; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "rich", "PIL", "scipy", "yaml"} & set(json.loads(done.stdout))
