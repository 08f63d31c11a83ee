"""A chain of degradations in words, "gaussian 0.3 + blur 3 2": read and written here, without importing PyTorch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gradprom.errors import UserError

PRESETS = {
    "none": "",
    # Table 3: noise first, photon noise and blur "on top of the previously added" noise
    "challenging": "gaussian 0.3 + poisson 0.1 + blur 3 2",
    # the order in which light meets lens, photons and electronics
    "challenging physical": "blur 3 2 + poisson 0.1 + gaussian 0.3",
}
"""Names for whole chains; both orders of the paper's challenging scenario (section 4.4, A-5)."""

_PARAMETERS = {
    "gaussian": ("sigma",),
    "poisson": ("rate",),
    "blur": ("kernel", "sigma"),
    "downsample": ("scale",),
}
_STRENGTHS = ("sigma", "rate")
"""What may be drawn from a range; sizes of windows and images are the same for all."""
_EXAMPLE = (
    'write for instance "gaussian 0.2", "gaussian 0.3 + poisson 0.1 + blur 3 2", "downsample 2", or '
    '"maybe 0.5 poisson 0-0.1" for a strength drawn for each image, in half of them'
)
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(f"({_NUMBER})-({_NUMBER})")


@dataclass(frozen=True)
class Range:
    """A strength that is drawn for each image, evenly between ``low`` and ``high``."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True)
class Link:
    """One degradation of a chain.

    Attributes:
        name: gaussian, poisson, blur or downsample.
        values: its numbers, or ranges of them: sigma; rate; kernel and sigma; scale.
        probability: the share of images that it comes to, over 0; 1 for all of them.
    """

    name: str
    values: tuple[float | Range, ...]
    probability: float = 1.0

    @property
    def is_drawn(self) -> bool:
        """Whether it is another one for each image."""
        return self.probability < 1 or any(isinstance(value, Range) for value in self.values)

    def __str__(self) -> str:
        maybe = [f"maybe {self.probability:g}"] if self.probability < 1 else []
        numbers = (str(value) if isinstance(value, Range) else f"{value:g}" for value in self.values)
        return " ".join([*maybe, self.name, *numbers])


def parse_chain(text: str) -> tuple[Link, ...]:
    """The degradations that a text names, in the order in which they are applied.

    A degradation is its name followed by its numbers: ``gaussian SIGMA``, ``poisson RATE``, ``blur KERNEL SIGMA``,
    ``downsample SCALE``; ``+`` stands between two. In place of a sigma or rate, ``LOW-HIGH`` has it drawn for each
    image, evenly; ``maybe SHARE`` before a name applies it to that share of the images. ``none``, ``challenging`` and
    ``challenging physical`` are names of whole chains.

    Raises:
        UserError: the text is empty, a name is unknown, or a number is missing, too many or out of its range.

    Example:
        >>> [str(link) for link in parse_chain("challenging")]
        ['gaussian 0.3', 'poisson 0.1', 'blur 3 2']
        >>> parse_chain("maybe 0.5 poisson 0-0.1")
        (Link(name='poisson', values=(Range(low=0.0, high=0.1),), probability=0.5),)
    """
    words = " ".join(text.split())
    if not words:
        raise UserError(f"degradation is empty: {_EXAMPLE}, or none for images left as they are")
    words = PRESETS.get(words, words)
    return tuple(_link(part.split()) for part in words.split("+")) if words else ()


def describe_chain(text: str) -> str:
    """The one way to write the chain that a text names.

    Example:
        >>> describe_chain("gaussian  0.10"), describe_chain("none"), describe_chain("maybe .5 gaussian 0-.30")
        ('gaussian 0.1', 'none', 'maybe 0.5 gaussian 0-0.3')
    """
    return " + ".join(map(str, parse_chain(text))) or "none"


def chain_scale(text: str) -> int:
    """By how much the chain makes an image smaller, and an enhancer must make it larger again.

    Example:
        >>> chain_scale("blur 3 1 + downsample 2"), chain_scale("gaussian 0.1")
        (2, 1)
    """
    scales = (value for link in parse_chain(text) if link.name == "downsample" for value in link.values)
    return math.prod(int(scale) for scale in scales if not isinstance(scale, Range))


def chain_sigma(text: str) -> float | None:
    """σ where the chain is white Gaussian noise, as strong on every image, and nothing else: non-local means knows it.

    Example:
        >>> chain_sigma("gaussian 0.2"), chain_sigma("challenging"), chain_sigma("gaussian 0-0.3")
        (0.2, None, None)
    """
    links = parse_chain(text)
    if len(links) != 1 or links[0].name != "gaussian" or links[0].is_drawn:
        return None
    value = links[0].values[0]
    return None if isinstance(value, Range) else value


def _link(words: list[str]) -> Link:
    probability = 1.0
    if words[:1] == ["maybe"]:
        probability, words = _share(words[1:2]), words[2:]
    name, numbers = (words[0], words[1:]) if words else ("", [])
    if name not in _PARAMETERS:
        raise UserError(f"degradation {name!r} is unknown, expected one of {', '.join(_PARAMETERS)}: {_EXAMPLE}")
    if name == "downsample" and probability < 1:
        raise UserError("downsample comes to all images or to none, for one enhancer enlarges them: leave out maybe")
    expected = _PARAMETERS[name]
    try:
        values = tuple(_value(number) for number in numbers)
    except ValueError:
        values = ()
    if len(values) != len(expected):
        raise UserError(
            f"degradation {' '.join(words)!r}: expected {name} followed by {' and '.join(expected)}: {_EXAMPLE}"
        )
    for parameter, value in zip(expected, values, strict=True):
        _check(name, parameter, value)
    return Link(name, values, probability)


def _share(words: list[str]) -> float:
    try:
        share = _as_written(words[0])
    except (IndexError, ValueError):
        share = math.nan
    if not 0 < share < 1:
        raise UserError(
            f"degradation maybe {' '.join(words)}: expected a share of the images between 0 and 1 after maybe: "
            f"{_EXAMPLE}"
        )
    return share


def _value(text: str) -> float | Range:
    between = _RANGE.fullmatch(text)
    return Range(_as_written(between[1]), _as_written(between[2])) if between else float(text)


def _as_written(text: str) -> float:
    """To the digits that a description has, so that two ends which differ still do when they are read back."""
    return float(f"{float(text):g}")


def _check(name: str, parameter: str, value: float | Range) -> None:
    if isinstance(value, Range):
        if parameter not in _STRENGTHS:
            raise UserError(f"{name} has {parameter} {value}: expected one number, for that is not drawn from a range")
        if not value.low < value.high:
            raise UserError(f"{name} has {parameter} {value}: expected a range whose first number is the smaller")
        for end in (value.low, value.high):
            _check(name, parameter, end)
        return
    if parameter == "kernel" and not (value % 2 == 1 and 1 <= value <= 99):
        raise UserError(f"{name} has kernel {value:g}: expected an odd whole number of pixels from 1 to 99")
    if parameter == "scale" and value not in (2, 3, 4, 8):
        raise UserError(f"{name} has scale {value:g}: expected 2, 3, 4 or 8")
    if not 0 <= value < math.inf or (value == 0 and name == "blur"):
        least = "above" if name == "blur" else "of at least"
        raise UserError(f"{name} has {parameter} {value:g}: expected a finite number {least} 0")
