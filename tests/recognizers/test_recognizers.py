"""Recognizers: ImageNet normalisation inside, images of any size, encoders of both libraries."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gradprom import UserError
from gradprom.datasets.sample import Dataset
from gradprom.recognizers import build_recognizer
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.normalize import ImageNetNormalize
from gradprom.recognizers.segmenter import Segmenter, build_unet
from gradprom.training.config import RecognizerConfig


def test_normalisation_is_timms() -> None:
    image = torch.rand(2, 3, 4, 5)
    expected = (image.numpy() - np.reshape(timm.data.IMAGENET_DEFAULT_MEAN, (3, 1, 1))) / np.reshape(
        timm.data.IMAGENET_DEFAULT_STD, (3, 1, 1)
    )
    np.testing.assert_allclose(ImageNetNormalize(3)(image), expected, rtol=1e-5, atol=1e-6)
    assert not ImageNetNormalize(3).state_dict()


@pytest.mark.parametrize("channels", [1, 3])
def test_classifier_is_the_normalised_timm_model(channels: int) -> None:
    torch.manual_seed(0)
    classifier = Classifier(channels, 4, "resnet18").eval()
    torch.manual_seed(0)
    reference = timm.create_model("resnet18", in_chans=channels, num_classes=4).eval()
    image = torch.rand(1, channels, 40, 33)
    with torch.no_grad():
        assert torch.equal(classifier(image), reference(ImageNetNormalize(channels)(image)))


@pytest.mark.parametrize("encoder", ["convnext_atto", "resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("size", [(1, 1), (40, 7), (33, 65)])
def test_classifier_of_any_size(encoder: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert Classifier(1, 2, encoder).eval()(torch.rand(2, 1, *size)).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (31, 64), (33, 20)])
def test_segmenter_of_any_size(channels: int, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert Segmenter(channels, 3, "resnet18").eval()(torch.rand(2, channels, *size)).shape == (2, 3, *size)


def test_padding_changes_nothing_where_none_is_needed() -> None:
    segmenter, image = Segmenter(1, 2, "resnet18").eval(), torch.rand(1, 1, 64, 32)
    with torch.no_grad():
        assert torch.equal(segmenter(image), segmenter.body(segmenter.normalize(image)))


@pytest.mark.parametrize("encoder", ["resnet19", "", "resnet18.nosuch"])
def test_unknown_encoders_are_refused(encoder: str) -> None:
    for build in (lambda: Classifier(1, 2, encoder), lambda: build_unet(encoder, 1, 2)):
        with pytest.raises(UserError, match=f"encoder '{encoder}' is not .*resnet50"):
            build()


def test_encoder_that_cannot_carry_a_unet_is_refused() -> None:
    with pytest.raises(UserError, match="cannot carry a U-Net"):
        build_unet("vit_tiny_patch16_224", 1, 2)


def test_encoders_of_timm_carry_a_unet_too() -> None:
    with torch.no_grad():
        assert build_unet("mobilenetv3_small_050", 1, 2).eval()(torch.rand(1, 1, 32, 32)).shape == (1, 2, 32, 32)


def dataset(**labels: tuple[str, ...]) -> Dataset:
    return Dataset(name="mine", channels=1, train=(), test=(), **labels)


def test_build_by_task() -> None:
    both = dataset(classes=("a", "b", "c"), mask_classes=("background", "lesion"))
    config = RecognizerConfig(encoder="resnet18")
    image = torch.rand(2, 1, 33, 40)
    with torch.no_grad():
        assert build_recognizer("diagnosis", config, both).eval()(image).shape == (2, 3)
        assert build_recognizer("segmentation", config, both).eval()(image).shape == (2, 2, 33, 40)


@pytest.mark.parametrize(("task", "kind"), [("diagnosis", "diagnoses"), ("segmentation", "masks")])
def test_task_without_labels_is_refused(task: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"dataset 'mine' has no {kind}"):
        build_recognizer(task, RecognizerConfig(), dataset())


def test_a_frozen_recognizer_passes_the_gradient_on_and_keeps_none() -> None:
    classifier = Classifier(1, 2, "resnet18").eval().requires_grad_(False)
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    nn.functional.cross_entropy(classifier(image), torch.tensor([0])).backward()
    assert image.grad.any()
    assert all(p.grad is None for p in classifier.parameters())
