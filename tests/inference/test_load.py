"""Models back from a run folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gradprom.errors import UserError
from gradprom.inference.load import load, load_recognizers
from gradprom.training.run import train
from gradprom.weights import read_weights

Trained = Callable[[str], Path]


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A run of the test's own, to be spoilt."""
    return Path(shutil.copytree(trained("gradprom"), tmp_path / "run"))


def test_the_weights_are_the_run_s(trained: Trained) -> None:
    folder = trained("gradprom")
    model = load(folder)
    assert (model.channels, model.name) == (1, "gradprom")
    for name, weights in read_weights(folder / "enhancer.safetensors").items():
        assert torch.equal(model.enhancer.state_dict()[name], weights)
    recognizer = load_recognizers(folder)["segmentation"]
    assert not recognizer.training
    for name, weights in read_weights(folder / "recognizer.safetensors").items():
        assert torch.equal(recognizer.state_dict()[name], weights)


def test_enhancing_an_array_is_what_the_enhancer_does(trained: Trained) -> None:
    model, noisy = load(trained("gradprom")), np.random.default_rng(0).random((40, 48), np.float32)
    with torch.inference_mode():
        expected = model.enhancer(torch.from_numpy(noisy)[None, None])[0, 0].clamp(0, 1)
    np.testing.assert_allclose(model.enhance(noisy), expected, atol=1e-6)


def test_pretrained_weights_are_not_looked_for_again(
    make_config: Callable[..., object], trained: Trained, tmp_path: Path
) -> None:
    weights = shutil.copy(trained("gradprom") / "enhancer.safetensors", tmp_path / "first.safetensors")
    changes = {"strategy": "enhancer_only", "enhancer.pretrained": weights, "training.warmup.steps": 1}
    folder = train(make_config(changes), tmp_path / "run")
    Path(weights).unlink()
    load(folder)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for function in (load, load_recognizers):
        with pytest.raises(UserError, match=r"is not a run folder \(it has no config\.yaml\)"):
            function(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enhancer.safetensors", r"has no enhancer\.safetensors, its training has not finished"),
        ("run.json", r"has no run\.json, its training never began"),
    ],
)
def test_something_is_missing(name: str, message: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(UserError, match=message):
        load(copied)


def test_recognizers_are_missing(copied: Path) -> None:
    (copied / "recognizer.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no segmentation\.safetensors"):
        load_recognizers(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"dataset": 1}'])
def test_a_damaged_record(text: str, copied: Path) -> None:
    (copied / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: is damaged"):
        load(copied)


def test_channels_that_no_image_has(copied: Path) -> None:
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(record | {"channels": 2}))
    with pytest.raises(UserError, match=r"run\.json: channels is 2, expected 1 or 3"):
        load(copied)


def test_weights_of_another_model(copied: Path) -> None:
    shutil.copy(copied / "recognizer.safetensors", copied / "enhancer.safetensors")
    with pytest.raises(UserError, match="holds the weights of another model") as raised:
        load(copied)
    assert "\n" not in str(raised.value)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_for_weights_is_not_executed(copied: Path) -> None:
    (copied / "enhancer.safetensors").write_bytes(pickle.dumps(Touch(copied / "marker")))
    with pytest.raises(UserError, match="is damaged or not a safetensors file"):
        load(copied)
    assert not (copied / "marker").exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(device: str, trained: Trained) -> None:
    with pytest.raises(UserError, match=f"device '{device}' cannot be used on this machine"):
        load(trained("gradprom"), device=device)
