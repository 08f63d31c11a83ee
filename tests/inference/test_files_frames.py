"""DICOM, NIfTI and TIFF of many pages through folders: what comes out, what is passed over, what is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as PilImage
from pydicom import dcmread
from torch import nn

from gradprom import cli
from gradprom.errors import PartialFailureError, UserError
from gradprom.images import open_pages
from gradprom.inference.files import enhance_files
from gradprom.inference.model import Model

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
GREY = Model(nn.Identity(), channels=1)
COLOUR = Model(nn.Identity(), channels=3)


class Brighter(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1


def put(source: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(BUNDLED / source, target)
    return target


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def put_nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 999, (20, 18, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
    return path


def put_pages(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = np.random.default_rng(0).integers(0, 60_000, (3, 20, 18)).astype(np.uint16)
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None)
    return path


def test_a_study_of_everything(tmp_path: Path) -> None:
    study = tmp_path / "Étude à 1"
    put("CT_small.dcm", study / "série 1" / "IM 0001")
    put("MR_small.dcm", study / "série 1" / "1.2.840.1")
    put("693_J2KI.dcm", study / "compressed.DCM")
    put("test-SR.dcm", study / "report.dcm")
    put("rtdose.dcm", study / "dose")
    put("dicomdirtests/DICOMDIR", study / "DICOMDIR")
    put("MR_small.dcm", study / ".hidden")
    put_nifti(study / "brain é.nii.gz")
    put_pages(study / "stack.tif")
    (study / "notes.txt").write_text("no image")
    PilImage.fromarray(np.zeros((4, 4), np.uint8)).save(study / "plain.png")
    out = tmp_path / "out"
    done = enhance_files(GREY, [study], out)
    assert below(out) == [
        "brain é.nii.gz", "compressed.DCM", "plain.png", "stack.tif", "série 1/1.2.840.1", "série 1/IM 0001",
    ]  # fmt: skip
    assert done.passed_over == 2
    assert {path.name: what for path, what in done.no_images} == {
        "report.dcm": "Comprehensive SR Storage", "dose": "a radiotherapy dose", "DICOMDIR": "a DICOMDIR",
    }  # fmt: skip
    for name in ("série 1/IM 0001", "série 1/1.2.840.1", "compressed.DCM"):
        np.testing.assert_array_equal(dcmread(out / name).pixel_array, dcmread(study / name).pixel_array)
    np.testing.assert_array_equal(
        nibabel.load(out / "brain é.nii.gz").dataobj, nibabel.load(study / "brain é.nii.gz").dataobj
    )
    np.testing.assert_array_equal(tifffile.imread(out / "stack.tif"), tifffile.imread(study / "stack.tif"))


def test_the_enhancer_reaches_every_frame(tmp_path: Path) -> None:
    sources = [put_nifti(tmp_path / "a.nii"), put_pages(tmp_path / "a.tif"), put("CT_small.dcm", tmp_path / "a.dcm")]
    done = enhance_files(Model(Brighter(), channels=1), sources, tmp_path / "out")
    volumes = [np.asarray(nibabel.load(path).dataobj) for path in (sources[0], done.written[0])]
    pages = [tifffile.imread(path) for path in (sources[1], done.written[1])]
    scans = [dcmread(path).pixel_array for path in (sources[2], done.written[2])]
    ends = [(volumes[0].min(), volumes[0].max()), (0, 65535), (0, 4095)]  # the CT is stored as HU + 1024
    for (before, after), (low, high) in zip((volumes, pages, scans), ends, strict=True):
        before, after = before.astype(int), after.astype(int)
        np.testing.assert_allclose(after, np.minimum(before + 0.1 * (high - low), high), atol=0.51)


def test_all_of_a_series_are_mapped_alike(tmp_path: Path) -> None:
    sources = [put(f"dicomdirtests/98892003/MR2/{n}", tmp_path / "in" / n) for n in ("4950", "4981", "5011")]
    before = [dcmread(path).pixel_array.astype(int) for path in sources]
    low, high = min(map(np.min, before)), max(map(np.max, before))
    assert len({(values.min(), values.max()) for values in before}) > 1
    done = enhance_files(Model(Brighter(), channels=1), sources, tmp_path / "out")
    for values, path in zip(before, done.written, strict=True):
        expected = np.minimum(values + 0.1 * (high - low), high)
        np.testing.assert_allclose(dcmread(path).pixel_array, expected, atol=0.51)
    # what is enhanced later is mapped as all of it was
    written = [dcmread(path).pixel_array for path in done.written]
    done.written[0].unlink()
    enhance_files(Model(Brighter(), channels=1), sources, tmp_path / "out", skip_existing=True)
    for path, values in zip(done.written, written, strict=True):
        np.testing.assert_array_equal(dcmread(path).pixel_array, values)


def test_one_new_series_in_all_calls(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    names = ["dicomdirtests/98892003/MR1/15820", "dicomdirtests/98892003/MR1/4919", "dicomdirtests/98892003/MR2/15970"]
    for name in names:
        put(name, folder / name)
    first, second = (enhance_files(GREY, [folder], tmp_path / f"out{call}").written for call in range(2))
    series = [[str(dcmread(path).SeriesInstanceUID) for path in written] for written in (first, second)]
    sources = [str(dcmread(folder / name).SeriesInstanceUID) for name in names]
    for made in series:
        assert [made.index(uid) for uid in made] == [sources.index(uid) for uid in sources]
    assert series[0] == series[1]
    assert not set(series[0]) & set(sources)


def test_another_series_where_pixels_differ(tmp_path: Path) -> None:
    path = put("CT_small.dcm", tmp_path / "a.dcm")
    models = [Model(nn.Conv2d(1, 1, 1), channels=1) for _ in range(2)]
    calls: list[tuple[Model, tuple[float, float] | None]] = [
        (models[0], None), (models[0], None), (models[1], None), (models[0], (0, 99)), (models[0], (0.0, 99.0)),
    ]  # fmt: skip
    series = [
        str(dcmread(enhance_files(model, [path], tmp_path / f"{n}", window=window).written[0]).SeriesInstanceUID)
        for n, (model, window) in enumerate(calls)
    ]
    assert [series.index(uid) for uid in series] == [0, 0, 2, 3, 3]


def test_grey_and_colour(tmp_path: Path) -> None:
    grey = put("CT_small.dcm", tmp_path / "in" / "grey.dcm")
    put("examples_rgb_color.dcm", tmp_path / "in" / "colour.dcm")
    with pytest.raises(PartialFailureError, match=r"grey\.dcm: enhancer is a colour model, .*--channels each"):
        enhance_files(COLOUR, [tmp_path / "in"], tmp_path / "out")
    done = enhance_files(COLOUR, [tmp_path / "in"], tmp_path / "each", channels="each")
    np.testing.assert_array_equal(dcmread(done.written[1]).pixel_array, dcmread(grey).pixel_array)


def test_a_window_is_that_of_all_files(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend((float(x.min()), float(x.max())))
            return x

    path = put("CT_small.dcm", tmp_path / "a.dcm")
    source = dcmread(path)
    hounsfield = source.pixel_array * float(source.RescaleSlope) + float(source.RescaleIntercept)
    window = (float(hounsfield.min()) - 100, float(hounsfield.max()) + 300)
    enhance_files(Model(Watch(), channels=1), [path], tmp_path / "out", window=window)
    extent = window[1] - window[0]
    np.testing.assert_allclose(seen, [100 / extent, 1 - 300 / extent], atol=1e-6)
    for wrong in ((3.0, 3.0), (4.0, 3.0), (float("nan"), 3.0)):
        with pytest.raises(UserError, match="expected two finite, rising numbers"):
            enhance_files(GREY, [path], tmp_path / "none", window=wrong)


def test_bad_files_are_reported_and_the_others_done(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put("CT_small.dcm", folder / "good.dcm")
    whole = put("MR_small_RLE.dcm", folder / "cut.dcm")
    whole.write_bytes(whole.read_bytes()[:4000])
    put("no_meta_group_length.dcm", folder / "empty.dcm")
    put("CT_small.dcm", folder / "lying.png")
    put("test-SR.dcm", folder / "report")
    holes = nibabel.Nifti1Image(np.array([[np.nan, 1]], np.float32), np.eye(4))
    nibabel.save(holes, folder / "nan.nii")
    pages = put_pages(folder / "cut.tif")
    pages.write_bytes(pages.read_bytes()[:-700])
    (folder / "text.dcm").write_text("hello")
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [folder], tmp_path / "out")
    first, *lines = str(caught.value).splitlines()
    assert first == f"6 of 7 images could not be enhanced; the other one is in {tmp_path / 'out'}:"
    reasons = {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in lines}
    for name, reason in {
        "cut.dcm": "expected a whole DICOM file, found one that is cut short",
        "cut.tif": "expected a whole TIFF file, found one that is cut short",
        "empty.dcm": "expected pixels, found none (RT Image Storage); ",
        "lying.png": "expected a name that ends as its content, DICOM, has it, found '.png'; rename it",
        "nan.nii": "expected finite values, found 1 that are NaN or infinite; ",
        "report": "passed over, it holds Comprehensive SR Storage",
        "text.dcm": "expected a DICOM file, found another kind of file",
    }.items():
        assert reasons.pop(name).startswith(reason)
    assert reasons == {}
    assert below(tmp_path / "out") == ["good.dcm"]


def test_an_object_without_an_image_that_is_named_is_a_failure(tmp_path: Path) -> None:
    path = put("test-SR.dcm", tmp_path / "in" / "report")
    with pytest.raises(UserError, match="report: expected an image, found Comprehensive SR Storage; leave it out"):
        enhance_files(GREY, [path], tmp_path / "out")
    with pytest.raises(UserError, match=r"expected images, found none \(.*report: .* holds Comprehensive SR Storage\)"):
        enhance_files(GREY, [path.parent], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_within_the_input_is_not_read(tmp_path: Path) -> None:
    put("CT_small.dcm", tmp_path / "IM1")
    out = tmp_path / "deep" / "out"
    enhance_files(GREY, [tmp_path], out)
    done = enhance_files(GREY, [tmp_path], out, overwrite=True)
    assert below(tmp_path) == ["IM1", "deep/out/IM1"]
    assert len(done.written) == 1
    assert enhance_files(GREY, [tmp_path], out, skip_existing=True).existing == 1


def test_an_enlarging_model(tmp_path: Path) -> None:
    model = Model(nn.Upsample(scale_factor=2), channels=1, scale=2, name="larger")
    volume = put_nifti(tmp_path / "a.nii")
    pages, plain = put_pages(tmp_path / "a.tif"), put("CT_small.dcm", tmp_path / "a")
    out = tmp_path / "out"
    enhance_files(model, [volume, pages, plain], out, window=(-3000, 5000))
    pairs = [
        (np.asarray(nibabel.load(path).dataobj).T for path in (volume, out / "a.nii")),
        (tifffile.imread(path) for path in (pages, out / "a.tif")),
        (pydicom.dcmread(path).pixel_array for path in (plain, out / "a")),
    ]
    for before, after in pairs:  # nearest neighbours, as torch's own layer takes them
        np.testing.assert_array_equal(after, before.repeat(2, -1).repeat(2, -2))


def test_a_mistake_in_an_enhancer_is_not_hidden(tmp_path: Path) -> None:
    for path in (put_nifti(tmp_path / "a.nii"), put_pages(tmp_path / "a.tif"), put("CT_small.dcm", tmp_path / "a")):
        with pytest.raises(ValueError, match="expected the enhancer to give"):
            enhance_files(Model(nn.AvgPool2d(2), channels=1), [path], tmp_path / "out")
        assert below(tmp_path / "out") == []


def test_progress_counts_the_tiles_of_all_frames(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 40, 18), np.uint16), photometric="minisblack")
    frames = open_pages(tmp_path / "a.tif")
    list(GREY.enhance_frames(frames, tile=32, overlap=0, on_tile=lambda *done: told.append(done)))
    assert told == [(count, 6) for count in range(1, 7)]


class TestDeidentified:
    def test_dicom_alone(self, tmp_path: Path) -> None:
        pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'gradprom[dicom]'")
        put("CT_small.dcm", tmp_path / "in" / "a.dcm")
        put_nifti(tmp_path / "in" / "b.nii")
        put_pages(tmp_path / "in" / "c.tif")
        PilImage.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "in" / "d.png")
        with pytest.raises(PartialFailureError) as caught:
            enhance_files(GREY, [tmp_path / "in"], tmp_path / "out", deidentify=True)
        assert (
            str(caught.value).count("expected DICOM alone with --deidentify, found another format; leave it out") == 3
        )
        assert below(tmp_path / "out") == ["a.dcm"]
        written = dcmread(tmp_path / "out" / "a.dcm")
        assert written.PatientIdentityRemoved == "YES"
        assert written.PatientName != dcmread(tmp_path / "in" / "a.dcm").PatientName


def test_from_the_command_line(
    tmp_path: Path, trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    put("CT_small.dcm", tmp_path / "in é" / "IM1")
    put("examples_rgb_color.dcm", tmp_path / "in é" / "IM2")
    put("test-SR.dcm", tmp_path / "in é" / "IM3")
    out = tmp_path / "out"
    words = ["enhance", str(trained("enhancer_only")), str(tmp_path / "in é"), "-o", str(out), "--channels", "each"]
    assert cli.main(words) == 0
    assert below(out) == ["IM1", "IM2"]
    assert "2 enhanced" in capsys.readouterr().out
    before, after = (dcmread(folder / "IM1").pixel_array.astype(int) for folder in (tmp_path / "in é", out))
    assert before.min() <= after.mean() <= before.max()
    assert (before != after).any()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    path = put("CT_small.dcm", tmp_path / "a.dcm")
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    if os.access(out, os.W_OK):
        pytest.skip("needs a user whom permissions bind: run as another than root")
    with pytest.raises(UserError, match="the output folder cannot be written to"):
        enhance_files(GREY, [path], out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs to mount a tmpfs: run as root, outside of a container without that right")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", ["dicom", "nifti", "tiff", "page"])
def test_a_full_disk(tmp_path: Path, small_disk: Path, kind: str) -> None:
    folder = tmp_path / "in"
    values = np.random.default_rng(0).integers(0, 30_000, (150, 150)).astype(np.int16)  # 45 kB
    folder.mkdir()
    for name in ("a", "b", "c"):
        if kind == "nifti":
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{name}.nii")
        elif kind in ("tiff", "page"):
            pages = values.astype(np.uint16).reshape(2 if kind == "tiff" else 1, -1, 150)
            tifffile.imwrite(folder / f"{name}.tif", pages, photometric="minisblack")
        else:
            source = dcmread(BUNDLED / "CT_small.dcm")
            source.Rows = source.Columns = 150
            source.PixelData = values.tobytes()
            source.save_as(folder / f"{name}.dcm")
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [folder], small_disk / "out")
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("2 of 3 images could not be enhanced; the other one is in")
    assert "No space left on device" in second
    assert third.endswith(": not tried any more")
    assert len(below(small_disk)) == 1
    assert below(small_disk)[0].startswith("out/a.")
