"""TIFF files of several images: pages one after the other, each with what must be kept of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradprom._files import atomic_path
from gradprom.images import _tiff
from gradprom.images._intensities import repeated
from gradprom.images.frames import Frames, PlainWriter, check_size, reading, with_scale, writing
from gradprom.images.image import Image, Pixels, UnreadableError
from gradprom.images.masks import mask_image
from gradprom.images.raster import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASSIC = 2**32 - 2**25  # bytes: beyond, offsets of 32 bits do not reach


def has_pages(path: str | Path) -> bool:
    """Tell whether a file is a TIFF of more than one image, or promises more; False where it cannot be read.

    Example:
        >>> has_pages("/nowhere.tif")
        False
    """
    import tifffile

    path = Path(path)
    try:
        if not path.is_file():  # a pipe would keep its reader waiting
            return False
        with path.open("rb") as file:
            if not file.read(4).startswith(_tiff.SIGNATURES):
                return False
        with tifffile.TiffFile(path) as tiff:
            return _count(tiff) > 1 or not _is_last(tiff.pages[-1])
    except Exception:  # tifffile raises whatever broken files make it raise; who reads the file says what is wrong
        return False


def open_pages(path: str | Path, *, max_pixels: int = MAX_PIXELS, option: str = "--max-pixels") -> Frames:
    """Read a TIFF of several pages, each 1, 8 or 16 bits, grey, colour or palette; or an ImageJ stack of one page.

    Compression (deflate where it was lossy), tiles, resolution, orientation, colour profile, opacity and texts of each
    page are kept. So is OME's description, which stands in the first; where pages are enlarged, it is made to fit.

    Args:
        path: the file; it must stay until the frames are written.
        max_pixels: files with more, in all pages, are refused before any pixel is decoded.
        option: what the user is told to raise then.

    Raises:
        UserError: broken, too large, or of an unsupported kind.
    """
    import tifffile

    path = Path(path)
    with reading(path, "TIFF"), tifffile.TiffFile(path) as tiff:
        count = _count(tiff)
        pages = list(tiff.pages)
        if not _is_last(pages[-1]):
            raise UnreadableError("expected a whole TIFF file, found one that is cut short; copy it again")
        check_size(
            (count, max(page.imagelength for page in pages), max(page.imagewidth for page in pages)), max_pixels, option
        )
        for number, page in enumerate(pages, 1):
            _check(page, number)
        stack = _imagej_stack(tiff, count) if tiff.is_imagej else None
        is_big = tiff.is_bigtiff
        # a palette becomes red, green and blue
        sizes = [page.nbytes * (3 if page.photometric == _tiff.PALETTE else 1) for page in pages]
        plain_bytes = sum(sizes) * count // len(pages)

    @functools.lru_cache(maxsize=1)  # each is read, and then written with what it had
    def page_of(index: int) -> tuple[Image, dict[str, Any]]:
        with reading(path, "TIFF"), tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0 if stack is not None else index]
            pixels, alpha = _tiff.split(_samples(page) if stack is None else stack[index], page)
            return replace(_tiff.describe(page), pixels=pixels, alpha=alpha), _layout(page)

    def check(scale: int) -> None:
        if scale == 1:
            return
        with reading(path, "TIFF"):
            _tiff.check_resizable(page_of(0)[0], scale)
            if stack is not None:  # which is held as a whole
                check_size((count, *(side * scale for side in stack.shape[1:3])), max_pixels, option)

    def write(target: Path, frames: Iterable[Pixels]) -> None:
        scale, frames = with_scale(frames, pages[0].imagelength)
        check(scale)
        big = is_big or plain_bytes * scale**2 > _CLASSIC
        with (
            writing(target),
            atomic_path(target) as temporary,
            PlainWriter(temporary) as file,
            tifffile.TiffWriter(file, bigtiff=big, ome=False) as writer,  # see _tiff.encode
        ):
            if stack is not None:
                # ImageJ looks for all images behind the first, without gaps
                image, options = page_of(0)
                images = list(frames)
                image = image.with_pixels(images[0], None)
                writer.write(_squeezed(np.stack(images)), **_tiff.options(image), **options)
                return
            for index, enhanced in enumerate(frames):
                image, options = page_of(index)
                alpha = None if image.alpha is None else repeated(image.alpha, scale)
                samples = enhanced if alpha is None else np.concatenate([enhanced, alpha[..., None]], axis=2)
                image = image.with_pixels(enhanced, alpha)
                writer.write(_squeezed(samples), contiguous=False, **_tiff.options(image), **options)

    return Frames("tiff", count, lambda index: page_of(index)[0].pixels, write, check)


def write_page_masks(path: Path, of: Path, masks: Sequence[NDArray[np.uint8]]) -> None:
    """Write the masks of a TIFF's pages as a TIFF of as many pages, laid out and compressed as those are.

    Args:
        path: where to.
        of: a file that `open_pages` reads.
        masks: a mask for each page, (H, W) of class numbers.

    Raises:
        UserError: it cannot be written (then the ``OSError`` is the cause).
        ValueError: there are more or fewer masks than pages, or of another size.
    """
    import tifffile

    with (
        reading(of, "TIFF"),
        tifffile.TiffFile(of) as tiff,
        writing(path),
        atomic_path(path) as temporary,
        PlainWriter(temporary) as file,
        tifffile.TiffWriter(file, bigtiff=sum(mask.size for mask in masks) > _CLASSIC, ome=False) as writer,
    ):
        # of an ImageJ stack all images can lie behind the first page
        pages = list(tiff.pages) if len(tiff.pages) > 1 else [tiff.pages[0]] * _count(tiff)
        for page, mask in zip(pages, masks, strict=True):
            options = _tiff.options(mask_image(_tiff.describe(page), mask))
            writer.write(mask, contiguous=False, **options, **_layout(page))


def _layout(page: Any) -> dict[str, Any]:
    """Give what tifffile must be told of how a page is stored, beside what belongs to its image."""
    return {
        "tile": (page.tilelength, page.tilewidth) if page.is_tiled else None,
        "subfiletype": page.subfiletype,
    }


def _count(tiff: Any) -> int:
    count = len(tiff.pages)
    if count == 1 and tiff.is_imagej:
        return max(1, int((tiff.imagej_metadata or {}).get("images", 1)))
    return count


def _is_last(page: Any) -> bool:
    """Tell whether a page says that none follows it; tifffile leaves out pages that lie beyond the end of the file."""
    file = page.parent.filehandle
    order: Literal["little", "big"] = "little" if page.parent.byteorder == "<" else "big"
    count, entry, offset = (8, 20, 8) if page.parent.is_bigtiff else (2, 12, 4)
    file.seek(page.offset)
    file.seek(page.offset + count + entry * int.from_bytes(file.read(count), order))
    return int.from_bytes(file.read(offset), order) == 0


def _check(page: Any, number: int) -> None:
    try:
        _tiff.check_page(page)
    except UnreadableError as error:
        raise UnreadableError(f"page {number}: {error}") from error
    if page.imagedepth > 1 or page.subifds:
        what = "one of several layers" if page.imagedepth > 1 else "one with smaller copies of it (a pyramid)"
        raise UnreadableError(f"page {number}: expected a plain image, found {what}; save it as plain pages")


def _samples(page: Any) -> Pixels:
    """Give a page as (height, width, samples)."""
    planes = page.asarray(squeeze=False)[:, 0]
    return planes[0] if planes.shape[0] == 1 else np.moveaxis(planes[..., 0], 0, -1)


def _squeezed(samples: Pixels) -> Pixels:
    return samples[..., 0] if samples.shape[-1] == 1 else samples


def _imagej_stack(tiff: Any, count: int) -> Pixels:
    """Give all images of an ImageJ stack, which can have one page alone: (count, height, width, samples)."""
    page = tiff.pages[0]
    end = page.dataoffsets[0] + count * page.nbytes
    if int(page.compression) != 1 or end > tiff.filehandle.size:
        raise UnreadableError("expected a whole TIFF file, found one that is cut short; copy it again")
    values: Pixels = tiff.series[0].asarray().reshape(count, page.imagelength, page.imagewidth, page.samplesperpixel)
    return values
