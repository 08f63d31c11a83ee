import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradprom.experiments.tradeoff import Point, front, tradeoff_figure

# few values, so that ties and copies occur
points = st.lists(
    st.builds(
        Point,
        st.sampled_from(["joint", "gradprom"]),
        st.none() | st.sampled_from([1e-4, 1.0]),
        st.none() | st.just(0.5),
        st.integers(20, 24).map(float) | st.just(math.nan),
        st.integers(0, 4).map(lambda n: n / 4) | st.just(math.inf),
    ),
    max_size=12,
)


def beats(a: Point, b: Point) -> bool:
    return (
        a.psnr >= b.psnr
        and a.recognition >= b.recognition
        and (a.psnr > b.psnr or a.recognition > b.recognition)
        and math.isfinite(a.psnr + a.recognition)
    )


@given(points)
def test_the_front_is_what_nothing_beats(given_: list[Point]) -> None:
    expected = [
        point
        for point in given_
        if math.isfinite(point.psnr + point.recognition) and not any(beats(other, point) for other in given_)
    ]
    found = front(given_)
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert [point.psnr for point in found] == sorted(point.psnr for point in found)
    assert [point.recognition for point in found] == sorted((point.recognition for point in found), reverse=True)


@given(points, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_the_order_and_is_its_own_front(given_: list[Point], random) -> None:
    found = front(given_)
    shuffled = given_.copy()
    random.shuffle(shuffled)
    assert sorted(map(repr, front(shuffled))) == sorted(map(repr, found))
    assert front(found) == found


def drawn(path: Path, given_: list[Point], title: str = "t") -> np.ndarray:
    tradeoff_figure(given_, path, title)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 150
        return np.asarray(image.convert("RGB")).astype(int)


MADE_UP = [
    Point("enhancer_only", None, None, 32.0, 0.70),
    *(
        Point(strategy, weight, ratio, 32.0 - 40 * weight * loss, 0.70 + weight, (0.05, 0.02), (0.01, 0.0))
        for weight in (1e-4, 1e-2)
        for strategy, ratio, loss in (("joint", None, 2), ("gradprom", None, 1), ("gradprom", 0.5, 0.1))
    ),
]


def test_a_figure_of_everything(tmp_path: Path) -> None:
    image = drawn(tmp_path / "new" / "figure.png", MADE_UP)
    assert (image[[0, -1], :] == 255).all()  # on white, and nothing is cut off at the edge
    assert (image[:, [0, -1]] == 255).all()
    assert (image < 200).any()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["figure.png"]
    assert np.array_equal(drawn(tmp_path / "again.png", MADE_UP), image)


def test_strategies_and_the_cone_can_be_told_apart_without_colour(tmp_path: Path) -> None:
    def ink(*middle: tuple[str, float | None]) -> np.ndarray:
        series = (("a", None), *middle, ("a", 0.5))  # so that the legend is as wide in all
        given_ = [Point(name, None, ratio, 33.0 - n, 0.5 - n / 10) for n, (name, ratio) in enumerate(series)]
        image = drawn(tmp_path / "figure.png", given_)
        # without the legend; whatever the ink's colour
        return image[:, : image.shape[1] // 2].min(axis=2) < 160

    plain = ink(("a", None))
    # of a marker's some 200 pixels; its edge alone may differ by its colour
    assert (ink(("b", None)) != plain).sum() > 20
    assert (ink(("a", 0.5)) != plain).sum() > 20


def test_points_without_figures_are_left_out_and_none_at_all_are_refused(tmp_path: Path) -> None:
    nowhere = Point("joint", 1.0, None, math.nan, 0.5)
    assert np.array_equal(drawn(tmp_path / "a.png", [*MADE_UP, nowhere]), drawn(tmp_path / "b.png", MADE_UP))
    for nothing in ([], [nowhere]):
        with pytest.raises(ValueError, match="no point to draw"):
            tradeoff_figure(nothing, tmp_path / "none.png", "t")
    assert not (tmp_path / "none.png").exists()


def test_words_that_matplotlib_could_mistake_and_points_on_one_spot(tmp_path: Path) -> None:
    same = [Point(f"$x_{n}$", 1e-4, None, 30.0, 0.5) for n in range(12)]
    drawn(tmp_path / "a.png", [*same, Point("_hidden", 0.0, None, 30.0, 0.5)], title="100 $ and _more_")
    drawn(tmp_path / "b.png", same[:1])
