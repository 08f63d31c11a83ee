"""Training a run from its configuration, and going on with one."""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gradprom._files import atomic_path
from gradprom._precision import has_bf16
from gradprom._process import tune_malloc
from gradprom._resize import resized
from gradprom._versions import versions
from gradprom.datasets.sample import Dataset
from gradprom.errors import UserError
from gradprom.training._compile import uncompiled
from gradprom.training._progress import make_progress
from gradprom.training._stages import build_models, build_stages
from gradprom.training.card import write_card
from gradprom.training.check import check
from gradprom.training.checkpoint import NAME as CHECKPOINT
from gradprom.training.checkpoint import Checkpoint, read_checkpoint
from gradprom.training.config import Config, TrainingConfig
from gradprom.training.data import RunData, build_dataset
from gradprom.training.folder import (
    CONFIG,
    ENHANCER,
    RunRecord,
    check_folder,
    create_folder,
    read_config,
    write_record,
)
from gradprom.training.logs import Logs
from gradprom.training.loop import Runtime, Trainer
from gradprom.weights import save_weights

# What torchrun, Slurm and, by Lightning's convention, the user say to each process of several machines
_LAUNCHERS = {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK"}


def train(
    config: Config,
    output: str | Path,
    *,
    enhancer: nn.Module | None = None,
    recognizers: Mapping[str, nn.Module] | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a run: the enhancer's warm-up, the recognizers' pretraining on clean images, then the strategy's cascade.

    Args:
        config: the run.
        output: its folder, to be made.
        enhancer: a model of one's own in place of the configured one, (N, C, H, W) in [0, 1] to the same.
        recognizers: models of one's own, by task (``diagnosis``: logits (N, K); ``segmentation``: logits (N, K, H, W)).
        overwrite: replace an earlier run of that name.

    Returns:
        The run folder: ``config.yaml``, ``run.json``, weights, ``checkpoint.pt``, ``metrics.csv``, ``promotion.csv``,
        ``tensorboard/``, ``preview.png`` and ``card.md``.

    Raises:
        UserError: something in the configuration or the data is not as it must be; nothing was written or replaced.
    """
    check(config)
    folder = Path(output)
    check_folder(folder, overwrite=overwrite)
    return _run(config, folder, enhancer, recognizers, new=True)


def resume(
    folder: str | Path, *, enhancer: nn.Module | None = None, recognizers: Mapping[str, nn.Module] | None = None
) -> Path:
    """Go on with a run from its last checkpoint, to the same result as if it had never stopped.

    That holds bit for bit on the same machine, with the same versions and number of threads.

    Raises:
        UserError: the folder is not a run folder, or its checkpoint is damaged.
    """
    folder = Path(folder)
    return _run(read_config(folder), folder, enhancer, recognizers, new=False)


def _run(
    config: Config,
    folder: Path,
    enhancer: nn.Module | None,
    recognizers: Mapping[str, nn.Module] | None,
    *,
    new: bool,
) -> Path:
    tune_malloc()
    for task in recognizers or {}:
        if task not in config.tasks:
            raise UserError(f"a recognizer was given for {task!r}, which the configuration has no entry for: add one")
    dataset = build_dataset(config.dataset)
    precision = resolve_precision(config.training.precision, config.training.accelerator)
    fabric = _fabric(config.training, precision)
    try:
        _work(config, folder, dataset, enhancer, recognizers, fabric, precision, new)
    finally:
        _leave(fabric)
    return folder


def _work(
    config: Config,
    folder: Path,
    dataset: Dataset,
    enhancer: nn.Module | None,
    recognizers: Mapping[str, nn.Module] | None,
    fabric: Any,
    precision: str,
    new: bool,
) -> None:
    runtime = Runtime(
        device=fabric.device,
        autocast=fabric.autocast,
        scaler=torch.amp.GradScaler(fabric.device.type) if precision == "16-mixed" else None,
        is_main=fabric.is_global_zero,
        barrier=fabric.barrier,
    )
    data = RunData(config, dataset, rank=fabric.global_rank, world=fabric.world_size)
    models = build_models(config, dataset, enhancer, recognizers)
    if fabric.world_size > 1 and runtime.device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        models = {name: convert(model) for name, model in models.items()}
    own_models = enhancer is not None or recognizers is not None
    for model in models.values():
        model.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stages = build_stages(config, models, runtime, shared=not own_models, distributed=fabric.world_size > 1)
    position = None if new else read_checkpoint(folder)
    if position is not None:
        _restore(models, position, folder)
    record = _record(config, data, runtime)
    given = {"enhancer": enhancer, **(recognizers or {})}
    record.own_models = [name for name, model in given.items() if model is not None]
    with make_progress(disable=not runtime.is_main) as progress:
        data.cache.preload(data.training, dataset.channels, progress)
        # all that can be wrong with what was given has shown by now: from here on the folder is written to
        logs = None
        runtime.barrier()
        if runtime.is_main:
            if new:
                create_folder(folder, config, record)
            else:
                write_record(folder, record)
                for leftover in folder.glob(".partial-*"):
                    leftover.unlink()
            done = sum(s.config.steps for s in stages[: position.stage]) + position.step if position else 0
            logs = Logs(folder, list(config.tasks), position.log_sizes if position else None, done)
        trainer = Trainer(config, folder, data, models, stages, runtime, logs, progress)
        if position is not None:
            trainer.position = position
        try:
            trainer.run()
        finally:
            if logs is not None:
                logs.close()
    if runtime.is_main:
        _finish(config, folder, models, data, runtime)
        record.seconds, record.finished = round(trainer.position.seconds, 1), True
        write_record(folder, record)
        write_card(folder, config, record)
    runtime.barrier()


def _restore(models: Mapping[str, nn.Module], position: Checkpoint, folder: Path) -> None:
    try:
        for name, state in position.models.items():
            if name in models:
                models[name].load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / CHECKPOINT}: is of another model than {CONFIG} beside it names, train again with --overwrite"
        ) from error


def _leave(fabric: Any) -> None:
    """Take leave of the other processes: one that ends while models and groups still live may abort."""
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def _fabric(training: TrainingConfig, precision: str) -> Any:
    from lightning_fabric import Fabric

    if training.nodes > 1 and _LAUNCHERS.isdisjoint(os.environ):
        raise UserError(
            f"training.nodes is {training.nodes}: expected a launcher that starts the processes of every machine, "
            "found none; use torchrun or srun"
        )
    try:
        fabric = Fabric(
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            precision=precision,
            strategy="ddp" if training.processes > 1 else "auto",
        )
    except (RuntimeError, ValueError) as error:  # MisconfigurationException is one of them or the other by version
        raise UserError(
            f"training.accelerator {training.accelerator} with {training.devices} devices and precision {precision} "
            "cannot be had on this machine: take accelerator cpu or auto, and as many devices as there are"
        ) from error
    fabric.launch()
    return fabric


def resolve_precision(precision: str, accelerator: str) -> str:
    """What ``auto`` stands for on this machine; another precision is as it is.

    Example:
        >>> resolve_precision("32-true", "cpu")
        '32-true'
    """
    if precision != "auto":
        return precision
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return "bf16-mixed" if has_bf16(accelerator) else "32-true"


def _record(config: Config, data: RunData, runtime: Runtime) -> RunRecord:
    dataset = data.dataset
    return RunRecord(
        dataset=dataset.name,
        channels=dataset.channels,
        classes=list(dataset.classes),
        mask_classes=list(dataset.mask_classes),
        training_images=len(data.training),
        validation_images=len(data.validation),
        test_images=len(dataset.test),
        seed=config.training.seed,
        device=str(runtime.device),
        threads=torch.get_num_threads(),
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )


def _finish(config: Config, folder: Path, models: dict[str, nn.Module], data: RunData, runtime: Runtime) -> None:
    """Weights and a picture to look at."""
    if "enhancer" in models:
        with uncompiled(config.training.compile):
            _write_preview(folder / "preview.png", models["enhancer"], data, runtime)
        save_weights(folder / ENHANCER, models["enhancer"].state_dict())
    tasks = [task for task in config.tasks if task in models]
    for task in tasks:
        name = "recognizer" if len(tasks) == 1 else task
        save_weights(folder / f"{name}.safetensors", models[task].state_dict())


def _write_preview(path: Path, enhancer: nn.Module, data: RunData, runtime: Runtime) -> None:
    """Degraded, enhanced and clean, side by side: the first validation image."""
    from PIL import Image

    degraded, clean = data.validation_pair(data.validation[0])
    enhancer.eval()
    with torch.inference_mode(), runtime.autocast():
        enhanced = enhancer(degraded.to(runtime.device)).float().cpu()
    shown = resized(degraded, (clean.shape[-2], clean.shape[-1]))  # as it is, unless it is a smaller one
    strip = torch.cat([shown, enhanced.clamp(0, 1), clean], dim=3)[0].permute(1, 2, 0)
    pixels = (strip.numpy() * 255).round().astype(np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")
