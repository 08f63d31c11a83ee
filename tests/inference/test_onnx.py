"""Exported ONNX files as models: what they compute, where they go, and what is refused."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import gradprom
from gradprom.cli import main
from gradprom.enhancers.unet import ResidualUNet
from gradprom.errors import UserError
from gradprom.export import Facts, export_model
from gradprom.images import Image, read_image, write_image
from gradprom.inference._file import derivation_of
from gradprom.inference.model import Model
from gradprom.inference.onnx import load_onnx


def trained(seed: int) -> Model:
    """An enhancer that enlarges, with no layer left at zero."""
    torch.manual_seed(seed)
    enhancer = ResidualUNet(1, blocks=1, channels=4, scale=2)
    with torch.no_grad():
        for parameter in enhancer.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return Model(enhancer, channels=1, scale=2, precision="float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_model(trained(0), path, facts=Facts("another name", 1, 2))
    return path


def doubling(path: Path, height: int | str = "height", **metadata: str) -> Path:
    """A file that was made elsewhere: twice its image."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, height, "width"])
        for name in ("image", "enhanced")
    ]
    graph = helper.make_graph([helper.make_node("Add", ["image", "image"], ["enhanced"])], "double", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(made, metadata)
    onnx.save(made, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_it_gives_what_the_enhancer_gives_in_tiles_too(exported: Path, dtype: type) -> None:
    model = gradprom.load(exported)
    assert (model.channels, model.scale, model.name) == (1, 2, "small")
    image = np.random.default_rng(0).random((70, 133))
    image = (
        (image * 65535).astype(dtype)
        if dtype is np.uint16
        else (image * (255 if dtype is np.uint8 else 1)).astype(dtype)
    )
    found, expected = model.enhance(image, tile=64, overlap=32), trained(0).enhance(image, tile=64, overlap=32)
    assert found.dtype == dtype
    step = 1.0 if dtype is not np.float32 else 1e-4  # a value may lie between two whole numbers
    assert np.abs(found.astype(float) - expected).max() <= (7 if dtype is np.uint16 else step)
    assert np.abs(found.astype(float) - image.repeat(2, 0).repeat(2, 1)).max() > 20 * step


def test_the_command_takes_it(exported: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30, 1), np.uint16)
    write_image(tmp_path / "in.png", Image(pixels))
    assert main(["enhance", str(exported), str(tmp_path / "in.png"), "-o", str(tmp_path / "out")]) == 0
    found = read_image(tmp_path / "out" / "in.png").pixels.astype(int)
    assert np.abs(found - trained(0).enhance(pixels)).max() <= 7


def test_other_weights_are_another_model(exported: Path, tmp_path: Path) -> None:
    export_model(trained(1), tmp_path / "small.onnx")
    one, same, other = (
        derivation_of(gradprom.load(path), None).series("1.2.3")
        for path in (exported, exported, tmp_path / "small.onnx")
    )
    assert one == same != other


def _mean(model: Model) -> float:
    return float(model.enhance(np.full((9, 9), 0.5, np.float32)).mean())


def test_it_goes_to_copies_and_other_processes(exported: Path) -> None:
    model = gradprom.load(exported)
    expected = _mean(model)  # its session has been at work when the process is forked
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert _mean(again) == expected
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            assert pool.apply_async(_mean, (model,)).get(timeout=120) == pytest.approx(expected, abs=1e-6)


def test_a_file_from_elsewhere_that_says_what_it_takes_is_as_good(tmp_path: Path) -> None:
    model = gradprom.load(doubling(tmp_path / "double.onnx", channels="1", scale="1"))
    assert model.enhance(np.array([[10, 200]], np.uint8)).tolist() == [[20, 255]]


def test_what_is_refused(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    for path, sentence in (
        (tmp_path / "text.onnx", r"text\.onnx: expected an ONNX file, found .*; export it anew"),
        (
            doubling(tmp_path / "silent.onnx"),
            r"silent\.onnx: expected an ONNX file whose metadata say channels and scale",
        ),
        (doubling(tmp_path / "wild.onnx", channels="two", scale="1"), "whose metadata say channels and scale"),
        (doubling(tmp_path / "none.onnx", channels="1", scale="0"), "whose metadata say channels and scale"),
        (tmp_path / "absent.onnx", r"absent\.onnx: is not a run folder \(there is nothing of that name\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            gradprom.load(path)
    with pytest.raises(UserError, match=r"absent\.onnx: cannot be read \(No such file or directory\)"):
        load_onnx(tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="expected the device cpu for an ONNX file, found cuda"):
        load_onnx(exported, device="cuda")
    narrow = gradprom.load(doubling(tmp_path / "narrow.onnx", height=16, channels="1", scale="1"))
    with pytest.raises(UserError, match=r"takes an image of shape \(1, 1, 8, 8\), found .*; export it anew"):
        narrow.enhance(np.zeros((8, 8), np.float32))
    write_image(tmp_path / "in.png", Image(np.zeros((8, 8, 1), np.uint8)))
    words = ["enhance", str(exported), str(tmp_path / "in.png"), "-o", str(tmp_path / "out"), "--recognize"]
    assert main(words) == 2
    assert "small.onnx: is not a run folder" in capsys.readouterr().err


def test_a_file_may_not_read_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, secret = doubling(tmp_path / "double.onnx", channels="1", scale="1"), tmp_path / "secret.bin"
    secret.write_bytes(np.full(4, 0.25, np.float32).tobytes())
    made = onnx.load(path)
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [1, 1, 1, 1], [0.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    made.graph.initializer.append(weights)
    made.graph.node[0].input[1] = "weights"
    monkeypatch.chdir(tmp_path)
    for name in ("secret.bin", str(secret)):
        del made.graph.initializer[0].external_data[:]
        entry = made.graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", name
        path.write_bytes(made.SerializeToString())
        with pytest.raises(UserError, match="expected an ONNX file"):
            gradprom.load(path)


def test_without_onnxruntime_it_says_what_to_install(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError, match=r"needs onnxruntime, which is not installed: run pip install 'gradprom\[export\]'"
    ):
        gradprom.load(exported)
