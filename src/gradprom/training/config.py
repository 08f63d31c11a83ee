"""The configuration of a run: typed, complete and checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gradprom._chain import describe_chain
from gradprom._versions import versions

Strategy = Literal["enhancer_only", "recognizer_only", "joint", "frozen", "gradprom"]


@dataclass
class DatasetConfig:
    """The images to learn from.

    Attributes:
        name: isic2018, covid_ct, camus, crchisto, tnbc, lizard, folder or brain_mr (embedded, needs no root).
        root: the dataset's own folder.
        channels: 1 (grey), 3 (colour), or null: as the images are.
        split: official (the dataset's own test set), random (by test_fraction and split_seed), the path of a file of
            columns id and part, or null: official where there is one.
        test_fraction: share of the images held out for testing in a random split.
        split_seed: seed of that split.
        views: of camus: both, or 2CH or 4CH alone.
        structures: of camus: endocardium (against all else) or all (left ventricle, myocardium, left atrium).
        validation_images: training images held out to watch the training.
        max_pixels: larger images are refused before they are decoded.
        max_side: images that are higher or wider are brought down to it as they are read; null: they stay as they are.
    """

    name: Literal["isic2018", "covid_ct", "camus", "crchisto", "tnbc", "lizard", "folder", "brain_mr"] = "brain_mr"
    root: str | None = None
    channels: Literal[1, 3] | None = None
    split: str | None = None
    test_fraction: float = 0.2
    split_seed: int = 0
    views: Literal["both", "2CH", "4CH"] = "both"
    structures: Literal["endocardium", "all"] = "endocardium"
    validation_images: int = 8
    max_pixels: int = 100_000_000
    max_side: int | None = None


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
        gate_at: parameters (the paper's rule); or, for one backward pass less, an approximation: last_layer (the
            gradients of the enhancer's last layer alone are compared) or interface (those at its output).
        gate_per: at the interface, one decision for the batch or for each sample.
    """

    weight: float = 1e-4
    gate: Literal["hard", "soft", "per_tensor", "projection", "always"] = "hard"
    combine: Literal["each", "any", "all"] = "each"
    max_ratio: float | None = None
    gate_at: Literal["parameters", "last_layer", "interface"] = "parameters"
    gate_per: Literal["batch", "sample"] = "batch"


@dataclass
class StageConfig:
    """One stage of training, with Adam.

    Attributes:
        steps: optimizer steps; 0 leaves the stage out.
        learning_rate: its initial value.
        schedule: constant, or cosine: falls to zero over the stage.
        view: crop or whole, where the stage sees the images otherwise than training.view says; null: as it says.
        size: side of the stage's images in pixels; null: training.size.
    """

    steps: int = 1000
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    view: Literal["crop", "whole"] | None = None
    size: int | None = None


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
        dim: probability that an image is darkened, by a factor from 0.1 to 1, so that the enhancer does not take what
            is darker than its images for background.
        foreign: probability that a foreign object, a disc of other colours and grain, is put into an image (class 0 of
            its mask), so that the enhancer learns to keep what it seldom sees, as stickers and cloths beside skin.
        enhancement_loss: mse (the paper's) or l1.
        consistency_loss: of the unsupervised setting: kl, or mse of logits.
        target: of the unsupervised setting: what the clean image is read by: reference, a frozen copy of the recognizer
            as the cascade began, or live, the recognizer itself (Eq. 3 to the letter; it may collapse).
        warmup: the enhancer alone, first.
        pretrain: the recognizer alone, on clean images with their labels; of recognizer_only on degraded ones.
        cascade: both together, by the strategy; enhancer_only and recognizer_only go on alone for as many steps.
        clip_norm: greatest length of each model's gradient in a step, or null; a longer one keeps its direction, and so
            what the rule guarantees. Against trainings that blow up.
        precision: bf16-mixed, 16-mixed (GPUs), 32-true, or auto: bf16-mixed where the processor has it.
        compile: compile the models with torch.compile, which takes a C++ compiler and a while at the beginning.
        recompute: activation checkpointing, for less memory and more time: what lies within the blocks of the enhancer,
            or of all models, is computed again in the backward pass instead of being kept; or none.
        accelerator: cpu, cuda, mps or auto.
        devices: number of processes on a machine.
        nodes: number of machines, each with as many; the launcher (torchrun, srun) starts the processes of all.
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
    dim: float = 0.0
    foreign: float = 0.0
    enhancement_loss: Literal["mse", "l1"] = "mse"
    consistency_loss: Literal["kl", "mse"] = "kl"
    target: Literal["reference", "live"] = "reference"
    warmup: StageConfig = field(default_factory=StageConfig)
    pretrain: StageConfig = field(default_factory=StageConfig)
    cascade: StageConfig = field(default_factory=StageConfig)
    clip_norm: float | None = None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool = False
    recompute: Literal["none", "enhancer", "all"] = "none"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    nodes: int = 1
    validate_every: int = 500
    checkpoint_every: int = 500
    max_skipped: int = 50
    cache_gb: float = 8.0
    stages: str | None = None

    @property
    def processes(self) -> int:
        """How many there are on all machines."""
        return self.devices * self.nodes


@dataclass
class Config:
    """A run, completely.

    Attributes:
        dataset: the images to learn from.
        degradation: what is done to them: "gaussian SIGMA", "poisson RATE", "blur KERNEL SIGMA", "downsample SCALE", or
            several of them with + between; "challenging" or "challenging physical" (the paper's Table 3); "none".
            "gaussian 0-0.3" draws σ for each image, and "maybe 0.5 blur 3 1" comes to half of them.
        enhancer: the model that undoes it.
        diagnosis: the recognizer of whole images, or null; --diagnosis.encoder NAME asks for one.
        segmentation: the recognizer of pixels, or null; --segmentation.encoder NAME asks for one.
        strategy: who receives which gradient: gradprom, joint, frozen, enhancer_only or recognizer_only.
        supervision: supervised (labels, Eq. 4) or unsupervised (consistency, Eq. 3).
        promotion: how the recognizers' gradients reach the enhancer.
        training: how to train.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    degradation: str = "gaussian 0.1"
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

    def view_of(self, stage: str) -> Literal["crop", "whole"]:
        """How a stage sees the images: warmup, pretrain (or pretrain_TASK) or cascade.

        >>> Config().view_of("cascade")
        'crop'
        """
        return self._stage(stage).view or self.training.view

    def size_of(self, stage: str) -> int:
        """The side in pixels of a stage's images.

        >>> Config().size_of("pretrain_diagnosis")
        128
        """
        return self._stage(stage).size or self.training.size

    def _stage(self, stage: str) -> StageConfig:
        own: StageConfig = getattr(self.training, stage.partition("_")[0])
        return own


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain nested data."""
    return dataclasses.asdict(config)


def differing(config: Any) -> dict[str, Any]:
    """What a configuration, or a part of it, says otherwise than its defaults, as plain nested data.

    Keys of results are made from this, so that an option that a later version adds leaves the earlier results where
    they are. Who changes a default, or what a value means, changes what such a key stands for.

    Example:
        >>> differing(Config(degradation="gaussian 0.2", training=TrainingConfig(seed=1), diagnosis=RecognizerConfig()))
        {'degradation': 'gaussian 0.2', 'diagnosis': {}, 'training': {'seed': 1}}
    """
    found = {}
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        default = option.default if option.default_factory is dataclasses.MISSING else option.default_factory()
        if value != default:
            found[option.name] = differing(value) if dataclasses.is_dataclass(value) else value
    return found


def stage_key(config: Config, stage: Literal["warmup", "pretrain"], task: str | None = None) -> str:
    """A name for a stage's result: equal for two runs when the configuration and the packages that make it are equal.

    The files of the dataset are not looked at, nor is the machine: keep one folder of stages for each.

    Example:
        >>> a, b = Config(), Config(strategy="enhancer_only")
        >>> stage_key(a, "warmup") == stage_key(b, "warmup"), stage_key(a, "warmup") == stage_key(a, "pretrain")
        (True, False)
    """
    dataset = differing(config.dataset)
    dataset.pop("max_pixels", None)  # whether an image is read, not how
    if config.dataset.name != "folder":  # which is known by nothing else
        dataset.pop("root", None)
    common = (
        "seed",
        "batch_size",
        "augment",
        "rotate",
        "centre_crop",
        "dim",
        "foreign",
        "clip_norm",
        "precision",
        "compile",
        "accelerator",
        "devices",
        "nodes",
    )
    kept = {name: value for name, value in differing(config.training).items() if name in common}
    own = differing(getattr(config.training, stage))
    own |= {"view": config.view_of(stage), "size": config.size_of(stage)}
    kept |= {"name": stage, "stage": own, "dataset": dataset, "versions": versions()}
    if stage == "warmup":
        kept |= {"enhancer": differing(config.enhancer), "degradation": describe_chain(config.degradation)}
        kept |= {"loss": config.training.enhancement_loss}
    else:
        recognizer = config.tasks.get(task or "")
        kept |= {"task": task, "recognizer": recognizer and differing(recognizer)}
    text = json.dumps(kept, sort_keys=True)
    return f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def parse(path: str | Path | None = None, arguments: list[str] | None = None) -> Config:
    """Read a configuration from a YAML file and from options like ``--degradation 'gaussian 0.2'``, which win.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown or a value has the wrong type.

    Example:
        >>> parse(arguments=["--strategy", "enhancer_only", "--degradation", "gaussian 0.2"]).degradation
        'gaussian 0.2'
    """
    from gradprom.training._parse import parse_config
    from gradprom.training.check import check

    config = parse_config(None if path is None else Path(path), arguments or [])
    check(config)
    return config
