"""Models by name: those in the package, and what packs them."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

import gradprom
from gradprom import cli
from gradprom._models_command import add_models_command
from gradprom.datasets import load_dataset
from gradprom.datasets.augment import with_foreign_object
from gradprom.datasets.splits import write_split
from gradprom.errors import UserError
from gradprom.experiments.evaluate import evaluate_run
from gradprom.inference.load import load, load_recognizers
from gradprom.models import ROOT, find_model, is_shipped, read_measures, shipped
from gradprom.training.config import Config, parse
from gradprom.training.folder import read_config, read_record
from gradprom.training.run import train
from gradprom.weights import read_weights

NAMES = ("brain-mr", "dermoscopy")


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/shipped_models.py")


@pytest.fixture(scope="module")
def run(make_config: Callable[..., Config], images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small blind run on images that a list names; the others are left out."""
    place = tmp_path_factory.mktemp("blind")
    split = place / "list.csv"
    write_split(load_dataset("folder", images), split)
    lines = split.read_text().splitlines()
    split.write_text("\n".join([*(line for line in lines if "i05" not in line), "*,none"]))
    changes = {"dataset.split": split, "degradation": "maybe 0.5 gaussian 0-0.3", "training.stages": place / "stages"}
    return train(make_config(changes), place / "run")


@pytest.fixture(scope="module")
def packed(script: ModuleType, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shipped models with one in it."""
    root = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "LEAST_CLEAN", 0.0)  # twelve steps are not many
        assert script.pack(run, root / "dermoscopy", None, None, None) == ""
    return root


@pytest.fixture
def only(packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package has that one, and the working directory nothing."""
    monkeypatch.setattr("gradprom.models.ROOT", packed)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return packed / "dermoscopy"


def test_a_packed_model_is_the_run_s_and_names_no_place(packed: Path, run: Path, images: Path) -> None:
    folder = packed / "dermoscopy"
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.yaml", "run.json", "enhancer.safetensors", "images.csv", "measures.json", "card.md"}
    ours, theirs = (read_weights(place / "enhancer.safetensors") for place in (folder, run))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.:/])/(?!/)\w+/\w+", re.sub(r"https?://\S+", "", text)), path
            assert str(images) not in text
    assert yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["split"] == "images.csv"
    rows = (folder / "images.csv").read_text().split()
    assert len(rows) == 1 + 11 + 1
    assert "i05" not in "".join(rows)


def test_its_measures_are_those_of_an_evaluation(only: Path, run: Path, tmp_path: Path) -> None:
    measures = read_measures("dermoscopy")
    assert measures.images == 2
    expected = evaluate_run(run, degradation="gaussian 0.2", output=tmp_path / "again").summary
    for method in ("input", "non-local means", "enhanced"):
        assert measures.psnr("gaussian 0.2", method) == pytest.approx(expected[method]["psnr"])
    assert measures.psnr("none", "input") is None  # infinite
    clean = evaluate_run(run, degradation="none", output=tmp_path / "clean", baselines=False)
    assert measures.lowest_clean == pytest.approx(min(row.psnr or 0 for row in clean.rows))
    assert measures.psnr("gaussian 0.7", "input") is None
    card = (only / "card.md").read_text(encoding="utf-8")
    assert f"{measures.lowest_clean:.2f} dB at least" in card
    assert card.count("| gaussian 0.2 | enhanced |") == 1


def test_what_does_not_keep_its_promise_is_not_packed(
    script: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LEVELS", ("none",))
    monkeypatch.setattr(script, "LEAST_CLEAN", 99.0)
    assert "expected a finished run" in script.pack(run, tmp_path / "brain-mr", None, None, 1)
    monkeypatch.setattr(script, "LEAST_CLEAN", 0.0)
    monkeypatch.setattr(script, "MOST_BYTES", 1000)
    assert "of at most 1000 bytes" in script.pack(run, tmp_path / "brain-mr", None, None, 1)
    assert not (tmp_path / "brain-mr").exists()


def test_a_name_loads_as_its_folder_does(only: Path) -> None:
    assert shipped() == ("dermoscopy",)
    assert is_shipped(find_model("dermoscopy"))
    noisy = np.random.default_rng(0).random((20, 31), np.float32)
    by_name, by_path = gradprom.load("dermoscopy"), load(only)
    assert by_name.name == "dermoscopy"
    np.testing.assert_array_equal(by_name.enhance(noisy), by_path.enhance(noisy))


def test_a_run_folder_of_that_name_wins_and_that_is_said(
    only: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("dermoscopy").mkdir()  # images, for instance: no run
    assert find_model("dermoscopy") == only
    assert capsys.readouterr().err == ""
    shutil.copytree(run, "dermoscopy", dirs_exist_ok=True)
    for _ in range(2):
        assert find_model("dermoscopy") == Path("dermoscopy")
    said = "gradprom: dermoscopy: the run folder of that name is used, not the shipped model\n"
    assert capsys.readouterr().err == said
    assert find_model(Path("dermoscopy").resolve()) == Path("dermoscopy").resolve()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("name", ["dermatology", "runs/dermoscopy", "Dermoscopy"])
def test_a_name_that_is_neither(name: str) -> None:
    for function in (load, load_recognizers, evaluate_run):
        with pytest.raises(UserError, match=f"{name}: is not a run folder .*nor one of the shipped models.*dermoscopy"):
            function(name)


@pytest.mark.usefixtures("only")
def test_recognizers_stay_behind() -> None:
    with pytest.raises(UserError, match="dermoscopy: comes without the recognizer"):
        load_recognizers("dermoscopy")


def test_it_is_measured_on_the_list_of_its_own_and_nothing_is_written_into_the_package(
    only: Path, images: Path, tmp_path: Path
) -> None:
    before = sorted(only.iterdir())
    with pytest.raises(UserError, match="dermoscopy is a model of the package, where nothing is written: give -o"):
        evaluate_run("dermoscopy")
    result = evaluate_run("dermoscopy", root=str(images), output=tmp_path / "out", degradation="gaussian 0.2")
    own = read_measures("dermoscopy")
    assert result.summary["enhanced"]["psnr"] == pytest.approx(own.psnr("gaussian 0.2", "enhanced"))
    assert result.summary["enhanced"]["miou"] is None
    assert sorted(only.iterdir()) == before


@pytest.mark.usefixtures("only")
def test_enhancing_by_name(images: Path, tmp_path: Path) -> None:
    assert cli.main(["enhance", "dermoscopy", str(images / "images" / "i00.png"), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "i00.png").is_file()
    assert cli.main(["enhance", "nonsense", str(images), "-o", str(tmp_path / "none")]) == 2


@pytest.mark.usefixtures("only")
def test_measures_that_are_damaged(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = shutil.copytree(packed, tmp_path / "own")
    monkeypatch.setattr("gradprom.models.ROOT", own)
    for text in ("", "[]", "{}"):
        (own / "dermoscopy" / "measures.json").write_text(text)
        with pytest.raises(UserError, match=r"measures\.json: is missing or damaged, install gradprom again"):
            read_measures("dermoscopy")
    with pytest.raises(UserError, match="nonsense: is not a shipped model"):
        read_measures("nonsense")


def words(*given: str) -> int:
    parser = argparse.ArgumentParser(prog="gradprom")
    add_models_command(parser.add_subparsers(required=True))
    options = parser.parse_args(["models", *given])
    code: int = options.run(options)
    return code


def test_the_list_fits_80_columns(
    only: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert words() == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert only.name in out
    assert {"maybe", "0.5", "gaussian", "0-0.3"} <= set(out.split())
    measures = read_measures("dermoscopy")
    for sigma in ("0.05", "0.1", "0.2", "0.3"):
        assert f"{measures.psnr(f'gaussian {sigma}', 'enhanced'):.1f}" in out
        assert f"{measures.psnr(f'gaussian {sigma}', 'input'):.1f}" in out


def test_a_card_is_printed_as_it_is(only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert words("dermoscopy") == 0
    assert capsys.readouterr().out == (only / "card.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="nonsense: is not a shipped model, expected dermoscopy"):
        words("nonsense")


def test_an_installation_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradprom.models.ROOT", tmp_path)
    with pytest.raises(UserError, match="no models came with this installation"):
        words()
    with pytest.raises(UserError, match="nowhere: is not a run folder"):
        load("nowhere")


def test_the_list_of_images_under_cc0(script: ModuleType, tmp_path: Path) -> None:
    rows = [f"i{index:02d},{'ab'[index % 2]},x,{'CC0' if index < 20 else 'unknown'}" for index in range(30)]
    (tmp_path / "metadata.csv").write_text("\n".join(["isic_id,diagnosis,partition,licence", *reversed(rows)]))
    script.write_cc0_split(tmp_path / "metadata.csv", tmp_path / "list.csv")
    lines = (tmp_path / "list.csv").read_text().split()
    assert [line.split(",")[0] for line in lines] == ["id", *(f"i{index:02d}" for index in range(20)), "*"]
    tested = [line.split(",")[0] for line in lines if line.endswith(",test")]
    assert [sum(int(name[1:]) % 2 == odd for name in tested) for odd in (0, 1)] == [2, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_the_package_keeps_its_promises(name: str) -> None:
    folder = ROOT / name
    assert (folder / "enhancer.safetensors").stat().st_size <= 5_000_000
    measures, record = read_measures(name), read_record(folder)
    clean = measures.psnr("none", "enhanced")
    assert clean is not None
    assert clean > 40
    for sigma in ("0.05", "0.1", "0.2", "0.3"):
        after, before = (measures.psnr(f"gaussian {sigma}", method) for method in ("enhanced", "input"))
        assert after is not None
        assert before is not None
        assert after > before + 5
    parts = [line.rpartition(",")[2] for line in (folder / "images.csv").read_text().split()[1:]]
    assert parts.count("train") == record.training_images + record.validation_images
    assert parts.count("test") == record.test_images == measures.images
    assert read_config(folder).dataset.root is None
    channels = load(name).channels
    assert channels == {"brain-mr": 1, "dermoscopy": 3}[name]
    slope = np.linspace(0.2, 0.8, 64, dtype=np.float32)[:, np.newaxis] * np.ones((64, 1, channels), np.float32)
    noisy = (slope + np.random.default_rng(0).normal(0, 0.1, slope.shape)).clip(0, 1).astype(np.float32)
    enhanced = load(name).enhance(noisy)
    assert ((enhanced - slope) ** 2).mean() < 0.2 * ((noisy - slope) ** 2).mean()


def test_the_configurations_of_the_shipped_models() -> None:
    examples = Path(__file__).parents[2] / "examples"
    for name, dataset in (("dermoscopy", "isic2018"), ("brain_mr", "brain_mr")):
        config = parse(examples / f"{name}.yaml")
        assert (config.dataset.name, config.strategy, config.promotion.max_ratio) == (dataset, "gradprom", 0.5)
        assert "gaussian 0-0.3" in config.degradation
    lines = (examples / "dermoscopy_split.csv").read_text().split()
    assert lines[0] == "id,part"
    assert lines[-1] == "*,none"
    assert len(lines) == 456 + 2


@pytest.mark.parametrize("name", NAMES)
def test_an_even_grey_of_any_brightness_stays(name: str) -> None:
    model = load(name)
    with torch.inference_mode():
        for level in np.linspace(0, 1, 21):
            image = torch.full((1, model.channels, 96, 96), float(level))
            assert float((model.enhancer(image).clamp(0, 1) - image).abs().mean()) < 0.01, level


def test_dark_slices_stay() -> None:
    """A bright vessel makes all the rest of a scan darker than the template is."""
    enhancer = load("brain-mr").enhancer
    for factor in (0.7, 0.4, 0.2, 0.1):
        for sample in load_dataset("brain_mr").test[::7]:
            image = factor * torch.from_numpy(sample.read_image().astype(np.float32) / 255).permute(2, 0, 1)[None]
            with torch.inference_mode():
                error = enhancer(image).clamp(0, 1) - image
            assert float(-10 * error.square().mean().log10()) > 40, (factor, sample.id)


def test_stickers_stay() -> None:
    enhancer = load("dermoscopy").enhancer
    skin = torch.tensor([0.75, 0.55, 0.45])[:, None, None] * torch.linspace(0.8, 1.1, 128)
    skin = skin.expand(-1, 128, -1).contiguous()
    for seed in range(12):
        image, is_foreign = with_foreign_object(skin, np.random.default_rng(seed))
        with torch.inference_mode():
            error = (enhancer(image[None]).clamp(0, 1) - image)[0, :, is_foreign]
        assert float(-10 * error.square().mean().log10()) > 34, seed  # within the sticker
