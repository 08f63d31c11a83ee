"""Curves of training and promotion, from a run's CSV files to PNG, without pyplot and its global state."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_INK = "#777777"  # readable on white and on black alike, for the page has both
_COLOURS = ("#3b82c4", "#d9772b", "#3f9e5a", "#c8504b", "#8b6fc0", "#a0765b", "#c76fae", "#8a8f2f", "#2fa5b5")
_RAW_POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """A line of a figure.

    Attributes:
        label: in the legend; any text.
        x: shape (n,), increasing.
        y: shape (n,); values that are not finite are left out.
        raw: shape (n,), drawn faintly behind, or None.
    """

    label: str
    x: Array
    y: Array
    raw: Array | None = None


def read_columns(path: Path | None) -> dict[str, list[str]]:
    """The columns of a CSV file by name, all of one length; none where there is no file or nothing in it.

    Example:
        >>> read_columns(None)
        {}
    """
    if path is None or not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        rows = list(reader)
        names = [name for name in reader.fieldnames or () if name]
    return {name: [row[name] or "" for row in rows] for name in names}


def numbers(columns: Mapping[str, Sequence[str]], name: str) -> Array:
    """A column as numbers, nan where it holds none; as long as the others, and all nan if it is missing.

    Example:
        >>> numbers({"step": ["1", "2"], "loss": ["0.5", ""]}, "loss")
        array([0.5, nan])
        >>> numbers({"step": ["1", "2"]}, "loss")
        array([nan, nan])
    """
    length = max((len(column) for column in columns.values()), default=0)
    return np.array([_number(text) for text in columns.get(name, [""] * length)], dtype=np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def auxiliaries(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the auxiliaries in a ``promotion.csv``.

    Example:
        >>> auxiliaries({"step": [], "alignment_diagnosis": [], "promoted_diagnosis": []})
        ['diagnosis']
    """
    return [name.removeprefix("alignment_") for name in columns if name.startswith("alignment_")]


def window_of(length: int) -> int:
    """How many steps are averaged over in a curve of ``length`` steps: a fortieth, from 1 to 500."""
    return max(1, min(500, length // 40))


def rolling_mean(values: Array, window: int) -> Array:
    """Mean of each value and the ``window - 1`` before it; values that are not finite are left out.

    Example:
        >>> rolling_mean(np.array([1.0, 3.0, np.nan, 5.0]), 2)
        array([1., 2., 3., 5.])
    """
    finite = np.isfinite(values)
    total = np.cumsum(np.concatenate([[0.0], np.where(finite, values, 0.0)]))
    count = np.cumsum(np.concatenate([[0], finite]))
    start = np.maximum(np.arange(1, len(values) + 1) - window, 0)
    taken = count[1:] - count[start]
    return np.where(taken > 0, (total[1:] - total[start]) / np.maximum(taken, 1), np.nan)


def smoothed(label: str, x: Array, y: Array, *, raw: bool = False) -> Curve:
    """A curve of rolling means, over :func:`window_of` steps."""
    return Curve(label, x, rolling_mean(y, window_of(len(y))), y if raw else None)


def draw(
    curves: Sequence[Curve], *, ylabel: str, log: bool = False, limits: tuple[float, float] | None = None
) -> bytes:
    """A figure of several curves over steps as PNG with a transparent background; nothing if there is nothing to see.

    Args:
        curves: drawn in this order, each in a colour of its own.
        ylabel: what is drawn, with its unit.
        log: logarithmic; values of 0 and less are left out.
        limits: of the vertical axis.

    Returns:
        The file's bytes, empty where no curve has a value.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = [curve for curve in curves if _visible(curve.y, log).any()]
    if not curves:
        return b""
    figure = Figure(figsize=(4.8, 2.9 + 0.2 * math.ceil(len(curves) / 2)), dpi=200, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, curve in enumerate(curves):
        colour = _COLOURS[index % len(_COLOURS)]
        style = ("-", "--", ":")[index // len(_COLOURS) % 3]
        if curve.raw is not None:
            x, y = _thinned(curve.x, curve.raw, log)
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.5)
        x, y = _thinned(curve.x, curve.y, log)
        marker = "o" if len(x) < 30 else None
        axes.plot(
            x, y, color=colour, linewidth=1.4, linestyle=style, marker=marker, markersize=3, label=_plain(curve.label)
        )
    if log:
        axes.set_yscale("log")
    if limits:
        axes.set_ylim(limits)
    axes.set_xlabel("step", color=_INK)
    axes.set_ylabel(ylabel, color=_INK)
    axes.tick_params(which="both", colors=_INK)
    axes.grid(color=_INK, alpha=0.25, linewidth=0.5)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    figure.legend(loc="outside upper left", ncols=2, fontsize=9, frameon=False, labelcolor=_INK)
    file = io.BytesIO()
    canvas.print_figure(file, format="png", facecolor="none", metadata={"Software": None})
    return file.getvalue()


def _visible(values: Array, log: bool) -> NDArray[np.bool_]:
    finite = np.isfinite(values)
    return finite & (values > 0) if log else finite


def _thinned(x: Array, y: Array, log: bool) -> tuple[Array, Array]:
    """What can be seen of a curve: no more points than a figure has room for."""
    keep = _visible(y, log) & np.isfinite(x)
    x, y = x[keep], y[keep]
    step = math.ceil(len(x) / _RAW_POINTS) if len(x) else 1
    return x[::step], y[::step]


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: it reads $ as mathematics and hides labels that begin with _."""
    return ("\u200a" + text if text.startswith("_") else text).replace("$", r"\$")
