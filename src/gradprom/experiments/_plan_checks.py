"""What makes the comparisons of a plan fair, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from gradprom.errors import UserError
from gradprom.training.config import Config


class _Run(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def axes(self) -> Mapping[str, Any]: ...


def check_independent(reader: Config, config: Config) -> None:
    """A reader must not have learnt from the test images, nor be another copy of what an enhancer learnt to please.

    Raises:
        UserError: it has another split than the run, or a recognizer of the run's architecture.
    """
    split = ("name", "split", "test_fraction", "split_seed")
    if any(getattr(reader.dataset, name) != getattr(config.dataset, name) for name in split):
        raise UserError("the reader has another split of the images than the runs it judges: leave its dataset out")
    for task, recognizer in reader.tasks.items():
        own = config.tasks.get(task)
        if own is not None and own.encoder == recognizer.encoder:
            raise UserError(
                f"the reader's {task} has the encoder {recognizer.encoder} of the recognizer that it is to be "
                "independent of: give it one of another architecture"
            )


def check_apart(plan: str, runs: Iterable[_Run]) -> None:
    """Runs that differ by what no axis names would stand in one cell of the tables as if they differed by their seeds.

    Raises:
        UserError: there are two such runs.
    """
    cells: dict[tuple[str, ...], _Run] = {}
    for run in runs:
        cell = tuple(str(value) for value in run.axes.values())
        known = cells.setdefault(cell, run)
        if known is not run:
            raise UserError(
                f"plan {plan} has runs {known.name} and {run.name}, which its tables could not tell apart: no axis "
                "names what they differ in, so make an axis of it, or two plans"
            )
