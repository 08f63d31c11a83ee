import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gradprom.experiments._curves import training_plots
from gradprom.experiments.figures import Curve, draw, read_columns, rolling_mean

values = arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e3, 1e3) | st.just(float("nan")))


@settings(max_examples=60, deadline=None)
@given(values, st.integers(1, 50))
def test_rolling_mean_is_the_mean_of_what_is_finite_in_its_window(series: np.ndarray, window: int) -> None:
    expected = []
    for end in range(1, len(series) + 1):
        part = series[max(0, end - window) : end]
        part = part[np.isfinite(part)]
        expected.append(part.mean() if part.size else np.nan)
    np.testing.assert_allclose(rolling_mean(series, window), expected, atol=1e-9)


def lit(png: bytes) -> np.ndarray:
    """Which pixels of a figure are not transparent."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3] > 0


def test_a_figure_shows_its_curve_on_nothing() -> None:
    x = np.arange(10.0)
    flat, rising = (draw([Curve("run", x, y)], ylabel="y", limits=(0, 10)) for y in (np.full(10, 5.0), x))
    assert not lit(flat).all()
    assert (lit(flat) != lit(rising)).any()
    assert draw([Curve("run", x, x)], ylabel="y", limits=(0, 10)) == rising  # the same file from the same data


def test_what_cannot_be_seen_is_not_drawn() -> None:
    x = np.arange(3.0)
    assert draw([], ylabel="y") == b""
    assert draw([Curve("run", x, np.full(3, np.nan))], ylabel="y") == b""
    assert draw([Curve("run", x, np.array([0.0, -1.0, np.inf]))], ylabel="y", log=True) == b""
    one = draw([Curve("run", x, np.array([0.0, 1.0, np.inf]), raw=-x)], ylabel="y", log=True)
    assert lit(one).any()


def test_many_curves_of_many_steps_are_one_figure() -> None:
    x = np.arange(50_000.0)
    noise = np.random.default_rng(0).normal(size=x.size)
    png = draw([Curve(f"run {n}", x, noise + n, raw=noise) for n in range(12)], ylabel="y")
    assert len(png) < 1_000_000


@pytest.mark.parametrize("restart", [True, False])
def test_stages_follow_one_another_however_they_count(tmp_path: Path, restart: bool) -> None:
    def write(name: str, cascade_from: int) -> Path:
        path = tmp_path / name
        rows = [f"warmup,{step},0.5,20" for step in (1, 2)]
        rows += [f"cascade,{cascade_from + step},0.25,21" for step in (0, 1)]
        path.write_text("\n".join(["stage,step,loss,validation_psnr", *rows]), encoding="utf-8")
        return path

    once, again = (
        [plot.png for plot in training_plots([("run", write(f"{start}.csv", start))])]
        for start in (3, 1 if restart else 3)
    )
    assert once == again
    assert len(once) == 2  # no recognizer was pretrained


def test_ragged_rows_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("step,loss\n1\n2,0.5,7\n", encoding="utf-8")
    assert read_columns(path) == {"step": ["1", "2"], "loss": ["", "0.5"]}
    assert read_columns(tmp_path / "none.csv") == {}


def test_no_global_state_of_matplotlib_is_touched() -> None:
    draw([Curve("run", np.arange(3.0), np.arange(3.0))], ylabel="y")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
