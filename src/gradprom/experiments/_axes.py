"""What each axis of a plan means: which values it has, and what they change in a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

from gradprom._chain import describe_chain
from gradprom.errors import UserError
from gradprom.training.config import Config, Strategy

AXES = (
    *("dataset", "degradation", "strategy", "supervision", "auxiliary"),
    *("weight", "gate", "enhancer", "recognizer", "seed"),
)
TASKS = {
    "none": (),
    "diagnosis": ("diagnosis",),
    "segmentation": ("segmentation",),
    "both": ("diagnosis", "segmentation"),
}
"""The tasks that each value of the axis auxiliary keeps."""
_WORDS = {
    "strategy": get_args(Strategy),
    "supervision": ("supervised", "unsupervised"),
    "auxiliary": tuple(TASKS),
}
Gate = Literal["hard", "soft", "per_tensor", "projection", "always"]
_GATES: tuple[Gate, ...] = get_args(Gate)
_FIRST = {"dataset": "name", "enhancer": "name", "recognizer": "encoder"}
"""What a plain text stands for in those axes whose values are groups of options."""


def canonical(axis: str, value: Any) -> Any:
    """The one way to write a value of an axis.

    Raises:
        UserError: the axis has no such value.

    Example:
        >>> canonical("degradation", "gaussian  0.10"), canonical("gate", "hard cone 0.50"), canonical("weight", 1)
        ('gaussian 0.1', 'cone 0.5', 1.0)
    """
    if axis in _WORDS:
        if value not in _WORDS[axis]:
            raise UserError(f"axis {axis!r} has value {value!r}: expected one of {', '.join(_WORDS[axis])}")
        return value
    if axis in _FIRST:
        group = value if isinstance(value, dict) else {_FIRST[axis]: value}
        if not isinstance(group.get(_FIRST[axis]), str):
            raise UserError(
                f"axis {axis!r} has value {value!r}: expected a name, or options with {_FIRST[axis]} among them"
            )
        return value
    if axis == "degradation":
        if not isinstance(value, str):
            raise UserError(f"axis 'degradation' has value {value!r}: expected a text such as gaussian 0.1, or none")
        return describe_chain(value)
    if axis == "gate":
        return gate_text(*parse_gate(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if axis == "seed":
        if not is_number or value < 0 or value != int(value):
            raise UserError(f"axis 'seed' has value {value!r}: expected a whole number of at least 0")
        return int(value)
    if not is_number or not 0 <= value < math.inf:
        raise UserError(f"axis 'weight' has value {value!r}: expected a number of at least 0, such as 1.0e-4")
    return float(value)


def parse_gate(value: Any) -> tuple[Gate, float | None]:
    """A gate and the bound of the cone around it.

    Raises:
        UserError: there is no such gate, or the bound is not a number above 0.

    Example:
        >>> parse_gate("cone 0.5"), parse_gate("soft cone 1"), parse_gate("per_tensor")
        (('hard', 0.5), ('soft', 1.0), ('per_tensor', None))
    """
    words = str(value).split()
    gate: Gate = next((gate for gate in _GATES if words[:1] == [gate]), "hard")
    cone = words[1:] if words[:1] == [gate] else words
    ratio = None
    with suppress(ValueError):
        ratio = float(cone[1]) if len(cone) == 2 and cone[0] == "cone" else None
    if not words or (cone and (ratio is None or not 0 < ratio < math.inf)):
        raise UserError(
            f"axis 'gate' has value {value!r}: expected one of {', '.join(_GATES)}, alone or followed by cone and a "
            "number above 0, or cone 0.5 for hard cone 0.5"
        )
    return gate, ratio


def gate_text(gate: str, ratio: float | None) -> str:
    """As :func:`parse_gate` reads it; the hard gate goes without saying where there is a cone.

    >>> gate_text("hard", None), gate_text("hard", 0.5), gate_text("soft", 2.0)
    ('hard', 'cone 0.5', 'soft cone 2')
    """
    if ratio is None:
        return gate
    return ("" if gate == "hard" else f"{gate} ") + f"cone {ratio:g}"


def options(base: Mapping[str, Any], combination: Mapping[str, Any]) -> dict[str, Any]:
    """What a combination changes by those of its axes whose values are groups of options, nested.

    Args:
        base: the configuration without them; its sections ``diagnosis`` and ``segmentation`` are what the axis
            auxiliary chooses from.
        combination: values by axis.

    Raises:
        UserError: a recognizer is asked for that ``base`` does not describe.

    Example:
        >>> options({"diagnosis": {"encoder": "resnet18"}}, {"auxiliary": "none", "enhancer": "unet"})
        {'enhancer': {'name': 'unet'}, 'diagnosis': None}
    """
    changes: dict[str, Any] = {
        axis: _group(axis, combination[axis]) for axis in ("dataset", "enhancer") if axis in combination
    }
    tasks = TASKS["both"]
    described = tuple(task for task in tasks if base.get(task) is not None)
    kept = TASKS[combination["auxiliary"]] if "auxiliary" in combination else described
    for task in tasks:
        if task in kept and "recognizer" in combination:
            changes[task] = _group("recognizer", combination["recognizer"])
        elif task in kept and task not in described:
            raise UserError(
                f"auxiliary {combination['auxiliary']} needs a recognizer for {task}: give base a section {task} with "
                "an encoder, or the plan an axis recognizer"
            )
        elif task in described and task not in kept:
            changes[task] = None
    return changes


def choose(config: Config, combination: Mapping[str, Any]) -> None:
    """Set what a combination says on its other axes.

    >>> config = Config()
    >>> choose(config, {"gate": "cone 0.5", "seed": 3})
    >>> config.promotion.gate, config.promotion.max_ratio, config.training.seed
    ('hard', 0.5, 3)
    """
    for axis in ("degradation", "strategy", "supervision"):
        setattr(config, axis, combination.get(axis, getattr(config, axis)))
    promotion = config.promotion
    promotion.weight = combination.get("weight", promotion.weight)
    if "gate" in combination:
        promotion.gate, promotion.max_ratio = parse_gate(combination["gate"])
    config.training.seed = combination.get("seed", config.training.seed)


def axis_values(config: Config, combination: Mapping[str, Any]) -> dict[str, Any]:
    """The value on every axis of a run whose configuration is normalised; None where an axis means nothing to it.

    Args:
        config: of the run.
        combination: the values it came from: a group of options is named with all of them.
    """
    promoted = config.strategy not in ("enhancer_only", "recognizer_only")
    recognizers = dict.fromkeys(recognizer.encoder for recognizer in config.tasks.values())
    gate = gate_text(config.promotion.gate, config.promotion.max_ratio)
    auxiliary = {tasks: name for name, tasks in TASKS.items()}[tuple(config.tasks)]
    values: dict[str, Any] = {
        "dataset": config.dataset.name,
        "degradation": describe_chain(config.degradation),
        "strategy": config.strategy,
        "supervision": None if config.strategy == "enhancer_only" else config.supervision,
        "auxiliary": auxiliary,
        "weight": config.promotion.weight if promoted else None,
        "gate": gate if config.strategy == "gradprom" or (promoted and gate != "hard") else None,
        "enhancer": None if config.strategy == "recognizer_only" else config.enhancer.name,
        "recognizer": " and ".join(recognizers) or None,
        "seed": config.training.seed,
    }
    for axis, first in _FIRST.items():
        group = combination.get(axis)
        if isinstance(group, dict) and values[axis] is not None:
            rest = (f"{name} {value}" for name, value in group.items() if name != first)
            values[axis] = " ".join([group[first], *rest])
    return values


def matches(axis: str, value: Any, among: tuple[Any, ...]) -> bool:
    """Whether a value is one of those that an exclusion names; a group of options also goes by its name.

    >>> matches("dataset", {"name": "camus", "views": "4CH"}, ("camus",)), matches("weight", 1.0, (0.1, 1.0))
    (True, True)
    """
    return value in among or (axis in _FIRST and _group(axis, value)[_FIRST[axis]] in among)


def _group(axis: str, value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {_FIRST[axis]: value}
