"""The configuration of a run: typed, complete and checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gradprom._versions import versions
from gradprom.errors import UserError

Strategy = Literal["enhancer_only", "recognizer_only", "joint", "frozen", "gradprom"]


@dataclass
class DatasetConfig:
    """The images to learn from.

    Attributes:
        name: isic2018, folder or brain_mr (embedded, needs no root).
        root: the dataset's own folder.
        channels: 1 (grey), 3 (colour), or null: as the images are.
        test_fraction: share of the images held out for testing, where the dataset has no test set of its own.
        split_seed: seed of that split.
        validation_images: training images held out to watch the training.
        max_pixels: larger images are refused before they are decoded.
        max_side: images that are higher or wider are brought down to it as they are read; null: they stay as they are.
    """

    name: Literal["isic2018", "folder", "brain_mr"] = "brain_mr"
    root: str | None = None
    channels: Literal[1, 3] | None = None
    test_fraction: float = 0.2
    split_seed: int = 0
    validation_images: int = 8
    max_pixels: int = 100_000_000
    max_side: int | None = None


@dataclass
class DegradationConfig:
    """What is done to the clean images.

    Attributes:
        name: gaussian, additive white noise.
        sigma: the noise's standard deviation, on intensities in [0, 1].
    """

    name: Literal["gaussian"] = "gaussian"
    sigma: float = 0.1


@dataclass
class EnhancerConfig:
    """The enhancer. Options left null take the named architecture's own value.

    Attributes:
        name: srresnet (16 blocks of 64 channels), estr (5 blocks), unet (a U-Net on a ResNet), residual_unet.
        blocks: residual blocks, of srresnet and estr in all, of residual_unet at each level.
        channels: width, at full resolution.
        batch_norm: batch norm in srresnet and estr.
        residual: srresnet and estr predict the difference to their input.
        encoder: of unet: resnet50 or another encoder of segmentation-models-pytorch or timm.
        pretrained: none, imagenet (unet only) or the path of a file of weights.
    """

    name: Literal["srresnet", "estr", "unet", "residual_unet"] = "srresnet"
    blocks: int | None = None
    channels: int | None = None
    batch_norm: bool | None = None
    residual: bool | None = None
    encoder: str | None = None
    pretrained: str = "none"


@dataclass
class RecognizerConfig:
    """The recognizer of one task.

    Attributes:
        encoder: a timm model (diagnosis), an encoder of segmentation-models-pytorch or timm (segmentation).
        pretrained: none, imagenet or the path of a file of weights.
    """

    encoder: str = "resnet50"
    pretrained: str = "none"


@dataclass
class PromotionConfig:
    """How the recognizer's gradient reaches the enhancer.

    Attributes:
        weight: λ; the paper uses 1e-4.
        gate: hard (the paper's), soft (Lemma 3.1), per_tensor, projection or always; of strategy gradprom.
        combine: with two tasks: each is judged by itself, all must be aligned, or any one opens the gate.
        max_ratio: the cone: what is promoted is never longer than this times the enhancer's own gradient; null: no
            bound.
    """

    weight: float = 1e-4
    gate: Literal["hard", "soft", "per_tensor", "projection", "always"] = "hard"
    combine: Literal["each", "any", "all"] = "each"
    max_ratio: float | None = None


@dataclass
class StageConfig:
    """One stage of training, with Adam.

    Attributes:
        steps: optimizer steps; 0 leaves the stage out.
        learning_rate: its initial value.
        schedule: constant, or cosine: falls to zero over the stage.
    """

    steps: int = 1000
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"


@dataclass
class TrainingConfig:
    """How to train.

    Attributes:
        seed: of weights, data order, augmentation and noise.
        batch_size: images a step, over all processes.
        size: side of the training images in pixels.
        view: crop (pieces of the images, for segmentation or no task) or whole (images resized, needed for diagnosis).
        augment: flips, rotation within 10 degrees, centre crop at 50-100 % (the paper's), or not.
        rotate: probability of a rotation; it resamples the image, which takes a little of its sharpness.
        centre_crop: least side of the centre crop, as a share of the image's (0.5 in the paper); with 1 the image's
            borders are learnt too.
        enhancement_loss: mse (the paper's) or l1.
        consistency_loss: of the unsupervised setting: kl, or mse of logits.
        target: of the unsupervised setting: what the clean image is read by: reference, a frozen copy of the recognizer
            as the cascade began, or live, the recognizer itself (Eq. 3 to the letter; it may collapse).
        warmup: the enhancer alone, first.
        pretrain: the recognizer alone, on clean images with their labels; of recognizer_only on degraded ones.
        cascade: both together, by the strategy; enhancer_only and recognizer_only go on alone for as many steps.
        precision: bf16-mixed, 16-mixed (GPUs), 32-true, or auto: bf16-mixed where the processor has it.
        compile: compile the models with torch.compile.
        accelerator: cpu, cuda, mps or auto.
        devices: number of processes.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints; one more is written after the first steps of a run.
        max_skipped: stop after so many steps in a row with a loss that is not finite.
        cache_gb: memory for decoded images.
        stages: folder where finished warm-up and pretraining stages are kept and found again by runs that share them.
    """

    seed: int = 0
    batch_size: int = 8
    size: int = 128
    view: Literal["crop", "whole"] = "crop"
    augment: bool = True
    rotate: float = 0.5
    centre_crop: float = 0.5
    enhancement_loss: Literal["mse", "l1"] = "mse"
    consistency_loss: Literal["kl", "mse"] = "kl"
    target: Literal["reference", "live"] = "reference"
    warmup: StageConfig = field(default_factory=StageConfig)
    pretrain: StageConfig = field(default_factory=StageConfig)
    cascade: StageConfig = field(default_factory=StageConfig)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool = False
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    validate_every: int = 500
    checkpoint_every: int = 500
    max_skipped: int = 50
    cache_gb: float = 8.0
    stages: str | None = None


@dataclass
class Config:
    """A run, completely.

    Attributes:
        dataset: the images to learn from.
        degradation: what is done to them.
        enhancer: the model that undoes it.
        diagnosis: the recognizer of whole images, or null; --diagnosis.encoder NAME asks for one.
        segmentation: the recognizer of pixels, or null; --segmentation.encoder NAME asks for one.
        strategy: who receives which gradient: gradprom, joint, frozen, enhancer_only or recognizer_only.
        supervision: supervised (labels, Eq. 4) or unsupervised (consistency, Eq. 3).
        promotion: how the recognizers' gradients reach the enhancer.
        training: how to train.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    enhancer: EnhancerConfig = field(default_factory=EnhancerConfig)
    diagnosis: RecognizerConfig | None = None
    segmentation: RecognizerConfig | None = None
    strategy: Strategy = "gradprom"
    supervision: Literal["supervised", "unsupervised"] = "supervised"
    promotion: PromotionConfig = field(default_factory=PromotionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def tasks(self) -> dict[str, RecognizerConfig]:
        """The recognizers that are asked for, by task.

        >>> list(Config(segmentation=RecognizerConfig()).tasks)
        ['segmentation']
        """
        pairs = {"diagnosis": self.diagnosis, "segmentation": self.segmentation}
        return {task: recognizer for task, recognizer in pairs.items() if recognizer is not None}


def check(config: Config) -> None:
    """Refuse what cannot work, in one sentence that says what would.

    Raises:
        UserError: a value is out of its range, or two options contradict each other.

    Example:
        >>> check(Config(strategy="joint"))
        Traceback (most recent call last):
        ...
        gradprom.errors.UserError: strategy 'joint' needs a recognizer: give diagnosis or segmentation an encoder
    """
    from gradprom.enhancers import enhancer_options

    training = config.training
    if not 0 <= config.degradation.sigma < math.inf:
        raise UserError(f"degradation.sigma is {config.degradation.sigma}: it must be a finite number of at least 0")
    positive = {
        "training.batch_size": training.batch_size,
        "training.size": training.size,
        "training.devices": training.devices,
        "training.validate_every": training.validate_every,
        "training.checkpoint_every": training.checkpoint_every,
        "training.max_skipped": training.max_skipped,
        "training.cache_gb": training.cache_gb,
        "dataset.validation_images": config.dataset.validation_images,
        "dataset.max_pixels": config.dataset.max_pixels,
        "dataset.max_side": 1 if config.dataset.max_side is None else config.dataset.max_side,
        "training.centre_crop": training.centre_crop,
        "promotion.max_ratio": 1 if config.promotion.max_ratio is None else config.promotion.max_ratio,
    }
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name} is {value}: it must be a finite number above 0")
    if not 0 <= config.promotion.weight < math.inf:
        raise UserError(f"promotion.weight is {config.promotion.weight}: it must be a finite number of at least 0")
    whole = {
        "training.seed": (training.seed, 0),
        "dataset.split_seed": (config.dataset.split_seed, 0),
        "enhancer.blocks": (config.enhancer.blocks, 1),
        "enhancer.channels": (config.enhancer.channels, 1),
    }
    for name, (number, least) in whole.items():
        if number is not None and number < least:
            raise UserError(f"{name} is {number}: it must be a whole number of at least {least}")
    shares = {
        "training.rotate": training.rotate,
        "training.centre_crop": training.centre_crop,
        "dataset.test_fraction": config.dataset.test_fraction,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}: it must lie between 0 and 1")
    for name in ("warmup", "pretrain", "cascade"):
        stage: StageConfig = getattr(training, name)
        if stage.steps < 0 or not 0 < stage.learning_rate < math.inf:
            raise UserError(
                f"training.{name} has {stage.steps} steps at learning rate {stage.learning_rate}: give it at least 0 "
                "steps and a learning rate above 0"
            )
    if training.batch_size % training.devices:
        raise UserError(
            f"training.batch_size {training.batch_size} cannot be dealt evenly to {training.devices} devices: "
            "take a multiple of them"
        )
    if config.strategy != "enhancer_only" and not config.tasks:
        raise UserError(f"strategy {config.strategy!r} needs a recognizer: give diagnosis or segmentation an encoder")
    if config.strategy != "gradprom" and (config.promotion.gate != "hard" or config.promotion.combine != "each"):
        raise UserError(f"promotion.gate and promotion.combine belong to strategy gradprom, not to {config.strategy!r}")
    if config.diagnosis is not None and training.view == "crop":
        raise UserError("diagnosis needs training.view whole: a crop does not carry its image's class")
    if config.strategy == "recognizer_only" and config.supervision == "unsupervised":
        raise UserError(
            "strategy recognizer_only needs supervision supervised: without an enhancer there is "
            "nothing to be consistent with"
        )
    enhancer_options(config.enhancer)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain nested data."""
    return dataclasses.asdict(config)


def stage_key(config: Config, stage: Literal["warmup", "pretrain"], task: str | None = None) -> str:
    """A name for a stage's result: equal for two runs when the configuration and the packages that make it are equal.

    The files of the dataset are not looked at, nor is the machine: keep one folder of stages for each.

    Example:
        >>> a, b = Config(), Config(strategy="enhancer_only")
        >>> stage_key(a, "warmup") == stage_key(b, "warmup"), stage_key(a, "warmup") == stage_key(a, "pretrain")
        (True, False)
    """
    whole = to_dict(config)
    del whole["dataset"]["max_pixels"]  # whether an image is read, not how
    training = whole["training"]
    kept = {
        name: training[name]
        for name in (
            "seed",
            "batch_size",
            "size",
            "view",
            "augment",
            "rotate",
            "centre_crop",
            "precision",
            "compile",
            "accelerator",
            "devices",
        )
    }
    kept["versions"] = versions()
    kept |= {"stage": training[stage], "dataset": whole["dataset"], "name": stage}
    if stage == "warmup":
        kept |= {"enhancer": whole["enhancer"], "degradation": whole["degradation"]}
        kept |= {"loss": training["enhancement_loss"]}
    else:
        kept |= {"task": task, "recognizer": whole[task] if task else None}
    text = json.dumps(kept, sort_keys=True)
    return f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def parse(path: str | Path | None = None, arguments: list[str] | None = None) -> Config:
    """Read a configuration from a YAML file and from options like ``--degradation.sigma 0.2``, which win.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown or a value has the wrong type.

    Example:
        >>> parse(arguments=["--strategy", "enhancer_only", "--degradation.sigma", "0.2"]).degradation.sigma
        0.2
    """
    from gradprom.training._parse import parse_config

    config = parse_config(None if path is None else Path(path), arguments or [])
    check(config)
    return config
