"""What lies between stored values and what an enhancer sees, and what is refused."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)

from gradprom.errors import UserError
from gradprom.images import Derivation, NoImageError, is_dicom, open_dicom
from gradprom.images.dicom import find_ranges

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
MakeDicom = Callable[..., Path]
CT = np.array([[-1000, 0], [500, 1000]], np.int16)


def enhance(path: Path, change: float, **options: object) -> tuple[list[np.ndarray], Dataset]:
    """Add ``change`` to what an enhancer sees; give what it saw, and the object written."""
    frames = open_dicom(path, Derivation("test"), **options)  # type: ignore[arg-type]
    seen = [frames.read(index) for index in range(frames.count)]
    target = path.with_name("out.dcm")
    frames.write(target, [np.clip(frame + np.float32(change), 0, 1) for frame in seen])
    return seen, dcmread(target)


def test_hounsfield_units_keep_their_meaning(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT + 1024, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    (seen,), written = enhance(path, 0.2)
    np.testing.assert_allclose(seen[..., 0] * 4095, (CT + 1024), atol=1e-3)
    hounsfield = written.pixel_array * float(written.RescaleSlope) + float(written.RescaleIntercept)
    np.testing.assert_array_equal(hounsfield, CT + 819)
    assert (written.WindowCenter, written.WindowWidth) == (40, 400)
    assert written.PixelRepresentation == 1


@pytest.mark.parametrize(
    "attributes",
    [{"Modality": "MR"}, {"Modality": "CT", "RescaleType": "MGML"}, {"Modality": "CT", "RescaleSlope": None}],
)
def test_what_is_in_no_hounsfield_units_has_its_own_range(make_dicom: MakeDicom, attributes: dict[str, object]) -> None:
    path = make_dicom(CT, **({"RescaleSlope": 2, "RescaleIntercept": -7} | attributes))
    (seen,), _ = enhance(path, 0)
    np.testing.assert_allclose(seen[..., 0], [[0, 0.5], [0.75, 1]])


def test_objects_of_a_series_are_mapped_alike(make_dicom: MakeDicom) -> None:
    mr = {"Modality": "MR", "PixelPaddingValue": -9, "RescaleIntercept": 100}
    paths = [
        make_dicom(np.array([[0, 100]], np.int16), "1.dcm", RescaleSlope=1, **mr),  # in truth 100, 200
        make_dicom(np.array([[100, -9]], np.int16), "2.dcm", RescaleSlope=2, **mr),  # 300 and padding
        make_dicom(np.array([[-9, -9]], np.int16), "3.dcm", RescaleSlope=1, **mr),
        make_dicom(np.array([[0, 7]], np.int16), "4.dcm", SeriesInstanceUID="1.2.5", **mr, RescaleSlope=1),
        make_dicom(np.array([[0, 51]], np.uint8), "5.dcm", Modality="MR"),
    ]
    broken = make_dicom(np.array([[900, 900]], np.int16), "6.dcm", RescaleSlope=1, **mr)
    broken.write_bytes(broken.read_bytes()[:-1])
    os.mkfifo(broken.with_name("7.dcm"))
    tracked: list[list[str]] = []

    def track(some: Sequence[Path], _: str) -> Sequence[Path]:
        tracked.append([path.name for path in some])
        return some

    derivation = Derivation("test")
    derivation.ranges = find_ranges(sorted(broken.parent.iterdir()), track=track)
    assert derivation.ranges == {"1.2.3.4": (100, 300)}
    assert tracked == [[f"{n}.dcm" for n in range(1, 7)], ["1.dcm", "2.dcm", "3.dcm", "6.dcm"]]
    seen = [open_dicom(path, derivation).read(0)[0, :, 0] for path in paths]
    np.testing.assert_allclose(seen, [[0, 0.5], [1, 0], [0, 0], [0, 1], [0, 0.2]], atol=1e-6)


def test_a_window_is_the_range_and_what_lies_beyond_is_not_cut_off(make_dicom: MakeDicom) -> None:
    path = make_dicom((CT + 1024) // 2, RescaleSlope=2, RescaleIntercept=-1024)
    (seen,), written = enhance(path, 0.1, window=(-500.0, 500.0))
    np.testing.assert_allclose(seen[..., 0], [[0, 0.5], [1, 1]])
    np.testing.assert_array_equal(written.pixel_array * 2 - 1024, [[-900, 100], [500, 1000]])


def test_monochrome1_is_shown_as_a_viewer_shows_it(make_dicom: MakeDicom) -> None:
    path = make_dicom(np.array([[0, 100], [300, 400]], np.uint16), PhotometricInterpretation="MONOCHROME1")
    (seen,), written = enhance(path, 0.25)
    np.testing.assert_allclose(seen[..., 0], [[1, 0.75], [0.25, 0]])
    assert written.PhotometricInterpretation == "MONOCHROME1"
    # brighter is lower
    np.testing.assert_array_equal(written.pixel_array, [[0, 0], [200, 300]])


def test_padding_is_left_out_and_left_alone(make_dicom: MakeDicom) -> None:
    values = np.array([[-2000, -1990], [0, 100], [50, -2000]], np.int16)
    path = make_dicom(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    (seen,), written = enhance(path, 0.5)
    np.testing.assert_allclose(seen[..., 0], [[0, 0], [0, 1], [0.5, 0]])
    np.testing.assert_array_equal(written.pixel_array, [[-2000, -1990], [50, 100], [100, -2000]])


def test_padding_alone(make_dicom: MakeDicom) -> None:
    path = make_dicom(np.full((2, 2), -5, np.int16), PixelPaddingValue=-5)
    _, written = enhance(path, 0.5)
    np.testing.assert_array_equal(written.pixel_array, np.full((2, 2), -5))


def test_eight_bits_use_their_whole_range(make_dicom: MakeDicom) -> None:
    (seen,), written = enhance(make_dicom(np.array([[0, 51]], np.uint8)), 0.2)
    np.testing.assert_allclose(seen[..., 0], [[0, 0.2]])
    np.testing.assert_array_equal(written.pixel_array, [[51, 102]])
    assert written["PixelData"].VR == "OB"


def test_twelve_bits_stay_twelve_bits(make_dicom: MakeDicom) -> None:
    values = np.array([[0, 1, 4094, 4095]], np.uint16)
    _, written = enhance(make_dicom(values, BitsStored=12), 1, window=(0.0, 2048.0))
    np.testing.assert_array_equal(written.pixel_array, [[2048, 2048, 4094, 4095]])
    assert (written.BitsAllocated, written.BitsStored, written.HighBit) == (16, 12, 11)


def test_each_frame_by_its_own_rescale(make_dicom: MakeDicom) -> None:
    groups = []
    for slope, intercept in ((1, 0), (2, 100)):
        transformation, group = Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, intercept
        transformation.RescaleType = "US"
        group.PixelValueTransformationSequence = [transformation]
        groups.append(group)
    values = np.array([[[0, 100]], [[0, 50]]], np.uint16)  # in truth 0, 100 and 100, 200
    seen, written = enhance(make_dicom(values, PerFrameFunctionalGroupsSequence=groups), 0.25)
    np.testing.assert_allclose(np.stack(seen)[..., 0], [[[0, 0.5]], [[0.5, 1]]])
    np.testing.assert_array_equal(written.pixel_array, [[[50, 150]], [[25, 50]]])
    assert written.NumberOfFrames == 2


def test_big_endian_words_are_turned(make_dicom: MakeDicom) -> None:
    path = make_dicom(np.arange(32, dtype=np.uint16).reshape(4, 8) * 300, syntax=ExplicitVRBigEndian)
    source = dcmread(path)
    source.add_new((0x6000, 0x3000), "OW", b"\x01\x02\x03\x04")
    pydicom.dcmwrite(path, source, enforce_file_format=True)
    _, written = enhance(path, 0)
    np.testing.assert_array_equal(written.pixel_array, np.arange(32).reshape(4, 8) * 300)
    assert written[0x6000, 0x3000].value == b"\x02\x01\x04\x03"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_overlay_among_the_pixels_bits_gets_its_own_element(make_dicom: MakeDicom, syntax: str) -> None:
    values = np.array([[1, 2, 3, 4], [5, 6, 7, 4095]], np.uint16)
    drawn = np.array([[1, 0, 0, 1], [1, 1, 0, 0]], np.uint16)
    words = values | drawn << 12
    path = make_dicom(words, BitsStored=12, syntax=syntax)
    source = dcmread(path)
    for element, vr, value in (
        (0x10, "US", 2), (0x11, "US", 4), (0x40, "CS", "G"), (0x50, "SS", [1, 1]), (0x100, "US", 16), (0x102, "US", 12),
    ):  # fmt: skip
        source.add_new((0x6000, element), vr, value)
    pydicom.dcmwrite(path, source, enforce_file_format=True)
    _, written = enhance(path, 0)
    np.testing.assert_array_equal(written.pixel_array, values)
    np.testing.assert_array_equal(written.overlay_array(0x6000), drawn)


def test_a_palette_becomes_rgb(make_dicom: MakeDicom) -> None:
    tables: dict[str, object] = {}
    for colour, entries in (("Red", [0, 0xFFFF]), ("Green", [0x8000, 0]), ("Blue", [0, 0x0100])):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = np.array(entries, "<u2").tobytes()
    path = make_dicom(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    (seen,), written = enhance(path, 0)
    np.testing.assert_allclose(seen, np.array([[[0, 128, 0], [255, 0, 1]]]) / 255, rtol=1e-6)
    np.testing.assert_array_equal(written.pixel_array, [[[0, 128, 0], [255, 0, 1]]])
    assert (written.PhotometricInterpretation, written.SamplesPerPixel, written.PlanarConfiguration) == ("RGB", 3, 0)
    assert not [name for name in written.dir() if "Palette" in name]


def test_jpeg_of_twelve_bits_is_decoded_as_gdcm_does() -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(BUNDLED / "JPGExtended.dcm"))
    assert reader.Read()
    image = reader.GetImage()
    expected = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), np.uint16).reshape(1024, 256)
    frames = open_dicom(BUNDLED / "JPGExtended.dcm", Derivation("test"))
    np.testing.assert_allclose(frames.read(0)[..., 0], expected / expected.max(), atol=1e-6)


def test_a_lossy_past_is_told(tmp_path: Path) -> None:
    for name, method in (("SC_rgb_jpeg_dcmtk.dcm", "ISO_10918_1"), ("SC_rgb_jls_lossy_line.dcm", "ISO_14495_1")):
        path = tmp_path / name
        path.write_bytes((BUNDLED / name).read_bytes())
        source = dcmread(path)
        for keyword in [keyword for keyword in source.dir() if keyword.startswith("Lossy")]:
            delattr(source, keyword)
        source.save_as(path)
        _, written = enhance(path, 0)
        assert float(written.LossyImageCompressionRatio) == pytest.approx(30_000 / len(source.PixelData), abs=0.01)
        assert (written.LossyImageCompression, written.LossyImageCompressionMethod) == ("01", method)


def test_without_a_preamble_the_name_decides(make_dicom: MakeDicom, tmp_path: Path) -> None:
    path = make_dicom(CT)
    source = dcmread(path)
    bare = tmp_path / "bare.dcm"
    del source.file_meta
    source.preamble = None
    pydicom.dcmwrite(bare, source, implicit_vr=False, little_endian=True)
    assert not is_dicom(bare)
    _, written = enhance(bare, 0)
    np.testing.assert_array_equal(written.pixel_array, CT)
    bare.rename(tmp_path / "bare")
    with pytest.raises(UserError, match="bare: expected a DICOM file, found another kind of file"):
        open_dicom(tmp_path / "bare", Derivation("test"))


def test_other_files_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for content, found in (
        (b"", "an empty file; copy it again"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "another kind of file; check it"),
        (b"just words, and many of them " * 20, "another kind of file; check it"),
        (bytes(500), "another kind of file; check it"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100" * 2, "another kind of file; check it"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            open_dicom(path, Derivation("test"))
        assert str(caught.value) == f"{path}: expected a DICOM file, found {found}"


def test_an_object_without_a_uid_is_refused(make_dicom: MakeDicom) -> None:
    source = pydicom.dcmread(make_dicom(np.zeros((4, 4), np.int16)))
    del source.SOPInstanceUID
    source.save_as(source.filename)
    with pytest.raises(UserError, match=r"expected an object with a SOPInstanceUID, .*; give it one"):
        open_dicom(source.filename, Derivation("test"))


def test_a_pipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert not is_dicom(tmp_path / "pipe.dcm")
    with pytest.raises(UserError, match=r"pipe\.dcm: expected a file, found a pipe or a device"):
        open_dicom(tmp_path / "pipe.dcm", Derivation("test"))


def test_every_cut_is_noticed(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    data = path.read_bytes()
    for length in range(132, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(
            UserError, match=r"a\.dcm: expected (a whole DICOM file|pixels|an image with Rows)"
        ) as caught:
            open_dicom(path, Derivation("test"))
        assert not isinstance(caught.value, NoImageError)
    compressed = (BUNDLED / "MR_small_RLE.dcm").read_bytes()
    # within a value, within plain pixels, within compressed ones, whose length nothing tells
    for cut in (data[: data.index(b"Doe^Jane") + 3], data[:-1], compressed[:4000]):
        path.write_bytes(cut)
        with pytest.raises(UserError, match="expected a whole DICOM file, found one that is cut short; "):
            open_dicom(path, Derivation("test"))


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"PhotometricInterpretation": "HSV"}, "expected grey, RGB, YBR or palette colours, found HSV"),
        ({"SamplesPerPixel": 2}, "found MONOCHROME2 with 2 samples a pixel"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "expected 8, 16 or 32 bits a sample, found 1"),
        ({"BitsStored": 17}, "found 16 of which 17 are used"),
        ({"Rows": None, "Columns": None}, "expected an image with Rows, Columns, found none of it"),
        ({"Rows": 0}, "expected an image, found one of 1×0×2 pixels"),
        ({"Rows": 60_000, "Columns": 60_000}, "found 1×60000×60000; .*--max-pixels 3600000000"),
        ({"NumberOfFrames": 60_000, "Columns": 60_000}, "expected at most 100000000 pixels in all frames"),
        ({"Rows": 3}, "expected a whole DICOM file"),
    ],
)
def test_other_kinds_are_refused(make_dicom: MakeDicom, attributes: dict[str, object], found: str) -> None:
    with pytest.raises(UserError, match=rf"a\.dcm: .*{found}") as caught:
        open_dicom(make_dicom(CT, **attributes), Derivation("test"))
    assert not isinstance(caught.value, NoImageError)
    assert "\n" not in str(caught.value)


def test_a_compression_without_a_decoder(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT, syntax=MPEG2MPML, PixelData=encapsulate([b"\0\1" * 9]))
    with pytest.raises(UserError, match="pixels that can be decompressed here, found MPEG2 Main Profile / Main Level"):
        open_dicom(path, Derivation("test"))


def test_a_deflated_bomb(make_dicom: MakeDicom, tmp_path: Path) -> None:
    path = make_dicom(CT, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_allclose(open_dicom(path, Derivation("test")).read(0)[0, 1, 0], 0.5)
    data = path.read_bytes()
    group_length = int.from_bytes(data[140:144], "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(bytes(2**20)) for _ in range(70)) + deflate.flush()
    path.write_bytes(data[: 144 + group_length] + bomb)
    with pytest.raises(UserError, match=r"expected at most 67109000 bytes, found a deflated object of more"):
        open_dicom(path, Derivation("test"), max_pixels=17)


def test_objects_without_an_image(make_dicom: MakeDicom, tmp_path: Path) -> None:
    pdf = make_dicom(CT, "pdf.dcm", SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF")
    source = dcmread(pdf)
    del source.PixelData
    source.save_as(pdf)
    cases = {
        pdf: "Encapsulated PDF Storage",
        BUNDLED / "reportsi.dcm": "Basic Text SR Storage",
        BUNDLED / "rtplan.dcm": "RT Plan Storage",
        BUNDLED / "rtdose.dcm": "a radiotherapy dose",
        BUNDLED / "liver_1frame.dcm": "a segmentation",
        BUNDLED / "waveform_ecg.dcm": "12-lead ECG Waveform Storage",
        BUNDLED / "dicomdirtests" / "DICOMDIR": "a DICOMDIR",
        make_dicom(CT, "seg", SOPClassUID=SegmentationStorage): "a segmentation",
    }
    for path, found in cases.items():
        with pytest.raises(NoImageError) as caught:
            open_dicom(path, Derivation("test"))
        assert caught.value.found == found
        assert str(caught.value) == f"{path}: expected an image, found {found}; leave it out"


def test_an_image_without_pixels_is_a_failure(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    source = dcmread(path)
    del source.PixelData
    source.save_as(path)
    with pytest.raises(UserError, match=r"a\.dcm: expected pixels, found none \(CT Image Storage\)") as caught:
        open_dicom(path, Derivation("test"))
    assert not isinstance(caught.value, NoImageError)


def test_no_file(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.dcm", "No such file"), (tmp_path, "expected a DICOM file")):
        with pytest.raises(UserError, match=reason):
            open_dicom(path, Derivation("test"))
