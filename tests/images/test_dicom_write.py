"""What a derived object says of itself, of its source and of its series."""

from __future__ import annotations

import itertools
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread, dcmwrite

import gradprom
from gradprom.errors import UserError
from gradprom.images import Derivation, open_dicom

MakeDicom = Callable[..., Path]
CT = np.array([[-1000, 0], [500, 1000]], np.int16)


def derive(path: Path, derivation: Derivation, name: str = "out.dcm") -> Dataset:
    frames = open_dicom(path, derivation)
    target = path.with_name(name)
    frames.write(target, [frames.read(index) for index in range(frames.count)])
    return dcmread(target)


def item(**attributes: object) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_where_it_comes_from(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT, SeriesDescription="Thorax", ContributingEquipmentSequence=[item(Manufacturer="Scanner")])
    source, written = dcmread(path), derive(path, Derivation("unet"))
    assert list(written.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert written.SeriesDescription == "Thorax, enhanced by gradprom"
    words = f"Enhanced by gradprom {gradprom.__version__} with the trained neural network unet"
    assert written.DerivationDescription == words
    (code,) = written.DerivationCodeSequence
    assert (code.CodingSchemeDesignator, code.CodeMeaning) == ("99GRADPROM", "Enhancement by a trained neural network")
    (reference,) = written.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    earlier, equipment = written.ContributingEquipmentSequence
    assert earlier.Manufacturer == "Scanner"
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("unet", gradprom.__version__)
    assert written.SOPInstanceUID != source.SOPInstanceUID
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID
    assert (written.PatientName, written.PatientID, written.StudyInstanceUID) == ("Doe^Jane", "4711", "1.2.3")


def test_one_new_series_for_each_series_of_a_call(make_dicom: MakeDicom) -> None:
    derivation = Derivation("unet")
    paths = [make_dicom(CT, f"{name}.dcm", SeriesInstanceUID=f"1.2.{name}") for name in (1, 2)]
    first, again = (derive(paths[0], derivation, f"out{count}.dcm") for count in range(2))
    other, later = derive(paths[1], derivation), derive(paths[0], Derivation("unet"))
    assert first.SeriesInstanceUID == again.SeriesInstanceUID
    assert len({made.SeriesInstanceUID for made in (first, other, later)} | {"1.2.1", "1.2.2"}) == 5
    assert len({made.SOPInstanceUID for made in (first, again, other, later)}) == 4


def test_calls_of_the_same_settings_write_into_one_series(make_dicom: MakeDicom) -> None:
    paths = [make_dicom(CT, f"{name}.dcm", SeriesInstanceUID=f"1.2.{name}") for name in (1, 2)]
    first, later = (derive(paths[0], Derivation("unet", settings="a")) for _ in range(2))
    others = [
        derive(paths[0], Derivation("unet", settings="b")),
        derive(paths[0], Derivation("other", settings="a")),
        derive(paths[1], Derivation("unet", settings="a")),
    ]
    assert first.SeriesInstanceUID == later.SeriesInstanceUID
    assert len({made.SeriesInstanceUID for made in (first, *others)} | {"1.2.1", "1.2.2"}) == 6
    assert first.SOPInstanceUID != later.SOPInstanceUID
    for made in (first, *others):
        assert made.SeriesInstanceUID.is_valid
        assert made.SeriesInstanceUID.startswith("2.25.")


@pytest.mark.parametrize(("before", "after"), [(3, 1003), (-5, 995), (2**31 - 1, 2**31 - 1), (None, None)])
def test_a_new_series_has_a_number_of_its_own(make_dicom: MakeDicom, before: int | None, after: int | None) -> None:
    assert derive(make_dicom(CT, SeriesNumber=before), Derivation("unet")).get("SeriesNumber") == after


def test_a_broken_number_of_a_series_stays(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT, SeriesNumber=1234567)
    path.write_bytes(path.read_bytes().replace(b"1234567", b"third x"))
    derive(path, Derivation("unet"))
    assert b"third x" in path.with_name("out.dcm").read_bytes()


def test_frames_are_written_as_often_as_one_likes(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    frames = open_dicom(path, Derivation("unet"))
    for name in ("one.dcm", "two.dcm"):
        frames.write(path.with_name(name), [frames.read(0)])
    one, two = dcmread(path.with_name("one.dcm")), dcmread(path.with_name("two.dcm"))
    assert one.DerivationDescription == two.DerivationDescription
    assert len(one.ContributingEquipmentSequence) == len(two.ContributingEquipmentSequence) == 1
    np.testing.assert_array_equal(two.pixel_array, CT)


def test_an_image_enhanced_twice_keeps_its_history(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT, SeriesDescription="x" * 64, LossyImageCompression="01", LossyImageCompressionRatio=20)
    derive(path, Derivation("first"), "one.dcm")
    written = derive(path.with_name("one.dcm"), Derivation("second"), "two.dcm")
    before, after = written.DerivationDescription.split("; ")
    assert (before.rpartition(" ")[2], after.rpartition(" ")[2]) == ("first", "second")
    assert len(written.DerivationCodeSequence) == len(written.ContributingEquipmentSequence) == 2
    assert len(written.SeriesDescription) <= 64
    assert written.SeriesDescription.endswith(", enhanced by gradprom")
    assert (written.LossyImageCompression, written.LossyImageCompressionRatio) == ("01", 20)


def test_names_that_dicom_cannot_hold(make_dicom: MakeDicom) -> None:
    written = derive(
        make_dicom(CT, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"), Derivation("mod\\èle\n")
    )
    assert written.DerivationDescription.endswith(" mod??le?")
    assert written.PatientName == "Müller^Jörg"
    long = derive(make_dicom(CT), Derivation("m" * 2000))
    assert len(long.DerivationDescription) == 1024
    assert len(long.ContributingEquipmentSequence[0].ManufacturerModelName) == 64


def test_what_would_be_wrong_of_new_pixels_is_taken_out(make_dicom: MakeDicom) -> None:
    icon = item(Rows=1, Columns=1)
    written = derive(
        make_dicom(CT, SmallestImagePixelValue=-1000, LargestImagePixelValue=1000, IconImageSequence=[icon]),
        Derivation("unet"),
    )
    assert not {"SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence"} & set(written.dir())


def test_frame_types_are_derived_too(make_dicom: MakeDicom) -> None:
    frame_type = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    path = make_dicom(
        np.stack([CT, CT]),
        SharedFunctionalGroupsSequence=[item(CTImageFrameTypeSequence=[frame_type])],
        PerFrameFunctionalGroupsSequence=[item(FrameContentSequence=[item(StackID="1")]) for _ in range(2)],
    )
    written = derive(path, Derivation("unet"))
    (changed,) = written.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence
    assert list(changed.FrameType) == ["DERIVED", "SECONDARY", "VOLUME", "NONE"]
    source = dcmread(path)
    for number, group in enumerate(written.PerFrameFunctionalGroupsSequence, 1):
        (derivation,) = group.DerivationImageSequence
        (reference,) = derivation.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedFrameNumber == number
        assert derivation.DerivationCodeSequence[0].CodingSchemeDesignator == "99GRADPROM"
        assert group.FrameContentSequence[0].StackID == "1"
    assert "ReferencedFrameNumber" not in written.SourceImageSequence[0]


def test_the_preamble_of_another_format_is_not_kept(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    path.write_bytes(b"II*\0" + bytes(124) + path.read_bytes()[128:])
    derive(path, Derivation("unet"))
    assert path.with_name("out.dcm").read_bytes()[:132] == bytes(128) + b"DICM"


def test_private_elements_are_kept(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    source = dcmread(path)
    source.private_block(0x0009, "MAKER", create=True).add_new(1, "LO", "ours")
    dcmwrite(path, source, enforce_file_format=True)
    assert derive(path, Derivation("unet"))[0x0009, 0x1001].value == "ours"


def test_what_cannot_be_written_again_is_one_sentence(make_dicom: MakeDicom) -> None:
    path = make_dicom(CT)
    source = dcmread(path)
    del source.SOPClassUID
    dcmwrite(path, source)
    with pytest.raises(UserError, match=r"out\.dcm: expected attributes that can be written again") as caught:
        derive(path, Derivation("unet"))
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.dcm"]


class TestDeidentified:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'gradprom[dicom]'")

    def source(self, make_dicom: MakeDicom, name: str = "a.dcm", **attributes: object) -> Path:
        reference = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.777")
        step = item(ScheduledProcedureStepID="Geheim-1", ScheduledProcedureStepDescription="Geheim-2")
        dose = item(DoseCalibrationFactor=1, PersonName="Geheim-3^X", PatientID="Geheim-4")
        path = make_dicom(
            CT, name, PatientName="Geheim^Jane", PatientID="Geheim-5", PatientBirthDate="19700203",
            InstitutionName="Geheim-6", StudyDescription="Geheim-7", SeriesDescription="Geheim-8",
            DerivationDescription="Geheim-9", StudyDate="20200102", AcquisitionDateTime="20200102030405",
            ReferencedImageSequence=Sequence([reference]), RequestAttributesSequence=Sequence([step]),
            RadiopharmaceuticalInformationSequence=Sequence([dose]), FrameOfReferenceUID="1.2.888",
            RescaleSlope=1, RescaleIntercept=-1024, PixelSpacing=[0.5, 0.5], **attributes,
        )  # fmt: skip
        dataset = dcmread(path)
        dataset.private_block(0x0009, "Geheim-10", create=True).add_new(1, "LO", "Geheim-11")
        dataset.add_new((0x6000, 0x0010), "US", 1)
        dataset.add_new((0x6000, 0x3000), "OW", b"Geheim12")
        dcmwrite(path, dataset, enforce_file_format=True)
        return path

    def test_nothing_that_identifies_is_left(self, make_dicom: MakeDicom, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.source(make_dicom)
        old = dcmread(path)
        # the digits of five random UIDs hold 1970 once in fifty runs
        numbers = itertools.count(1)
        monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(int=next(numbers)))
        monkeypatch.setattr("dicomanonymizer.simpledicomanonymizer.dictionary", {})
        written = derive(path, Derivation("unet", deidentify=True))
        data = path.with_name("out.dcm").read_bytes()
        for secret in (b"Geheim", b"1970", b"2020010", b"1.2.777", b"1.2.888", b"1.2.3", old.SOPInstanceUID.encode()):
            assert secret not in data.replace(b"1.2.840.10008", b""), secret
        assert written.PatientIdentityRemoved == "YES"
        assert written.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert not [element for element in written if element.tag.group in (0x0009, 0x6000)]
        np.testing.assert_array_equal(written.pixel_array, CT)
        assert (written.RescaleIntercept, list(written.PixelSpacing)) == (-1024, [0.5, 0.5])
        assert written.DerivationDescription.startswith("Enhanced by gradprom")

    def test_studies_stay_together(self, make_dicom: MakeDicom) -> None:
        derivation = Derivation("unet", deidentify=True)
        one, two = (derive(self.source(make_dicom, f"{name}.dcm"), derivation) for name in "ab")
        assert one.StudyInstanceUID == two.StudyInstanceUID != "1.2.3"
        assert one.SeriesInstanceUID == two.SeriesInstanceUID
        assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
        assert one.SOPInstanceUID != two.SOPInstanceUID

    def test_patients_stay_apart_under_pseudonyms(self, make_dicom: MakeDicom) -> None:
        def pseudonym(derivation: Derivation, **attributes: object) -> str:
            written = derive(make_dicom(CT, **({"FrameOfReferenceUID": "1.2.9"} | attributes)), derivation)
            assert written.PatientName == written.PatientID
            return str(written.PatientID)

        derivation = Derivation("unet", deidentify=True)
        jane = pseudonym(derivation)
        assert jane == pseudonym(derivation, StudyInstanceUID="1.2.5", PatientName="Other^Spelling")
        others = [
            pseudonym(derivation, PatientID="4712"),
            pseudonym(derivation, IssuerOfPatientID="another hospital"),
            pseudonym(derivation, PatientID=None),
            pseudonym(derivation, PatientID=None, StudyInstanceUID="1.2.5"),
            pseudonym(Derivation("unet", deidentify=True)),
        ]
        assert len({jane, *others}) == 6
        assert not any("4711" in name or "Doe" in name for name in (jane, *others))

    def test_series_do_not_follow_from_known_ones(self, make_dicom: MakeDicom) -> None:
        path = make_dicom(CT)
        one, two = (derive(path, Derivation("unet", settings="a", deidentify=True)) for _ in range(2))
        assert one.SeriesInstanceUID != two.SeriesInstanceUID

    def test_names_among_the_pixels_are_refused(self, make_dicom: MakeDicom) -> None:
        path = self.source(make_dicom, BurnedInAnnotation="YES")
        with pytest.raises(UserError, match="found BurnedInAnnotation YES"):
            derive(path, Derivation("unet", deidentify=True))
        assert not path.with_name("out.dcm").exists()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicomanonymizer", None)
    with pytest.raises(UserError, match=r"expected the library dicom-anonymizer.*pip install 'gradprom\[dicom\]'"):
        Derivation("unet", deidentify=True)
