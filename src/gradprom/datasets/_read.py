"""Reading the image and mask files of a dataset, and refusing what cannot be one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradprom.errors import UserError, reason_of
from gradprom.images import MAX_PIXELS, read_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # no JPEG: its compression invents class numbers
MIN_SIDE = 11  # the window of SSIM: a smaller image cannot be measured


def files_in(folder: Path, suffixes: tuple[str, ...], *, some: bool = True) -> dict[str, Path]:
    """The files of ``folder`` with one of ``suffixes``, by stem, sorted; files of other kinds are left alone.

    Raises:
        UserError: when two of them share a stem, or, where there must be ``some``, there is none or no such folder.
    """
    if not folder.is_dir():
        if not some:
            return {}
        raise UserError(f"{folder}: expected a folder, found {'a file' if folder.exists() else 'nothing'}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if path.stem in found:
            raise UserError(f"{path}: differs from {found[path.stem].name} by its suffix alone: rename one of them")
        found[path.stem] = path
    if some and not found:
        raise UserError(f"{folder}: expected files ending in {', '.join(suffixes)}, found none: put some there")
    return found


def pair_files(
    images: dict[str, Path], others: dict[str, Path], image_of: Callable[[str], Path], other_of: Callable[[str], Path]
) -> dict[str, tuple[Path, Path]]:
    """The image and the other file (mask or label) of each stem of either, images first.

    Where one of the two is not there its path is the one it ought to have, as ``image_of`` or ``other_of`` says.

    Example:
        >>> pairs = pair_files({"a": Path("a.png")}, {}, lambda stem: Path(stem), lambda stem: Path(f"{stem}.mat"))
        >>> [path.name for path in pairs["a"]]
        ['a.png', 'a.mat']
    """
    stems = [*images, *(stem for stem in others if stem not in images)]
    return {stem: (images.get(stem, image_of(stem)), others.get(stem, other_of(stem))) for stem in stems}


def read_pixels(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The image at ``path`` as (height, width, channels), uint8 or uint16, channels 1 or 3.

    Raises:
        UserError: when the file is no image, is damaged, too large, or too small to be measured.
    """
    pixels: NDArray[np.uint8] | NDArray[np.uint16] = read_image(path, max_pixels, option="dataset.max_pixels").pixels
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"{path}: expected at least {MIN_SIDE} pixels on each side (the window of SSIM), "
            f"found {width} x {height}: take the image out of the dataset"
        )
    return pixels


def read_mask(path: Path, image_path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The values of the mask at ``path`` as (height, width) uint8: as stored, of a palette the indices.

    Its size is held against the image's before any pixel is decoded, so its memory is bounded as the image's is.

    Raises:
        UserError: when the file is no image, is damaged, coloured, holds values beyond 0 to 255, or has another size
            than its image.
    """
    expected = size_of(image_path, max_pixels)
    try:
        with Image.open(path) as file:
            found = file.size
            values = np.array(file) if found == expected else None
    except Exception as error:  # Pillow raises whatever broken files make it raise
        raise UserError(
            f"{path}: expected a mask, but it cannot be read ({reason_of(error)}): replace the file"
        ) from error
    if values is None:
        raise UserError(
            f"{path}: expected {expected[0]} x {expected[1]} pixels as its image {image_path.name} has, "
            f"found {found[0]} x {found[1]}: make the two the same size"
        )
    if values.ndim == 3:
        colours = values[..., : 1 if values.shape[2] == 2 else 3]  # alpha says nothing about classes
        if (colours != colours[..., :1]).any():
            raise UserError(f"{path}: expected a grey mask of class numbers, found colours: save it as grey")
        values = colours[..., 0]
    if values.dtype.kind not in "biu" or values.min() < 0 or values.max() > 255:
        raise UserError(
            f"{path}: expected class numbers from 0 to 255, found {values.dtype} from {values.min()} "
            f"to {values.max()}: save the mask with whole numbers, one for each class"
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def read_binary_mask(path: Path, image_path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A mask of 0 and 255 as classes 0 and 1.

    Raises:
        UserError: as `read_mask`, and when there are other values.
    """
    values = read_mask(path, image_path, max_pixels)
    other = values[(values != 0) & (values != 255)]
    if other.size:
        raise UserError(f"{path}: expected a mask of 0 and 255 alone, found {int(other[0])}: replace the file")
    return np.where(values == 255, np.uint8(1), np.uint8(0))


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height of the image at ``path``, from its header where Pillow knows its kind."""
    try:
        with Image.open(path) as file:
            return file.size
    except Exception:  # a TIFF of 16-bit colour, for one; and what is broken is refused here in better words
        height, width = read_pixels(path, max_pixels).shape[:2]
        return width, height
