"""An enhancer over TIFF files of any size, strip by strip: memory depends on the width and the tile, not the height."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradprom._files import atomic_path
from gradprom.images import MAX_PIXELS, SUFFIXES
from gradprom.images._intensities import repeated
from gradprom.images._tiff import SIGNATURES, check_resizable
from gradprom.images._tiff_strips import TiffRows, open_rows, write_rows
from gradprom.images.frames import reading, writing
from gradprom.images.image import Image, UnreadableError
from gradprom.inference.model import Channels, Model
from gradprom.inference.tiles import spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How many times more pixels than may be decoded at once an image may have: what is in memory does not grow with it,
# but a file of a few bytes could still ask for a full disk
MOST = 100


def is_for_strips(source: str | Path, target: str | Path, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a file is a TIFF of more than ``max_pixels``, and is to be written as one.

    False as well for what cannot be read, about which reading it says more.
    """
    import tifffile

    if SUFFIXES.get(Path(target).suffix.lower()) != "tiff" or not Path(source).is_file():
        return False
    try:
        with Path(source).open("rb") as file:
            if not file.read(4).startswith(SIGNATURES):
                return False
            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[0]
                return bool(page.imagewidth * page.imagelength > max_pixels)
    except Exception:  # of a broken file, whatever it makes the decoder raise
        return False


def enhance_by_strips(
    model: Model,
    source: str | Path,
    target: str | Path,
    *,
    channels: Channels = "match",
    tile: int = 512,
    overlap: int = 32,
    max_pixels: int = MAX_PIXELS,
    on_tile: Callable[[int, int], None] | None = None,
) -> None:
    """Enhance a TIFF into a TIFF, whole or not at all, with a row of tiles in memory at a time.

    The pixels are those that enhancing the image as a whole gives, and all is kept that is kept then; they are
    stored in tiles: those of the source if it has any.

    Args:
        model: the enhancer.
        source: a TIFF of the kinds that :func:`gradprom.images.read_image` reads; BigTIFF too.
        target: ends in .tif or .tiff; BigTIFF is written where it must be.
        channels: see :meth:`Model.enhance`.
        tile: see :meth:`Model.enhance`.
        overlap: see :meth:`Model.enhance`.
        max_pixels: how many may be decoded at once: a compressed strip or a row of tiles of more is refused, and an
            image of more than 100 times as many.
        on_tile: is called with the number of tiles done and of all tiles.

    Raises:
        UserError: the file is unfit, as :func:`gradprom.images.read_image` and :meth:`Model.enhance` find it, or
            cannot be written (then the ``OSError`` is the cause).

    Example:
        >>> import tempfile, torch
        >>> from gradprom.images import Image, read_image, write_image
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_image(folder / "in.tif", Image(np.full((100, 40, 1), 7, np.uint8)))
        >>> model = Model(torch.nn.Upsample(scale_factor=2), channels=1, scale=2)
        >>> enhance_by_strips(model, folder / "in.tif", folder / "out.tif", tile=64)
        >>> read_image(folder / "out.tif").pixels.shape
        (200, 80, 1)
    """
    source, target = Path(source), Path(target)
    spans(1, tile, overlap)  # refuses sizes that fit no image

    def check_size(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise UnreadableError(f"expected an image, found one of {width}×{height} pixels; copy it again")
        if width * height > MOST * max_pixels:
            raise UnreadableError(
                f"expected at most {MOST * max_pixels} pixels, found {width}×{height}; if the file is to be trusted "
                f"and there is space for the result, raise the limit with --max-pixels {-(-width * height // MOST)}"
            )

    with reading(source, "TIFF"):
        file = source.open("rb")
    with file:
        with reading(source, "TIFF"):
            rows = open_rows(file, check_size, max_pixels)
            check_resizable(rows.image, model.scale)
        bands = _bands(model, rows, source, channels, tile, overlap, on_tile)
        with writing(target), atomic_path(target) as temporary, temporary.open("wb") as output:
            write_rows(_enlarged(rows.image, model.scale), bands, rows.tile, output)


def _enlarged(image: Image, scale: int) -> Image:
    """Give an image that takes no memory ``scale`` times as large."""
    height, width = (side * scale for side in image.pixels.shape[:2])
    alpha = None if image.alpha is None else np.broadcast_to(image.alpha[:1, :1], (height, width))
    return image.with_pixels(np.broadcast_to(image.pixels[:1, :1], (height, width, image.channels)), alpha)


def _bands(
    model: Model,
    rows: TiffRows,
    source: Path,
    channels: Channels,
    tile: int,
    overlap: int,
    on_tile: Callable[[int, int], None] | None,
) -> Iterator[NDArray[Any]]:
    """Enhance one row of tiles after the other."""
    height, width = rows.image.pixels.shape[:2]
    strips, tiles, scale = spans(height, tile, overlap), len(spans(width, tile, overlap)), model.scale
    for number, strip in enumerate(strips):

        def on_tile_of_strip(done: int, _: int, before: int = number * tiles) -> None:
            if on_tile is not None:
                on_tile(before + done, tiles * len(strips))

        with reading(source, "TIFF"):
            pixels, alpha = rows.window(strip.start, strip.stop)
        kept = slice((strip.keep_start - strip.start) * scale, (strip.keep_stop - strip.start) * scale)
        band = model.enhance(pixels, channels=channels, tile=tile, overlap=overlap, on_tile=on_tile_of_strip)[kept]
        if alpha is not None:
            opacity = repeated(alpha, scale)[kept]
            band = np.concatenate([band, opacity[..., np.newaxis]], axis=2)
        yield band
