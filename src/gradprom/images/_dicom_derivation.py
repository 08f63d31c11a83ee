"""What the derived DICOM objects of one call share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

_NAMESPACE = uuid.UUID("69945851-77b5-41bd-95d1-9d0f3e5791a5")


class Derivation:
    """What the derived objects of one call share: the enhancer's name, and one new series for each series they are of.

    Args:
        model: the enhancer's name, written into each object.
        settings: what decides on the new pixels beside the old ones, such as a digest of the weights and the window.
            Calls of the same model and settings write into the same new series, so that what they enhance of a series
            later joins what they enhanced before. None: into a new one in each call.
        deidentify: take out what identifies the patient, by the standard's Basic Application Level Confidentiality
            Profile (PS3.15, table E.1-1), with the library dicom-anonymizer. UIDs are replaced alike in all objects of
            one process. Each patient gets a pseudonym as ID and name, drawn at random and the same in all objects of
            this call. Series are new in each call whatever the ``settings``, as one that follows from a known UID would
            tell where it comes from. Objects that say there are names among their pixels are refused.

    Attributes:
        ranges: for the SeriesInstanceUID of a source the two values that become 0 and 1 in all its objects, as
            `dicom.find_ranges` finds them; at first none.

    Raises:
        UserError: ``deidentify``, and the library is not installed.

    Example:
        >>> derivation = Derivation("denoiser")
        >>> derivation.series("1.2.3") == derivation.series("1.2.3") != derivation.series("1.2.4")
        True
        >>> derivation.series("1.2.3") == Derivation("denoiser").series("1.2.3")
        False
        >>> Derivation("denoiser", settings="a").series("1.2.3") == Derivation("denoiser", settings="a").series("1.2.3")
        True
    """

    def __init__(self, model: str, *, settings: str | None = None, deidentify: bool = False) -> None:
        from gradprom.images._dicom_deidentify import load_deidentifier

        self.model = plain_text(model)
        self.deidentify: Callable[[Dataset], None] | None = load_deidentifier() if deidentify else None
        self.ranges: Mapping[str, tuple[float, float]] = {}
        self._settings = None if deidentify else settings
        self._series: dict[str, str] = {}

    def series(self, source: str) -> str:
        """The UID of the new series for that of a source."""
        from pydicom.uid import generate_uid

        if self._settings is None:
            return self._series.setdefault(source, generate_uid(prefix=None))
        words = "\n".join((self.model, self._settings, source))
        return f"2.25.{uuid.uuid5(_NAMESPACE, words).int}"  # as PS3.5, annex B.2, makes a UID of a UUID


def plain_text(text: str) -> str:
    """Give a text that any object can hold: ASCII whatever its character set, and no backslash, which would part it.

    Example:
        >>> plain_text("Läsion\\\\1")
        'L?sion?1'
    """
    return "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in text)
