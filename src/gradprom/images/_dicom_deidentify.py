"""De-identification by the standard's Basic Application Level Confidentiality Profile, from a library."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradprom.errors import UserError
from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

_OVERLAYS = range(0x6000, 0x6100)


def load_deidentifier() -> Callable[[Dataset], None]:
    """Give a function that takes out of an object, in place, what identifies the patient.

    In the place of ID and name it puts a pseudonym, which it draws at random for each patient and keeps: an archive
    takes all objects of one ID for those of one patient.

    That function raises UnreadableError where the object says that there are names among its pixels, or where the
    library cannot apply a rule.

    Raises:
        UserError: the library is not installed.
    """
    try:
        from dicomanonymizer import simpledicomanonymizer as library
    except ImportError as error:
        raise UserError(
            "--deidentify: expected the library dicom-anonymizer, found it missing; pip install 'gradprom[dicom]'"
        ) from error

    # Where the profile lets one choose, the library empties references item by item, which leaves items that no
    # object may hold; without them it is whole
    references = {
        tag: library.delete
        for tag, action in library.initialize_actions_2024b().items()
        if action is library.delete_or_empty_or_replace_UID
    }

    pseudonyms: dict[tuple[str, ...], str] = {}

    def clean(dataset: Dataset) -> None:
        try:
            library.anonymize_dataset(dataset, references, base_rules_gen=library.initialize_actions_2024b)
        except NotImplementedError as error:
            raise UnreadableError(f"expected attributes that can be de-identified, found others ({error})") from error
        for element in list(dataset):
            if element.tag.group in _OVERLAYS:
                # the profile takes out what is drawn; the rest of the group is nothing without it
                del dataset[element.tag]
            elif element.VR == "SQ":
                # the library's rules reach the top level only, the profile's all
                for item in element.value:
                    clean(item)
            else:
                _mend_date(element)

    def deidentify(source: Dataset) -> None:
        if source.get("BurnedInAnnotation") == "YES":
            raise UnreadableError(
                "expected pixels without names to de-identify, found BurnedInAnnotation YES; black them out first"
            )
        pseudonym = pseudonyms.setdefault(_patient(source), f"ANON-{secrets.token_hex(6).upper()}")
        clean(source)
        source.PatientID = source.PatientName = pseudonym
        source.PatientIdentityRemoved = "YES"
        source.DeidentificationMethod = "DICOM PS3.15 Basic Profile by dicom-anonymizer"
        source.DeidentificationMethodCodeSequence = [_basic_profile()]

    return deidentify


def _patient(source: Dataset) -> tuple[str, ...]:
    """Who the patient is: an ID and who gave it, or without one whoever the study is of."""
    identity = str(source.get("PatientID") or "").strip()
    if not identity:
        return (str(source.get("StudyInstanceUID") or ""),)
    return identity, str(source.get("IssuerOfPatientID") or "").strip()


def _mend_date(element: Any) -> None:
    """The library puts the year 1 where a date must not be missing, which validators refuse."""
    if element.VR in ("DA", "DT") and str(element.value).startswith("00010101"):
        element.value = f"1900{str(element.value)[4:]}"


def _basic_profile() -> Dataset:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    return code
