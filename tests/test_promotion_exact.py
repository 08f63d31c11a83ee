"""The rule on real models against the naive computation: a separate graph and ``autograd.grad`` for every loss."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradprom import GradientPromotion
from gradprom.enhancers.srresnet import SRResNet
from gradprom.objectives import consistency_loss, enhancement_loss, recognition_loss
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.segmenter import Segmenter

Losses = Callable[[nn.Module, nn.ModuleDict], tuple[Tensor, dict[str, Tensor], Tensor]]


@pytest.fixture(scope="module")
def recognizers() -> nn.ModuleDict:
    torch.manual_seed(0)
    diagnosis, segmentation = Classifier(1, 3, "resnet18"), Segmenter(1, 2, "resnet18")
    return nn.ModuleDict({"diagnosis": diagnosis, "segmentation": segmentation}).double()


@pytest.fixture(scope="module")
def enhancer() -> nn.Module:
    torch.manual_seed(0)
    return SRResNet(1, blocks=2, channels=4, batch_norm=True).double()


def losses(tasks: list[str], opposed: str | None) -> Losses:
    torch.manual_seed(1)
    clean = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    degraded = clean + 0.2 * torch.randn_like(clean)
    truths = {"diagnosis": torch.tensor([0, 1, 2]), "segmentation": (clean[:, 0] > 0.5).long()}

    def compute(enhancer: nn.Module, recognizers: nn.ModuleDict) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        enhanced = enhancer(degraded)
        auxiliaries = {task: recognition_loss(recognizers[task](enhanced), truths[task]) for task in tasks}
        # pulls towards the clean image, or away from it, whatever the recognizer's random weights say
        pull = 100 * enhancement_loss(enhanced, clean)
        auxiliaries = {task: loss - pull if task == opposed else loss + pull for task, loss in auxiliaries.items()}
        return enhancement_loss(enhanced, clean), auxiliaries, enhanced

    return compute


def naive(compute: Losses, enhancer: nn.Module, recognizers: nn.ModuleDict, weight: float) -> tuple[dict, dict]:
    """θ's and φ's gradients by the rule, and what is aligned."""
    theta, phi = list(enhancer.parameters()), list(recognizers.parameters())

    def gradient(name: str | None, parameters: list[Tensor]) -> list[Tensor]:
        main, auxiliaries, _ = compute(copy_of(enhancer), copy_of(recognizers))
        loss = main if name is None else auxiliaries[name]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def copy_of(module: nn.Module) -> nn.Module:
        """The same parameters, but batch norm's running statistics of its own."""
        twin = copy.copy(module)
        return copy.deepcopy(twin, {id(p): p for p in module.parameters()})

    names = compute(copy_of(enhancer), copy_of(recognizers))[1]
    update = gradient(None, theta)
    flat = torch.cat([g.flatten() for g in update])
    recognition, alignment = [torch.zeros_like(p) for p in phi], {}
    for name in names:
        upstream = gradient(name, theta)
        alignment[name] = torch.cosine_similarity(flat, torch.cat([g.flatten() for g in upstream]), dim=0).item()
        if alignment[name] >= 0:
            update = [g + weight * a for g, a in zip(update, upstream, strict=True)]
        recognition = [g + a for g, a in zip(recognition, gradient(name, phi), strict=True)]
    parameters = dict(zip([*theta, *phi], [*update, *recognition], strict=True))
    return parameters, alignment


@pytest.mark.parametrize("use_interface", [True, False])
@pytest.mark.parametrize(
    ("tasks", "opposed"),
    [
        (["diagnosis"], None),
        (["diagnosis"], "diagnosis"),
        (["segmentation"], None),
        (["segmentation"], "segmentation"),
        (["diagnosis", "segmentation"], "segmentation"),
    ],
)
def test_equals_the_naive_computation(enhancer, recognizers, tasks, opposed, use_interface) -> None:
    enhancer.zero_grad()
    recognizers.zero_grad()
    compute = losses(tasks, opposed)
    expected, alignment = naive(compute, enhancer, recognizers, weight=0.3)
    main, auxiliaries, enhanced = compute(enhancer, recognizers)
    step = GradientPromotion(enhancer.parameters(), recognizers.parameters(), weight=0.3).backward(
        main, auxiliaries, interface=enhanced if use_interface else None
    )
    assert step.promoted == {task: task != opposed for task in tasks}
    assert step.alignment == pytest.approx(alignment, abs=1e-10)
    for name, p in [*enhancer.named_parameters(), *recognizers.named_parameters()]:
        if p.grad is None:
            assert name.split(".")[0] not in tasks
            continue
        assert (p.grad - expected[p]).abs().max() <= 1e-10 * max(1, expected[p].abs().max()), name


def test_frozen_recognizer_in_eval_mode_and_consistency(enhancer, recognizers) -> None:
    torch.manual_seed(2)
    clean = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    reader = copy.deepcopy(recognizers["diagnosis"]).eval().requires_grad_(False)

    def compute(enhancer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        enhanced = enhancer(clean.flip(2))
        return enhancement_loss(enhanced, clean), consistency_loss(reader(enhanced), reader(clean)), enhanced

    theta = list(enhancer.parameters())
    expected = [
        a + 10 * b
        for a, b in zip(
            torch.autograd.grad(compute(enhancer)[0], theta),
            torch.autograd.grad(compute(enhancer)[1], theta),
            strict=True,
        )
    ]
    enhancer.zero_grad()
    main, auxiliary, enhanced = compute(enhancer)
    GradientPromotion(theta, reader.parameters(), weight=10, gate="always").backward(
        main, {"diagnosis": auxiliary}, interface=enhanced
    )
    for p, gradient in zip(theta, expected, strict=True):
        assert (p.grad - gradient).abs().max() <= 1e-10
    assert all(p.grad is None for p in reader.parameters())
