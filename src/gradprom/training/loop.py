"""The loop: one stage of training after another, each resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from gradprom._files import write_text
from gradprom._process import interruptible
from gradprom.errors import UserError
from gradprom.promotion import Step
from gradprom.training._progress import Meter
from gradprom.training.checkpoint import Checkpoint, save_checkpoint
from gradprom.training.config import Config, StageConfig
from gradprom.training.data import RunData, TimedBatches, stage_seed
from gradprom.training.logs import Logs
from gradprom.weights import read_weights, save_weights

LOG_EVERY = 25
FIRST_CHECKPOINT = 10

StepFunction = Callable[[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]], Step]


@dataclass
class Stage:
    """One stage of a run.

    Attributes:
        name: warmup, pretrain_TASK or cascade.
        label: for the progress bar.
        config: steps, learning rate, schedule.
        trained: names of the models whose parameters the optimizer holds.
        make_step: builds the step, once the models stand as they are when the stage begins.
        shared: file where its result is kept for other runs, or None.
    """

    name: str
    label: str
    config: StageConfig
    trained: list[str]
    make_step: Callable[[], StepFunction]
    shared: Path | None = None


@dataclass
class Runtime:
    """The machine as the loop sees it.

    Attributes:
        device: of models and batches.
        autocast: context for forward passes.
        scaler: for 16-mixed, otherwise None.
        is_main: whether this process writes files.
        barrier: waits for all processes.
    """

    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    scaler: torch.amp.GradScaler | None
    is_main: bool = True
    barrier: Callable[[], None] = lambda: None


@dataclass
class Trainer:
    """Runs the stages.

    Attributes:
        config, folder, data, models, runtime: of the run.
        stages: in order.
        position: where the run stands; a fresh checkpoint or one that was read.
        progress: shows it.
    """

    config: Config
    folder: Path
    data: RunData
    models: dict[str, nn.Module]
    stages: list[Stage]
    runtime: Runtime
    logs: Logs | None
    progress: Progress
    position: Checkpoint = field(default_factory=Checkpoint)

    def run(self) -> None:
        """Run all stages from the position on."""
        total = sum(stage.config.steps for stage in self.stages)
        bar = self.progress.add_task("training", total=total, figures="")
        for index, stage in enumerate(self.stages):
            if index < self.position.stage:
                self.progress.advance(bar, stage.config.steps)
                continue
            self.progress.update(bar, description=stage.label)
            fresh = index > self.position.stage or not self.position.step
            if fresh and stage.shared is not None and stage.shared.exists():
                for name in stage.trained:
                    self.models[name].load_state_dict(read_weights(stage.shared))
                rows = stage.shared.with_suffix(".csv")
                if self.logs is not None and rows.exists():
                    self.logs.copy(rows.read_text(encoding="utf-8"))
                self.progress.advance(bar, stage.config.steps)
            else:
                self._run_stage(index, stage, bar)
                if stage.shared is not None and self.logs is not None:
                    write_text(stage.shared.with_suffix(".csv"), self.logs.rows_of(stage.name))
                    save_weights(stage.shared, self.models[stage.trained[0]].state_dict())
            self.position = Checkpoint(stage=index + 1, seconds=self.position.seconds)
            self._save({})
            self.runtime.barrier()

    def _run_stage(self, index: int, stage: Stage, bar: Any) -> None:
        step_of = stage.make_step()
        references = getattr(step_of, "references", {})
        held = self.models | {f"reference_{task}": module for task, module in references.items()}
        optimizer = torch.optim.Adam(
            [p for name in stage.trained for p in self.models[name].parameters()],
            lr=stage.config.learning_rate,
            fused=self.runtime.device.type in ("cpu", "cuda"),
        )
        scaler, clip_norm = self.runtime.scaler, self.config.training.clip_norm
        if self.position.stage == index and self.position.step:
            for name, state in self.position.models.items():
                held[name].load_state_dict(state)
            optimizer.load_state_dict(self.position.optimizer)
            if scaler is not None:
                scaler.load_state_dict(self.position.scaler)
        else:
            self.position = Checkpoint(stage=index, seconds=self.position.seconds)
        position = self.position
        self.progress.advance(bar, position.step)
        before = sum(s.config.steps for s in self.stages[:index])
        seed = stage_seed(self.config.training.seed, f"{stage.name}-model")
        batches = TimedBatches(
            self.data, self.data.loader(stage.name), position.step, stage.config.steps, self.runtime.device
        )
        meter = Meter(self.config.training.batch_size, position.losses)
        began = time.perf_counter() - position.seconds

        def save() -> None:
            position.seconds = time.perf_counter() - began
            position.models = {name: module.state_dict() for name, module in held.items()}
            position.optimizer = optimizer.state_dict()
            position.scaler = scaler.state_dict() if scaler is not None else {}
            self._save(held)

        with interruptible() as interrupted, closing(batches):
            for degraded, clean, truths in batches:
                torch.manual_seed(seed + position.step)  # for dropout and the like
                rate = _learning_rate(stage.config, position.step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                record = self._step(step_of, degraded, clean, truths)
                self._guard(record, stage)
                if not record.skipped:
                    _optimize(optimizer, scaler, [self.models[name] for name in stage.trained], clip_norm)
                position.step += 1
                meter.add(record)
                self._report(stage, before, record, meter, batches, rate, bar)
                if position.step == FIRST_CHECKPOINT or position.step % self.config.training.checkpoint_every == 0:
                    save()
                if interrupted():
                    save()
                    raise KeyboardInterrupt
        position.seconds = time.perf_counter() - began

    def _step(self, step_of: StepFunction, *batch: Any) -> Step:
        try:
            return step_of(*batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # batch norm's own words
                raise
            training = self.config.training
            raise UserError(
                f"training.batch_size {training.batch_size} on {training.processes} devices at training.size "
                f"{training.size} leaves batch norm a single value to normalise: take larger batches or images"
            ) from error

    def _guard(self, record: Step, stage: Stage) -> None:
        position = self.position
        position.skipped = position.skipped + 1 if record.skipped else 0
        if position.skipped >= self.config.training.max_skipped:
            raise UserError(
                f"training stopped at step {position.step + 1} of the {stage.label}: its main loss or that loss's "
                f"gradient was not finite for {position.skipped} steps in a row, the last loss was {record.main_loss}: "
                "lower the learning rate or use precision 32-true"
            )

    def _report(
        self, stage: Stage, before: int, record: Step, meter: Meter, batches: TimedBatches, rate: float, bar: Any
    ) -> None:
        training, step = self.config.training, self.position.step
        last = step == stage.config.steps
        row: dict[str, Any] = {}
        if step % LOG_EVERY == 0 or last:
            row = meter.row() | {"learning_rate": rate, "data_share": batches.share()}
        if "enhancer" in stage.trained and (step % training.validate_every == 0 or last):
            value = self.data.validate(self.models["enhancer"], self.runtime.device, self.runtime.autocast)
            meter.validation = row["validation_psnr"] = value
            batches.share()  # the time of a validation is not waiting for data, nor is it training
            meter.restart()
        self.progress.update(bar, advance=1, figures=meter.figures())
        if self.logs is None:
            return
        if stage.name == "cascade" and record.losses:
            self.logs.promotion(before + step, step, record)
        if row:
            self.logs.metrics(before + step, {"stage": stage.name, "step": step} | row)

    def _save(self, held: dict[str, nn.Module]) -> None:
        """Between stages the models are kept too: the next stage starts from them."""
        if not self.runtime.is_main or self.logs is None:
            return
        if not held:
            self.position.models = {name: module.state_dict() for name, module in self.models.items()}
        self.position.log_sizes = self.logs.sizes()
        save_checkpoint(self.folder, self.position)


def _learning_rate(config: StageConfig, step: int) -> float:
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (1 + math.cos(math.pi * step / config.steps)) / 2


def _optimize(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    models: Sequence[nn.Module],
    clip_norm: float | None,
) -> None:
    if clip_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        for model in models:  # each by itself: a recognizer's large gradient must not shorten the enhancer's step
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
