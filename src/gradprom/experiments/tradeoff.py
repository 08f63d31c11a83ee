"""Image quality against recognition: what each strategy gives up of the one for the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradprom._files import atomic_path
from gradprom.experiments.figures import _plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox, BboxBase

Array = NDArray[np.float64]

_INK = "#333333"
_COLOURS = ("#3b82c4", "#d9772b", "#3f9e5a", "#c8504b", "#8b6fc0", "#a0765b", "#c76fae", "#8a8f2f")
_MARKERS = ("o", "s", "v", "P", "X", "*", "<", ">", "p", "h", "^", "D")
_KNOWN = ("enhancer_only", "gradprom", "joint", "frozen")
"""They look alike in all pictures: the first colours and markers are theirs."""
# where a label may stand beside its marker, in points and in the order in which the places are tried
_DISTANCES = (5, 13, 21, 29, 37)
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True)
class Point:
    """One strategy at one weight, with or without the cone.

    Attributes:
        strategy: its name, any text.
        weight: λ; None for what has none.
        max_ratio: the cone's ρ; None without one.
        psnr: dB.
        recognition: accuracy or mIoU, in [0, 1].
        psnr_bar: how far its error bar reaches down and up, in dB; None draws none.
        recognition_bar: likewise.
    """

    strategy: str
    weight: float | None
    max_ratio: float | None
    psnr: float
    recognition: float
    psnr_bar: tuple[float, float] | None = None
    recognition_bar: tuple[float, float] | None = None

    @property
    def series(self) -> str:
        """The name in the legend."""
        return self.strategy if self.max_ratio is None else f"{self.strategy} + cone, ρ {self.max_ratio:g}"


def front(points: Iterable[Point]) -> list[Point]:
    """The Pareto front: points to which no other is better in one measure and at least equal in the other.

    Points with a figure that is not finite are left out.

    Returns:
        By rising PSNR, and so by falling recognition; points that are equal in both are all there, in their order.

    Example:
        >>> clear, sharp = Point("a", 1.0, None, 30.0, 0.8), Point("b", 1.0, None, 32.0, 0.7)
        >>> worse = Point("c", 1.0, None, 29.0, 0.7)
        >>> [point.strategy for point in front([sharp, worse, clear])]
        ['a', 'b']
    """
    found: list[Point] = []
    best = -math.inf
    for point in sorted(filter(_finite, points), key=lambda point: (-point.psnr, -point.recognition)):
        tied = found and (point.psnr, point.recognition) == (found[-1].psnr, found[-1].recognition)
        if point.recognition > best or tied:
            found.append(point)
            best = point.recognition
    return sorted(found, key=lambda point: point.psnr)


def _finite(point: Point) -> bool:
    return math.isfinite(point.psnr) and math.isfinite(point.recognition)


def tradeoff_figure(
    points: Sequence[Point], path: str | Path, title: str, *, ylabel: str = "independent recognition"
) -> None:
    """Draw PSNR against recognition, one marker a point with its λ beside it, and the Pareto front, as PNG at 150 dpi.

    Colours go by strategy; shapes by strategy and cone, hollow with the cone, so that a dozen of them can be
    told apart without colour. Points of a series on one spot share a label, and a point without λ is a ring around what
    else is there. The front is a staircase: what lies below it is beaten by one of its points.

    Args:
        points: those with a figure that is not finite are left out.
        path: the file; an existing one is replaced, whole.
        title: any text.
        ylabel: what recognition is, such as "mIoU of an independent recognizer".

    Raises:
        ValueError: there is no point to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = list(filter(_finite, points))
    if not drawn:
        raise ValueError("there is no point to draw: each needs a finite PSNR and recognition")
    figure = Figure(figsize=(8.0, 4.8), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.margins(0.12)
    best = front(drawn)
    axes.plot(
        [point.psnr for point in best],
        [point.recognition for point in best],
        color=_INK,
        linewidth=1.0,
        linestyle="--",
        drawstyle="steps-pre",
        label="Pareto front",
        zorder=1,
    )
    strategies = list(dict.fromkeys((*_KNOWN, *(point.strategy for point in drawn))))
    looks = list(dict.fromkeys((*_KNOWN, *(point.series for point in drawn))))
    for series in dict.fromkeys(point.series for point in drawn):
        mine = [point for point in drawn if point.series == series]
        colour = _COLOURS[strategies.index(mine[0].strategy) % len(_COLOURS)]
        _draw(axes, mine, colour, _MARKERS[looks.index(series) % len(_MARKERS)])
    axes.set_title(_plain(title), color=_INK)
    axes.set_xlabel("PSNR (dB)", color=_INK)
    axes.set_ylabel(_plain(ylabel), color=_INK)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    said = "beside a marker: λ"
    if any(point.psnr_bar or point.recognition_bar for point in drawn):
        said += "\nbars: 95 % interval of\nwhat it differs from\nthe enhancer alone"
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, title=said, alignment="left")
    # where there is room for labels is known only once everything else has its place
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    _label(axes, drawn)
    with atomic_path(path) as temporary:
        canvas.print_figure(temporary, format="png", facecolor="white", metadata={"Software": None})


def _draw(axes: Axes, points: Sequence[Point], colour: str, marker: str) -> None:
    ring = points[0].weight is None
    for point in points:
        axes.errorbar(
            point.psnr,
            point.recognition,
            xerr=None if point.psnr_bar is None else [[arm] for arm in point.psnr_bar],
            yerr=None if point.recognition_bar is None else [[arm] for arm in point.recognition_bar],
            color=colour,
            alpha=0.5,
            linewidth=0.8,
            capsize=2,
            zorder=2,
        )
    axes.plot(
        [point.psnr for point in points],
        [point.recognition for point in points],
        color=colour,
        linestyle="none",
        marker=marker,
        markersize=12 if ring else 7,
        markeredgewidth=1.8 if ring else 1.0,
        markerfacecolor="none" if ring else colour if points[0].max_ratio is None else "white",
        label=_plain(points[0].series),
        zorder=3,
    )


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write each point's λ where it hides neither a marker nor another label, as near as there is room."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    scale = axes.figure.dpi / 72
    centres = axes.transData.transform([(point.psnr, point.recognition) for point in points])
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in centres]
    spots: dict[tuple[str, int, int], list[int]] = {}
    for index, (point, centre) in enumerate(zip(points, centres, strict=True)):
        if point.weight is not None:
            spots.setdefault((point.series, *(round(side / (4 * scale)) for side in centre)), []).append(index)
    for spot in spots.values():
        point, centre = points[spot[0]], centres[spot[0]]
        weights = sorted({weight for index in spot if (weight := points[index].weight) is not None})
        note = axes.annotate(
            ", ".join(map(_weight, weights)),
            (point.psnr, point.recognition),
            xytext=(0, 0),
            textcoords="offset pixels",
            ha="center",
            va="center",
            fontsize=8,
            color=_INK,
            arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 4},
            zorder=4,
        )
        size = np.array(Text.get_window_extent(note).size)
        boxes = [
            _beside(centre, size, direction, distance * scale) for distance in _DISTANCES for direction in _DIRECTIONS
        ]
        free = min(boxes, key=lambda box: (box.count_overlaps(taken), not _inside(box, axes.bbox)))
        taken.append(free)
        note.set_position(((free.x0 + free.x1) / 2 - centre[0], (free.y0 + free.y1) / 2 - centre[1]))


def _beside(centre: Array, size: Array, direction: tuple[int, int], distance: float) -> Bbox:
    """A box of this size whose nearest edges lie so far from the centre, in pixels."""
    from matplotlib.transforms import Bbox

    corner = centre + np.array(direction) * (distance + size / 2) - size / 2
    return Bbox.from_bounds(*corner, *size)


def _inside(box: Bbox, frame: BboxBase) -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)


def _weight(weight: float) -> str:
    """A weight as people write it.

    >>> _weight(1.0), _weight(0.05), _weight(1e-4), _weight(2.5e-5)
    ('1', '0.05', '1e-4', '2.5e-5')
    """
    if weight == 0 or weight >= 0.01:
        return f"{weight:g}"
    mantissa, _, exponent = f"{weight:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
