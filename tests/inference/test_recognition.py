"""What recognizers read of files before and after enhancement, and where it is written."""

from __future__ import annotations

import csv
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as PilImage
from pydicom import dcmread
from torch import Tensor, nn

from gradprom import cli
from gradprom.errors import PartialFailureError, UserError
from gradprom.images import Image, read_image, write_image
from gradprom.images.dicom import load_highdicom
from gradprom.inference import recognition
from gradprom.inference.files import enhance_files
from gradprom.inference.model import Model
from gradprom.inference.reader import Reader

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


class Brighter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([0 * mean, 8 * mean - 4], dim=1)


class Threshold(nn.Module):
    """Class 1 from one half on, class 2 from 0.8 on."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x[:, 0]
        return torch.stack([0 * grey, 1.0 * (grey >= 0.5), 2.0 * (grey >= 0.8)], dim=1)


MODEL = Model(Brighter(), channels=1)
MASKS = {"recognizers": {"segmentation": Threshold()}, "mask_classes": ["none", "grey", "white"]}
CLASSES = {"recognizers": {"diagnosis": Mean()}, "classes": ["dark", "bright é"]}
MASKER = Reader(channels=1, **MASKS)
CLASSIFIER = Reader(channels=1, **CLASSES)
READER = Reader(
    **(MASKS | CLASSES | {"recognizers": {"diagnosis": Mean(), "segmentation": Threshold()}, "channels": 1})
)


def noise(*shape: int, peak: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(0, peak, shape, np.uint8 if peak < 256 else np.uint16, endpoint=True)


def classes(unit: np.ndarray) -> np.ndarray:
    """What `Threshold` finds."""
    return np.where(unit >= 0.8, 2, unit >= 0.5).astype(np.uint8)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "recognition.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def put(path: Path, array: np.ndarray | None = None) -> Path:
    write_image(path, Image(noise(6, 8)[..., None] if array is None else array))
    return path


def put_dicom(path: Path, name: str = "CT_small.dcm") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(BUNDLED / name, path)
    return path


def test_probabilities_by_hand(tmp_path: Path) -> None:
    for name, value in (("a.png", 51), ("x/b é.tif", 153)):
        put(tmp_path / "in" / name, np.full((4, 4, 1), value, np.uint8))
    enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=CLASSIFIER)
    assert below(tmp_path / "out") == ["a.png", "recognition.csv", "x/b é.tif"]
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["file", "frame", "image", "probability_dark", "probability_bright é"]
    assert [(row["file"], row["frame"], row["image"]) for row in rows] == [
        ("a.png", "1", "before"), ("a.png", "1", "after"), ("x/b é.tif", "1", "before"), ("x/b é.tif", "1", "after"),
    ]  # fmt: skip
    after = read_image(tmp_path / "out" / "a.png").pixels[0, 0, 0] / 255
    for row, mean in zip(rows, (0.2, after, 0.6, 179 / 255), strict=True):
        bright = 1 / (1 + np.exp(4 - 8 * mean))
        np.testing.assert_allclose(float(row["probability_bright é"]), bright, atol=1e-5)
        assert float(row["probability_dark"]) + float(row["probability_bright é"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.jpg"])
def test_masks_of_plain_images(tmp_path: Path, name: str) -> None:
    pixels = noise(20, 30)
    exif = PilImage.Exif()
    exif[274] = 6
    exif[270] = "of the image alone"
    PilImage.fromarray(pixels).save(tmp_path / name, exif=exif, dpi=(300, 300))
    enhance_files(MODEL, [tmp_path / name], tmp_path / "out", reader=MASKER)
    out = tmp_path / "out"
    stem, suffix = ("a.jpg", ".png") if name == "a.jpg" else ("a", name[1:])
    names = [f"{stem}.mask-{when}{suffix}" for when in ("before", "after")]
    assert below(out) == sorted([name, *names])
    # not by pillow, which turns TIFFs by their orientation
    load = tifffile.imread if name == "a.tif" else lambda path: np.asarray(PilImage.open(path))
    pixels = load(tmp_path / name)  # as JPEG left them
    expected = [classes(pixels / 255), classes(read_image(out / name).pixels[..., 0] / 255)]
    for mask, found in zip(names, expected, strict=True):
        with PilImage.open(out / mask) as written:
            assert written.getexif().get(274) == 6
            assert 270 not in written.getexif()
            assert [float(value) for value in written.info["dpi"]] == pytest.approx([300, 300], abs=0.01)
        labels = load(out / mask)
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1, 2}
        if name != "a.jpg" or "before" in mask:  # what comes after was read before JPEG spoilt it
            np.testing.assert_array_equal(labels, found)


def test_masks_of_an_enlarged_image(tmp_path: Path) -> None:
    put(tmp_path / "a.tif", noise(6, 8, 1))
    enhance_files(Model(nn.Upsample(scale_factor=2), channels=1, scale=2), [tmp_path / "a.tif"], tmp_path / "out",
                  reader=MASKER)  # fmt: skip
    small, large = (tifffile.imread(tmp_path / "out" / f"a.mask-{when}.tif") for when in ("before", "after"))
    np.testing.assert_array_equal(small, classes(noise(6, 8) / 255))
    np.testing.assert_array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_16_bits_and_colour(tmp_path: Path) -> None:
    colour = Reader(channels=3, **MASKS)
    put(tmp_path / "a.png", noise(6, 8, 3, peak=65535))
    enhance_files(Model(nn.Identity(), channels=3), [tmp_path / "a.png"], tmp_path / "out", reader=colour)
    mask = read_image(tmp_path / "out" / "a.mask-after.png").pixels
    np.testing.assert_array_equal(mask[..., 0], classes(noise(6, 8, 3, peak=65535)[..., 0] / 65535))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_masks_of_a_volume(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (12, 5, 14, 2)).astype(np.int16)
    values[0, 0, 0, 0], values[0, 0, 1, 0] = -1000, 1000
    affine = np.array([[0, 3, 0, 7.5], [-0.9, 0, 0, -3], [0, 0, 1.1, 20], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    nibabel.save(image, tmp_path / f"a é{suffix}")
    enhance_files(MODEL, [tmp_path / f"a é{suffix}"], tmp_path / "out", reader=READER)
    assert {row["frame"] for row in table(tmp_path / "out")} == {str(number) for number in range(1, 11)}
    unit = (values + 1000) / 2000
    for when, expected in (("before", unit), ("after", unit + 0.1)):
        mask = nibabel.load(tmp_path / "out" / f"a é.mask-{when}{suffix}")
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == values.shape
        np.testing.assert_array_equal(mask.affine, nibabel.load(tmp_path / f"a é{suffix}").affine)
        assert mask.header.get_zooms() == nibabel.load(tmp_path / f"a é{suffix}").header.get_zooms()
        assert mask.header.get_xyzt_units() == ("mm", "sec")
        assert mask.header.get_intent()[0] == "label"
        assert mask.header.extensions[0].get_content() == b"kept"
        # between the rounding of float32, some values lie on a threshold
        near = np.isclose(expected, 0.5, atol=1e-5) | np.isclose(expected, 0.8, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(mask.dataobj)[~near], classes(expected)[~near])


def test_masks_of_pages(tmp_path: Path) -> None:
    pages = noise(3, 20, 18, peak=65535)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", tile=(16, 16), compression="zlib", resolution=(72, 36),
                         description="told of the page", metadata=None)  # fmt: skip
    tifffile.imwrite(tmp_path / "imagej.tif", pages, imagej=True)
    sources = [tmp_path / "a.tif", tmp_path / "imagej.tif"]
    enhance_files(Model(nn.Identity(), channels=1), sources, tmp_path / "out", reader=READER)
    for source in sources:
        for when in ("before", "after"):
            with tifffile.TiffFile(tmp_path / "out" / f"{source.stem}.mask-{when}.tif") as mask:
                assert len(mask.pages) == 3
                found = np.stack([page.asarray() for page in mask.pages])
                np.testing.assert_array_equal(found, classes(pages / 65535))
                assert found.dtype == np.uint8
                if source.name == "a.tif":
                    page = mask.pages[1]
                    assert (page.tilelength, page.compression, page.description) == (16, 8, "")
                    assert page.tags.valueof(282) == (72, 1)
    rows = table(tmp_path / "out")
    assert [row["frame"] for row in rows if row["file"] == "imagej.tif"] == ["1", "1", "2", "2", "3", "3"]


def test_masks_of_dicom(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs highdicom: pip install 'gradprom[dicom]'")
    sources = [put_dicom(tmp_path / "in" / "IM1"), put_dicom(tmp_path / "in" / "b.dcm", "MR_small.dcm")]
    out = tmp_path / "out"
    enhance_files(MODEL, [tmp_path / "in"], out, reader=READER)
    assert below(out) == [
        "IM1", "IM1.mask-after.dcm", "IM1.mask-before.dcm", "b.dcm", "b.mask-after.dcm", "b.mask-before.dcm",
        "recognition.csv",
    ]  # fmt: skip
    for source in sources:
        values = dcmread(source).pixel_array.astype(float)
        # the CT is stored as Hounsfield units and 1024
        low, high = (0, 4095) if source.name == "IM1" else (values.min(), values.max())
        unit = (values - low) / (high - low)
        for when, of, expected in (("before", source, unit), ("after", out / source.name, unit + 0.1)):
            mask = dcmread(out / f"{source.stem}.mask-{when}.dcm")
            (series,) = mask.ReferencedSeriesSequence
            assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == dcmread(of).SOPInstanceUID
            near = np.isclose(expected, 0.5, atol=1e-5) | np.isclose(expected, 0.8, atol=1e-5)
            for segment, number in zip(mask.pixel_array, (1, 2), strict=True):
                np.testing.assert_array_equal(segment[~near], (classes(expected) == number)[~near])


def test_masks_are_never_read_as_images(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), np.eye(4)), tmp_path / "in/b.nii")
    enhance_files(MODEL, [tmp_path / "in"], tmp_path / "in" / "out", reader=READER)
    first = below(tmp_path / "in" / "out")
    assert len(first) == 7
    enhance_files(MODEL, [tmp_path / "in"], tmp_path / "in" / "out", reader=READER, overwrite=True)
    assert below(tmp_path / "in" / "out") == first
    done = enhance_files(MODEL, [tmp_path / "in" / "out"], tmp_path / "again", reader=READER)
    assert below(tmp_path / "again") == first
    assert done.passed_over == 5
    with pytest.raises(UserError, match=r"a\.mask-before\.png: expected an image, found a mask of an earlier call"):
        enhance_files(MODEL, [tmp_path / "in" / "out" / "a.mask-before.png"], tmp_path / "third")


def test_outputs_that_exist(tmp_path: Path) -> None:
    path, out = put(tmp_path / "a.png"), tmp_path / "out"
    enhance_files(MODEL, [path], out, reader=READER)
    (out / "a.png").unlink()
    with pytest.raises(UserError, match=r"a\.mask-before\.png: expected nothing there, found a file \(1 of 1 outputs"):
        enhance_files(MODEL, [path], out, reader=READER)
    assert not (out / "a.png").exists()
    enhance_files(MODEL, [path], out, reader=READER, overwrite=True)
    assert [row["image"] for row in table(out)] == ["before", "after"]


def test_names_that_clash_are_refused_before_any_work(tmp_path: Path) -> None:
    put_dicom(tmp_path / "in" / "a")
    put_dicom(tmp_path / "in" / "a.dcm")
    with pytest.raises(UserError, match=r"a and .*a\.dcm would both become .*a\.mask-before\.dcm; rename one"):
        enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=MASKER)
    named = put_dicom(tmp_path / "recognition.csv")
    with pytest.raises(UserError, match=r"recognition\.csv: the table of what is read would replace its result"):
        enhance_files(MODEL, [named], tmp_path / "out", reader=READER)
    assert not (tmp_path / "out").exists()


def test_rows_of_other_images_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.png", "b.png"):
        enhance_files(MODEL, [put(tmp_path / name)], out, reader=CLASSIFIER)
    assert [row["file"] for row in table(out)] == ["a.png", "a.png", "b.png", "b.png"]
    put(tmp_path / "a.png", np.zeros((4, 4, 1), np.uint8))
    enhance_files(MODEL, [tmp_path / "a.png"], out, reader=CLASSIFIER, overwrite=True)
    rows = table(out)
    assert [row["file"] for row in rows] == ["a.png", "a.png", "b.png", "b.png"]
    np.testing.assert_allclose(float(rows[0]["probability_dark"]), 1 / (1 + np.exp(-4)), atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"file,frame,image,probability_cat\r\n", b"\xff\xfe\0", b'"file'])
def test_a_table_of_others_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "recognition.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"recognition\.csv: expected a table of file, frame, image, probability_dark"):
        enhance_files(MODEL, [put(tmp_path / "a.png")], out, reader=CLASSIFIER)
    assert below(out) == ["recognition.csv"]
    assert (out / "recognition.csv").read_bytes() == content
    enhance_files(MODEL, [tmp_path / "a.png"], out, reader=CLASSIFIER, overwrite=True)
    assert len(table(out)) == 2


class Counter(Brighter):
    """Is interrupted at its third image."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.rest = last

    def forward(self, x: Tensor) -> Tensor:
        if self.rest == 0:
            raise KeyboardInterrupt
        self.rest -= 1
        return super().forward(x)


def test_an_interruption_loses_nothing(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path / "in" / f"{name}.png")
    with pytest.raises(KeyboardInterrupt):
        enhance_files(Model(Counter(2), channels=1), [tmp_path / "in"], tmp_path / "out", reader=READER)
    assert [row["file"] for row in table(tmp_path / "out")] == ["a.png", "a.png", "b.png", "b.png"]
    done = enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=READER, skip_existing=True)
    assert ([path.name for path in done.written], done.existing) == (["c.png", "d.png"], 2)
    enhance_files(MODEL, [tmp_path / "in"], tmp_path / "whole", reader=READER)
    assert below(tmp_path / "out") == below(tmp_path / "whole")
    for name in below(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("missing", ["recognition.csv", "a.mask-after.tif", "a.mask-before.tif", "all of it"])
def test_what_alone_is_missing_is_read_again(tmp_path: Path, missing: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(2, 9, 8, peak=65535), photometric="minisblack")
    out = tmp_path / "out"
    enhance_files(MODEL, [tmp_path / "a.tif", put(tmp_path / "b.png")], out, reader=READER)
    whole = {name: (out / name).read_bytes() for name in below(out)}
    for name in [name for name in whole if "mask" in name or "csv" in name] if missing == "all of it" else [missing]:
        (out / name).unlink()
    stamps = {name: (out / name).stat().st_ino for name in ("a.tif", "b.png")}
    done = enhance_files(MODEL, [tmp_path / "a.tif", tmp_path / "b.png"], out, reader=READER, skip_existing=True)
    assert done.written == ()
    assert {path.name for path in done.read} == ({"a.tif"} if "mask" in missing else {"a.tif", "b.png"})
    assert {name: (out / name).stat().st_ino for name in stamps} == stamps
    assert {name: (out / name).read_bytes() for name in below(out)} == whole


def test_a_failure_leaves_no_mask(tmp_path: Path) -> None:
    larger = Model(nn.Upsample(scale_factor=2), channels=1, scale=2)
    slide = dcmread(BUNDLED / "CT_small.dcm")
    slide.TotalPixelMatrixColumns = 4096
    slide.save_as(tmp_path / "a.dcm")
    reader = Reader(channels=1, **CLASSES)
    asked: list[object] = []
    reader.read = lambda pixels: asked.append(pixels)  # type: ignore[method-assign,assign,return-value]
    with pytest.raises(UserError, match="expected a plain image to enlarge, found a part of a larger image"):
        enhance_files(larger, [tmp_path / "a.dcm"], tmp_path / "out", reader=reader)
    assert not (tmp_path / "out").exists()
    assert not asked  # nor is anything read for long before it is refused


def test_a_disk_that_is_full_at_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in "ab":
        put(tmp_path / "in" / f"{name}.png")
    with monkeypatch.context() as patch:
        patch.setattr(recognition, "write_text", full)
        with pytest.raises(UserError) as caught:
            enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=READER)
    assert "recognition.csv: the file cannot be written (No space left on device)" in str(caught.value)
    assert "b.png: not tried any more" in str(caught.value)
    done = enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=READER, skip_existing=True)
    assert ([path.name for path in done.read], [path.name for path in done.written]) == (["a.png"], ["b.png"])


def test_huge_tiffs_cannot_be_read_whole(tmp_path: Path) -> None:
    put(tmp_path / "in" / "large.tif", noise(40, 40, 1))
    put(tmp_path / "in" / "small.tif", noise(10, 10, 1))
    with pytest.raises(PartialFailureError, match=r"large\.tif: expected at most 400 pixels with --recognize"):
        enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=CLASSIFIER, max_pixels=400)
    assert below(tmp_path / "out") == ["recognition.csv", "small.tif"]


class TestDicom:
    @pytest.fixture(autouse=True)
    def _needs_highdicom(self) -> None:
        pytest.importorskip("highdicom", reason="needs highdicom: pip install 'gradprom[dicom]'")

    def test_an_object_that_can_have_no_segmentation(self, tmp_path: Path) -> None:
        put_dicom(tmp_path / "in" / "cine", "examples_ybr_color.dcm")
        put(tmp_path / "in" / "a.png")
        options: dict[str, Any] = {"reader": READER, "channels": "each", "tile": 96, "overlap": 0}
        with pytest.raises(PartialFailureError) as caught:
            enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", **options)
        first, second = str(caught.value).splitlines()
        assert first == f"2 images came into {tmp_path / 'out'}, but:"
        reason = "enhanced, but without its mask: expected an object of which a DICOM segmentation can be made, found "
        assert second.startswith(f"{tmp_path / 'in' / 'cine'}: {reason}")
        whole = ["a.mask-after.png", "a.mask-before.png", "a.png", "cine", "recognition.csv"]
        assert below(tmp_path / "out") == whole
        assert {row["file"] for row in table(tmp_path / "out")} == {"a.png", "cine"}
        enhanced = (tmp_path / "out" / "cine").read_bytes()
        with pytest.raises(PartialFailureError, match="cine: enhanced, but without its mask: "):
            enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", skip_existing=True, **options)
        assert below(tmp_path / "out") == whole
        assert (tmp_path / "out" / "cine").read_bytes() == enhanced

    def test_what_was_missing_refers_to_the_object_that_exists(self, tmp_path: Path) -> None:
        path, out = put_dicom(tmp_path / "a.dcm"), tmp_path / "out"
        (made,) = enhance_files(MODEL, [path], out).written
        uid = dcmread(made).SOPInstanceUID
        enhance_files(MODEL, [path], out, reader=MASKER, skip_existing=True)
        assert dcmread(made).SOPInstanceUID == uid
        (series,) = dcmread(out / "a.mask-after.dcm").ReferencedSeriesSequence
        assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uid

    def test_deidentified(self, tmp_path: Path) -> None:
        pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'gradprom[dicom]'")
        path = put_dicom(tmp_path / "a.dcm")
        enhance_files(MODEL, [path], tmp_path / "out", reader=MASKER, deidentify=True)
        source, image = dcmread(path), dcmread(tmp_path / "out" / "a.dcm")
        secrets = {str(source[name].value) for name in ("PatientID", "PatientName", "StudyInstanceUID",
                                                        "SeriesInstanceUID", "SOPInstanceUID")}  # fmt: skip
        for when in ("before", "after"):
            mask = dcmread(tmp_path / "out" / f"a.mask-{when}.dcm")
            assert mask.PatientIdentityRemoved == "YES"
            assert mask.PatientName == image.PatientName
            assert mask.StudyInstanceUID == image.StudyInstanceUID
            assert not any(secret in str(mask) for secret in secrets)

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
        with pytest.raises(UserError, match="expected the library highdicom, found it missing; pip install"):
            load_highdicom()
        put_dicom(tmp_path / "in" / "a")
        put(tmp_path / "in" / "b.png")
        with pytest.raises(UserError, match="masks of DICOM objects: expected the library highdicom"):
            enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=MASKER)
        assert not (tmp_path / "out").exists()
        enhance_files(MODEL, [tmp_path / "in"], tmp_path / "out", reader=CLASSIFIER)
        assert below(tmp_path / "out") == ["a", "b.png", "recognition.csv"]


def test_from_the_command_line(
    tmp_path: Path, trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "in" / "a.png", noise(40, 48, 1))
    words = ["enhance", str(trained("gradprom")), str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert cli.main([*words, "--recognize", "--skip-existing"]) == 0
    assert below(tmp_path / "out") == ["a.mask-after.png", "a.mask-before.png", "a.png"]
    assert "1 that existed already: read now" in capsys.readouterr().out
    words[1] = str(trained("enhancer_only"))
    assert cli.main([*words, "--recognize", "--overwrite"]) == 2
    assert "which has no recognizer: give another run" in capsys.readouterr().err
