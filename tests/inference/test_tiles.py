from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gradprom.enhancers.unet import ResidualUNet
from gradprom.errors import UserError
from gradprom.inference import tiles
from gradprom.inference.reach import needed_overlap
from gradprom.inference.tiles import enhance_tiles, spans


def network(channels: int, scale: int = 1) -> nn.Module:
    """Three 3×3 convolutions: a pixel depends on 3 around it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, channels * scale**2, 3, padding=1),
        nn.PixelShuffle(scale),
        nn.Sigmoid(),
    )


class Blocks(nn.Module):
    """The mean of each block of 32×32 of a grid that begins at the top left, as a U-Net's deepest level sees it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        padded = nn.functional.pad(x, (0, -width % 32, 0, -height % 32))
        blocks = nn.functional.avg_pool2d(padded, 32)
        return nn.functional.interpolate(blocks, scale_factor=32)[..., :height, :width]


def at_once(enhancer: nn.Module, pixels: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return enhancer(values)[0].permute(1, 2, 0).numpy()


@settings(deadline=None)
@given(size=st.integers(1, 3000), overlap=st.integers(0, 200), more=st.integers(32, 400))
def test_spans(size: int, overlap: int, more: int) -> None:
    tile = overlap + more
    found = spans(size, tile, overlap)
    assert [span.keep_start for span in found] == [0, *(span.keep_stop for span in found[:-1])]
    assert found[0].start == 0
    assert found[-1].stop == found[-1].keep_stop == size
    for span in found:
        assert span.start % 32 == 0
        assert 0 < span.stop - span.start <= tile
        assert span.start <= span.keep_start < span.keep_stop <= span.stop
    for one, other in pairwise(found):
        assert one.stop - other.start >= overlap
    # each pixel comes from the tile in which it is furthest from a cut, the ends of the image being none
    for pixel in {0, size - 1, *(span.keep_start for span in found), *(span.keep_stop - 1 for span in found)}:
        distances = [
            min(
                pixel - span.start if span.start > 0 else size,
                span.stop - 1 - pixel if span.stop < size else size,
            )
            for span in found
        ]
        kept = next(index for index, span in enumerate(found) if span.keep_start <= pixel < span.keep_stop)
        assert distances[kept] >= max(distances) - 1  # an even overlap has no middle pixel


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (97, 131), (128, 64), (65, 300)])
def test_tiles_are_the_whole(size: tuple[int, int], channels: int, scale: int) -> None:
    pixels = np.random.default_rng(0).random((*size, channels), np.float32)
    enhancer = network(channels, scale)
    calls: list[tuple[int, int]] = []
    result = enhance_tiles(
        enhancer, pixels, scale=scale, tile=64, overlap=8, on_tile=lambda done, total: calls.append((done, total))
    )
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, at_once(enhancer, pixels), atol=1e-6)
    assert calls[-1][0] == calls[-1][1]
    assert (len(calls) > 1) == (max(size) > 64)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_rounded(dtype: type, batch_size: int) -> None:
    peak = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, peak, (150, 201, 3), dtype, endpoint=True)
    enhancer = network(3)
    expected = at_once(enhancer, pixels.astype(np.float32) / peak).astype(np.float64) * peak
    result = enhance_tiles(enhancer, pixels, tile=64, overlap=8, batch_size=batch_size)
    assert result.dtype == dtype
    assert np.abs(result - expected).max() < 0.52  # rounding, and float32's own error at 65535


def test_a_grid_of_blocks_keeps_its_phase() -> None:
    pixels = np.random.default_rng(0).random((333, 270, 1), np.float32)
    result = enhance_tiles(Blocks(), pixels, tile=160, overlap=64)
    np.testing.assert_allclose(result, at_once(Blocks(), pixels), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_identity_changes_no_value_there_is(dtype: type) -> None:
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16, 1)
    np.testing.assert_array_equal(enhance_tiles(nn.Identity(), values, tile=64), values)


def test_clamped() -> None:
    class Stretch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x - 1

    values = np.array([0, 100, 128, 255], np.uint8).reshape(1, 4, 1)
    assert enhance_tiles(Stretch(), values).ravel().tolist() == [0, 45, 129, 255]


def test_modes_are_left_as_they_were() -> None:
    enhancer = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9), nn.BatchNorm2d(1))
    enhancer[2].eval()
    before = {name: value.clone() for name, value in enhancer.state_dict().items()}
    pixels = np.full((8, 8, 1), 200, np.uint8)
    np.testing.assert_array_equal(enhance_tiles(enhancer, pixels), pixels)  # no dropout, no statistics of the batch
    assert [part.training for part in enhancer] == [True, True, False]
    assert enhancer.training
    assert all(torch.equal(value, before[name]) for name, value in enhancer.state_dict().items())


def test_only_a_batch_of_tiles_is_seen_at_once() -> None:
    class Spy(nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[0] <= 2
            assert max(x.shape[2:]) <= 64
            assert not torch.is_grad_enabled()
            return x

    pixels = np.zeros((300, 200, 1), np.uint8)
    np.testing.assert_array_equal(enhance_tiles(Spy(), pixels, tile=64, overlap=16, batch_size=2), pixels)


def test_bf16() -> None:
    pixels = np.random.default_rng(0).random((40, 50, 3), np.float32)
    result = enhance_tiles(network(3), pixels, precision="bf16")
    assert result.dtype == np.float32
    error = np.abs(result - at_once(network(3), pixels)).max()
    assert 0 < error < 0.02


def test_bf16_leaves_convolutions_at_the_image_in_float32() -> None:
    seen: list[torch.dtype] = []
    torch.manual_seed(0)
    enhancer = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 1))
    for part in enhancer:
        part.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    pixels = np.random.default_rng(0).random((40, 50, 1), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        plain = enhancer(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0, 0].float().clamp(0, 1).numpy()
    seen.clear()
    result = enhance_tiles(enhancer, pixels, precision="bf16")[..., 0]
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    expected = at_once(enhancer, pixels)[..., 0].clip(0, 1)
    assert np.square(result - expected).mean() < 0.5 * np.square(plain - expected).mean()


@pytest.mark.parametrize(("dtype", "has", "expected"), [
    (np.uint8, True, torch.bfloat16),
    (np.uint8, False, torch.float32),
    (np.uint16, True, torch.float32),
    (np.float32, True, torch.float32),
])  # fmt: skip
def test_auto(monkeypatch: pytest.MonkeyPatch, dtype: type, has: bool, expected: torch.dtype) -> None:
    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((x.flatten(2) @ x.flatten(2).mT).dtype)
            return x

    seen: list[torch.dtype] = []
    monkeypatch.setattr(tiles, "has_bf16", lambda device: has and device == "cpu")
    enhance_tiles(Spy(), np.ones((4, 4, 1), dtype), precision="auto")
    assert seen == [expected]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match="precision: expected auto, bf16, float32, found 'fp8'"):
        enhance_tiles(nn.Identity(), np.ones((4, 4, 1), np.uint8), precision="fp8")  # type: ignore[arg-type]


def test_tiles_are_even() -> None:
    # three are needed; of the full size they would cover the last 500 pixels twice
    assert [span[:2] for span in spans(1000, 512, 64)] == [(0, 384), (320, 704), (640, 1000)]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_stay_last(channels: int) -> None:
    layouts: list[bool] = []
    enhancer = network(channels)
    enhancer[2].register_forward_hook(
        lambda _, __, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    enhance_tiles(enhancer, np.zeros((20, 30, channels), np.uint8))
    assert layouts == [True]


def test_no_seam_shows() -> None:
    torch.manual_seed(0)
    enhancer = ResidualUNet(1, blocks=1, channels=8).eval()
    nn.init.normal_(enhancer.tail.weight, std=0.05)
    pixels = np.random.default_rng(0).random((600, 300, 1), np.float32)
    whole = enhance_tiles(enhancer, pixels, tile=608)
    assert np.abs(whole - pixels).mean() > 0.01
    overlap = needed_overlap(enhancer, 1)
    found = spans(600, 256, overlap)
    tiled = enhance_tiles(enhancer, pixels, tile=256, overlap=overlap, precision="bf16")
    error = np.abs(tiled - whole).mean(axis=(1, 2))
    beside = [row for span in found[1:] for row in range(span.keep_start - 2, span.keep_start + 2)]
    assert len(beside) >= 8
    assert error[beside].mean() < 1.5 * error.mean()
    exact = enhance_tiles(enhancer, pixels, tile=256, overlap=overlap)
    assert np.abs(exact - whole).max() < 1 / 255


@pytest.mark.parametrize(("tile", "overlap"), [(64, 33), (31, 0), (64, -1), (0, 0)])
def test_sizes_that_do_not_fit_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(UserError, match=f"tile {tile}, overlap {overlap}: expected"):
        enhance_tiles(nn.Identity(), np.zeros((8, 8, 1), np.uint8), tile=tile, overlap=overlap)


def test_other_arrays_and_networks_are_refused() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    with pytest.raises(UserError, match="at least one pixel"):
        enhance_tiles(nn.Identity(), pixels[:0])
    for wrong in (pixels[..., 0], pixels.astype(np.float64), pixels.astype(np.int16)):
        with pytest.raises(ValueError, match="expected"):
            enhance_tiles(nn.Identity(), wrong)
    with pytest.raises(ValueError, match="expected the enhancer to give"):
        enhance_tiles(nn.Identity(), pixels, scale=2)
    broken = nn.Conv2d(1, 1, 1)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(UserError, match="finite"):
        enhance_tiles(broken, pixels)
