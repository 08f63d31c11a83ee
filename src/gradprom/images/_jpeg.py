"""JPEG files, by Pillow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from gradprom.images.image import Image, UnreadableError

SIGNATURE = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"


@dataclass(frozen=True)
class JpegExtras:
    """How the file was compressed, so that it is compressed alike again; its comment and XMP block."""

    channels: int
    quantization: dict[int, list[int]]
    subsampling: int
    progressive: bool
    comment: bytes | None
    xmp: bytes | None


def decode(file: BinaryIO, check_size: Callable[[int, int], None]) -> Image:
    """Read a JPEG, grey or colour.

    Args:
        file: open for reading, at its start.
        check_size: is called with width and height before any pixel is decoded, and raises if they are too many.

    Raises:
        UnreadableError: four colours (CMYK); Pillow raises errors of its own for broken files.
    """
    # not PIL.Image.open: its limit of pixels is a setting of the whole process, and ours is the caller's
    from PIL.JpegImagePlugin import JpegImageFile, get_sampling

    jpeg = JpegImageFile(file)
    with jpeg:
        check_size(*jpeg.size)
        if jpeg.mode not in ("L", "RGB"):
            raise UnreadableError(
                f"expected a grey or RGB JPEG, found {jpeg.mode}; convert it to RGB with an image editor"
            )
        pixels = np.array(jpeg).reshape(jpeg.height, jpeg.width, -1)
        info = jpeg.info
        exif = info.get("exif")
        return Image(
            pixels,
            format="jpeg",
            exif=exif.removeprefix(_EXIF) if exif else None,
            icc_profile=info.get("icc_profile"),
            dpi=_density(info),
            extras=JpegExtras(
                pixels.shape[2],
                {index: list(table) for index, table in jpeg.quantization.items()},
                get_sampling(jpeg),
                bool(info.get("progressive")),
                info.get("comment"),
                info.get("xmp"),
            ),
        )


def encode(image: Image, file: BinaryIO) -> None:
    """Write a JPEG with the quantization tables and the subsampling it had; quality 95 without subsampling if none.

    Raises:
        UnreadableError: 16 bits, alpha, or a side of more than 65500 pixels, none of which JPEG can hold.
    """
    from PIL import Image as PilImage

    if image.pixels.dtype != np.uint8 or image.alpha is not None:
        what = "an opacity (alpha) channel" if image.alpha is not None else "16 bits"
        raise UnreadableError(f"expected 8 bits without alpha for a JPEG, found {what}; write PNG or TIFF")
    if max(image.pixels.shape) > 65500:  # libjpeg's limit
        raise UnreadableError("expected at most 65500 pixels a side for a JPEG, found more; write PNG or TIFF")
    options: dict[str, Any] = {"quality": 95, "subsampling": 0}
    extras = image.extras
    if isinstance(extras, JpegExtras):
        if extras.channels == image.channels:
            options = {"qtables": extras.quantization, "subsampling": extras.subsampling}
        options |= {"progressive": extras.progressive, "comment": extras.comment, "xmp": extras.xmp}
    if image.exif is not None:
        options["exif"] = _EXIF + image.exif
    if image.icc_profile is not None:
        options["icc_profile"] = image.icc_profile
    if image.dpi is not None:
        options["dpi"] = image.dpi
    array = image.pixels[..., 0] if image.channels == 1 else image.pixels
    PilImage.fromarray(np.ascontiguousarray(array)).save(file, "JPEG", **options)


def _density(info: dict[Any, Any]) -> tuple[float, float] | None:
    """Give the density of the JFIF header alone: Pillow's own ``dpi`` mixes in EXIF, which is kept as it is."""
    factor = {1: 1.0, 2: 2.54}.get(info.get("jfif_unit", 0))
    if factor is None:
        return None
    x, y = info["jfif_density"]
    return x * factor, y * factor
