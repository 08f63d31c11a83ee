"""What an enlarged DICOM object says of the size and the places of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UltrasoundImageStorage

from gradprom.errors import UserError
from gradprom.images import Derivation, open_dicom

MakeDicom = Callable[..., Path]
CT = np.random.default_rng(0).integers(-1000, 1000, (4, 6)).astype(np.int16)
# columns lie along the patient's x and rows along its z, as in a coronal slice
PLACED = {"PixelSpacing": [0.5, 0.75], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SliceThickness": 2}


def enlarge(path: Path, scale: int = 2) -> Dataset:
    frames = open_dicom(path, Derivation("larger"))
    images = [frames.read(index).repeat(scale, 0).repeat(scale, 1) for index in range(frames.count)]
    frames.check(scale)
    frames.write(path.with_name("out.dcm"), images)
    return dcmread(path.with_name("out.dcm"))


def item(**attributes: object) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_same_ground(make_dicom: MakeDicom, scale: int) -> None:
    path = make_dicom(CT, ImagePositionPatient=[-100, 20, 50], ImagerPixelSpacing=[1, 2], **PLACED)
    before, after = dcmread(path), enlarge(path, scale)
    assert (after.Rows, after.Columns) == (4 * scale, 6 * scale)
    np.testing.assert_array_equal(after.pixel_array, CT.repeat(scale, 0).repeat(scale, 1))
    np.testing.assert_allclose(after.ImagerPixelSpacing, np.array([1, 2]) / scale)
    assert after.SliceThickness == 2
    # an independent library tells where corners lie
    ends = []
    for source in (before, after):
        to_patient = highdicom.spatial.ImageToReferenceTransformer(
            image_position=source.ImagePositionPatient,
            image_orientation=source.ImageOrientationPatient,
            pixel_spacing=source.PixelSpacing,
        )
        corners = np.array([[0, 0], [source.Columns, 0], [source.Columns, source.Rows]], float)
        ends.append(to_patient(corners))
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-6)
    assert after.DerivationDescription.startswith(f"Enlarged {scale} times and enhanced by gradprom")


def test_frames_placed_one_by_one(make_dicom: MakeDicom) -> None:
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=PLACED["PixelSpacing"])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=PLACED["ImageOrientationPatient"])],
    )
    each = [item(PlanePositionSequence=[item(ImagePositionPatient=[-100, y, 50])]) for y in (20, 22)]
    path = make_dicom(
        np.stack([CT, CT]), SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=each
    )
    after = enlarge(path)
    (measures,) = after.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert list(measures.PixelSpacing) == [0.25, 0.375]
    # a quarter of an old pixel: half of a new one, back from the middle of the old one to that of the new one
    for group, y in zip(after.PerFrameFunctionalGroupsSequence, (20, 22), strict=True):
        assert list(group.PlanePositionSequence[0].ImagePositionPatient) == [-100 - 0.1875, y, 50 + 0.125]


def test_overlays_and_shutters(make_dicom: MakeDicom) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (4, 6)).astype(np.uint8)
    overlay = {
        "OverlayRows": 4,
        "OverlayColumns": 6,
        "OverlayType": "G",
        "OverlayOrigin": [1, 1],
        "OverlayBitsAllocated": 1,
        "OverlayBitPosition": 0,
    }
    path = make_dicom(
        CT,
        ShutterShape=["RECTANGULAR", "CIRCULAR"],
        ShutterLeftVerticalEdge=2,
        ShutterRightVerticalEdge=6,
        CenterOfCircularShutter=[3, 2],
        RadiusOfCircularShutter=2,
    )
    source = dcmread(path)
    for number, value in zip((0x10, 0x11, 0x40, 0x50, 0x100, 0x102), overlay.values(), strict=True):
        kind = {0x40: "CS", 0x50: "SS"}.get(number, "US")
        source.add_new((0x6000, number), kind, value)
    source.add_new((0x6000, 0x3000), "OW", np.packbits(bits, bitorder="little").tobytes() + b"\0")
    source.save_as(path)
    after = enlarge(path)
    np.testing.assert_array_equal(after.overlay_array(0x6000), bits.repeat(2, 0).repeat(2, 1))
    # the second column is the third and fourth now
    assert (after.ShutterLeftVerticalEdge, after.ShutterRightVerticalEdge) == (3, 12)
    assert list(after.CenterOfCircularShutter) in ([5, 3], [6, 4])
    assert after.RadiusOfCircularShutter == 4


def test_regions_of_ultrasound(make_dicom: MakeDicom) -> None:
    region = item(
        RegionLocationMinX0=1,
        RegionLocationMinY0=0,
        RegionLocationMaxX1=5,
        RegionLocationMaxY1=3,
        PhysicalDeltaX=0.5,
        PhysicalDeltaY=0.25,
    )
    path = make_dicom(
        CT.astype(np.uint8), SOPClassUID=UltrasoundImageStorage, Modality="US", SequenceOfUltrasoundRegions=[region]
    )
    (after,) = enlarge(path).SequenceOfUltrasoundRegions
    assert (after.RegionLocationMinX0, after.RegionLocationMinY0) == (2, 0)
    assert (after.RegionLocationMaxX1, after.RegionLocationMaxY1) == (11, 7)  # the last pixel of the region's last
    assert (after.PhysicalDeltaX, after.PhysicalDeltaY) == (0.25, 0.125)


def test_values_beyond_the_range_and_padding(make_dicom: MakeDicom) -> None:
    values = np.array([[-2000, -1024], [0, 3071]], np.int16)
    after = enlarge(
        make_dicom(values, RescaleSlope=1, RescaleIntercept=0, RescaleType="HU", PixelPaddingValue=-2000), 2
    )
    np.testing.assert_array_equal(after.pixel_array, values.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"TotalPixelMatrixColumns": 512}, "found a part of a larger image"),
        ({"RTImagePosition": [0, 0]}, "found an RT image"),
        ({"ImagePlanePixelSpacing": [1, 1]}, "found an RT image"),
    ],
)
def test_other_geometry_is_refused(make_dicom: MakeDicom, attributes: dict[str, object], found: str) -> None:
    with pytest.raises(UserError, match=rf"a\.dcm: expected a plain image to enlarge, {found}"):
        enlarge(make_dicom(CT, **attributes))


def test_too_many_columns(make_dicom: MakeDicom) -> None:
    with pytest.raises(UserError, match=r"expected at most 65535 rows and columns .* found 4×80000; take a model"):
        enlarge(make_dicom(np.zeros((2, 40_000), np.uint8)))


def test_a_position_without_spacing_or_directions(make_dicom: MakeDicom) -> None:
    words = r"ImagePositionPatient of three numbers with PixelSpacing of two .* of six, found 3, 0 and 6; mend"
    with pytest.raises(UserError, match=words):
        enlarge(make_dicom(CT, ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))


def test_more_bytes_than_an_element_can_hold(make_dicom: MakeDicom) -> None:
    values = np.zeros((300, 40, 40), np.uint16)
    with pytest.raises(UserError, match=r"a\.dcm: expected at most 100000000 pixels .* found 300×640×640"):
        open_dicom(make_dicom(values), Derivation("larger")).check(16)
    with pytest.raises(UserError, match=r"expected at most 4294967294 bytes of enlarged pixels.* found 4309440000"):
        open_dicom(make_dicom(values), Derivation("larger"), max_pixels=10**10).check(67)


def test_what_is_said_in_groups_of_frames_and_other_sequences(make_dicom: MakeDicom) -> None:
    shared = item(
        FramePixelDataPropertiesSequence=[item(ImagerPixelSpacing=[0.2, 0.4])],
        ProjectionPixelCalibrationSequence=[item(ObjectPixelSpacingInCenterOfBeam=[0.5, 0.5])],
        FrameDisplayShutterSequence=[item(ShutterUpperHorizontalEdge=1, ShutterLowerHorizontalEdge=4)],
        ReferencedImageSequence=[item(PixelSpacing=[7, 7])],
    )
    path = make_dicom(
        np.stack([CT, CT]),
        SharedFunctionalGroupsSequence=[shared],
        MaskSubtractionSequence=[item(MaskSubPixelShift=[0.5, -1.5])],
        DetectorInformationSequence=[
            item(ImagePositionPatient=[-100, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        ],
        PixelSpacing=[4, 4],
    )
    after = enlarge(path)
    (group,) = after.SharedFunctionalGroupsSequence
    assert list(group.FramePixelDataPropertiesSequence[0].ImagerPixelSpacing) == [0.1, 0.2]
    assert list(group.ProjectionPixelCalibrationSequence[0].ObjectPixelSpacingInCenterOfBeam) == [0.25, 0.25]
    shutter = group.FrameDisplayShutterSequence[0]
    assert (shutter.ShutterUpperHorizontalEdge, shutter.ShutterLowerHorizontalEdge) == (1, 8)
    assert list(group.ReferencedImageSequence[0].PixelSpacing) == [7, 7]
    assert list(after.MaskSubtractionSequence[0].MaskSubPixelShift) == [1, -3]
    assert list(after.DetectorInformationSequence[0].ImagePositionPatient) == [-101, -1, 0]


def test_an_overlay_of_several_frames_among_the_pixels_bits(make_dicom: MakeDicom) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (2, 4, 6)).astype(np.uint16)
    path = make_dicom(bits << 15, BitsStored=12, HighBit=11, Modality="MR")
    source = dcmread(path)
    for number, (kind, value) in {
        0x10: ("US", 4), 0x11: ("US", 6), 0x40: ("CS", "G"), 0x50: ("SS", [1, 1]), 0x100: ("US", 16), 0x102: ("US", 15),
    }.items():  # fmt: skip
        source.add_new((0x6000, number), kind, value)
    source.save_as(path)
    np.testing.assert_array_equal(enlarge(path).overlay_array(0x6000), bits.repeat(2, 1).repeat(2, 2))
