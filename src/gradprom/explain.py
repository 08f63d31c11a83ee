"""Where a recognizer looks (the paper's Figures 2 and 5): Grad-CAM and guided backpropagation, by captum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradprom.errors import UserError
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.segmenter import Segmenter


def activation_map(
    recognizer: nn.Module, images: Tensor, target: int | None = None, *, layer: nn.Module | None = None
) -> Tensor:
    """Where in its images a recognizer finds a class: Grad-CAM at the last feature map of its encoder.

    The channels of the feature map are summed, each weighted by the mean gradient of the class's score over it; what
    speaks against the class is cut off, and the rest is scaled by its greatest value. The score is the logit of a
    classifier, and of a segmenter the sum of the class's logits over the pixels that are predicted as it (none: the map
    is 0). See Selvaraju et al., https://arxiv.org/abs/1610.02391, and Vinogradova et al.,
    https://arxiv.org/abs/2002.11434.

    Args:
        recognizer: maps (N, C, H, W) to logits (N, K) or (N, K, H, W). It runs in eval mode, and is left as it was.
        images: (N, C, H, W) in [0, 1].
        target: index of the class; None: of each image the class that is predicted, of a segmenter the one of most
            pixels, the first (background) left out.
        layer: the part of ``recognizer`` whose output, (N, channels, h, w), is the feature map, and covers the whole
            image; None finds it in a `Classifier` or a `Segmenter`.

    Returns:
        (N, H, W) in [0, 1], bilinearly enlarged.

    Raises:
        UserError: no such class, a recognizer of another kind without ``layer``, or one without feature maps, as
            transformers are.

    Example:
        >>> activation_map(Classifier(1, classes=2, encoder="resnet18"), torch.rand(2, 1, 64, 48)).shape
        torch.Size([2, 64, 48])
    """
    from captum.attr import LayerGradCam

    size = images.shape[-2:]
    with _explained(recognizer), _extents(recognizer) as extents:
        images = images.detach().clone()
        layer = _last_feature_map(recognizer, images) if layer is None else layer
        found = LayerGradCam(_Score(recognizer, target), layer).attribute(images, relu_attributions=True)
    # an image that was padded fills only the upper left part of the feature map
    extent = extents[0] if extents else size
    large = F.interpolate(found.detach().float(), extent, mode="bilinear", align_corners=False)
    return _to_unit(large[:, 0, : size[0], : size[1]])


def saliency(recognizer: nn.Module, images: Tensor, target: int | None = None) -> Tensor:
    """Which pixels of its images a recognizer finds a class by: guided backpropagation.

    The gradient of the class's score (see `activation_map`) with respect to the image, where every ReLU lets only
    positive gradients pass: that takes modules of ``nn.ReLU``; through other activations gradients pass as they are.
    See Springenberg et al., https://arxiv.org/abs/1412.6806.

    Args:
        recognizer: maps (N, C, H, W) to logits (N, K) or (N, K, H, W). It runs in eval mode, and is left as it was.
        images: (N, C, H, W) in [0, 1].
        target: as in `activation_map`.

    Returns:
        (N, H, W) in [0, 1]: the size of the gradient, the greatest over the channels, scaled by its greatest value.

    Raises:
        UserError: no such class.

    Example:
        >>> saliency(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(1, 1, 2, 2)).shape
        torch.Size([1, 2, 2])
    """
    from captum.attr import GuidedBackprop

    with _explained(recognizer), warnings.catch_warnings():
        # captum says each time that it sets hooks, and takes them away again
        warnings.filterwarnings("ignore", message="Setting backward hooks")
        given = images.detach().clone().requires_grad_()
        gradient: Tensor = GuidedBackprop(_Score(recognizer, target)).attribute(given)
    return _to_unit(gradient.detach().float().abs().amax(dim=1))


class _Score(nn.Module):
    """The score of a class, (N,): what is explained."""

    def __init__(self, recognizer: nn.Module, target: int | None) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.target = target

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.recognizer(images)
        if self.target is not None and not 0 <= self.target < logits.shape[1]:
            raise UserError(
                f"target {self.target}: expected the index of a class, 0 to {logits.shape[1] - 1}; choose one of them"
            )
        predicted = logits.detach().argmax(dim=1)
        if self.target is not None:
            targets = predicted.new_full((len(logits),), self.target)
        elif logits.ndim == 2:
            targets = predicted
        else:
            pixels = [(predicted == index).sum(dim=(1, 2)) for index in range(1, logits.shape[1])]
            targets = torch.stack(pixels, dim=1).argmax(dim=1) + 1
        own = logits[torch.arange(len(logits), device=logits.device), targets]
        return own if logits.ndim == 2 else (own * (predicted == targets[:, None, None])).sum(dim=(1, 2))


def _last_feature_map(recognizer: nn.Module, images: Tensor) -> nn.Module:
    """The part of a recognizer whose output is the last feature map of its encoder.

    Every library, and every family of networks in it, has another name for it: the one is looked for that gives what
    the encoder gives.
    """
    if not isinstance(recognizer, (Classifier, Segmenter)):
        raise UserError(
            f"layer: expected the part of {type(recognizer).__name__} whose output is to be mapped, found none; name "
            "the last one that gives (N, channels, height, width)"
        )
    outputs: list[tuple[nn.Module, object]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, output: outputs.append((module, output)))
        for module in recognizer.body.modules()
    ]
    try:
        with torch.no_grad():
            features, channels = _encode(recognizer, images)
    finally:
        for hook in hooks:
            hook.remove()
    givers = [module for module, output in outputs if output is features]
    if not givers or features.ndim != 4 or features.shape[1] != channels:
        raise UserError(
            f"{type(recognizer).__name__}: expected an encoder that ends in a feature map, (N, channels, height, "
            "width), found another; take one of convolutions, a ResNet for instance"
        )
    return givers[-1]


def _encode(recognizer: Classifier | Segmenter, images: Tensor) -> tuple[Tensor, int]:
    """What the encoder gives, of a small black image, and how many channels it should have."""
    if isinstance(recognizer, Segmenter):
        features = recognizer.encoder(images.new_zeros(1, images.shape[1], 64, 64))
        return features[-1], int(recognizer.encoder.out_channels[-1])  # type: ignore[index]
    black = images.new_zeros(1, images.shape[1], *(recognizer.size or (64, 64)))
    features = recognizer.body.forward_features(black)  # type: ignore[operator]
    return features, int(recognizer.body.num_features)  # type: ignore[arg-type]


@contextmanager
def _extents(recognizer: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Note height and width of what the networks of a `Classifier` or a `Segmenter` see, if it is padded images."""
    extents: list[tuple[int, int]] = []
    if not isinstance(recognizer, (Classifier, Segmenter)) or getattr(recognizer, "size", None) is not None:
        yield extents
        return
    hook = recognizer.body.register_forward_pre_hook(lambda _, given: extents.append(tuple(given[0].shape[-2:])))
    try:
        yield extents
    finally:
        hook.remove()


@contextmanager
def _explained(recognizer: nn.Module) -> Iterator[None]:
    """A recognizer in eval mode, with gradients wherever the caller stands; its modes are given back."""
    training = [module for module in recognizer.modules() if module.training]
    recognizer.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _to_unit(maps: Tensor) -> Tensor:
    """Scale each of (N, H, W), of at least 0, by its greatest value; one of zeros stays."""
    greatest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(greatest > 0, maps / greatest, 0.0).clamp(0, 1)
