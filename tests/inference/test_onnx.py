"""Exported ONNX files as models: what they compute, where they go, and what is refused."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
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


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """PyTorch's number of threads, and what it was before when the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_model(trained(0), path, facts=Facts("another name", 1, 2))
    return path


def doubling(path: Path, shape: tuple[int | str, ...] = ("n", 1, "height", "width"), **changes: str) -> Path:
    """A file that was made elsewhere: twice its image."""
    words = {"channels": "1", "scale": "1", "input": "image", "output": "enhanced", "type": "FLOAT"} | changes
    kind = getattr(TensorProto, words.pop("type"))
    names = words.pop("input"), words.pop("output")
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in names]
    node = helper.make_node("Add", [names[0]] * 2, names[1:])
    made = helper.make_model(
        helper.make_graph([node], "double", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    helper.set_model_props(made, words)
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


def _report(model: Model, answers: Connection) -> None:
    answers.send(_mean(model))


def test_it_goes_to_copies_and_other_processes(exported: Path, set_threads: Callable[[int], None]) -> None:
    set_threads(2)  # a session with one thread has none that could be missing
    model = gradprom.load(exported)
    expected = _mean(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert _mean(again) == pytest.approx(expected, abs=1e-6)
    for way in ("fork", "spawn"):  # the first inherits the session, the second makes its own
        context = multiprocessing.get_context(way)
        answers, end = context.Pipe()
        process = context.Process(target=_report, args=(model, end), daemon=True)
        process.start()
        assert answers.poll(120), way
        assert answers.recv() == pytest.approx(expected, abs=1e-6)
        process.join(60)
        assert process.exitcode == 0, way


def test_a_file_from_elsewhere_that_says_what_it_takes_is_as_good(tmp_path: Path) -> None:
    model = gradprom.load(doubling(tmp_path / "double.ONNX"))
    assert model.enhance(np.array([[10, 200]], np.uint8)).tolist() == [[20, 255]]


SAYS = "expected an ONNX file whose metadata say channels and scale, found another"
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "silent": ({"channels": ""}, SAYS),
    "wild": ({"channels": "two"}, SAYS),
    "two": ({"channels": "2"}, SAYS),
    "none": ({"scale": "0"}, SAYS),
    "huge": ({"scale": "9" * 5000}, SAYS),
    "larger": ({"scale": "2"}, r"expected an output of shape \(1, 1, 64, 64\) .*, found \(1, 1, 32, 32\)"),
    "colour": ({"channels": "3"}, r"expected a network that takes an image of shape \(1, 3, 32, 32\), found"),
    "input": ({"input": "x"}, r"expected the input image \(tensor\(float\), 4 dimensions\) alone, found x "),
    "output": ({"output": "y"}, "expected the output enhanced .* alone, found y "),
    "half": ({"type": "FLOAT16"}, r"expected the input image .* found image \(tensor\(float16\), 4 dim"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_is_no_enhancer_is_refused(name: str, tmp_path: Path) -> None:
    changes, sentence = REFUSED[name]
    with pytest.raises(UserError, match=rf"{name}\.onnx: {sentence}"):
        gradprom.load(doubling(tmp_path / f"{name}.onnx", **changes))


def test_what_is_no_such_file_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "device.onnx").symlink_to("/dev/zero")
    for name, sentence in (
        ("text", "expected an ONNX file, found .*; export it anew"),
        ("empty", "expected an ONNX file, found .*; export it anew"),
        ("device", "expected a file, found something else"),
        ("absent", r"is not a run folder \(there is nothing of that name\)"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.onnx: {sentence}"):
            gradprom.load(tmp_path / f"{name}.onnx")
    with pytest.raises(UserError, match=r"absent\.onnx: cannot be read \(No such file or directory\)"):
        load_onnx(tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="expected the device cpu for an ONNX file, found cuda"):
        load_onnx(exported, device="cuda")
    with pytest.raises(UserError, match="holds a network of its own"):
        gradprom.load(exported, enhancer=torch.nn.Identity())
    with pytest.raises(UserError, match="small: is an exported file already"):
        export_model(gradprom.load(exported), tmp_path / "again.onnx")


def test_an_image_that_the_network_cannot_take(tmp_path: Path) -> None:
    narrow = gradprom.load(doubling(tmp_path / "narrow.onnx", ("n", 1, 32, 32)))
    with pytest.raises(
        UserError, match=r"narrow\.onnx: expected .* image of shape \(1, 1, 8, 8\), found .*; export it"
    ):
        narrow.enhance(np.zeros((8, 8), np.float32))


def test_too_little_memory_is_no_fault_of_the_file(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = gradprom.load(exported)

    def fail(image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 3")

    monkeypatch.setattr(model.enhancer, "run", fail)
    with pytest.raises(MemoryError):
        model.enhance(np.zeros((8, 8), np.float32))


@pytest.mark.parametrize("words", [["enhance", "FILE", "IN", "--recognize"], ["export", "FILE"], ["evaluate", "FILE"]])
def test_what_needs_a_run_says_so(
    words: list[str], exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", Image(np.zeros((8, 8, 1), np.uint8)))
    given = {"FILE": str(exported), "IN": str(tmp_path / "in.png")}
    assert main([*(given.get(word, word) for word in words), "-o", str(tmp_path / "out.pt2")]) == 2
    assert "small.onnx: is a file, which holds an enhancer at most" in capsys.readouterr().err


def test_a_file_may_not_read_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, secret = doubling(tmp_path / "double.onnx"), tmp_path / "secret.bin"
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
        UserError, match=r"needs onnxruntime, which cannot be imported .*: run pip install 'gradprom\[export\]'"
    ):
        gradprom.load(exported)
