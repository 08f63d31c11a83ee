"""A chain of degradations in words, "gaussian 0.3 + blur 3 2": read and written here, without importing PyTorch."""

from __future__ import annotations

import math
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
_EXAMPLE = 'write for instance "gaussian 0.2", "gaussian 0.3 + poisson 0.1 + blur 3 2" or "downsample 2"'


@dataclass(frozen=True)
class Link:
    """One degradation of a chain.

    Attributes:
        name: gaussian, poisson, blur or downsample.
        values: its numbers: sigma; rate; kernel and sigma; scale.
    """

    name: str
    values: tuple[float, ...]

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{value:g}" for value in self.values)])


def parse_chain(text: str) -> tuple[Link, ...]:
    """The degradations that a text names, in the order in which they are applied.

    A degradation is its name followed by its numbers: ``gaussian SIGMA``, ``poisson RATE``, ``blur KERNEL SIGMA``,
    ``downsample SCALE``; ``+`` stands between two. ``none``, ``challenging`` and ``challenging physical`` are names of
    whole chains.

    Raises:
        UserError: a name is unknown, or a number is missing, too many or out of its range.

    Example:
        >>> [str(link) for link in parse_chain("challenging")]
        ['gaussian 0.3', 'poisson 0.1', 'blur 3 2']
    """
    words = " ".join(text.split())
    words = PRESETS.get(words, words)
    return tuple(_link(part.split()) for part in words.split("+")) if words else ()


def describe_chain(text: str) -> str:
    """The one way to write the chain that a text names.

    Example:
        >>> describe_chain("gaussian  0.10"), describe_chain("none")
        ('gaussian 0.1', 'none')
    """
    return " + ".join(map(str, parse_chain(text))) or "none"


def chain_scale(text: str) -> int:
    """By how much the chain makes an image smaller, and an enhancer must make it larger again.

    Example:
        >>> chain_scale("blur 3 1 + downsample 2"), chain_scale("gaussian 0.1")
        (2, 1)
    """
    return math.prod(int(link.values[0]) for link in parse_chain(text) if link.name == "downsample")


def chain_sigma(text: str) -> float | None:
    """σ where the chain is white Gaussian noise and nothing else, which non-local means then knows.

    Example:
        >>> chain_sigma("gaussian 0.2"), chain_sigma("challenging") is None
        (0.2, True)
    """
    links = parse_chain(text)
    return links[0].values[0] if len(links) == 1 and links[0].name == "gaussian" else None


def _link(words: list[str]) -> Link:
    name, numbers = (words[0], words[1:]) if words else ("", [])
    if name not in _PARAMETERS:
        raise UserError(f"degradation {name!r} is unknown, expected one of {', '.join(_PARAMETERS)}: {_EXAMPLE}")
    expected = _PARAMETERS[name]
    try:
        values = tuple(float(number) for number in numbers)
    except ValueError:
        values = ()
    if len(values) != len(expected):
        raise UserError(
            f"degradation {' '.join(words)!r}: expected {name} followed by {' and '.join(expected)}: {_EXAMPLE}"
        )
    for parameter, value in zip(expected, values, strict=True):
        _check(name, parameter, value)
    return Link(name, values)


def _check(name: str, parameter: str, value: float) -> None:
    if parameter == "kernel" and not (value % 2 == 1 and 1 <= value <= 99):
        raise UserError(f"{name} has kernel {value:g}: expected an odd whole number of pixels from 1 to 99")
    if parameter == "scale" and value not in (2, 3, 4, 8):
        raise UserError(f"{name} has scale {value:g}: expected 2, 3, 4 or 8")
    if not 0 <= value < math.inf or (value == 0 and name == "blur"):
        least = "above" if name == "blur" else "of at least"
        raise UserError(f"{name} has {parameter} {value:g}: expected a finite number {least} 0")
