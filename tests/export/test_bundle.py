"""MONAI bundles: run by MONAI where there is no gradprom, and compared with gradprom."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gradprom import cli
from gradprom.errors import UserError
from gradprom.export import Facts, export_model
from gradprom.export.bundle_config import inference
from gradprom.inference.load import load
from gradprom.inference.model import Model

Trained = Callable[[str], Path]
# importing gradprom fails in it
MONAI = "import runpy, sys; sys.modules['gradprom'] = None; runpy.run_module('monai.bundle', run_name='__main__')"


def run(bundle: Path, *words: object, verb: str = "run", code: int = 0) -> str:
    """What ``python -m monai.bundle run`` of a bundle prints."""
    options = ["--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle, *words]
    command = [sys.executable, "-c", MONAI, *verb.split(), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == (code != 0), done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a run, through the command line; its own files are not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "a bundle"
    assert cli.main(["export", str(trained("gradprom")), "-o", str(folder), "--format", "bundle"]) == 0
    return folder


def test_pictures_come_out_as_gradprom_enhances_them(bundle: Path, trained: Trained, tmp_path: Path) -> None:
    model = load(trained("gradprom"))
    model.precision = "float32"
    rng = np.random.default_rng(0)
    noisy = {f"image {side}.png": rng.integers(0, 256, (side, 50), dtype=np.uint8) for side in (37, 64)}
    (tmp_path / "noisy").mkdir()
    for name, pixels in noisy.items():
        Image.fromarray(pixels).save(tmp_path / "noisy" / name)
    run(bundle, "--dataset_dir", tmp_path / "noisy", "--output_dir", tmp_path / "enhanced")
    assert {path.name for path in (tmp_path / "enhanced").iterdir()} == set(noisy)
    for name, pixels in noisy.items():
        found = np.asarray(Image.open(tmp_path / "enhanced" / name))
        expected = model.enhance(pixels)
        assert found.dtype == np.uint8
        # where a value lies between two grey levels, the last digits decide
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert np.mean(found == expected) > 0.99
        assert not np.array_equal(found, pixels)


def test_volumes_keep_their_type_and_place(bundle: Path, trained: Trained, tmp_path: Path) -> None:
    model = load(trained("gradprom"))
    volume = np.random.default_rng(0).integers(-1000, 1001, (30, 41, 2)).astype(np.int16)
    affine = np.array([[0, -2, 0, 7], [1.5, 0, 0, -3], [0, 0, 4, 1], [0, 0, 0, 1]], float)
    (tmp_path / "in").mkdir()
    nibabel.Nifti1Image(volume, affine).to_filename(tmp_path / "in" / "v.nii.gz")
    places = ("--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out")
    kind = ("--suffix", ".nii.gz", "--value_range", "[-1000, 1000]", "--output_dtype", "int16")
    run(bundle, *places, *kind)
    written = nibabel.load(tmp_path / "out" / "v.nii.gz")
    assert written.get_data_dtype() == np.int16
    np.testing.assert_allclose(written.affine, affine)
    for index in range(2):
        # the first axis is the width, as gradprom enhance has it
        unit = (volume[..., index].T.astype(np.float32) + 1000) / 2000
        expected = model.enhance(unit).T * 2000 - 1000
        assert np.abs(np.asarray(written.dataobj)[..., index] - expected).max() < 1


def test_what_is_beyond_the_range_is_refused(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(tmp_path / "deep.png")
    said = run(bundle, "--dataset_dir", tmp_path, "--output_dir", tmp_path / "out", code=1)
    assert "expected values in [0, 255], found 3000 to 3000: give another --value_range" in said
    assert not (tmp_path / "out").exists()


def test_monai_makes_a_network_of_the_form_that_the_metadata_says(bundle: Path) -> None:
    said = run(bundle, "--meta_file", bundle / "configs" / "metadata.json", verb="verify_net_in_out network")
    assert "verified with no error" in said


def test_the_metadata_has_what_the_specification_asks_for(bundle: Path) -> None:
    from monai.bundle.properties import InferProperties, MetaProperties

    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    # docs.monai.io/en/stable/mb_specification.html, the mandatory keys
    keys = "version monai_version pytorch_version numpy_version required_packages_version task description authors"
    assert {*keys.split(), "copyright", "network_data_format"} <= set(said)
    for form in (said["network_data_format"]["inputs"]["image"], said["network_data_format"]["outputs"]["pred"]):
        keys = "type format modality num_channels spatial_shape dtype value_range is_patch_data channel_def"
        assert set(form) == set(keys.split())
        assert form["num_channels"] == len(form["channel_def"]) == 1
    for config, properties in (("inference", InferProperties), ("metadata", MetaProperties)):
        there = json.loads((bundle / "configs" / f"{config}.json").read_text())
        required = [entry["id"].removeprefix("_meta_::") for entry in properties.values() if entry["required"]]
        assert set(required) <= set(there), config
    assert {"LICENSE", "docs/README.md", "docs/data_license.txt", "models/model.pt"} <= files(bundle)
    assert "not a medical device" in (bundle / "docs" / "README.md").read_text()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_replaced_bundle_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    torch.manual_seed(0)
    for scale in (1, 2):
        model = Model(
            nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=scale)), channels=1, scale=scale
        )
        export_model(model, target, format="bundle", overwrite=scale == 2)
        if scale == 1:
            (target / "input").mkdir()
            (target / "input" / "mine.png").write_text("precious")
            before = files(target)
    assert files(target) == before
    assert (target / "input" / "mine.png").read_text() == "precious"
    assert json.loads((target / "configs" / "metadata.json").read_text())["gradprom"]["scale"] == "2"
    # voxel sizes would be wrong
    assert "nii" not in (target / "docs" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_name_is_not_run_as_code(tmp_path: Path) -> None:
    facts = Facts("$__import__('os').abort()", 1)
    export_model(Model(nn.Identity(), channels=1), tmp_path / "b", format="bundle", facts=facts)
    for words in json.loads((tmp_path / "b" / "configs" / "metadata.json").read_text())["gradprom"].values():
        assert not words.startswith(("$", "@", "%"))
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_meta(tmp_path / "b" / "configs" / "metadata.json")
    assert parser.get_parsed_content("_meta_::name").endswith("abort()")


def test_a_bundle_that_monai_cannot_use_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(facts: Facts) -> dict[str, object]:
        return {**inference(facts), "network_def": "$torch.export.load(@bundle_root + '/nothing.pt2')"}

    monkeypatch.setattr("gradprom.export.bundle.inference", spoilt)
    with pytest.raises(UserError, match=r"^mine: expected MONAI to make a network of the bundle, found .*") as raised:
        export_model(Model(nn.Identity(), channels=1, name="mine"), tmp_path / "b", format="bundle")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(facts: Facts) -> dict[str, object]:
        return {**inference(facts), "network": "$torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), @network_def)"}

    monkeypatch.setattr("gradprom.export.bundle.inference", spoilt)
    with pytest.raises(
        UserError, match=r"expected the exported bundle to give what PyTorch gives within 0\.0001, found inf"
    ):
        export_model(Model(nn.Identity(), channels=1), tmp_path / "b", format="bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "overwrite", "sentence"),
    [
        ("file", True, "file: is a file, expected the name of a folder for the bundle"),
        ("full", False, "full: exists already: choose another name, or replace it with --overwrite"),
        ("full", True, "full: is not a bundle that gradprom wrote and will not be overwritten"),
    ],
)
def test_targets_that_are_refused(name: str, overwrite: bool, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    (tmp_path / "full" / "configs").mkdir(parents=True)
    (tmp_path / "full" / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match=sentence):
        export_model(Model(nn.Identity(), channels=1), tmp_path / name, format="bundle", overwrite=overwrite)


def test_without_monai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.bundle", None)
    with pytest.raises(UserError, match=r"needs the package monai.*pip install 'gradprom\[monai\]'"):
        export_model(Model(nn.Identity(), channels=1), tmp_path / "b", format="bundle")
