"""The models of a run and the stages they go through."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from gradprom._chain import chain_scale
from gradprom.datasets.sample import Dataset
from gradprom.enhancers import build_enhancer
from gradprom.errors import UserError
from gradprom.promotion import average_over_processes
from gradprom.recognizers import build_recognizer
from gradprom.strategies import STRATEGIES, CascadeStep, EnhancerStep, RecognizerStep
from gradprom.training._compile import compile_models
from gradprom.training._recompute import recompute_blocks
from gradprom.training.config import Config, stage_key
from gradprom.training.data import stage_seed
from gradprom.training.loop import Runtime, Stage


def build_models(
    config: Config, dataset: Dataset, enhancer: nn.Module | None, recognizers: Mapping[str, nn.Module] | None
) -> dict[str, nn.Module]:
    """All models of the run, each initialised from a seed of its own, so that strategies share their beginnings."""
    strategy, seed = STRATEGIES[config.strategy], config.training.seed
    scale = chain_scale(config.degradation)
    models: dict[str, nn.Module] = {}
    if strategy.enhancer:
        torch.manual_seed(stage_seed(seed, "enhancer"))
        models["enhancer"] = (
            enhancer if enhancer is not None else build_enhancer(config.enhancer, dataset.channels, scale)
        )
    if strategy.recognizer:
        for task, recognizer in config.tasks.items():
            torch.manual_seed(stage_seed(seed, task))
            given = (recognizers or {}).get(task)
            models[task] = given if given is not None else build_recognizer(task, recognizer, dataset)
    return models


def build_stages(
    config: Config, models: dict[str, nn.Module], runtime: Runtime, *, shared: bool, distributed: bool
) -> list[Stage]:
    training, strategy = config.training, STRATEGIES[config.strategy]
    common: dict[str, Any] = {
        "autocast": runtime.autocast,
        "reduce": average_over_processes if distributed else None,
        "scaler": runtime.scaler,
    }
    if training.compile:
        compile_models(models, runtime.device)
    if training.recompute != "none":
        _recompute(models, training.recompute)
    tasks = [task for task in config.tasks if task in models]
    recognizers = {task: models[task] for task in tasks}

    def keep(stage: Literal["warmup", "pretrain"], task: str | None = None) -> Path | None:
        if training.stages is None or not shared:
            return None
        return Path(training.stages) / f"{stage_key(config, stage, task)}.safetensors"

    stages = []
    if strategy.enhancer:
        stages.append(
            Stage(
                "warmup",
                "warm-up of the enhancer",
                training.warmup,
                ["enhancer"],
                partial(EnhancerStep, models["enhancer"], loss=training.enhancement_loss, **common),
                keep("warmup"),
            )
        )
    # Benchmark-ii and -iii know the degraded images alone
    read: Literal["clean", "degraded"] = "clean" if strategy.enhancer else "degraded"
    stages += [
        Stage(
            f"pretrain_{task}",
            f"pretraining for {task}",
            training.pretrain,
            [task],
            partial(RecognizerStep, {task: models[task]}, on=read, **common),
            keep("pretrain", task) if read == "clean" else None,
        )
        for task in tasks
    ]

    def cascade() -> Any:
        if config.strategy == "enhancer_only":
            return EnhancerStep(models["enhancer"], loss=training.enhancement_loss, **common)
        if config.strategy == "recognizer_only":
            return RecognizerStep(recognizers, on="degraded", **common)
        return CascadeStep(
            config.strategy,
            models["enhancer"],
            recognizers,
            supervision=config.supervision,
            target=training.target,
            weight=config.promotion.weight,
            gate=config.promotion.gate,
            combine=config.promotion.combine,
            max_ratio=config.promotion.max_ratio,
            gate_at=config.promotion.gate_at,
            gate_per=config.promotion.gate_per,
            enhancement=training.enhancement_loss,
            consistency=training.consistency_loss,
            **common,
        )

    trained = (["enhancer"] if strategy.enhancer else []) + (tasks if strategy.trains_recognizer else [])
    stages.append(Stage("cascade", config.strategy, training.cascade, trained, cascade))
    return [stage for stage in stages if stage.config.steps]


def _recompute(models: dict[str, nn.Module], which: Literal["enhancer", "all"]) -> None:
    chosen = [model for name, model in models.items() if which == "all" or name == "enhancer"]
    if not sum([recompute_blocks(model) for model in chosen]):
        raise UserError(
            f"training.recompute is {which}, but of the models it is for none has blocks, the members with parts of "
            "their own of a Sequential, ModuleList or ModuleDict: set it to none"
        )
