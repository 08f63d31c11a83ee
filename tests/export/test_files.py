"""ONNX files and programs of torch.export: what they compute, what they say of themselves, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import sys
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import gradprom
from gradprom._padding import pad_to_multiple
from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import EncoderUNet, ResidualUNet
from gradprom.errors import UserError
from gradprom.export import Facts, export_model
from gradprom.export.files import write_onnx, write_program
from gradprom.export.trace import trace
from gradprom.inference.model import Model

FullDisk = Callable[[int], AbstractContextManager[None]]

# the smallest of each, and sizes that U-Nets have to pad, and not
ENHANCERS = {
    "srresnet, 1": lambda: SRResNet(1, blocks=1, channels=4, residual=True),
    "srresnet, 4": lambda: SRResNet(1, blocks=1, channels=4, scale=4, residual=True),
    "residual_unet, 1": lambda: ResidualUNet(3, blocks=1, channels=4),
    "residual_unet, 2": lambda: ResidualUNet(1, blocks=1, channels=4, scale=2),
    "unet, 2": lambda: EncoderUNet(1, encoder="test_resnet", scale=2),
}
SIZES = [(1, 33, 20), (3, 64, 96), (1, 7, 5), (1, 1, 9)]


def trained(enhancer: nn.Module) -> nn.Module:
    """No layer left at zero, where some begin: then there would be nothing to compare."""
    with torch.no_grad():
        for parameter in enhancer.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return enhancer


@pytest.mark.parametrize("name", ENHANCERS)
def test_every_enhancer_gives_the_same_at_any_size_in_both_formats(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    enhancer = trained(ENHANCERS[name]())
    channels, scale = (3 if name == "residual_unet, 1" else 1), int(name[-1])
    model = Model(enhancer, channels=channels, scale=scale, precision="float32")
    traced, facts = trace(model), Facts(name, channels, scale)  # as export_model does, but once
    assert write_program(traced, facts, tmp_path / "enhancer.pt2") <= 1e-4
    assert write_onnx(traced, facts, tmp_path / "enhancer.onnx") <= 1e-4
    program = torch.export.load(tmp_path / "enhancer.pt2").module()
    session = onnxruntime.InferenceSession(tmp_path / "enhancer.onnx", providers=["CPUExecutionProvider"])
    for batch, height, width in SIZES:
        images = torch.rand(batch, channels, height, width)
        expected = np.stack([model.enhance(image.permute(1, 2, 0).numpy()) for image in images]).transpose(0, 3, 1, 2)
        assert expected.shape == (batch, channels, scale * height, scale * width)
        np.testing.assert_allclose(program(images).numpy(), expected, atol=1e-5)
        (found,) = session.run(["enhanced"], {"image": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-5)


class Mirrored(nn.Module):
    """Takes no image with a side of 12 pixels or less."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(image, (12, 12, 12, 12), mode="reflect")[..., 12:-12, 12:-12]


def test_a_program_says_how_small_images_may_be(tmp_path: Path) -> None:
    export_model(Model(Mirrored(), channels=1), tmp_path / "enhancer.pt2")
    extra = {"gradprom.json": ""}
    program = torch.export.load(tmp_path / "enhancer.pt2", extra_files=extra).module()
    assert json.loads(extra["gradprom.json"])["least_side"] == "13"
    image = torch.rand(1, 1, 13, 13)
    assert torch.equal(program(image), image)


class Spread(nn.Module):
    """Layer norm over channels that come last, as Transformers and ConvNeXt have it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(1, 4, 8, 8), nn.LayerNorm(4)
        self.up = nn.ConvTranspose2d(4, 1, 8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        features = self.down(pad_to_multiple(image, 8)).permute(0, 2, 3, 1)
        return image + self.up(self.norm(features).permute(0, 3, 1, 2))[..., :height, :width]


def test_a_program_that_takes_no_single_image_is_refused_and_onnx_does_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(Spread(), channels=1)
    with pytest.raises(UserError, match=r"to take an image of 64×96 pixels, found .*; export to another format"):
        export_model(model, tmp_path / "a.pt2")
    export_model(model, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_files_say_what_is_in_them(tmp_path: Path) -> None:
    facts = Facts("mine", 1, 2, dataset="isic2018", licence="CC0", degradation="downsample 2")
    model = Model(nn.Upsample(scale_factor=2), channels=1, scale=2)
    export_model(model, tmp_path / "a.onnx", facts=facts)
    export_model(model, tmp_path / "a.pt2", facts=facts)
    written = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(written, full_check=True)
    said = {entry.key: entry.value for entry in written.metadata_props}
    extra = {"gradprom.json": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra["gradprom.json"]) == {**said, "least_side": "1"}
    assert (said["name"], said["channels"], said["scale"], said["value_range"]) == ("mine", "1", "2", "[0, 1]")
    assert "CC0" in said["licence"]
    assert "not a medical device" in said["notice"]
    assert [entry.version for entry in written.opset_import if not entry.domain] == [18]
    (given,) = written.graph.input
    assert given.name == "image"
    shape = given.type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in shape] == ["batch", 1, "height", "width"]


def test_files_do_not_tell_where_they_were_made(tmp_path: Path) -> None:
    model = Model(ResidualUNet(1, blocks=1, channels=4), channels=1)
    places = [str(Path(module.__file__).parent).encode() for module in (torch, gradprom)]
    for name in ("a.onnx", "a.pt2"):
        export_model(model, tmp_path / name)
        written = (tmp_path / name).read_bytes()
        if name == "a.pt2":
            with zipfile.ZipFile(tmp_path / name) as archive:
                written = b"".join(archive.read(entry) for entry in archive.namelist())
        assert not any(place in written for place in places)


def test_what_is_exported_stays_within_the_range_and_the_model_as_it_was(tmp_path: Path) -> None:
    class Stretch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(3.0))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return (image - 0.5) * self.factor + 0.5

    model = Model(Stretch(), channels=1)
    export_model(model, tmp_path / "a.pt2")
    found = torch.export.load(tmp_path / "a.pt2").module()(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    assert found.tolist() == [[[[0.0, 0.5, 1.0]]]]
    assert model.enhancer.factor.requires_grad


class Diverging(nn.Module):
    """Gives something else every time, whatever a program may keep of it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = itertools.count(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * (1 / next(self.count))

    def __deepcopy__(self, _: object) -> Diverging:
        return Diverging()


class Deciding(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 0.5 if image.mean() > 0.5 else image


class Eigen(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.linalg.eigvals(image @ image.transpose(2, 3)).real.mean()


@pytest.mark.parametrize(
    ("enhancer", "name", "sentence"),
    [
        (
            Diverging(),
            "a.pt2",
            r"expected the exported program to give what PyTorch gives within 0\.0001, found 0\.\d+.*",
        ),
        (Diverging(), "a.onnx", r"expected the exported ONNX file to give what PyTorch gives within 0\.0001, found .*"),
        (
            Deciding(),
            "a.pt2",
            "expected a network that torch.export can follow, found .*depend on the values of pixels.*",
        ),
        (Eigen(), "a.onnx", r"expected a network that ONNX can express, found .*; export it as \.pt2"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence_and_no_file(
    enhancer: nn.Module, name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^mine: {sentence}$") as raised:
        export_model(Model(enhancer, channels=1, name="mine"), tmp_path / name)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_nan_is_not_taken_for_equal(tmp_path: Path) -> None:
    broken = nn.Conv2d(1, 1, 1)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(UserError, match=r"within 0\.0001, found nan"):
        export_model(Model(broken, channels=1), tmp_path / "a.pt2")


@pytest.mark.parametrize(
    ("name", "format", "sentence"),
    [
        ("enhancer", None, r"enhancer: expected a name that ends in \.onnx or \.pt2, or another name and --format"),
        ("enhancer.pth", None, r"enhancer\.pth: expected a name that ends in"),
        ("enhancer.onnx", "torch", r"enhancer\.onnx and --format torch: expected a name that ends in"),
        ("enhancer.onnx", "tflite", r"enhancer\.onnx and --format tflite: expected"),
        ("folder", "onnx", r"folder: is a folder, expected the name of a file; give one, or --format bundle"),
        ("there.onnx", None, r"there\.onnx: exists already: choose another name, or replace it with --overwrite"),
    ],
)
def test_targets_that_are_refused(name: str, format: str | None, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.onnx").write_text("something")
    with pytest.raises(UserError, match=sentence):
        export_model(Model(nn.Identity(), channels=1), tmp_path / name, format=format)
    assert (tmp_path / "there.onnx").read_text() == "something"


def test_a_target_is_replaced_if_told_so(tmp_path: Path) -> None:
    (tmp_path / "there.pt2").write_text("something")
    export_model(Model(nn.Identity(), channels=1), tmp_path / "there.pt2", overwrite=True)
    assert torch.export.load(tmp_path / "there.pt2").module()(torch.zeros(1, 1, 2, 3)).shape == (1, 1, 2, 3)


@pytest.mark.parametrize("name", ["a.pt2", "a.onnx", "a"])
def test_a_full_disk_is_a_sentence_that_names_the_target(
    name: str, tmp_path: Path, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(nn.Conv2d(1, 1, 33, padding=16), channels=1)
    traced = trace(model)
    monkeypatch.setattr("gradprom.export.trace.trace", lambda _: traced)
    if name == "a":
        pytest.importorskip("monai", reason="needs MONAI: pip install 'gradprom[monai]'")
        import monai.bundle  # noqa: F401 - it writes files of its own as it is imported
    with full_disk(2000), pytest.raises(UserError) as raised:
        export_model(model, tmp_path / name, format="bundle" if name == "a" else None)
    assert re.fullmatch(rf"{tmp_path / name}: the file cannot be written \(.+\); check [^\n]+", str(raised.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}.*pip install 'gradprom\[export\]'"):
        export_model(Model(nn.Identity(), channels=1), tmp_path / "a.onnx")
