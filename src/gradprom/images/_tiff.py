"""TIFF files, by tifffile (and imagecodecs, for those that are compressed)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from gradprom.images._tiff_text import resized
from gradprom.images.image import Image, Pixels, UnreadableError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MINISWHITE, _MINISBLACK, _RGB, PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOURS = {_MINISWHITE: 1, _MINISBLACK: 1, _RGB: 3, PALETTE: 1, _YCBCR: 3}
_ORIENTATION = 274
_ASCII, _BYTE, _UNDEFINED = 2, 1, 7
# document, description, maker, model, page, software, date, artist, host, copyright; XMP; IPTC
_KEPT = dict.fromkeys((269, 270, 271, 272, 285, 305, 306, 315, 316, 33432), _ASCII) | {
    700: _BYTE,
    33723: _UNDEFINED,
}
# What can be written again without loss; all else (JPEG, fax, JPEG 2000, ...) becomes deflate
_COMPRESSIONS = {
    1: None, 5: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd",
}  # fmt: skip

# tifffile logs what it finds odd; without a handler Python would print that beside our own sentence
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffExtras:
    """How the file was compressed, its resolution, what kind its alpha is of, and its texts."""

    size: tuple[int, int]
    compression: str | None
    predictor: bool
    alpha: int
    resolution: tuple[float, float] | None
    unit: int
    tags: tuple[tuple[int, int, bytes], ...]


def decode(file: BinaryIO, check_size: Callable[[int, int], None]) -> Image:
    """Read a TIFF of one page, 1, 8 or 16 bits, grey, colour or palette; 1 bit becomes 8.

    A palette becomes colour, or grey if all its colours are grey; where white is 0 the values are turned over.

    Args:
        file: open for reading, at its start.
        check_size: is called with width and height before any pixel is decoded, and raises if they are too many.

    Raises:
        UnreadableError: a kind that is not supported; tifffile raises errors of its own for broken files.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        check_size(page.imagewidth, page.imagelength)
        check(tiff)
        planes = page.asarray(squeeze=False)[:, 0]  # (planes, height, width, samples): one of the two is 1
        samples = planes[0] if planes.shape[0] == 1 else np.moveaxis(planes[..., 0], 0, -1)
        pixels, alpha = split(samples, page)
        return replace(describe(page), pixels=pixels, alpha=alpha)


def check(tiff: Any) -> None:
    """Raise UnreadableError for a file that is cut short, or that holds what is not supported."""
    _check_pages(tiff)
    check_page(tiff.pages[0])


def check_page(page: Any) -> None:
    """Raise UnreadableError for a page that is cut short, or of a kind that is not supported."""
    _check_kind(page)
    # tifffile fills with zeros what the file promises and does not hold
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or 0 in page.databytecounts or max(ends) > page.parent.filehandle.size:
        raise UnreadableError("expected a whole TIFF file, found one that is cut short; copy it again")


def split(samples: Pixels, page: Any) -> tuple[Pixels, Pixels | None]:
    """Give what :class:`Image` holds, pixels and alpha, of some rows of a page, (height, width, samples)."""
    colours = _COLOURS[int(page.photometric)]
    alpha = np.ascontiguousarray(samples[..., colours]) if samples.shape[2] > colours else None
    return _to_pixels(np.ascontiguousarray(samples[..., :colours]), page), alpha


def describe(page: Any) -> Image:
    """Give all of an image but its pixels, which are of its size and type, all 0, and take no memory."""
    pixels, alpha = split(np.zeros((1, 1, page.samplesperpixel), page.dtype), page)
    size = (page.imagelength, page.imagewidth)
    orientation = page.tags.valueof(_ORIENTATION)
    unit = int(page.tags.valueof(296, default=2))
    resolution = _resolution(page)
    factor = {2: 1.0, 3: 2.54}.get(unit)
    return Image(
        np.broadcast_to(np.zeros_like(pixels), (*size, pixels.shape[2])),
        None if alpha is None else np.broadcast_to(np.zeros_like(alpha), size),
        format="tiff",
        exif=None if orientation is None else _orientation_to_exif(int(orientation)),
        icc_profile=page.tags.valueof(34675),
        dpi=(resolution[0] * factor, resolution[1] * factor) if resolution and factor else None,
        extras=TiffExtras(
            size=size,
            compression=_COMPRESSIONS.get(int(page.compression), "zlib"),
            predictor=int(page.predictor) == 2,
            alpha=int(page.extrasamples[0]) if page.extrasamples else 2,
            resolution=resolution,
            unit=unit,
            tags=tuple(_kept_tags(page)),
        ),
    )


def encode(image: Image, file: BinaryIO) -> None:
    """Write a TIFF with the compression it had (deflate if that was lossy, or if it comes from another format)."""
    import tifffile

    samples = image.pixels if image.alpha is None else np.concatenate([image.pixels, image.alpha[..., None]], axis=2)
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    # else tifffile puts a description of its own into any file whose name ends in .ome.tif
    tifffile.imwrite(file, samples, ome=False, **options(image))


def options(image: Image) -> dict[str, Any]:
    """Give what tifffile must be told to write an image, beside its samples: all that is kept, and how it is stored."""
    height, width = image.pixels.shape[:2]
    tags: list[tuple[int, int, int, Any, bool]] = []
    orientation = None if image.exif is None else _exif_to_orientation(image.exif)
    if orientation is not None:
        tags.append((_ORIENTATION, 3, 1, orientation, True))
    options: dict[str, Any] = {"compression": "zlib", "predictor": True}
    resolution, unit, alpha = image.dpi, 2, 2
    extras = image.extras
    if isinstance(extras, TiffExtras):
        options = {"compression": extras.compression, "predictor": extras.predictor}
        alpha, unit = extras.alpha, extras.unit
        if extras.resolution is not None:
            x, y = extras.resolution
            resolution = (x * width / extras.size[1], y * height / extras.size[0])
        for code, kind, text in extras.tags:
            value = text if extras.size == (height, width) else resized(text, extras.size, (height, width))
            tags.append((code, kind, len(value) + (kind == _ASCII), value, True))
    if resolution is not None:
        options |= {"resolution": resolution, "resolutionunit": unit}
    if image.alpha is not None:
        options["extrasamples"] = [alpha]
    return options | {
        "photometric": "rgb" if image.channels == 3 else "minisblack",
        "planarconfig": None if image.channels == 1 and image.alpha is None else "contig",
        "iccprofile": image.icc_profile,
        "extratags": tags,
        "metadata": None,  # else tifffile writes a description of its own
        "software": False,
    }


def _check_pages(tiff: Any) -> None:
    pages = len(tiff.pages)
    if tiff.is_imagej:  # its stacks can have one page alone
        pages = max(pages, int((tiff.imagej_metadata or {}).get("images", 1)))
    if pages > 1 or tiff.pages[0].imagedepth > 1:
        raise UnreadableError(
            f"expected a TIFF of one image, found {max(pages, tiff.pages[0].imagedepth)}; save each as a file"
        )


def _check_kind(page: Any) -> None:
    import tifffile

    colours = _COLOURS.get(int(page.photometric))
    # JPEG's own decoder turns YCbCr into RGB; nothing does for the rest
    if colours is None or (int(page.photometric) == _YCBCR and int(page.compression) != 7):
        name = getattr(page.photometric, "name", page.photometric)
        raise UnreadableError(f"expected a grey, RGB or palette TIFF, found {name}; convert it to RGB")
    bits = page.bitspersample
    if page.sampleformat != 1 or bits not in (1, 8, 16):
        kind = {1: "whole", 2: "signed", 3: "floating point"}.get(page.sampleformat, "other")
        raise UnreadableError(
            f"expected whole numbers of 1, 8 or 16 bits, found {kind} numbers of {bits} bits; convert it to 16 bits"
        )
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableError(
            f"expected pixels that can be decompressed here, found {name}; decompress it with another program"
        )
    if page.samplesperpixel - colours not in (0, 1) or (int(page.photometric) == PALETTE and page.samplesperpixel != 1):
        raise UnreadableError(
            f"expected {colours} channels and at most one for opacity, found {page.samplesperpixel}; "
            "save its channels as single files"
        )


def _to_pixels(values: Pixels, page: Any) -> Pixels:
    """Give (height, width, 1 or 3) of uint8 or uint16 in which 0 is black."""
    if int(page.photometric) == PALETTE:
        colormap = np.asarray(page.colormap)
        if colormap.max() > 255:  # 16 bits by the standard; some write 8
            colormap = colormap >> 8
        colours = colormap.astype(np.uint8).T[values[..., 0].astype(np.intp)]
        is_grey = (colormap == colormap[0]).all() and page.tags.valueof(34675) is None
        return np.ascontiguousarray(colours[..., :1] if is_grey else colours)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    return np.invert(values) if int(page.photometric) == _MINISWHITE else values


def _resolution(page: Any) -> tuple[float, float] | None:
    values = []
    for code in (282, 283):
        numerator, denominator = page.tags.valueof(code, default=(0, 0))
        if not numerator or not denominator:
            return None
        values.append(numerator / denominator)
    return values[0], values[1]


def _kept_tags(page: Any) -> list[tuple[int, int, bytes]]:
    tags = []
    for code, kind in _KEPT.items():
        value = page.tags.valueof(code)
        if isinstance(value, str):
            value = value.encode()
        # tifffile describes the array in a description of its own, which is none of the image's
        if isinstance(value, bytes) and value and not value.startswith(b'{"shape":'):
            tags.append((code, kind, value))
    return tags


def check_resizable(image: Image, scale: int) -> None:
    """Refuse an image whose descriptions could not be made to fit, before it is enlarged.

    Raises:
        UnreadableError: see `resized`.
    """
    if scale > 1 and isinstance(image.extras, TiffExtras):
        height, width = image.extras.size
        for _, _, text in image.extras.tags:
            resized(text, (height, width), (height * scale, width * scale))


def orientation_alone(block: bytes) -> bytes | None:
    """Give an EXIF block without all but the orientation, or None if it has none."""
    orientation = _exif_to_orientation(block)
    return None if orientation is None else _orientation_to_exif(orientation)


def _orientation_to_exif(orientation: int) -> bytes:
    from PIL.Image import Exif

    exif = Exif()
    exif[_ORIENTATION] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def _exif_to_orientation(block: bytes) -> int | None:
    from PIL.Image import Exif

    exif = Exif()
    exif.load(b"Exif\0\0" + block)
    value = exif.get(_ORIENTATION)
    return value if isinstance(value, int) and 0 <= value <= 65535 else None
