"""Model cards: what they say, and that they say it again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gradprom.datasets.about import ABOUT
from gradprom.errors import UserError
from gradprom.experiments.evaluate import evaluate_run
from gradprom.training.card import Notes, make_card, read_evaluations, write_card
from gradprom.training.config import Config, RecognizerConfig, parse
from gradprom.training.folder import RunRecord, read_config, read_record
from gradprom.training.run import train

Trained = Callable[[str], Path]
RECORD = RunRecord("isic2018", 3, ["nevus", "a|b"], [], 10, 2, 3, seed=4, device="cpu", threads=1, started="2025-01-01")
HEADINGS = ["Intended use", "Limits", "Data", "Degradation", "Model and training", "Measures"]


def cells(card: str, first: str) -> list[list[str]]:
    """The rows of a card's tables that begin with a text."""
    rows = [line.strip("|").split(" | ") for line in card.splitlines() if line.startswith(f"| {first} ")]
    return [[cell.strip() for cell in row] for row in rows]


def card_of(*options: str, **given: object) -> str:
    common = ["--dataset.name", "isic2018", "--segmentation.encoder", "resnet18"]
    return make_card("mine", parse(arguments=[*common, *options]), RECORD, [], **given)


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A run of the test's own."""
    return Path(shutil.copytree(trained("gradprom"), tmp_path / "mine"))


def test_a_finished_run_has_a_card(trained: Trained) -> None:
    folder = trained("gradprom")
    card, record = (folder / "card.md").read_text(encoding="utf-8"), read_record(folder)
    assert re.findall(r"^# (.*)", card, re.MULTILINE) == ["Model card: gradprom"]
    assert re.findall(r"^## (.*)", card, re.MULTILINE) == HEADINGS
    assert "not a medical device" in card
    assert "None yet" in card
    assert cells(card, "images")[0][1] == "9 to learn from, 1 to watch the training, 2 to test on"
    assert cells(card, "warm-up of the enhancer")[0][1].startswith("12 steps at learning rate 0.001")
    assert cells(card, "promotion")[0][1].startswith("weight λ 0.0001, gate hard")
    assert cells(card, "begun")[0][1] == record.started
    assert str(Path(read_config(folder).dataset.root or "")) not in card  # nobody else has that folder
    assert all(f"{name} {version}" in card for name, version in record.versions.items())


def test_the_same_run_has_the_same_card(run: Path) -> None:
    config, record = read_config(run), read_record(run)
    write_card(run, config, record)
    first = (run / "card.md").read_bytes()
    write_card(run, config, record)
    assert (run / "card.md").read_bytes() == first
    assert not list(run.glob(".partial-*"))


def test_an_evaluation_puts_its_measures_into_the_card(run: Path) -> None:
    own = evaluate_run(run)
    other = evaluate_run(run, degradation="gaussian  0.30", baselines=False)
    assert {path.name for path in run.glob("evaluation*")} == {
        *("evaluation.csv", "evaluation.json"),
        *("evaluation-gaussian-0.3.csv", "evaluation-gaussian-0.3.json"),
    }
    card = (run / "card.md").read_text(encoding="utf-8")
    assert "None yet" not in card
    measured = {row[1]: row for row in cells(card, "gaussian 0.1")}
    assert list(measured) == list(own.summary)
    for method in ("input", "non-local means", "enhanced"):
        assert measured[method][3].split(" ± ")[0] == f"{own.summary[method]['psnr']:.2f}"
        assert measured[method][4].split(" ± ")[0] == f"{own.summary[method]['ssim']:.3f}"
    assert measured["clean"][3] == "–"
    assert measured["enhanced"][5] == f"{own.summary['enhanced']['miou']:.3f}"
    (row,) = cells(card, "gaussian 0.3")
    assert row[1:3] == ["enhanced", "2"]
    assert row[3].split(" ± ")[0] == f"{other.summary['enhanced']['psnr']:.2f}"


def test_an_evaluation_elsewhere_leaves_the_run_alone(run: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    evaluate_run(run, degradation="none", output=tmp_path / "elsewhere", baselines=False)
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"evaluation-none.csv", "evaluation-none.json"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"summary": 3}', '{"summary": {}}'])
def test_a_damaged_evaluation(text: str, run: Path) -> None:
    (run / "evaluation.json").write_text(text)
    with pytest.raises(UserError, match=r"evaluation\.json: is damaged, remove it"):
        read_evaluations(run)


def test_the_data_s_licence_and_source_are_named() -> None:
    card, about = card_of(), ABOUT["isic2018"]
    for fact in (about.what, about.licence, about.where, about.cite):
        assert fact in card
    assert cells(card, "classes")[0][1:] == [r"nevus, a\|b"]
    assert cells(card, "split")[0][1] == "at random (seed 0), 20 % to test on"
    named = card_of("--dataset.split", "/home/me/lists/mine.csv")
    assert cells(named, "split")[0][1] == "by the list mine.csv"
    assert "/home/me" not in named
    assert cells(make_card("m", Config(), RECORD, []), "split")[0][1] == "the dataset's own"


def test_what_strategies_lack_is_not_told() -> None:
    alone = card_of("--strategy", "enhancer_only")
    assert not cells(alone, "promotion")
    assert not cells(alone, "recognizer for segmentation")
    assert not cells(alone, "pretraining of the recognizer")
    assert "had a part in its training" not in alone
    reader = card_of("--strategy", "recognizer_only")
    assert "A recognizer (segmentation) of degraded colour images" in reader
    assert not cells(reader, "enhancer")
    joint = card_of("--strategy", "joint")
    assert cells(joint, "promotion")[0][1] == "weight λ 0.0001"
    assert "had a part in its training" in joint
    assert cells(joint, "recognizer for segmentation")[0][1] == "resnet18"


def test_blindness_and_enlarging_are_told() -> None:
    alone = ["--strategy", "enhancer_only", "--degradation"]
    assert "is blind to" not in card_of(*alone, "gaussian 0.3")
    assert "is blind to" in card_of(*alone, "maybe 0.5 gaussian 0-0.3")
    assert "`maybe 0.5 gaussian 0-0.3`" in card_of(*alone, "maybe 0.50 gaussian  0-0.3")
    assert "makes them 2 times as large" in card_of(*alone, "downsample 2")


def test_notes_come_first() -> None:
    notes = Notes(summary="For cats.", licence="CC0", uses=["Cats."], limits=["No dogs."], measures=["Purring."])
    card = card_of(notes=notes)
    assert card.split("\n\n")[1] == "For cats."
    assert "## Intended use\n\n- Cats.\n\n## Limits\n\n- No dogs.\n- It learnt" in card
    assert cells(card, "licence of the weights")[0][1] == "CC0"


def test_evaluations_of_one_kind_share_a_table() -> None:
    def evaluation(dataset: str, degradation: str, psnr: float | None) -> dict[str, object]:
        values = {"images": 3, "psnr": psnr, "psnr_std": None, "ssim": 0.5, "ssim_std": 0.25}
        about = {"protocol": "As ever.", "dataset": dataset, "degradation": degradation, "seed": 0}
        return {**about, "summary": {"enhanced": values}}

    measured = [evaluation("a", "none", None), evaluation("a", "gaussian 0.1", 30.123), evaluation("b", "none", 41)]
    card = make_card("mine", Config(segmentation=RecognizerConfig()), RECORD, json.loads(json.dumps(measured)))
    section = card.partition("## Measures")[2]
    assert section.count("| degradation |") == 2
    assert section.count("As ever.") == 1
    assert "| gaussian 0.1 | enhanced | 3 | 30.12 | 0.500 ± 0.250 |" in section
    assert cells(section, "none") == [
        ["none", "enhanced", "3", "–", "0.500 ± 0.250"],
        ["none", "enhanced", "3", "41.00", "0.500 ± 0.250"],
    ]


def test_a_model_of_one_s_own_is_told(make_config: Callable[..., Config], tmp_path: Path) -> None:
    changes = {"strategy": "enhancer_only", "training.warmup.steps": 1, "training.cascade.steps": 1}
    folder = train(make_config(changes), tmp_path / "run", enhancer=torch.nn.Conv2d(1, 1, 3, padding=1))
    assert read_record(folder).own_models == ["enhancer"]
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert cells(card, "enhancer")[0][1] == "a model of the user's own"
