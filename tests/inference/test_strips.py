from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import ImageCms
from torch import nn

from gradprom.errors import UserError
from gradprom.images import Image, read_image, write_image
from gradprom.inference.model import Model
from gradprom.inference.strips import enhance_by_strips, is_for_strips

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def network(channels: int, scale: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.Tanh(),
        nn.Conv2d(6, channels * scale**2, 5, padding=2),
        nn.PixelShuffle(scale),
        nn.Sigmoid(),
    )


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("overlap", [0, 16])
def test_every_pixel_is_that_of_the_whole(tmp_path: Path, dtype: Any, count: int, scale: int, overlap: int) -> None:
    samples = noise(333, 150, count, dtype=dtype)
    source, whole, target = (tmp_path / name for name in ("a.tif", "whole.tif", "b.tif"))
    tifffile.imwrite(
        source,
        samples if count > 1 else samples[..., 0],
        photometric="rgb" if count > 2 else "minisblack",
        planarconfig="contig" if count > 1 else None,
        extrasamples=[2] if count in (2, 4) else None,
        compression="zlib",
        rowsperstrip=50,
    )
    channels = 3 if count > 2 else 1
    model = Model(network(channels, scale), channels=channels, scale=scale)
    write_image(whole, model.enhance_image(read_image(source), tile=64, overlap=overlap))
    seen: list[tuple[int, int]] = []
    enhance_by_strips(
        model, source, target, tile=64, overlap=overlap, on_tile=lambda done, total: seen.append((done, total))
    )
    np.testing.assert_array_equal(tifffile.imread(target), tifffile.imread(whole))
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
    assert {total for _, total in seen} == {len(seen)}


def test_what_is_kept(tmp_path: Path) -> None:
    source, target, whole = (tmp_path / name for name in ("a.tif", "b.tif", "whole.tif"))
    tifffile.imwrite(
        source,
        noise(100, 90, 3),
        photometric="rgb",
        tile=(32, 48),
        compression="lzw",
        resolution=(200, 300),
        resolutionunit=3,
        iccprofile=PROFILE,
        description="A lesion",
        metadata=None,
        software=False,
        extratags=[(274, 3, 1, 6, True), (271, 2, 6, b"Maker", True)],
    )
    model = Model(nn.Upsample(scale_factor=2), channels=3, scale=2)
    enhance_by_strips(model, source, target, tile=64)
    write_image(whole, model.enhance_image(read_image(source)))
    storage = {256, 257, 278, 273, 279, 322, 323, 324, 325}  # sizes and places of strips and tiles
    with tifffile.TiffFile(target) as strips, tifffile.TiffFile(whole) as expected:
        page = strips.pages[0]
        found, wanted = ({tag.code: tag.value for tag in tiff.pages[0].tags} for tiff in (strips, expected))
        assert {code: value for code, value in found.items() if code not in storage} == {
            code: value for code, value in wanted.items() if code not in storage
        }
        assert page.shape == (200, 180, 3)
        assert page.tile == (32, 48)
        assert page.compression == tifffile.COMPRESSION.LZW
        assert page.description == "A lesion"
        assert page.iccprofile == PROFILE
        assert page.resolution == (400, 600)


def test_each(tmp_path: Path) -> None:
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    values = noise(100, 70, 3)
    write_image(source, Image(values))
    grey = Model(nn.Conv2d(1, 1, 1), channels=1)
    with pytest.raises(UserError, match="enhancer is a grey model, expected a grey image"):
        enhance_by_strips(grey, source, target)
    nn.init.constant_(grey.enhancer.weight, -1)
    nn.init.constant_(grey.enhancer.bias, 1)
    enhance_by_strips(grey, source, target, channels="each", tile=64)
    np.testing.assert_array_equal(tifffile.imread(target), 255 - values)


def test_which_files(tmp_path: Path) -> None:
    small, large, png, text = (tmp_path / name for name in ("s.tif", "l.tif", "p.png", "t.tif"))
    write_image(small, Image(noise(10, 10, 1)))
    write_image(large, Image(noise(11, 10, 1)))
    write_image(png, Image(noise(11, 10, 1)))
    text.write_text("hello")
    assert is_for_strips(large, "out.tiff", 109)
    assert not is_for_strips(large, "out.tiff", 110)
    assert not is_for_strips(large, "out.png", 109)
    for other in (small, png, text, tmp_path / "none.tif"):
        assert not is_for_strips(other, "out.tif", 109)
    large.write_bytes(large.read_bytes()[:8])
    assert not is_for_strips(large, "out.tif", 109)


def test_unfit_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source, out = tmp_path / "a.tif", tmp_path / "out"
    out.mkdir()
    model = Model(nn.Identity(), channels=1)
    tifffile.imwrite(source, noise(100, 100), compression="zlib", rowsperstrip=10)
    whole = source.read_bytes()
    with tifffile.TiffFile(source) as tiff:
        middle = tiff.pages[0].dataoffsets[6]
    broken = whole[: middle + 2] + bytes(100) + whole[middle + 102 :]
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (whole, {"max_pixels": 99}, "expected at most 9900 pixels, found 100×100; .*--max-pixels 100"),
        (whole, {"max_pixels": 999}, "found 100×10 that can only be read together"),
        (whole, {"tile": 40}, "tile 40, overlap 32: expected"),
        (whole[:-500], {}, "expected a whole TIFF file, found one that is cut short"),
        (broken, {"tile": 64}, "expected a whole TIFF file, found one that is cut short or corrupt"),
        (b"II*\0", {}, "expected a whole TIFF file"),
    ]
    for data, options, message in cases:
        source.write_bytes(data)
        with pytest.raises(UserError, match=message) as caught:
            enhance_by_strips(model, source, out / "b.tif", **options)
        assert str(caught.value).startswith((f"{source}: ", "tile "))
        assert below(out) == []
    tifffile.imwrite(source, noise(100, 100).astype(np.float32))
    with pytest.raises(UserError, match="found floating point numbers of 32 bits"):
        enhance_by_strips(model, source, out / "b.tif")
    with pytest.raises(UserError, match=r"none\.tif: the file cannot be read"):
        enhance_by_strips(model, tmp_path / "none.tif", out / "b.tif")
    assert below(out) == []


def test_a_result_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    write_image(source, Image(noise(20, 20, 1)))
    with pytest.raises(UserError, match=r"a\.tif/b\.tif: the file cannot be written") as caught:
        enhance_by_strips(Model(nn.Identity(), channels=1), source, source / "b.tif")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_interrupted_nothing_is_left(tmp_path: Path, interruption: type[BaseException]) -> None:
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    write_image(source, Image(noise(300, 20, 1)))
    target.write_text("old")

    def on_tile(done: int, _: int) -> None:
        if done == 3:
            raise interruption

    with pytest.raises(interruption):
        enhance_by_strips(Model(nn.Identity(), channels=1), source, target, tile=64, on_tile=on_tile)
    assert below(tmp_path) == ["a.tif", "b.tif"]
    assert target.read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of memory")
@pytest.mark.parametrize("options", [{"photometric": "minisblack"}, {"compression": "zlib", "tile": (256, 256)}])
def test_memory_is_not_that_of_the_image(tmp_path: Path, options: dict[str, Any]) -> None:
    height, width = 10_000, 7_000
    source, target, small = (tmp_path / name for name in ("a.tif", "b.tif", "small.tif"))
    tifffile.imwrite(source, np.zeros((height, width), np.uint16), **options)
    tifffile.imwrite(small, noise(100, 100), compression="zlib")
    script = """
        import re, sys, torch
        from pathlib import Path
        from gradprom.inference.model import Model
        from gradprom.inference.strips import enhance_by_strips

        def peak():  # not resource.getrusage's, which begins with that of the parent
            return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

        model = Model(torch.nn.Identity(), channels=1)
        enhance_by_strips(model, sys.argv[1], sys.argv[2], tile=64, overlap=0)  # what is loaded once
        before = peak()
        enhance_by_strips(model, sys.argv[3], sys.argv[2], tile=256)
        print((peak() - before) * 1024)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(small), str(target), str(source)]
    grown = int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout)
    assert 0 < grown < 0.8 * height * width * 2
    with tifffile.TiffFile(target) as tiff:
        assert tiff.pages[0].shape == (height, width)
