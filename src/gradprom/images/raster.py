"""Reading and writing PNG, JPEG and TIFF files: what is in them decides, and every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gradprom._files import atomic_path
from gradprom.errors import UserError, reason_of
from gradprom.images import _jpeg, _png, _tiff
from gradprom.images.frames import PlainWriter, writing
from gradprom.images.image import Format, Image, UnreadableError

MAX_PIXELS = 100_000_000
SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
}
_DECODE: dict[Format, Callable[[BinaryIO, Callable[[int, int], None]], Image]] = {
    "png": _png.decode,
    "jpeg": _jpeg.decode,
    "tiff": _tiff.decode,
}
_ENCODE: dict[Format, Callable[[Image, BinaryIO], None]] = {
    "png": _png.encode,
    "jpeg": _jpeg.encode,
    "tiff": _tiff.encode,
}
_OTHERS = {b"GIF8": "a GIF", b"BM": "a BMP", b"RIFF": "a WebP", b"%PDF": "a PDF", b"\x1f\x8b": "a gzip file"}


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS, *, option: str = "--max-pixels") -> Image:
    """Read a PNG, JPEG or TIFF file; what is in it decides which, not its name.

    Args:
        path: PNG and TIFF of 1 to 16 bits, grey, colour, palette, with or without alpha; JPEG grey or colour.
        max_pixels: larger images are refused before any pixel is decoded.
        option: what the user is told to raise then.

    Returns:
        The pixels as stored (not turned), 1 bit as 0 and 255, a palette as colour (as grey if all its colours are).

    Raises:
        UserError: no such file, none of these formats, broken, too large, or of an unsupported kind.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> write_image(path, Image(np.array([[[0], [65535]]], np.uint16)))
        >>> image = read_image(path)
        >>> image.format, image.pixels.shape, image.peak
        ('png', (1, 2, 1), 65535)
    """
    path = Path(path)

    def check_size(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise UnreadableError(f"expected an image, found one of {width}×{height} pixels; copy it again")
        if width * height > max_pixels:
            raise UnreadableError(
                f"expected at most {max_pixels} pixels, found {width}×{height}; if the file is to be trusted "
                f"and memory allows, raise the limit with {option} {width * height}"
            )

    try:
        if not path.exists():
            raise UnreadableError("there is no such file; check the name")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "something else"
            raise UnreadableError(f"expected an image file, found {what}; name a file")
        with path.open("rb") as file:
            format_ = _recognise(file)
            try:
                return _DECODE[format_](file, check_size)
            except (UnreadableError, MemoryError):
                raise
            except Exception as error:  # decoders raise whatever broken files make them raise
                raise UnreadableError(
                    f"expected a whole {format_.upper()} file, found one that is cut short or corrupt; copy it again"
                ) from error
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from (error.__cause__ or error)
    except MemoryError as error:
        raise UserError(f"{path}: expected to fit into memory, found too little; free some") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(
            f"{path}: the file cannot be read ({reason_of(error)}); check the name and its permissions"
        ) from error


def write_image(path: str | Path, image: Image) -> None:
    """Write an image, whole or not at all; the suffix of the name decides the format.

    Args:
        path: ends in .png, .jpg, .jpeg, .tif or .tiff.
        image: what only its own format can keep (``extras``) is kept if the format stays the same.

    Raises:
        UserError: another suffix, pixels that the format cannot hold, or the file cannot be written (then the
            ``OSError`` is the cause).

    Example:
        >>> import numpy as np
        >>> write_image("scan.bmp", Image(np.zeros((2, 2, 1), np.uint8)))
        Traceback (most recent call last):
        ...
        gradprom.errors.UserError: scan.bmp: expected a name ending in .png, .jpg, ... found '.bmp'; ...
    """
    path = Path(path)
    format_ = SUFFIXES.get(path.suffix.lower())
    if format_ is None:
        raise UserError(
            f"{path}: expected a name ending in {', '.join(SUFFIXES)}, found {path.suffix!r}; choose one of these"
        )
    with writing(path), atomic_path(path) as temporary, PlainWriter(temporary) as file:
        _ENCODE[format_](image, file)


def _recognise(file: BinaryIO) -> Format:
    """Tell the format by the first bytes, and go back to the start."""
    start = file.read(132)
    file.seek(0)
    if start.startswith(_png.SIGNATURE):
        return "png"
    if start.startswith(_jpeg.SIGNATURE):
        return "jpeg"
    if start.startswith(_tiff.SIGNATURES):
        return "tiff"
    found = "an empty file" if not start else "another kind of file"
    if start[128:] == b"DICM":
        found = "a DICOM file"
    for signature, name in _OTHERS.items():
        if start.startswith(signature):
            found = name
    raise UnreadableError(f"expected a PNG, JPEG or TIFF image, found {found}; convert it to one of these")
