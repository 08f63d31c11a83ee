"""Enhancement: pixels a second against MONAI's sliding window and a naive loop, and the memory a huge image takes.

    python benchmarks/enhancement.py                    10000×10000, 64 images of 256×256, memory at 20000×20000
    python benchmarks/enhancement.py --quick            the same on a small scale, to try the script
    python benchmarks/enhancement.py --default-malloc   without the allocator settings of the command line

All take turns in one process, with one network, one tile and one overlap. Equality comes first: each output against
the untiled one of float32, where the image is small enough for that. MONAI gets its image as a float tensor, ours
includes all conversions; the folder includes reading and writing on both sides.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _measure import interleaved, options, pinned, ratio, row, write_rows

from gradprom._precision import has_bf16
from gradprom._process import tune_malloc
from gradprom.enhancers.unet import ResidualUNet
from gradprom.images import Image, read_image, write_image
from gradprom.inference.model import Model
from gradprom.inference.reach import needed_overlap
from gradprom.inference.strips import enhance_by_strips
from gradprom.inference.tiles import enhance_tiles, spans

Array = np.ndarray
SIGMA = 0.15


def scene(size: int, seed: int = 0) -> Array:
    """Discs of random brightness and a slope, (size, size) in [0, 1]."""
    generator = np.random.default_rng(seed)
    image = np.broadcast_to(np.linspace(0.2, 0.5, size, dtype=np.float32), (size, size)).copy()
    for _ in range(size * size // 1500 + 4):
        radius, (y, x) = int(generator.integers(3, 25)), generator.integers(0, size, 2)
        top, left = max(0, y - radius), max(0, x - radius)
        part = image[top : y + radius, left : x + radius]
        rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        part[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = generator.uniform(0.1, 0.9)
    return image


def noisy(image: Array, seed: int = 1) -> Array:
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.round(np.clip(image + SIGMA * noise, 0, 1) * 255).astype(np.uint8).reshape(*image.shape, 1)


def fitted(steps: int) -> torch.nn.Module:
    """The default enhancer, trained for a while: a new one changes nothing, and all would agree about that."""
    torch.manual_seed(0)
    enhancer = ResidualUNet(1)
    clean = torch.from_numpy(scene(640)).unfold(0, 64, 64).unfold(1, 64, 64).reshape(-1, 1, 64, 64)
    optimizer = torch.optim.Adam(enhancer.parameters(), 1e-3)
    for _ in range(steps):
        target = clean[torch.randint(len(clean), (8,))]
        loss = torch.nn.functional.mse_loss(enhancer(target + SIGMA * torch.randn_like(target)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return enhancer.eval()


def psnr(one: Array, other: Array) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2) + 1e-20))


def monai(
    enhancer: torch.nn.Module, tile: int, overlap: int, mode: str = "constant"
) -> Callable[[torch.Tensor], torch.Tensor]:
    from monai.inferers import sliding_window_inference

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return sliding_window_inference(image, (tile, tile), 1, enhancer, overlap=overlap / tile, mode=mode)

    return run


def naive(enhancer: torch.nn.Module, tile: int, overlap: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What one writes first: tile by tile, the middle of each kept."""

    def run(image: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(image)
        with torch.no_grad():
            for y in spans(image.shape[2], tile, overlap):
                for x in spans(image.shape[3], tile, overlap):
                    enhanced = enhancer(image[..., y.start : y.stop, x.start : x.stop])
                    result[..., y.keep_start : y.keep_stop, x.keep_start : x.keep_stop] = enhanced[
                        ...,
                        y.keep_start - y.start : y.keep_stop - y.start,
                        x.keep_start - x.start : x.keep_stop - x.start,
                    ]
        return result

    return run


def measure(
    name: str,
    calls: dict[str, Callable[[], object]],
    repeats: int,
    pixels: int,
    pins: dict[str, object],
    *,
    warm: bool = False,
) -> list[dict[str, object]]:
    """Rows of how many times as fast as MONAI's each other call is."""
    times = interleaved(calls, repeats, warm=warm)
    for what, own in times.items():
        print(f"  {what:<14} {pixels / 1e6 / median(own.wall):7.2f} Mpx/s")
    goals = {"ours, auto": ">= 1.5"}
    return [
        row(
            f"enhancement, {name}: {what} / MONAI in float32, pixels a second, {clock}",
            ratio(getattr(times["monai"], clock), getattr(own, clock)),
            goals.get(what),
            pins | {"repeats": repeats},
        )
        for clock in ("cpu", "wall")
        for what, own in times.items()
        if what != "monai"
    ]


def check(enhancer: torch.nn.Module, tile: int, overlap: int) -> dict[str, float]:
    """The outputs that are timed, against the whole image at once in float32."""
    pixels = noisy(scene(1100)).astype(np.float32) / 255
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        whole = enhancer(tensor).clamp(0, 1)[0, 0].numpy()
    found = {}
    others = {
        "monai": monai(enhancer, tile, overlap),
        "monai, gaussian": monai(enhancer, tile, overlap, "gaussian"),
        "naive": naive(enhancer, tile, overlap),
    }
    for name, run in others.items():
        found[name] = psnr(run(tensor).clamp(0, 1)[0, 0].numpy(), whole)
    seams = np.zeros(len(pixels), bool)
    for span in spans(len(pixels), tile, overlap)[1:]:
        seams[span.keep_start - 4 : span.keep_start + 4] = True
    at_seams = seams[:, np.newaxis] | seams
    for precision in ("float32", "bf16"):
        result = enhance_tiles(enhancer, pixels, tile=tile, overlap=overlap, precision=precision)[..., 0]
        found[f"ours, {precision}"] = psnr(result, whole)
        error = np.abs(result - whole)
        print(
            f"  {precision}: mean difference to the untiled output {error[at_seams].mean():.2e} beside seams, "
            f"{error[~at_seams].mean():.2e} elsewhere; at most {error[at_seams].max():.1e} and "
            f"{error[~at_seams].max():.1e}"
        )
    print("  PSNR to the untiled float32 output:", {name: round(value, 1) for name, value in found.items()})
    # MONAI's plain call averages tiles up to their cuts, where they lack their surroundings: it may be below 55 dB
    if min(value for name, value in found.items() if name.startswith("ours")) < 55:
        sys.exit("the outputs are not equal: nothing is timed")
    return found


def folder(
    enhancer: torch.nn.Module, count: int, repeats: int, tile: int, overlap: int, pins: dict[str, object]
) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{index}.png" for index in range(count)]
        for index, path in enumerate(paths):
            write_image(path, Image(noisy(scene(256, index))))
        theirs = monai(enhancer, min(tile, 256), overlap)  # it would fill up a larger tile with zeros

        def run_theirs() -> None:
            for path in paths:
                tensor = torch.from_numpy(read_image(path).pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
                result = theirs(tensor).clamp(0, 1)[0].permute(1, 2, 0).numpy()
                write_image(path.with_suffix(".out.png"), Image(np.round(result * 255).astype(np.uint8)))

        def run_ours(precision: str) -> None:
            for path in paths:
                image = read_image(path)
                result = enhance_tiles(enhancer, image.pixels, tile=tile, overlap=overlap, precision=precision)
                write_image(path.with_suffix(".out.png"), image.with_pixels(result, None))

        calls = {
            "monai": run_theirs,
            "ours, float32": lambda: run_ours("float32"),
            "ours, auto": lambda: run_ours("auto"),
        }
        return measure("a folder of 256×256", calls, repeats, count * 256**2, pins)


def huge(size: int, height: int, tile: int) -> float:
    """The peak of resident memory in GB of a process that enhances a made-up TIFF."""
    import tifffile

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.tif"
        part = noisy(scene(1024))
        rows = -(-height // 256) * -(-size // 256)
        tiles = (part[:256, :256] for _ in range(rows))
        tifffile.imwrite(source, tiles, shape=(height, size), dtype=np.uint8, tile=(256, 256), compression="zlib")
        command = [sys.executable, __file__, "--one", str(source), str(Path(name) / "out.tif"), str(tile)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak, seconds = map(float, done.stdout.split())
    print(f"  of {peak:.2f} GB {before:.2f} were taken before the image was opened; {seconds:.0f} s")
    return peak


def one(source: str, target: str, tile: int) -> None:
    # VmHWM, not getrusage: that begins with the parent's
    def peak() -> float:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 / 1e9 if found else float("nan")

    before, start = peak(), time.perf_counter()
    enhancer = ResidualUNet(1)
    enhance_by_strips(Model(enhancer, channels=1), source, target, tile=tile, overlap=96)
    print(before, peak(), time.perf_counter() - start)


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--quick", action="store_true", help="smaller images, to try the script")
    parser.add_argument("--default-malloc", action="store_true", help="without the command line's settings")
    parser.add_argument(
        "--large-repeats", type=int, default=1, help="of the large image, whose many tiles average enough"
    )
    parser.add_argument("--tile", type=int, default=512, help="side of a tile in pixels")
    parser.add_argument("--skip-huge", action="store_true", help="leave out the huge image")
    parser.add_argument("--one", nargs=3, help="(what the script calls itself with for the huge image)")
    arguments = parser.parse_args()
    if arguments.one:
        tune_malloc()
        return one(*arguments.one[:2], int(arguments.one[2]))
    if not arguments.default_malloc:
        tune_malloc()
    torch.set_num_threads(arguments.threads)
    size, count, limit = (2000, 8, (20000, 2048)) if arguments.quick else (10000, 64, (20000, 20000))
    enhancer = fitted(150)
    overlap = max(32, needed_overlap(enhancer, 1))
    print(f"tile {arguments.tile}, overlap {overlap} (measured), {arguments.threads} threads, bf16 {has_bf16('cpu')}")
    check(enhancer, arguments.tile, overlap)

    print(f"one image of {size}×{size}")
    pixels = noisy(scene(size))
    tensor = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    theirs, loop = monai(enhancer, arguments.tile, overlap), naive(enhancer, arguments.tile, overlap)

    def ours(precision: str) -> Callable[[], object]:
        return lambda: enhance_tiles(enhancer, pixels, tile=arguments.tile, overlap=overlap, precision=precision)

    calls = {
        "monai": lambda: theirs(tensor),
        "naive": lambda: loop(tensor),
        "ours, float32": ours("float32"),
        "ours, auto": ours("auto"),
    }
    pins = pinned(
        tile=arguments.tile,
        overlap=overlap,
        mallopt="default" if arguments.default_malloc else "tuned",
    )
    # warm: the check ran them all
    rows = measure(f"{size}×{size}", calls, arguments.large_repeats, size * size, pins, warm=True)
    write_rows(rows, arguments.results)
    print(f"{count} images of 256×256, read and written")
    rows = folder(enhancer, count, arguments.repeats, arguments.tile, overlap, pins)
    write_rows(rows, arguments.results)
    if not arguments.skip_huge:
        print(f"memory at {limit[0]}×{limit[1]}, 8-bit grey, in a process of its own")
        name = f"enhancement, {limit[0]}×{limit[1]}: peak resident memory, GB"
        write_rows([row(name, huge(*limit, tile=arguments.tile), "< 2", pins)], arguments.results)
    return None


if __name__ == "__main__":
    main()
