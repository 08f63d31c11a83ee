"""Activation maps and saliency: of networks whose maps can be computed by hand, and of the recognizers' own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradprom.errors import UserError
from gradprom.explain import activation_map, saliency
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.segmenter import Segmenter

WEIGHTS = torch.tensor([[1.0, -0.5, 0.25], [-1.0, 2.0, 0.5]])


class Features(nn.Module):
    """Three channels at half the size: the image, what it lacks to white, and its square."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x, 2)
        return torch.cat([small, 1 - small, small**2], dim=1)


class Linear(nn.Module):
    """Logits that are linear in the means of the features, or (``pixels``) in the features of each pixel."""

    def __init__(self, pixels: bool = False, power: int = 1) -> None:
        super().__init__()
        self.features = Features()
        self.pixels = pixels
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.einsum("ck,nkhw->nchw", WEIGHTS, self.features(x) ** self.power)
        return logits.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.pixels else logits.mean((2, 3))


def image(count: int = 1, side: int = 8, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def by_hand(weights: Tensor, features: Tensor, side: int = 8) -> np.ndarray:
    """The map of one image from the weight and the values of each channel, enlarged between the pixels' centres."""
    small = np.maximum(np.tensordot(weights.numpy(), features[0].numpy(), axes=1), 0)
    at = np.clip((np.arange(side) + 0.5) * len(small) / side - 0.5, 0, len(small) - 1)
    rows = np.stack([np.interp(at, np.arange(len(small)), column) for column in small.T], axis=1)
    large = np.stack([np.interp(at, np.arange(len(small)), row) for row in rows])
    return large / large.max()


def hopeful(encoder: str = "test_resnet") -> Classifier:
    """A classifier for which all features speak for class 1: its maps are not 0."""
    torch.manual_seed(0)
    model = Classifier(1, classes=3, encoder=encoder).eval()
    with torch.no_grad():
        model.body.fc.weight[1].abs_()
    return model


@pytest.mark.parametrize("target", [0, 1])
def test_of_means_the_weights_are_the_classifier_s(target: int) -> None:
    model = Linear()
    found = activation_map(model, image(), target, layer=model.features)
    np.testing.assert_allclose(found[0], by_hand(WEIGHTS[target], Features()(image())), atol=1e-6)


def test_weights_are_the_mean_gradient() -> None:
    # the gradient of the mean of a square is twice the value, over the number of pixels
    model, features = Linear(power=2), Features()(image())
    found = activation_map(model, image(), 1, layer=model.features)
    np.testing.assert_allclose(found[0], by_hand(WEIGHTS[1] * features[0].mean((1, 2)), features), atol=1e-6)


def test_of_a_segmenter_only_the_pixels_of_the_class_count() -> None:
    model, features = Linear(pixels=True, power=2), Features()(image())
    logits = torch.einsum("ck,nkhw->nchw", WEIGHTS, features**2)[0]
    is_first = (logits[0] > logits[1]).float()
    assert 0 < is_first.sum() < is_first.numel()
    found = activation_map(model, image(), 0, layer=model.features)
    expected = by_hand(WEIGHTS[0] * (features[0] * is_first).mean((1, 2)), features)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


class Given(nn.Module):
    """Gives the same logits for every image, as far as values go."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.features = Features()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        channels = self.features(x)
        # + 0 that carries a gradient: the third channel for class 2, the first for class 1
        zero = channels - channels.detach()
        own = torch.stack([0 * zero[:, 0], zero[:, 0], zero[:, 2]], dim=1).repeat_interleave(2, 2)
        return self.logits + own.repeat_interleave(2, 3)


def test_a_segmenter_s_own_choice_is_the_largest_class_but_the_background() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 0, :6], logits[:, 1, 6, :3], logits[:, 2, 6, 3:] = 1, 1, 1
    logits[:, 0, 7] = 1
    model = Given(logits)
    free, first, second = (activation_map(model, image(), target, layer=model.features) for target in (None, 1, 2))
    assert torch.equal(free, second)
    assert not torch.equal(free, first)


def test_a_class_that_no_pixel_is_of_has_a_map_of_zeros() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 0] = 1
    model = Given(logits)
    assert (activation_map(model, image(), 2, layer=model.features) == 0).all()
    assert (activation_map(model, image(), layer=model.features) == 0).all()


def test_a_classifier_s_own_choice_is_each_image_s_class() -> None:
    torch.manual_seed(0)
    model = Classifier(1, classes=4, encoder="test_resnet").eval()
    images = image(6, 96)
    images[3:] *= 0.1
    with torch.no_grad():
        predicted = model(images).argmax(1)
    assert len(predicted.unique()) > 1
    maps = activation_map(model, images)
    for index, target in enumerate(predicted.tolist()):
        alone = activation_map(model, images[index : index + 1], target)
        np.testing.assert_allclose(maps[index], alone[0], atol=1e-4)


@pytest.mark.parametrize("encoder", ["resnet18", "test_convnext", "test_efficientnet", "densenet121"])
def test_classifiers_of_every_kind(encoder: str) -> None:
    torch.manual_seed(0)
    model = Classifier(1, classes=3, encoder=encoder).eval()
    images = image(1, 128)
    found = activation_map(model, images, 2)
    # the same by autograd alone, in two steps
    features = model.body.forward_features(model.normalize(images)).detach().requires_grad_()
    model.body.forward_head(features)[0, 2].backward()
    weights = features.grad[0].mean((1, 2))
    np.testing.assert_allclose(found[0], by_hand(weights, features.detach(), side=128), atol=1e-3)


@pytest.mark.parametrize("encoder", ["resnet18", "test_resnet", "mobilenet_v2"])
def test_segmenters_of_every_kind(encoder: str) -> None:
    torch.manual_seed(0)
    model = Segmenter(1, classes=3, encoder=encoder).eval()
    images = image(1, 96)
    found = activation_map(model, images)
    *others, last = model.encoder(model.normalize(images))
    features = last.detach().requires_grad_()
    logits = model.body.segmentation_head(model.body.decoder([*others, features]))
    predicted = logits.argmax(1)
    target = 1 if (predicted == 1).sum() >= (predicted == 2).sum() else 2
    (logits[:, target] * (predicted == target)).sum().backward()
    np.testing.assert_allclose(found[0], by_hand(features.grad[0].mean((1, 2)), features.detach(), side=96), atol=1e-3)


def test_what_was_padded_is_cut_off() -> None:
    model, images = hopeful(), image(1, 20)
    padded = nn.functional.pad(images, (0, 12, 0, 12), mode="replicate")
    small, large = (activation_map(model, given, 1, layer=model.body.layer1) for given in (images, padded))
    expected = large[:, :20, :20] / large[:, :20, :20].max()
    assert small.shape == (1, 20, 20)
    np.testing.assert_allclose(small, expected, atol=1e-5)


def test_a_model_of_one_size_covers_the_whole_image() -> None:
    model = hopeful()
    model.size = (64, 64)
    found = activation_map(model, image(1, 128), 1)
    small = nn.functional.interpolate(image(1, 128), (64, 64), mode="bilinear", antialias=True)
    features = model.body.forward_features(model.normalize(small)).detach().requires_grad_()
    model.body.forward_head(features)[0, 1].backward()
    expected = by_hand(features.grad[0].mean((1, 2)), features.detach(), side=128)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


@pytest.mark.parametrize("explain", [activation_map, saliency])
def test_a_factor_on_the_logits_changes_nothing(explain: object) -> None:
    model = hopeful()
    before = explain(model, image(2, 64), 1)
    with torch.no_grad():
        model.body.fc.weight *= 4
        model.body.fc.bias += 7
    np.testing.assert_allclose(explain(model, image(2, 64), 1), before, atol=1e-5)
    assert before.shape == (2, 64, 64)
    np.testing.assert_allclose(before.amax((1, 2)), 1)
    assert before.min() >= 0


@pytest.mark.parametrize("explain", [activation_map, saliency])
def test_the_model_is_left_as_it_was(explain: object) -> None:
    model = Classifier(1, classes=3, encoder="test_resnet").train()
    model.body.layer1.eval()
    model.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    images = image(2, 64)
    with torch.inference_mode():
        inside = explain(model, images.clone(), 1)
    np.testing.assert_array_equal(explain(model, images, 1), inside)
    assert model.training
    assert model.body.layer2.training
    assert not model.body.layer1.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not images.requires_grad


@pytest.mark.parametrize("target", [-1, 3])
def test_a_class_that_is_not_there(target: int) -> None:
    model = Classifier(1, classes=3, encoder="test_resnet")
    for explain in (activation_map, saliency):
        with pytest.raises(UserError, match=rf"target {target}: expected the index of a class, 0 to 2; choose"):
            explain(model, image(1, 64), target)


def test_no_feature_map() -> None:
    for model in (Classifier(1, classes=2, encoder="test_vit"), Segmenter(1, classes=2, encoder="mit_b0")):
        with pytest.raises(UserError, match="expected an encoder that ends in a feature map"):
            activation_map(model, image(1, 64))
    with pytest.raises(UserError, match="layer: expected the part of Linear whose output is to be mapped"):
        activation_map(Linear(), image())


def test_guided_backpropagation_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[2.0, -1.0], [1.0, 3.0], [-1.0, 0.5]]))
        model[3].weight.copy_(torch.tensor([[1.0, -2.0, 1.0], [0.5, 1.0, 1.0]]))
    # hidden: 1.5, 2.5, -0.75. To the first class the second unit speaks against, and the third is off:
    # what is left is the first unit's 1 * (2, -1)
    images = torch.tensor([[[[1.0, 0.5]]]])
    np.testing.assert_allclose(saliency(model, images, 0)[0, 0], [1.0, 0.5])
    # to the second class: 0.5 * (2, -1) + 1 * (1, 3) = (2, 2.5)
    np.testing.assert_allclose(saliency(model, images, 1)[0, 0], [0.8, 1.0])


class Guide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class Guided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Guide.apply(x)


def guided(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, Guided())
    return model


@pytest.mark.parametrize("kind", [Classifier, Segmenter])
def test_guided_backpropagation_of_the_recognizers(kind: type[nn.Module]) -> None:
    # in place and, in the segmenter, the same module at several places
    torch.manual_seed(0)
    model = kind(3, classes=3, encoder="resnet18").eval()
    images = image(1, 64, channels=3)
    found = saliency(model, images, 1)
    given = images.clone().requires_grad_()
    logits = guided(model)(given)
    score = logits[:, 1] if logits.ndim == 2 else logits[:, 1] * (logits.argmax(1) == 1)
    score.sum().backward()
    expected = given.grad[0].abs().amax(0)
    np.testing.assert_allclose(found[0], expected / expected.max(), atol=1e-4)
