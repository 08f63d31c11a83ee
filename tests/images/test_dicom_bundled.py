"""Every file that pydicom brings along goes through with an enhancer that changes nothing."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from torch import nn

from gradprom.errors import PartialFailureError
from gradprom.inference.files import enhance_files
from gradprom.inference.model import Model

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
# no whole image objects, by pydicom's own description of its files
BROKEN = {
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "MR_truncated.dcm",
    "UN_sequence.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta.dcm",
    "no_meta_group_length.dcm",
    "priv_SQ.dcm",
    "rtplan_truncated.dcm",
}
# numbers that are no brightness
NO_IMAGES = ("Segmentation Storage", "RT Dose Storage")


def read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, force=True)


@functools.cache
def images() -> list[str]:
    """Names of the objects with pixels, below the folder."""
    found = []
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file() and path.name not in BROKEN and "PixelData" in (source := read(path)):
            kind = source.get("SOPClassUID")
            if kind is not None and kind.name not in NO_IMAGES:
                found.append(path.relative_to(BUNDLED).as_posix())
    return found


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder with what came of all files, and what was said."""
    out = tmp_path_factory.mktemp("bundled") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradprom.inference._report._FEW", 1000)  # a line for each
        with pytest.raises(PartialFailureError) as caught:
            enhance_files(Model(nn.Identity(), channels=1), [BUNDLED], out, channels="each")
    return out, str(caught.value).splitlines()


def test_all_images_and_no_others_are_written(output: tuple[Path, list[str]]) -> None:
    written = sorted(path.relative_to(output[0]).as_posix() for path in output[0].rglob("*") if path.is_file())
    assert written == sorted(images())
    assert len(written) > 70


def test_the_others_are_failures_or_listed(output: tuple[Path, list[str]]) -> None:
    first, *lines, last = output[1]
    assert re.fullmatch(r"0 existed already, \d+ other files passed over", last)
    said = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines if line.startswith(str(BUNDLED))}
    told = {Path(path).relative_to(BUNDLED).as_posix(): reason for path, reason in said.items()}
    failed = {name for name, reason in told.items() if not reason.startswith("passed over")}
    # of the CT headers without pixels in TINY_ALPHA there are fifty
    assert {name for name in failed if "TINY_ALPHA" not in name} == BROKEN
    assert first.startswith(f"{len(failed)} of {len(failed) + len(images())} images could not be enhanced")
    assert told["MR_truncated.dcm"].startswith("expected a whole DICOM file, found one that is cut short; ")
    assert told["UN_sequence.dcm"].startswith("expected pixels, found none (CT Image Storage)")
    assert told["test-SR.dcm"] == "passed over, it holds Comprehensive SR Storage"
    assert told["dicomdirtests/DICOMDIR"] == "passed over, it holds a DICOMDIR"
    assert told["rtdose.dcm"] == "passed over, it holds a radiotherapy dose"


@pytest.mark.parametrize("name", images())
def test_pixels_come_back(output: tuple[Path, list[str]], name: str) -> None:
    source, written = read(BUNDLED / name), dcmread(output[0] / name)
    assert written.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            before = pixel_array(source)
        except RuntimeError:  # 12-bit JPEG, compared with gdcm in test_dicom
            assert name in ("JPGExtended.dcm", "JPEG-lossy.dcm")
            return
        if source.PhotometricInterpretation == "PALETTE COLOR":
            before = apply_color_lut(before, source) >> 8
    after = pixel_array(written)
    assert after.dtype.itemsize * 8 == written.BitsAllocated
    np.testing.assert_array_equal(after, before)
    kept = "MONOCHROME" in source.PhotometricInterpretation
    assert written.PhotometricInterpretation == (source.PhotometricInterpretation if kept else "RGB")


@pytest.mark.parametrize("name", images())
def test_what_is_not_new_is_as_it_was(output: tuple[Path, list[str]], name: str) -> None:
    new = {
        "SOPInstanceUID", "SeriesInstanceUID", "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID",
        "SeriesNumber", "ImageType", "DerivationDescription", "DerivationCodeSequence", "SourceImageSequence",
        "SeriesDescription", "ContributingEquipmentSequence", "LossyImageCompression", "LossyImageCompressionMethod",
        "HighBit", "PixelData", "SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence",
        "PhotometricInterpretation", "PlanarConfiguration", "SamplesPerPixel", "BitsStored", "BitsAllocated",
    }  # fmt: skip
    source, written = read(BUNDLED / name), dcmread(output[0] / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for element in source:
            keyword = element.keyword
            if keyword in new or "Palette" in keyword or element.tag.element == 0:
                continue
            after = written[element.tag].value
            if source.original_encoding[1]:
                assert after == element.value, element
    assert written.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert list(written.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert list(written.ImageType)[2:] == list(source.get("ImageType") or [])[2:]


def errors(path: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return {line for line in lines if line.startswith("Error")}


@pytest.mark.parametrize("name", images())
def test_a_validator_finds_no_new_errors(output: tuple[Path, list[str]], name: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy: apt-get install dicom3tools")
    path = BUNDLED / name
    source = read(path)
    if source.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:  # which dciodvfy cannot read
        path = tmp_path / "inflated"
        source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        source.save_as(path)
    assert errors(output[0] / name) - errors(path) == set()
