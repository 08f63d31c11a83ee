"""How the images of a file are shown: which way up, how wide a pixel is, and which windows of values suit it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.images import is_nifti
from gradprom.images.nifti import slice_axis

_ORIENTATION = 274  # EXIF's tag
# by EXIF's number: rows and columns exchanged first, then rows reversed, then columns
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_HOUNSFIELD = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
}


@dataclass(frozen=True)
class Presentation:
    """How to show the pixels of a file, which are stored in another order than people expect to see them.

    Attributes:
        transpose: exchange rows and columns first.
        flip_rows: then show the last row on top.
        flip_columns: and the last column on the left.
        aspect: how many times as wide as high a pixel is, as shown.
        windows: names, and the two values to be seen as black and white; none where nothing is known.

    Example:
        >>> Presentation(flip_rows=True).turned(np.array([[1, 2], [3, 4]]))
        array([[3, 4],
               [1, 2]])
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    aspect: float = 1.0
    windows: tuple[tuple[str, float, float], ...] = ()

    def turned(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn an image, (H, W) or (H, W, C); a view of it."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def present(path: Path, format_: str, exif: bytes | None = None) -> Presentation:
    """Find out how to show a file that has been read; what its header does not say is as for any picture.

    Args:
        path: the file.
        format_: png, jpeg, tiff, dicom or nifti.
        exif: of a plain image, where it has any.
    """
    if exif is not None:
        return _of_exif(exif)
    with warnings.catch_warnings():
        # whoever looks at an odd header has its pixels before him already
        warnings.simplefilter("ignore")
        if is_nifti(path):
            return _of_nifti(path)
        return _of_dicom(path) if format_ == "dicom" else Presentation()


def _of_exif(block: bytes) -> Presentation:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(block)
        number = exif.get(_ORIENTATION)
    except Exception:  # Pillow raises whatever a broken block makes it raise
        number = None
    return Presentation(*_TURNS.get(number if isinstance(number, int) else 1, _TURNS[1]))


def _of_nifti(path: Path) -> Presentation:
    """Show a slice as in radiology: the patient's right on the left, the front or the head on top."""
    import nibabel

    image: Any = nibabel.load(path)
    axis = slice_axis(image.shape, image.header.get_zooms())
    across, down = (other for other in range(min(3, len(image.shape))) if other != axis)
    spacing = [float(length) for length in image.header.get_zooms()]
    codes = nibabel.aff2axcodes(image.affine)
    transpose = flip_rows = flip_columns = False
    if len(image.shape) > 2 and codes[across] is not None and codes[down] is not None:
        rank = {code: number for number, pair in enumerate(("RL", "AP", "SI")) for code in pair}
        if rank[codes[across]] > rank[codes[down]]:
            transpose, across, down = True, down, across
        flip_columns, flip_rows = codes[across] in "RA", codes[down] in "AS"
    return Presentation(transpose, flip_rows, flip_columns, _aspect(spacing[across], spacing[down]))


def _of_dicom(path: Path) -> Presentation:
    from pydicom import dcmread

    header = dcmread(path, force=True, stop_before_pixels=True)
    windows: list[tuple[str, float, float]] = []
    try:
        centres, widths = (
            np.atleast_1d(np.asarray(header.get(name), float)) for name in ("WindowCenter", "WindowWidth")
        )
        for centre, width in zip(centres[:3], widths[:3], strict=True):
            if np.isfinite([centre, width]).all() and width > 0:
                name = "the file's own" if not windows else f"the file's own, {len(windows) + 1}"
                windows.append((name, float(centre - width / 2), float(centre + width / 2)))
    except (TypeError, ValueError):  # there are none, or they are no numbers
        windows.clear()
    if header.get("Modality") == "CT":
        windows += [(name, *ends) for name, ends in _HOUNSFIELD.items()]
    try:
        down, across = (float(length) for length in header.get("PixelSpacing") or header.get("PixelAspectRatio"))
    except (TypeError, ValueError):
        down = across = 1.0
    return Presentation(aspect=_aspect(across, down), windows=tuple(windows))


def _aspect(across: float, down: float) -> float:
    """Give the ratio of two spacings, 1 where a header has nonsense."""
    ratio = across / down if down > 0 else 1.0
    return ratio if math.isfinite(ratio) and 0.1 <= ratio <= 10 else 1.0
