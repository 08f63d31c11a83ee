"""Images to try the page with: whole files that the package itself reads, with nobody's data in them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from gradprom.datasets.brain_mr import load_brain_mr
from gradprom.images import Derivation, open_dicom, open_nifti, read_image
from gradprom.serve.examples import EXAMPLES
from gradprom.serve.presentation import present


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    for name, example in EXAMPLES.items():
        (tmp_path / name).write_bytes(example.make()[0])
    return {name: tmp_path / name for name in EXAMPLES}


def test_each_is_what_its_name_says(paths: dict[str, Path]) -> None:
    assert read_image(paths["lesion.png"]).channels == 3
    np.testing.assert_array_equal(read_image(paths["brain.png"]).pixels, load_brain_mr().test[10].read_image())
    assert open_nifti(paths["brain.nii"]).count == 11
    assert open_dicom(paths["phantom.dcm"], Derivation("x")).count == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_thumbnails_are_small(name: str) -> None:
    with Image.open(io.BytesIO(EXAMPLES[name].thumbnail())) as image:
        assert max(image.size) <= 320
        assert np.asarray(image).std() > 10


def test_the_volume_is_shown_upright(paths: dict[str, Path]) -> None:
    presentation = present(paths["brain.nii"], "nifti")
    shown = presentation.turned(open_nifti(paths["brain.nii"]).read(5))
    slices = load_brain_mr().test
    # seen from below, as in radiology, while the dataset's slices are seen from above
    np.testing.assert_array_equal(np.rint(shown * 255), slices[10].read_image()[:, ::-1])


def test_the_phantom_is_in_hounsfield_units(paths: dict[str, Path]) -> None:
    source = dcmread(paths["phantom.dcm"])
    values = source.pixel_array * float(source.RescaleSlope) + float(source.RescaleIntercept)
    assert values[5, 5] == -1000  # air
    assert values[160, 85] == pytest.approx(-850, abs=5)  # lung
    assert values[80, 160] == pytest.approx(50, abs=5)  # muscle
    assert values.max() > 500  # bone
    assert not source.PatientBirthDate


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_the_phantom_is_valid(paths: dict[str, Path]) -> None:
    done = subprocess.run(["dciodvfy", paths["phantom.dcm"]], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
