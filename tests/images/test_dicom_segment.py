"""DICOM segmentations: read back by the library that made them and by another, and by a validator."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedMRImageStorage

from gradprom.errors import UserError
from gradprom.images.dicom import Derivation, open_dicom, write_segmentation

highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'gradprom[dicom]'")
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ("background", "Läsion\\x", "hair")
KINDS = [
    "CT_small.dcm", "JPEG2000.dcm", "JPGExtended.dcm", "MR_small_bigendian.dcm",
    "SC_rgb_small_odd.dcm", "dicomdirtests/77654033/CR1/6154", "dicomdirtests/98892003/MR1/15820",
    "examples_overlay.dcm", "examples_palette.dcm", "image_dfl.dcm",
]  # fmt: skip


def masks_of(path: Path) -> np.ndarray:
    """A half of class 1, a corner of class 2 in the first frame alone."""
    frames = open_dicom(path, Derivation("x"))
    masks = np.zeros((frames.count, *frames.read(0).shape[:2]), np.uint8)
    masks[:, : masks.shape[1] // 2] = 1
    masks[0, -2:, -2:] = 2
    return masks


def write(path: Path, of: Path, masks: np.ndarray, when: str = "before", derivation: Derivation | None = None) -> Path:
    derivation = derivation or Derivation("run é")
    write_segmentation(path, of, list(masks), names=NAMES, derivation=derivation, when=when)
    return path


def errors(path: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return {line for line in lines if line.startswith("Error")}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written(name: str, tmp_path: Path) -> None:
    of = BUNDLED / name
    masks = masks_of(of)
    written = dcmread(write(tmp_path / "mask.dcm", of, masks))
    assert len(written.pixel_array) == 2 * len(masks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = dcmread(of)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
            assert written[keyword].value == source[keyword].value
    assert written.get("FrameOfReferenceUID") == source.get("FrameOfReferenceUID")
    assert [segment.SegmentLabel for segment in written.SegmentSequence] == ["L?sion?x", "hair"]
    for group, frame in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        mask = masks[reference.get("ReferencedFrameNumber", 1) - 1]
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(frame, mask == number)
    if "PixelSpacing" in source and "ImagePositionPatient" in source:
        groups = written.SharedFunctionalGroupsSequence[0], written.PerFrameFunctionalGroupsSequence[0]
        assert groups[0].PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
        assert groups[0].PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert groups[1].PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient


@pytest.mark.parametrize("name", KINDS)
def test_a_validator_finds_no_new_errors(name: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy: install dicom3tools")
    path = write(tmp_path / "mask.dcm", BUNDLED / name, masks_of(BUNDLED / name))
    assert errors(path) <= errors(BUNDLED / name)


def test_the_library_reads_the_classes_back(tmp_path: Path) -> None:
    of = BUNDLED / "CT_small.dcm"
    read = highdicom.seg.segread(write(tmp_path / "mask.dcm", of, masks_of(of)))
    found = read.get_pixels_by_source_instance([dcmread(of).SOPInstanceUID], combine_segments=True)
    np.testing.assert_array_equal(found, masks_of(of))


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, [value] if isinstance(value, Dataset) else value)
    return made


def test_frames_in_space(make_dicom: Callable[..., Path], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, (3, 12, 10)).astype(np.uint16)
    groups = [
        item(PlanePositionSequence=item(ImagePositionPatient=[0, 5, 4 * z]), FrameContentSequence=Dataset())
        for z in range(3)
    ]
    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.5], SliceThickness=4),
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    )
    of = make_dicom(
        values,
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        FrameOfReferenceUID="1.2.3.5",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
    )
    masks = np.random.default_rng(1).integers(0, 3, (3, 12, 10)).astype(np.uint8)
    read = highdicom.seg.segread(write(tmp_path / "mask.dcm", of, masks))
    uid = dcmread(of).SOPInstanceUID
    found = read.get_pixels_by_source_frame(uid, [1, 2, 3], combine_segments=True)
    np.testing.assert_array_equal(found, masks)
    positions = [
        group.PlanePositionSequence[0].ImagePositionPatient[2] for group in read.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(positions) == [0, 0, 4, 4, 8, 8]


def test_a_class_of_no_pixel_has_its_frame(tmp_path: Path) -> None:
    of = BUNDLED / "CT_small.dcm"
    written = dcmread(write(tmp_path / "mask.dcm", of, np.zeros((1, 128, 128), np.uint8)))
    assert written.pixel_array.shape == (2, 128, 128)
    assert not written.pixel_array.any()


def test_one_series_for_the_masks_before_and_one_after(tmp_path: Path) -> None:
    derivation, masks = Derivation("run"), np.zeros((1, 16, 16), np.uint8)
    names = ["MR1/15820", "MR1/4919", "MR2/15970"]
    made = [
        dcmread(write(tmp_path / "mask.dcm", BUNDLED / "dicomdirtests/98892003" / name, masks, when, derivation))
        for when in ("before", "after")
        for name in names
    ]
    series = [mask.SeriesInstanceUID for mask in made]
    sources = [dcmread(BUNDLED / "dicomdirtests/98892003" / name).SeriesInstanceUID for name in names]
    first = [sources.index(uid) for uid in sources]
    assert [series.index(uid) for uid in series] == [*first, *(index + 3 for index in first)]
    assert not set(series) & set(sources)
    assert len({mask.SOPInstanceUID for mask in made}) == 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"StudyInstanceUID": None}, "it has no StudyInstanceUID"),
        ({"Modality": None}, "it has no Modality"),
        ({"FrameOfReferenceUID": None}, "Frame Of Reference UID"),
    ],
)
def test_objects_of_which_none_can_be_made(
    make_dicom: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    of = make_dicom(np.zeros((8, 8), np.uint16), **changes)
    with pytest.raises(
        UserError, match=rf"mask\.dcm: expected an object of which a DICOM .*\(.*{reason}.*\); leave it"
    ):
        write(tmp_path / "mask.dcm", of, np.zeros((1, 8, 8), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [of.name]


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_several_frames_without_a_frame_of_reference(name: str, tmp_path: Path) -> None:
    masks = np.zeros((2, 100, 100) if "2frame" in name else (30, 240, 320), np.uint8)
    with pytest.raises(UserError, match="of which a DICOM segmentation can be made, found another"):
        write(tmp_path / "mask.dcm", BUNDLED / name, masks)
    assert not list(tmp_path.iterdir())


def test_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "mask.dcm").mkdir()
    with pytest.raises(UserError, match=r"mask\.dcm: the file cannot be written \(Is a directory\)"):
        write(tmp_path / "mask.dcm", BUNDLED / "CT_small.dcm", np.zeros((1, 128, 128), np.uint8))
