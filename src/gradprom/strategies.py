"""Who receives which gradient: the strategies that the paper compares (section 4.3), as one step of training each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gradprom._gates import GateName
from gradprom._resize import resized
from gradprom.objectives import ConsistencyLoss, EnhancementLoss, consistency_loss, enhancement_loss, recognition_loss
from gradprom.promotion import Combine, GateAt, GatePer, GradientPromotion, Step

Truths = Mapping[str, Tensor]
Supervision = Literal["supervised", "unsupervised"]
Reduce = Callable[[list[Tensor]], None]


@dataclass(frozen=True)
class Strategy:
    """What a strategy trains.

    Attributes:
        enhancer: there is an enhancer, and θ is trained.
        recognizer: there is a recognizer.
        trains_recognizer: φ is trained in the cascade.
        judged: the recognizer's gradient goes through a gate; otherwise θ always gets it (Eq. 6).
    """

    enhancer: bool
    recognizer: bool
    trains_recognizer: bool
    judged: bool


STRATEGIES: dict[str, Strategy] = {
    "enhancer_only": Strategy(enhancer=True, recognizer=False, trains_recognizer=False, judged=False),
    "recognizer_only": Strategy(enhancer=False, recognizer=True, trains_recognizer=True, judged=False),
    "joint": Strategy(enhancer=True, recognizer=True, trains_recognizer=True, judged=False),
    "frozen": Strategy(enhancer=True, recognizer=True, trains_recognizer=False, judged=False),
    "gradprom": Strategy(enhancer=True, recognizer=True, trains_recognizer=True, judged=True),
}


class EnhancerStep:
    """A step of the enhancer alone: the warm-up, and strategy enhancer_only.

    Args:
        enhancer: trained in place.
        loss: the enhancement loss.
        autocast: context for the forward pass.
        reduce, scaler: as in :class:`gradprom.promotion.GradientPromotion`.
    """

    def __init__(
        self,
        enhancer: nn.Module,
        *,
        loss: EnhancementLoss = "mse",
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        reduce: Reduce | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._enhancer = enhancer.train()
        self._loss: EnhancementLoss = loss
        self._autocast = autocast
        self._promotion = GradientPromotion(enhancer.parameters(), reduce=reduce, scaler=scaler)

    def __call__(self, degraded: Tensor, clean: Tensor, truths: Truths) -> Step:
        """Add the gradients of a batch, shapes (N, C, H, W); labels are not looked at."""
        with self._autocast():
            enhanced = self._enhancer(degraded)
        return self._promotion.backward(enhancement_loss(enhanced, clean, self._loss))


class RecognizerStep:
    """A step of the recognizers alone, on clean images (pretraining) or on degraded ones (strategy recognizer_only).

    Args:
        recognizers: by task, trained in place.
        on: which of the two images they read.
        autocast, reduce, scaler: as in :class:`EnhancerStep`.
    """

    def __init__(
        self,
        recognizers: Mapping[str, nn.Module],
        *,
        on: Literal["clean", "degraded"],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        reduce: Reduce | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._recognizers = {task: recognizer.train() for task, recognizer in recognizers.items()}
        self._on = on
        self._autocast = autocast
        parameters = [p for recognizer in recognizers.values() for p in recognizer.parameters()]
        # the rule without an auxiliary is a plain backward pass that knows about processes and non-finite losses
        self._promotion = GradientPromotion(parameters, reduce=reduce, scaler=scaler)

    def __call__(self, degraded: Tensor, clean: Tensor, truths: Truths) -> Step:
        """Add the gradients of a batch; the losses of several tasks are summed, for they share no parameter."""
        # a smaller image is brought to the size that labels are for, as super-resolution would
        image = clean if self._on == "clean" else resized(degraded, (clean.shape[-2], clean.shape[-1]))
        with self._autocast():
            logits = {task: recognizer(image) for task, recognizer in self._recognizers.items()}
        losses = [recognition_loss(logits[task], truths[task]) for task in logits]
        return self._promotion.backward(torch.stack(losses).sum())


class CascadeStep:
    """A step of enhancer and recognizers together: joint, frozen or gradprom.

    Args:
        strategy: ``joint`` (Eq. 6), ``frozen`` (ESTR: the recognizers are fixed and in eval mode; none of their
            parameters' gradients is computed) or ``gradprom``.
        enhancer: trained in place.
        recognizers: by task; trained in place unless frozen.
        supervision: ``supervised`` (Eq. 4) or ``unsupervised`` (Eq. 3).
        target: of the unsupervised setting: ``reference``, a frozen copy of the recognizers as they are now, in eval
            mode; or ``live``, the recognizers themselves, which is Eq. 3 to the letter. A live target can be met by a
            recognizer that says the same of every image, and then teaches nothing.
        weight, gate, combine, max_ratio, gate_at, gate_per, reduce, scaler: as in
            :class:`gradprom.promotion.GradientPromotion`; the gate is gradprom's alone, the cone may be laid around the
            others too.
        enhancement, consistency: kinds of losses.
        autocast: context for the forward passes.
    """

    def __init__(
        self,
        strategy: Literal["joint", "frozen", "gradprom"],
        enhancer: nn.Module,
        recognizers: Mapping[str, nn.Module],
        *,
        supervision: Supervision = "supervised",
        target: Literal["reference", "live"] = "reference",
        weight: float = 1e-4,
        gate: GateName = "hard",
        combine: Combine = "each",
        max_ratio: float | None = None,
        gate_at: GateAt = "parameters",
        gate_per: GatePer = "batch",
        enhancement: EnhancementLoss = "mse",
        consistency: ConsistencyLoss = "kl",
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        reduce: Reduce | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        what = STRATEGIES[strategy]
        self._enhancer = enhancer.train()
        self._recognizers = dict(recognizers)
        for recognizer in self._recognizers.values():
            recognizer.train(what.trains_recognizer).requires_grad_(what.trains_recognizer)
        self._supervised = supervision == "supervised"
        self.references: dict[str, nn.Module] = {}
        if not self._supervised:
            fixed = target == "reference" and what.trains_recognizer
            self.references = {t: _frozen_copy(r) if fixed else r for t, r in self._recognizers.items()}
        self._enhancement: EnhancementLoss = enhancement
        self._consistency: ConsistencyLoss = consistency
        self._autocast = autocast
        self._promotion = GradientPromotion(
            enhancer.parameters(),
            [p for recognizer in self._recognizers.values() for p in recognizer.parameters()],
            weight=weight,
            gate=gate if what.judged else "always",
            combine=combine,
            max_ratio=max_ratio,
            gate_at=gate_at,
            gate_per=gate_per,
            reduce=reduce,
            scaler=scaler,
        )

    def __call__(self, degraded: Tensor, clean: Tensor, truths: Truths) -> Step:
        """Add the gradients of a batch.

        Args:
            degraded, clean: shape (N, C, H, W).
            truths: by task, int64 of shape (N,) or (N, H, W); not looked at when unsupervised.
        """
        with self._autocast():
            enhanced = self._enhancer(degraded)
        main = enhancement_loss(enhanced, clean, self._enhancement)
        losses = {task: partial(self._recognition, task, enhanced, clean, truths) for task in self._recognizers}
        return self._promotion.backward(main, losses, interface=enhanced)

    def _recognition(self, task: str, enhanced: Tensor, clean: Tensor, truths: Truths) -> Tensor:
        with self._autocast():
            logits = self._recognizers[task](enhanced)
            with torch.no_grad():
                target = None if self._supervised else self.references[task](clean)
        if target is None:
            return recognition_loss(logits, truths[task])
        return consistency_loss(logits, target, self._consistency)


def _frozen_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval().requires_grad_(False)
