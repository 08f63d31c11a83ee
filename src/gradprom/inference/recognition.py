"""What recognizers read of images before and after enhancement, kept beside the enhanced images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gradprom._files import write_text
from gradprom.errors import UserError
from gradprom.images import SUFFIXES, dicom, nifti
from gradprom.images.frames import writing
from gradprom.inference.reader import Reader, Reading

When = Literal["before", "after"]
TABLE = "recognition.csv"
_MARK = ".mask-"


class Recognition:
    """A table of class probabilities and the names of masks, in the folder of the enhanced images.

    ``recognition.csv`` has a row for each frame before and one after enhancement: ``file`` (the enhanced image, below
    the folder), ``frame`` (from 1), ``image`` (before or after) and ``probability_CLASS`` for each class. It is written
    anew, whole, after each image; rows of other images are kept. Masks lie beside the images, see `mask_paths`.

    Args:
        reader: the recognizers.
        folder: of the enhanced images.
        overwrite: drop a table of other columns that is there.

    Attributes:
        reader: as given.
        table: the table's path; None where recognizers tell no diagnosis.

    Raises:
        UserError: there is a table that cannot be read or has other columns, and ``overwrite`` is false.
    """

    def __init__(self, reader: Reader, folder: Path, *, overwrite: bool = False) -> None:
        self.reader = reader
        self.table = folder / TABLE if reader.classes else None
        self._folder = folder
        self._columns = ["file", "frame", "image", *(f"probability_{name}" for name in reader.classes)]
        # as text: the whole table is written so often that its rows are put into words only once
        self._rows: dict[str, str] = {}
        if self.table is not None and self.table.exists():
            self._rows = {name: _lines(rows) for name, rows in self._read(self.table, overwrite).items()}

    def masks(self, target: Path) -> tuple[Path, ...]:
        """The masks that are written beside an enhanced image, before and after; none without segmentation."""
        return mask_paths(target) if self.reader.mask_classes else ()

    def has(self, target: Path) -> bool:
        """Whether all that is read of an image is there."""
        is_in_table = self.table is None or self._name(target) in self._rows
        return is_in_table and all(path.exists() for path in self.masks(target))

    def add(self, target: Path, before: Sequence[Reading], after: Sequence[Reading]) -> None:
        """Put what was read of an image's frames into the table, in place of what stood there of it.

        Raises:
            UserError: it cannot be written (then the ``OSError`` is the cause).
        """
        if self.table is None:
            return
        name = self._name(target)
        rows = []
        for number, pair in enumerate(zip(before, after, strict=True), 1):
            for when, reading in zip(("before", "after"), pair, strict=True):
                shares = (reading.probabilities or {}).values()
                rows.append([name, str(number), when, *(f"{share:.6g}" for share in shares)])
        self._rows[name] = _lines(rows)
        with writing(self.table):
            write_text(self.table, "".join([_lines([self._columns]), *self._rows.values()]))

    def _name(self, target: Path) -> str:
        return target.relative_to(self._folder).as_posix()

    def _read(self, table: Path, overwrite: bool) -> dict[str, list[list[str]]]:
        found = "another kind of file"
        try:
            with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                header, *rows = csv.reader(file, strict=True)
            if header == self._columns and all(len(row) == len(header) for row in rows):
                names = dict.fromkeys(row[0] for row in rows)
                by_name: dict[str, list[list[str]]] = {name: [] for name in names}
                for row in rows:
                    by_name[row[0]].append(row)
                return by_name
            found = ", ".join(header)
        except (ValueError, csv.Error):  # empty, no text, or no table
            pass
        if overwrite:
            return {}
        raise UserError(
            f"{table}: expected a table of {', '.join(self._columns)}, found {found}; choose another output folder, or "
            "use --overwrite"
        )


def _lines(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def mask_paths(target: Path) -> tuple[Path, Path]:
    """Where the masks of an enhanced image are written: before and after, in its format, or PNG for JPEG.

    Example:
        >>> [path.name for path in mask_paths(Path("out/brain.nii.gz"))]
        ['brain.mask-before.nii.gz', 'brain.mask-after.nii.gz']
        >>> [mask_paths(Path(name))[1].name for name in ("a.png", "a.jpg", "a.dcm", "IM1", "1.2.840")]
        ['a.mask-after.png', 'a.jpg.mask-after.png', 'a.mask-after.dcm', 'IM1.mask-after.dcm', '1.2.840.mask-after.dcm']
    """
    kept = [suffix for suffix, kind in SUFFIXES.items() if kind != "jpeg"]
    name, lower = target.name, target.name.lower()
    suffix = next((s for s in (*kept, *nifti.SUFFIXES, *dicom.SUFFIXES) if lower.endswith(s)), "")
    # names of JPEG and of DICOM without a suffix of its own stay whole, so that the masks of a.png and a.jpg are two
    stem, suffix = (name[: -len(suffix)], name[-len(suffix) :]) if suffix else (name, _other_suffix(target))
    before, after = (target.with_name(f"{stem}{_MARK}{when}{suffix}") for when in ("before", "after"))
    return before, after


def _other_suffix(target: Path) -> str:
    return ".png" if target.suffix.lower() in SUFFIXES else dicom.SUFFIXES[0]


def is_mask(name: str) -> bool:
    """Whether a file has the name of a mask that was written beside an enhanced image.

    Example:
        >>> is_mask("a.mask-after.png"), is_mask("mask-after.png")
        (True, False)
    """
    return any(f"{_MARK}{when}." in name for when in ("before", "after"))
