"""Enhancers by name."""

from pathlib import Path

import pytest
import torch

from gradprom import UserError
from gradprom.enhancers import build_enhancer, enhancer_options
from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import EncoderUNet, ResidualUNet
from gradprom.training.config import EnhancerConfig
from gradprom.weights import save_weights


@pytest.mark.parametrize(("name", "blocks"), [("srresnet", 16), ("estr", 5)])
def test_srresnet_presets(name: str, blocks: int) -> None:
    enhancer = build_enhancer(EnhancerConfig(name=name), image_channels=3)
    assert isinstance(enhancer, SRResNet)
    assert len(enhancer.blocks) == blocks
    assert enhancer.head[0].weight.shape == (64, 3, 9, 9)
    assert enhancer.tail.weight.shape == (3, 64, 9, 9)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in enhancer.modules())
    assert not enhancer.residual


def test_options_are_passed_on() -> None:
    config = EnhancerConfig(name="srresnet", blocks=2, channels=8, batch_norm=False, residual=True)
    enhancer = build_enhancer(config, image_channels=1)
    assert (len(enhancer.blocks), enhancer.residual) == (2, True)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in enhancer.modules())
    assert isinstance(build_enhancer(EnhancerConfig(name="residual_unet", channels=4), 1), ResidualUNet)
    assert isinstance(build_enhancer(EnhancerConfig(name="unet", encoder="resnet18"), 1), EncoderUNet)


@pytest.mark.parametrize(
    ("name", "option"), [("unet", "blocks"), ("residual_unet", "encoder"), ("srresnet", "encoder")]
)
def test_options_of_another_architecture_are_refused(name: str, option: str) -> None:
    config = EnhancerConfig(name=name, **{option: "resnet18" if option == "encoder" else 2})
    with pytest.raises(UserError, match=rf"enhancer\.{option} is set.*'{name}' has no such option"):
        enhancer_options(config)


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(UserError, match="encoder 'resnet19' is not known"):
        build_enhancer(EnhancerConfig(name="unet", encoder="resnet19"), 1)


def test_imagenet_weights_are_for_the_encoder_alone() -> None:
    with pytest.raises(UserError, match="no ImageNet weights"):
        build_enhancer(EnhancerConfig(name="estr", channels=4, pretrained="imagenet"), 1)


def test_pretrained_by_path(tmp_path: Path) -> None:
    config = EnhancerConfig(name="estr", blocks=1, channels=4, pretrained=str(tmp_path / "enhancer.safetensors"))
    source = SRResNet(1, blocks=1, channels=4)
    save_weights(tmp_path / "enhancer.safetensors", source.state_dict())
    for name, tensor in build_enhancer(config, 1).state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name
    config.channels = 8
    with pytest.raises(UserError, match=r"enhancer\.safetensors: does not fit the model"):
        build_enhancer(config, 1)
