"""Padding by repeating the border."""

import numpy as np
import pytest
import torch

from gradprom._padding import pad_to_least, pad_to_multiple


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (8, 8), (9, 3)])
def test_padding_is_numpys_edge_padding(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    for padded, wanted in (
        (pad_to_multiple(image, 4), [-(-side // 4) * 4 for side in size]),
        (pad_to_least(image, 6), [max(6, side) for side in size]),
    ):
        extra = [(0, side - given) for side, given in zip(wanted, size, strict=True)]
        assert np.array_equal(padded, np.pad(image, [(0, 0), (0, 0), *extra], mode="edge"))


def test_nothing_is_copied_where_nothing_is_needed() -> None:
    image = torch.rand(1, 1, 8, 8)
    assert pad_to_multiple(image, 8) is image
    assert pad_to_least(image, 8) is image
