from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gradprom.errors import UserError
from gradprom.images import Image
from gradprom.inference.model import Model


class Invert(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 - x


class Weighted(nn.Module):
    """Of three channels, keeps the first, halves the second, and drops the third."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 3
        return x * torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1)


class OnlyGrey(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 1
        return 1 - x


def twice() -> nn.Module:
    return nn.Upsample(scale_factor=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1)])
def test_type_and_shape_come_back(dtype: type, shape: tuple[int, ...]) -> None:
    is_float = np.issubdtype(dtype, np.floating)
    peak = 1 if is_float else np.iinfo(dtype).max
    array = (np.random.default_rng(0).random(shape) * peak).astype(dtype)
    colours = shape[2] - (shape[2] in (2, 4)) if len(shape) == 3 else 1
    result = Model(Invert(), channels=colours).enhance(array)
    assert result.dtype == dtype
    assert result.shape == shape
    expected = array.astype(np.float64)
    if len(shape) == 2:
        expected = peak - expected
    else:
        expected[..., :colours] = peak - expected[..., :colours]  # alpha is as it was
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3 if dtype == np.float16 else 1e-6 * is_float)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 4)])
def test_twice_as_large(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    channels = 3 if shape[-1] == 4 else 1
    result = Model(twice(), channels=channels, scale=2).enhance(array)
    assert result.shape == (10, 14, *shape[2:])
    np.testing.assert_array_equal(result, array.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(("channels", "given", "names"), [(1, 3, ("grey", "colour")), (3, 1, ("colour", "grey"))])
def test_grey_and_colour_are_not_mixed_unasked(channels: int, given: int, names: tuple[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        Model(nn.Identity(), channels=channels, name="isic").enhance(np.zeros((2, 2, given), np.uint8))
    assert str(caught.value) == (
        f"isic is a {names[0]} model, expected a {names[0]} image, found a {names[1]} one; "
        "--channels each enhances each channel by itself"
    )


def test_each() -> None:
    colour = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Model(OnlyGrey(), channels=1).enhance(colour, channels="each"), 255 - colour)
    grey = np.array([[0, 100, 255]], np.uint8)
    result = Model(Weighted(), channels=3).enhance(grey, channels="each")
    np.testing.assert_array_equal(result, [[0, 50, 128]])  # the mean of 1, 1/2 and 0 times the value
    # where nothing differs, nothing changes
    np.testing.assert_array_equal(Model(Weighted(), channels=3).enhance(colour, channels="each")[..., 2], 0)


def test_image_keeps_the_rest() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    alpha = np.random.default_rng(1).integers(0, 255, (4, 5), dtype=np.uint8)
    image = Image(pixels, alpha, format="tiff", exif=b"II*\0", icc_profile=b"profile", dpi=(72, 72), extras="own")
    result = Model(Invert(), channels=3).enhance_image(image)
    np.testing.assert_array_equal(result.pixels, 255 - pixels)
    np.testing.assert_array_equal(result.alpha, alpha)
    assert (result.format, result.exif, result.icc_profile, result.dpi, result.extras) == (
        "tiff", b"II*\0", b"profile", (72, 72), "own",
    )  # fmt: skip
    large = Model(twice(), channels=3, scale=2).enhance_image(image)
    assert large.pixels.shape == (8, 10, 3)
    assert large.alpha is not None
    assert large.alpha.shape == (8, 10)
    assert large.dpi == (144, 144)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(4, np.uint8), r"found \(4,\)"),
        (np.zeros((2, 2, 5), np.uint8), r"found \(2, 2, 5\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"found \(1, 2, 2, 3\)"),
        (np.zeros((0, 2), np.uint8), r"found \(0, 2\)"),
        (np.zeros((2, 2), np.int16), "found int16"),
        (np.zeros((2, 2), bool), "found bool"),
        (np.array([[-3.0, 1024.0]]), "found -3 to 1024"),
        (np.array([[0.0, np.nan]]), "found nan"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, found: str) -> None:
    with pytest.raises(UserError, match=f"array: expected .*{found}"):
        Model(nn.Identity(), channels=1).enhance(array)


def test_a_training_enhancer_is_put_into_eval_mode() -> None:
    model = Model(nn.Dropout(0.9), channels=1)
    model.enhancer.train()
    np.testing.assert_array_equal(model.enhance(np.full((3, 3), 9, np.uint8)), 9)


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ValueError, match="channels: expected 1 or 3, found 2"):
        Model(nn.Identity(), channels=2)
    with pytest.raises(UserError, match="channels: expected match or each, found 'all'"):
        Model(nn.Identity(), channels=1).enhance(np.zeros((2, 2), np.uint8), channels="all")  # type: ignore[arg-type]
