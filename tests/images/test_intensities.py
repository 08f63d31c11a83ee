from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradprom.images._intensities import Intensities

ENDS = st.integers(-(2**31), 2**32)
VALUES = arrays.arrays(st.sampled_from([np.int16, np.uint16, np.int32, np.uint32]), 20)


@given(VALUES, ENDS, ENDS)
def test_what_is_not_changed_comes_back(values: np.ndarray, black: int, white: int) -> None:
    intensities = Intensities(black, white)
    unit = intensities.to_unit(values)
    assert unit.min() >= 0
    assert unit.max() <= 1
    result = intensities.changed(values, unit, np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
    assert result.dtype == values.dtype
    np.testing.assert_array_equal(result, values)


def test_floating_point_comes_back_bit_by_bit() -> None:
    values = np.random.default_rng(0).normal(0, 1e-9, 50)
    intensities = Intensities(values.min(), values.max())
    np.testing.assert_array_equal(intensities.changed(values, intensities.to_unit(values)), values)


@given(st.floats(0, 1, width=32), st.integers(0, 4095))
def test_a_change_is_that_of_the_affine_map(enhanced: float, stored: int) -> None:
    """Within the range, the value is the enhancer's output mapped back, rounded."""
    result = Intensities(0, 4095).changed(np.array([stored], np.int16), np.array([enhanced], np.float32), 0, 4095)
    assert abs(int(result[0]) - enhanced * 4095) <= 0.501


def test_cut_off_at_what_can_be_stored() -> None:
    values = np.array([100, 200], np.uint8)
    result = Intensities(0, 1000).changed(values, np.array([1, 0], np.float32), 0, 255)
    np.testing.assert_array_equal(result, [255, 0])


def test_one_value_everywhere_has_no_range() -> None:
    values = np.full(3, 7, np.int16)
    np.testing.assert_array_equal(Intensities(7, 7).to_unit(values), [0, 0, 0])
    np.testing.assert_array_equal(Intensities(7, 7).changed(values, np.ones(3, np.float32)), values)
