"""TIFF files of any size, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from gradprom.images._tiff import check, describe, options, split
from gradprom.images.image import Image, Pixels, UnreadableError

# what is written may wait in memory until so many bytes of it are compressed at once
_BUFFER = 2**24
_TILE = 256


class Rows:
    """The rows of an image from top to bottom, of which those are in memory that are asked for, and no others.

    Args:
        bands: some rows at a time, each (rows, width, samples), in order.

    Example:
        >>> rows = Rows(iter(np.arange(10).reshape(5, 2, 1, 1)))
        >>> rows.window(1, 5).ravel()
        array([1, 2, 3, 4])
        >>> rows.window(4, 7).ravel()
        array([4, 5, 6])
    """

    def __init__(self, bands: Iterator[Pixels]) -> None:
        self._bands = bands
        self._kept: Pixels | None = None
        self._start = 0

    def window(self, start: int, stop: int) -> Pixels:
        """Give the rows from ``start`` to ``stop``; rows before the last window's start are gone.

        Raises:
            ValueError: they are gone, or there are not that many.
        """
        if start < self._start:
            raise ValueError(f"expected rows from {self._start} on, found {start}")
        parts = [] if self._kept is None else [self._kept]
        end = self._start + sum(map(len, parts))
        while end < stop:
            band = next(self._bands, None)
            if band is None:
                raise ValueError(f"expected {stop} rows, found {end}")
            # a band may lie before the window
            parts.append(band[max(0, start - end) :])
            end += len(band)
        kept = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._kept = kept[len(kept) - (end - start) :]
        self._start = start
        return self._kept[: stop - start]


class TiffRows:
    """A TIFF whose pixels are read some rows at a time.

    Attributes:
        image: the image but for its pixels, see :func:`gradprom.images._tiff.describe`.
        tile: height and width of the tiles that it is stored in, or of those to be written if in none.
    """

    def __init__(self, page: Any, max_pixels: int) -> None:
        self.image = describe(page)
        is_tiled = bool(page.is_tiled)
        self.tile = (_TILE, _TILE)
        if is_tiled and page.tilelength % 16 == page.tilewidth % 16 == 0:  # others are against the standard
            self.tile = (page.tilelength, page.tilewidth)
        is_plain = not is_tiled and page.compression == page.predictor == page.fillorder == 1
        if is_plain and page.bitspersample in (8, 16):
            bands = _plain_bands(page)
        else:
            height = min(page.tilelength if is_tiled else page.rowsperstrip, page.imagelength)
            if height * page.imagewidth > max_pixels:
                raise UnreadableError(
                    f"expected at most {max_pixels} pixels at once, found {page.imagewidth}×{height} that can only "
                    "be read together; if the file is to be trusted and memory allows, raise the limit with "
                    f"--max-pixels {height * page.imagewidth}, or save it in tiles"
                )
            bands = _bands(page)
        self._rows = Rows(bands)
        self._page = page

    def window(self, start: int, stop: int) -> tuple[Pixels, Pixels | None]:
        """Give pixels and alpha of the rows from ``start`` to ``stop``, as :class:`Image` holds them.

        Those before the last window's start are gone.
        """
        return split(self._rows.window(start, stop), self._page)


def open_rows(file: BinaryIO, check_size: Callable[[int, int], None], max_pixels: int) -> TiffRows:
    """Open a TIFF of the kinds that :func:`gradprom.images._tiff.decode` reads, to read it some rows at a time.

    Args:
        file: open for reading, at its start, and to be kept open as long as rows are read.
        check_size: is called with width and height, and raises if they are too many.
        max_pixels: how many may have to be decoded at once: a strip, or a row of tiles.

    Raises:
        UnreadableError: a kind that is not supported; tifffile raises errors of its own for broken files.
    """
    import tifffile

    tiff = tifffile.TiffFile(file)
    page = tiff.pages[0]
    check_size(page.imagewidth, page.imagelength)
    check(tiff)
    return TiffRows(page, max_pixels)


def write_rows(image: Image, bands: Iterator[Pixels], tile: tuple[int, int], file: BinaryIO) -> None:
    """Write a TIFF as :func:`gradprom.images._tiff.encode` does, but in tiles, and some rows at a time.

    Args:
        image: all but the pixels, which may take no memory.
        bands: some rows at a time, each (rows, width, channels, and one more if there is alpha).
        tile: height and width of the tiles, multiples of 16.
        file: open for writing, seekable.
    """
    import tifffile

    samples = image.channels + (image.alpha is not None)
    height, width = image.pixels.shape[:2]
    shape = (height, width) if samples == 1 else (height, width, samples)
    # offsets of 4 bytes reach to 2**32, and compression can make noise larger
    is_big = height * width * samples * image.pixels.itemsize > 2**31
    tifffile.imwrite(
        file,
        _tiles(Rows(bands), height, width, tile),
        shape=shape,
        dtype=image.pixels.dtype,
        tile=tile,
        bigtiff=is_big,
        ome=False,  # see _tiff.encode
        buffersize=_BUFFER,
        **options(image),
    )


def _tiles(rows: Rows, height: int, width: int, tile: tuple[int, int]) -> Iterator[Pixels]:
    for top in range(0, height, tile[0]):
        band = rows.window(top, min(top + tile[0], height))
        for left in range(0, width, tile[1]):
            yield band[:, left : left + tile[1]]


def _bands(page: Any) -> Iterator[Pixels]:
    """Decode one strip or one row of tiles after the other."""
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    for row in range(down):
        rows = min(height, page.imagelength - row * height)
        band = np.empty((rows, page.imagewidth, page.samplesperpixel), page.dtype)
        for plane in range(planes):
            samples = slice(None) if planes == 1 else slice(plane, plane + 1)
            for column in range(across):
                index = (plane * down + row) * across + column
                data = _read(page, page.dataoffsets[index], page.databytecounts[index])
                segment = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0][0]
                left = column * width
                into = band[:, left : left + width, samples]
                into[:] = segment[: into.shape[0], : into.shape[1]]
        yield band


def _plain_bands(page: Any) -> Iterator[Pixels]:
    """Read what is neither compressed nor in tiles a few rows at a time: a strip is often the whole image."""
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    strips = -(-page.imagelength // page.rowsperstrip)
    kind = page.dtype.newbyteorder(page.parent.byteorder)
    samples = page.samplesperpixel // planes
    stride = page.imagewidth * samples * kind.itemsize
    at_once = max(1, _BUFFER // (4 * stride))
    for strip in range(strips):
        rows = min(page.rowsperstrip, page.imagelength - strip * page.rowsperstrip)
        for first in range(0, rows, at_once):
            count = min(at_once, rows - first)
            parts = [
                np.frombuffer(
                    _read(page, page.dataoffsets[plane * strips + strip] + first * stride, count * stride), kind
                ).reshape(count, page.imagewidth, samples)
                for plane in range(planes)
            ]
            yield np.concatenate(parts, axis=2).astype(page.dtype, copy=False)


def _read(page: Any, offset: int, count: int) -> bytes:
    file = page.parent.filehandle
    file.seek(offset)
    data: bytes = file.read(count)
    if len(data) < count:
        raise UnreadableError("expected a whole TIFF file, found one that is cut short; copy it again")
    return data
