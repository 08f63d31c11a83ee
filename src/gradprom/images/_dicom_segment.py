"""DICOM segmentations, built by highdicom: the masks of an object's frames as an object of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradprom import __version__
from gradprom._files import atomic_path
from gradprom.errors import UserError, first_line
from gradprom.images._dicom_derivation import Derivation, plain_text
from gradprom.images.frames import writing
from gradprom.images.image import UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

# The standard lets them be empty, but not be missing
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_SERIES_NUMBER = {"before": 9001, "after": 9002}


def load_highdicom() -> Any:
    """Give the library that builds segmentations.

    Raises:
        UserError: it is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise UserError(
            "masks of DICOM objects: expected the library highdicom, found it missing; pip install 'gradprom[dicom]'"
        ) from error
    return highdicom


def save_segmentation(
    path: Path, of: Dataset, masks: NDArray[np.uint8], names: Sequence[str], derivation: Derivation, when: str
) -> None:
    """Write the masks of an object's frames as a segmentation that refers to it, whole or not at all.

    Every class but the first, the background, is a segment of as many frames, each of one bit a pixel.

    Args:
        path: where to.
        of: the object, its pixels left out; it is changed.
        masks: (frames, H, W) of class numbers.
        names: of the classes.
        derivation: what all objects of one call share.
        when: "before" or "after" enhancement.

    Raises:
        UserError: it cannot be written (then the ``OSError`` is the cause), no segmentation can be made of ``of``, or
            highdicom is not installed.
    """
    from pydicom import dcmwrite

    highdicom = load_highdicom()
    with writing(path), atomic_path(path) as temporary:
        try:
            segmentation = _build(highdicom, of, masks, names, derivation, when)
        except Exception as error:  # highdicom raises whatever its many rules, and broken objects, make it raise
            raise UnreadableError(
                f"expected an object of which a DICOM segmentation can be made, found another ({first_line(error)}); "
                "leave it out of --recognize"
            ) from error
        dcmwrite(temporary, segmentation, enforce_file_format=True)


def _build(
    highdicom: Any, of: Dataset, masks: NDArray[np.uint8], names: Sequence[str], derivation: Derivation, when: str
) -> Dataset:
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"):
        if not of.get(name):
            raise ValueError(f"it has no {name}")
    for name in _MAY_BE_EMPTY:
        if name not in of:
            setattr(of, name, None)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=f"gradprom, {derivation.model}"[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=plain_text(name)[:64],
            # what a class is, only its name tells
            segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
            segmented_property_type=highdicom.sr.CodedConcept(f"CLASS{number}", "99GRADPROM", plain_text(name)[:64]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names[1:], 1)
    ]
    segmentation: Dataset = highdicom.seg.Segmentation(
        [of],
        masks,
        "BINARY",
        segments,
        series_instance_uid=derivation.series(f"masks {when} of {of.SeriesInstanceUID}"),
        series_number=_SERIES_NUMBER[when],
        series_description=f"masks {when} enhancement by gradprom",
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=max(1, int(of.get("InstanceNumber") or 1)),
        manufacturer="gradprom",
        manufacturer_model_name=derivation.model[:64],
        software_versions=__version__,
        device_serial_number="none",
        # a frame without a pixel of a class says that there is none
        omit_empty_frames=False,
    )
    if segmentation.NumberOfFrames != len(segments) * len(masks):
        raise ValueError("several frames without a place each in a frame of reference")
    _settle_place(segmentation, of)
    return segmentation


def _settle_place(segmentation: Dataset, of: Dataset) -> None:
    """Leave out what has no meaning without a place in the patient, and say that the orientation is not known."""
    (shared,) = segmentation.SharedFunctionalGroupsSequence
    if "PlaneOrientationSequence" in shared:
        return
    if "PatientOrientation" not in segmentation:
        segmentation.PatientOrientation = of.get("PatientOrientation")
    measures = shared.get("PixelMeasuresSequence")
    if measures and "SliceThickness" not in measures[0]:
        del shared.PixelMeasuresSequence
