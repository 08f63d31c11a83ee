"""Which way up things are shown, against what other libraries and standards say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageOps
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from gradprom.images import open_nifti
from gradprom.serve.presentation import Presentation, present


@pytest.mark.parametrize("number", range(1, 9))
def test_exif_turns_as_pillow_does(number: int) -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    image = Image.fromarray(pixels)
    image.getexif()[274] = number
    turned = ImageOps.exif_transpose(image)
    block = image.getexif().tobytes().removeprefix(b"Exif\0\0")
    np.testing.assert_array_equal(present(Path("a.jpg"), "jpeg", block).turned(pixels), np.asarray(turned))


@pytest.mark.parametrize("block", [b"", b"nonsense", b"II*\0\xff\xff\xff\xff"])
def test_broken_exif_turns_nothing(block: bytes) -> None:
    assert present(Path("a.jpg"), "jpeg", block) == Presentation()


def landmarks(codes: str, spacing: tuple[float, float, float], path: Path) -> Path:
    """A volume in which values grow by 1 to the left, 10 to the back and 100 to the feet, stored in an orientation."""
    left, back, feet = np.meshgrid(range(3), range(4), range(5), indexing="ij")
    values = (left + 10 * back + 100 * feet).astype(np.int16)
    volume = nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, -1.0, 1.0]))
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "I")
    wanted = nibabel.orientations.axcodes2ornt(codes)
    own = nibabel.orientations.io_orientation(volume.affine)
    turned = volume.as_reoriented(nibabel.orientations.ornt_transform(own, wanted))
    assert "".join(nibabel.aff2axcodes(turned.affine)) == codes
    turned.header.set_zooms(spacing)
    nibabel.save(turned, path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LPI", "LAS", "PIR", "SAL", "ASR", "IPL", "RSP"])
@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_nifti_as_in_radiology(tmp_path: Path, codes: str, coarse: int) -> None:
    """Columns go to the patient's left or back, rows to the back or the feet, whatever is stored."""
    spacing = tuple(3.0 if axis == coarse else 1.0 for axis in range(3))
    path = landmarks(codes, spacing, tmp_path / "a.nii")
    presentation = present(path, "nifti")
    frames = open_nifti(path, window=(0, 1000))
    shown = presentation.turned(frames.read(0))[..., 0] * 1000
    across, down = np.rint([shown[0, 1] - shown[0, 0], shown[1, 0] - shown[0, 0]])
    coarse_code = codes[coarse]
    expected = {"R": (10, 100), "L": (10, 100), "A": (1, 100), "P": (1, 100), "S": (1, 10), "I": (1, 10)}[coarse_code]
    assert (across, down) == expected
    assert presentation.aspect == 1


def test_nifti_of_long_voxels_and_of_two_dimensions(tmp_path: Path) -> None:
    path = landmarks("RAS", (0.5, 1.0, 4.0), tmp_path / "a.nii")
    assert present(path, "nifti").aspect == 0.5
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5), np.uint8), np.eye(4)), tmp_path / "flat.nii")
    assert present(tmp_path / "flat.nii", "nifti") == Presentation()


@pytest.fixture
def make_header(tmp_path: Path) -> Callable[..., Path]:
    def make(**attributes: object) -> Path:
        source = Dataset()
        source.file_meta = FileMetaDataset()
        source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        source.SOPClassUID = CTImageStorage
        source.SOPInstanceUID = "1.2.3"
        for name, value in attributes.items():
            setattr(source, name, value)
        dcmwrite(tmp_path / "a.dcm", source, enforce_file_format=True)
        return tmp_path / "a.dcm"

    return make


def test_dicom_windows(make_header: Callable[..., Path]) -> None:
    path = make_header(Modality="CT", WindowCenter=[40, 300], WindowWidth=[400, 2000], PixelSpacing=[0.5, 1])
    presentation = present(path, "dicom")
    assert presentation.windows[:2] == (("the file's own", -160, 240), ("the file's own, 2", -700, 1300))
    assert ("lung", -1350, 150) in presentation.windows
    assert presentation.aspect == 2
    path = make_header(Modality="MR", WindowCenter="50.5", WindowWidth="101")
    assert present(path, "dicom") == Presentation(windows=(("the file's own", 0, 101),))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"WindowCenter": [40, 50], "WindowWidth": 400},
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40},
        {"PixelSpacing": [0, 0]},
        {"PixelSpacing": [1, 10_000]},
    ],
)
def test_dicom_of_odd_headers(make_header: Callable[..., Path], attributes: dict[str, object]) -> None:
    presentation = present(make_header(**attributes), "dicom")
    assert len(presentation.windows) <= 1
    assert presentation.aspect == 1
