"""What a configuration must fulfil before anything heavy is imported."""

from __future__ import annotations

import math

from gradprom._chain import chain_scale
from gradprom.enhancers import enhancer_options
from gradprom.errors import UserError
from gradprom.training.config import Config, StageConfig


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
    training = config.training
    scale = chain_scale(config.degradation)  # refuses what it cannot understand
    positive = {
        "training.batch_size": training.batch_size,
        "training.size": training.size,
        "training.devices": training.devices,
        "training.nodes": training.nodes,
        "training.validate_every": training.validate_every,
        "training.checkpoint_every": training.checkpoint_every,
        "training.max_skipped": training.max_skipped,
        "training.cache_gb": training.cache_gb,
        "dataset.validation_images": config.dataset.validation_images,
        "dataset.max_pixels": config.dataset.max_pixels,
        "dataset.max_side": 1 if config.dataset.max_side is None else config.dataset.max_side,
        "training.centre_crop": training.centre_crop,
        "training.clip_norm": 1 if training.clip_norm is None else training.clip_norm,
        "promotion.max_ratio": 1 if config.promotion.max_ratio is None else config.promotion.max_ratio,
    }
    stages: dict[str, StageConfig] = {name: getattr(training, name) for name in ("warmup", "pretrain", "cascade")}
    positive |= {f"training.{name}.size": stage.size for name, stage in stages.items() if stage.size is not None}
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
        "training.dim": training.dim,
        "training.foreign": training.foreign,
        "dataset.test_fraction": config.dataset.test_fraction,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}: it must lie between 0 and 1")
    for name, stage in stages.items():
        if stage.steps < 0 or not 0 < stage.learning_rate < math.inf:
            raise UserError(
                f"training.{name} has {stage.steps} steps at learning rate {stage.learning_rate}: give it at least 0 "
                "steps and a learning rate above 0"
            )
        size = config.size_of(name)
        if size % scale:
            raise UserError(
                f"training.{name} sees images of {size} pixels, expected a multiple of {scale} for degradation "
                f"{config.degradation!r}: set training.size or training.{name}.size"
            )
    if training.batch_size % training.processes:
        raise UserError(
            f"training.batch_size {training.batch_size} cannot be dealt evenly to {training.processes} devices: "
            "take a multiple of them"
        )
    if config.strategy != "enhancer_only" and not config.tasks:
        raise UserError(f"strategy {config.strategy!r} needs a recognizer: give diagnosis or segmentation an encoder")
    if config.strategy != "gradprom" and (config.promotion.gate != "hard" or config.promotion.combine != "each"):
        raise UserError(f"promotion.gate and promotion.combine belong to strategy gradprom, not to {config.strategy!r}")
    if config.promotion.gate_at != "parameters" and config.promotion.gate == "per_tensor":
        raise UserError("promotion.gate per_tensor judges the enhancer's tensors: set promotion.gate_at to parameters")
    if config.promotion.gate_at != "interface" and config.promotion.gate_per == "sample":
        raise UserError(
            "promotion.gate_per sample needs promotion.gate_at interface: gradients of parameters are summed over "
            "samples"
        )
    if training.compile and training.recompute != "none":
        raise UserError(
            f"training.recompute {training.recompute} does not go with training.compile, which decides by itself what "
            "is computed again: set training.recompute to none, or training.compile to false"
        )
    if config.diagnosis is not None:
        for name in ("pretrain", "cascade"):
            if config.view_of(name) == "crop":
                raise UserError(
                    f"diagnosis needs training.view whole, or training.{name}.view whole: a crop does not carry its "
                    "image's class"
                )
    if config.strategy == "recognizer_only" and config.supervision == "unsupervised":
        raise UserError(
            "strategy recognizer_only needs supervision supervised: without an enhancer there is "
            "nothing to be consistent with"
        )
    enhancer_options(config.enhancer)
