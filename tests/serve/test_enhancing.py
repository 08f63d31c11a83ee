"""From a file to what the page shows of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as PilImage
from torch import nn

from gradprom.errors import UserError
from gradprom.inference.files import enhance_files
from gradprom.inference.model import Model
from gradprom.inference.reader import Reader
from gradprom.recognizers.classifier import Classifier
from gradprom.recognizers.segmenter import Segmenter
from gradprom.serve.enhancing import Settings, View, enhance_upload, parse_settings
from gradprom.serve.work import Job, JobCancelledError

PLAIN = Settings()


class Smoother(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)


class Bright(nn.Module):
    """Whether an image, or each of its pixels, is bright."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        excess = image.mean(1, keepdim=True) - 0.5
        logits = torch.cat([-excess, excess], dim=1) * 100
        return logits if self.task == "segmentation" else logits.mean((2, 3))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def put(path: Path, pixels: np.ndarray) -> Path:
    PilImage.fromarray(pixels).save(path)
    return path


def enhance(source: Path, settings: Settings = PLAIN, **options: Any) -> View:
    folder = source.parent
    return enhance_upload(
        options.get("model", Model(Smoother(), channels=1, name="smooth")),
        options.get("reader"),
        source,
        folder / "out",
        folder / "view",
        settings,
        options.get("job", Job(lambda _: None)),
        options.get("max_pixels", 10**6),
    )


def shown(folder: Path, name: str) -> np.ndarray:
    with PilImage.open(folder / "view" / f"{name}.png") as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "pages.tif", "volume.nii.gz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_bytes_as_on_the_command_line(tmp_path: Path, name: str, channels: int) -> None:
    source = tmp_path / name
    if name == "pages.tif":
        tifffile.imwrite(source, noise(3, 20, 30), photometric="minisblack", metadata=None)
    elif name == "volume.nii.gz":
        nibabel.save(nibabel.Nifti1Image(noise(20, 30, 4).astype(np.int16), np.eye(4)), source)
    else:
        put(source, noise(20, 30))
    model = Model(Smoother(), channels=channels)
    view = enhance(source, Settings(whole=True), model=model)
    (expected,) = enhance_files(model, [source], tmp_path / "expected", channels="each").written
    assert (tmp_path / "out" / name).read_bytes() == expected.read_bytes()
    assert view.is_whole


def test_what_is_shown_is_what_went_in_and_came_out(tmp_path: Path) -> None:
    source = put(tmp_path / "a.png", noise(20, 30))
    view = enhance(source)
    assert (view.frames, view.format, view.width, view.height, view.channels) == (1, "png", 30, 20, 1)
    assert view.pictures == ("before", "after", "difference")
    np.testing.assert_array_equal(shown(tmp_path, "before"), noise(20, 30))
    with PilImage.open(tmp_path / "out" / "a.png") as written:
        np.testing.assert_array_equal(shown(tmp_path, "after"), np.asarray(written))
    assert (view.psnr, view.readings) == ({}, {})


def test_noise_and_what_it_costs(tmp_path: Path) -> None:
    source = put(tmp_path / "a.png", np.full((60, 60), 128, np.uint8))
    view = enhance(source, Settings(sigma=0.1))
    assert np.unique(shown(tmp_path, "clean")).tolist() == [128]
    assert view.psnr["before"] == pytest.approx(20, abs=0.3)
    # a mean of nine has a ninth of the variance; less at the border
    assert view.psnr["after"] == pytest.approx(20 + 10 * np.log10(9), abs=0.8)
    mse = np.mean((shown(tmp_path, "after") / 255.0 - 128 / 255) ** 2)
    assert view.psnr["after"] == pytest.approx(-10 * np.log10(mse), abs=0.01)
    # it is the noisy image that is enhanced and written
    with PilImage.open(tmp_path / "out" / "a.png") as written:
        np.testing.assert_array_equal(shown(tmp_path, "after"), np.asarray(written))


def test_an_unchanged_image_has_no_finite_psnr(tmp_path: Path) -> None:
    white = Model(_White(), channels=1)
    view = enhance(put(tmp_path / "a.png", np.full((9, 9), 255, np.uint8)), Settings(sigma=0.1), model=white)
    assert view.psnr["after"] is None


class _White(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(image)


def test_one_image_of_a_volume_then_all(tmp_path: Path) -> None:
    source = tmp_path / "a.nii"
    values = np.arange(5) * 100 + np.zeros((6, 7, 5))
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.diag([-1, -1, 1, 1])), source)
    view = enhance(source, Settings(frame=3, window=(0, 1000)))
    assert (view.frame, view.frames, view.is_whole, view.window) == (3, 5, False, (0, 1000))
    assert not (tmp_path / "out" / "a.nii").exists()
    assert shown(tmp_path, "before")[0, 0] == round(255 * 0.3)
    (tmp_path / "view").rename(tmp_path / "earlier")
    assert enhance(source, Settings(whole=True)).is_whole
    assert nibabel.load(tmp_path / "out" / "a.nii").shape == (6, 7, 5)


def test_pictures_are_turned_together_and_the_file_is_not(tmp_path: Path) -> None:
    image = PilImage.fromarray(noise(20, 30))
    image.getexif()[274] = 6
    image.save(tmp_path / "a.png", exif=image.getexif())
    view = enhance(tmp_path / "a.png", reader=Reader({"segmentation": Bright("segmentation")}, **_NAMES))
    assert (view.width, view.height) == (20, 30)
    for name in view.pictures:
        assert shown(tmp_path, name).shape[:2] == (30, 20)
    np.testing.assert_array_equal(shown(tmp_path, "before"), np.rot90(noise(20, 30), -1))
    with PilImage.open(tmp_path / "out" / "a.png") as written:
        assert written.size == (30, 20)


_NAMES: dict[str, Any] = {"channels": 1, "classes": ["dark", "bright"], "mask_classes": ["dark", "bright"]}


def test_readings(tmp_path: Path) -> None:
    pixels = np.full((16, 16), 50, np.uint8)
    pixels[:4] = 250
    tasks = ("diagnosis", "segmentation")
    reader = Reader({task: Bright(task) for task in tasks}, **_NAMES)
    view = enhance(put(tmp_path / "a.png", pixels), Settings(sigma=0.01), reader=reader)
    assert set(view.readings) == {"clean", "before", "after"}
    assert view.readings["before"]["shares"] == {"dark": 0.75, "bright": 0.25}
    assert view.readings["before"]["probabilities"]["dark"] > 0.9
    mask = shown(tmp_path, "mask-before")
    assert (mask[:4, :, 3] > 0).all()
    assert (mask[4:, :, 3] == 0).all()
    # these recognizers have no feature maps
    assert not {"diagnosis-before", "segmentation-before"} & set(view.pictures)


def test_where_recognizers_look(tmp_path: Path) -> None:
    recognizers = {
        "diagnosis": Classifier(1, classes=2, encoder="test_resnet"),
        "segmentation": Segmenter(1, classes=2, encoder="test_resnet"),
    }
    view = enhance(put(tmp_path / "a.png", noise(64, 64)), reader=Reader(recognizers, **_NAMES))
    for task in recognizers:
        for when in ("before", "after"):
            assert shown(tmp_path, f"{task}-{when}").shape == (64, 64, 4)
            assert f"{task}-{when}" in view.pictures


def test_enlarged(tmp_path: Path) -> None:
    model = Model(nn.Upsample(scale_factor=2), channels=1, scale=2)
    view = enhance(put(tmp_path / "a.png", noise(8, 9)), Settings(sigma=0.1), model=model)
    assert (view.width, view.height, view.psnr) == (18, 16, {})
    assert {shown(tmp_path, name).shape[:2] for name in view.pictures} == {(16, 18)}


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.png", b"hello", "a.png: expected a PNG, JPEG or TIFF image, found another kind of file; convert it"),
        ("ä b.nii", b"hello", "ä b.nii: expected a NIfTI file"),
        (
            "scan",
            b"\0" * 128 + b"DICM",
            "scan: expected a whole DICOM file, found one that is cut short; copy it again",
        ),
        ("a.txt", None, "a.txt: expected a name that ends as its content, PNG, has it, found '.txt'; rename it"),
    ],
)
def test_a_sentence_without_folders(tmp_path: Path, name: str, data: bytes | None, sentence: str) -> None:
    if data is None:
        put(tmp_path / "a.png", noise(4, 4))
        data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(UserError) as raised:
        enhance(tmp_path / "in" / name)
    assert str(raised.value).startswith(sentence)
    assert str(tmp_path) not in str(raised.value)


def put_ct(path: Path) -> Path:
    path.write_bytes((Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm").read_bytes())
    return path


def test_a_dicom_object_says_that_noise_was_added(tmp_path: Path) -> None:
    source = put_ct(tmp_path / "a.dcm")
    told = {}
    for sigma in (0.0, 0.125):
        enhance(source, Settings(sigma=sigma))
        told[sigma] = pydicom.dcmread(tmp_path / "out" / "a.dcm").DerivationDescription
        shutil.rmtree(tmp_path / "view")
    assert "oise" not in told[0.0]
    assert "smooth, after Gaussian noise of standard deviation 0.125 was added" in told[0.125]


def test_a_dicom_object_lands_in_the_series_of_the_command_line(tmp_path: Path) -> None:
    source = put_ct(tmp_path / "a.dcm")
    enhance(source, Settings(window=(-1000.0, 400.0)))
    model = Model(Smoother(), channels=1, name="smooth")
    enhance_files(model, [source], tmp_path / "there", channels="each", window=(-1000, 400))
    here, there = (pydicom.dcmread(tmp_path / folder / "a.dcm") for folder in ("out", "there"))
    assert here.SeriesInstanceUID == there.SeriesInstanceUID
    assert here.DerivationDescription == there.DerivationDescription
    assert here.PixelData == there.PixelData


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_too_many_pixels(tmp_path: Path, name: str) -> None:
    source = put(tmp_path / name, noise(40, 50))
    with pytest.raises(UserError, match=rf"^{name}: expected at most 1000 pixels"):
        enhance(source, max_pixels=1000)
    assert not (tmp_path / "out" / name).exists()


def test_cancelled_nothing_stays(tmp_path: Path) -> None:
    source = put(tmp_path / "a.png", noise(20, 30))
    job = Job(lambda _: None)
    job.cancel()
    with pytest.raises(JobCancelledError):
        enhance(source, job=job)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.png"]


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ({}, Settings()),
        ({"frame": None, "sigma": 0, "low": None, "high": None, "whole": False}, Settings()),
        ({"frame": 3, "sigma": 0.5, "low": -5, "high": 5.5, "whole": True}, Settings(3, 0.5, (-5.0, 5.5), True)),
    ],
)
def test_settings(words: dict[str, Any], settings: Settings) -> None:
    assert parse_settings(words) == settings


@pytest.mark.parametrize(
    "words",
    [
        [],
        None,
        {"sigma": 0.51},
        {"sigma": -0.1},
        {"sigma": "0.1"},
        {"sigma": True},
        {"sigma": float("nan")},
        {"frame": -1},
        {"frame": 1.5},
        {"frame": True},
        {"whole": 1},
        {"low": 1},
        {"high": 1},
        {"low": 1, "high": 1},
        {"low": 2, "high": 1},
        {"low": 0, "high": float("inf")},
        {"low": -1e308, "high": 1e308},
        {"low": "0", "high": "1"},
    ],
)
def test_wrong_settings(words: object) -> None:
    with pytest.raises(UserError):
        parse_settings(words)
