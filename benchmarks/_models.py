"""The models of the benchmarks, and one batch of made-up images for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import EncoderUNet
from gradprom.objectives import consistency_loss, recognition_loss
from gradprom.recognizers.classifier import Classifier

ENHANCERS = {
    "SRResNet 5x32": lambda: SRResNet(1, blocks=5, channels=32, batch_norm=False),
    "SRResNet 16x64 BN": lambda: SRResNet(1, blocks=16, channels=64, batch_norm=True),
    "U-Net-ResNet-50": lambda: EncoderUNet(1, encoder="resnet50"),
}
RECOGNIZERS = {"ResNet-18": "resnet18", "ResNet-50": "resnet50"}
WEIGHT = 1e-2


@dataclass
class Cascade:
    """An enhancer, its recognizers, and a batch; gradients are taken of all of them.

    With ``references``, frozen recognizers, the others learn to say of the enhanced image what these say of the clean.
    """

    enhancer: nn.Module
    recognizers: nn.ModuleDict
    degraded: Tensor
    clean: Tensor
    label: Tensor
    bf16: bool = False
    references: nn.ModuleDict | None = None

    @property
    def theta(self) -> list[Tensor]:
        return list(self.enhancer.parameters())

    @property
    def phi(self) -> list[Tensor]:
        return list(self.recognizers.parameters())

    def enhance(self) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            enhanced: Tensor = self.enhancer(self.degraded)
        return enhanced

    def main(self, enhanced: Tensor) -> Tensor:
        return mse_loss(enhanced.float(), self.clean)

    def recognition(self, name: str, enhanced: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.recognizers[name](enhanced)
            with torch.no_grad():
                target = None if self.references is None else self.references[name](self.clean)
        return recognition_loss(logits, self.label) if target is None else consistency_loss(logits, target)

    def recognize(self, enhanced: Tensor) -> dict[str, Tensor]:
        return {name: self.recognition(name, enhanced) for name in self.recognizers}

    def recognize_later(self, enhanced: Tensor) -> dict[str, Callable[[], Tensor]]:
        """As functions, for what takes one loss after the other."""
        return {name: partial(self.recognition, name, enhanced) for name in self.recognizers}

    def forget(self) -> None:
        """As ``zero_grad`` of an optimizer."""
        for parameter in (*self.theta, *self.phi):
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        return [p.grad.clone() for p in (*self.theta, *self.phi) if p.grad is not None]


def build(
    enhancer: str, recognizers: list[str], size: int, batch: int, bf16: bool = False, supervised: bool = True
) -> Cascade:
    torch.manual_seed(0)
    models = {f"{i}": Classifier(1, 4, RECOGNIZERS[name]) for i, name in enumerate(recognizers)}
    clean = torch.rand(batch, 1, size, size)
    cascade = Cascade(
        ENHANCERS[enhancer](),
        nn.ModuleDict(models),
        clean + 0.2 * torch.randn_like(clean),
        clean,
        torch.arange(batch) % 4,
        bf16,
    )
    # at the start the last layer of some enhancers is zero and lets no gradient through: move off it
    with torch.no_grad():
        for parameter in cascade.enhancer.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    if not supervised:
        cascade.references = copy.deepcopy(cascade.recognizers).eval().requires_grad_(False)
        with torch.no_grad():
            # of equal weights the two say nearly the same, and there is hardly a gradient
            for parameter in cascade.references.parameters():
                parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    return cascade


def difference(c: Cascade, got: list[Tensor], expected: list[Tensor]) -> float:
    """‖got - expected‖ / ‖expected‖ over θ or over φ, whichever is larger."""
    halves = slice(len(c.theta)), slice(len(c.theta), None)
    return max(_difference(got[half], expected[half]) for half in halves)


def _difference(got: list[Tensor], expected: list[Tensor]) -> float:
    above = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(got, expected, strict=True))
    below = sum(float(b.double().square().sum()) for b in expected)
    return (above / below) ** 0.5
