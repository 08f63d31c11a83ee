"""The enhancer as a dictionary transform of MONAI."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, SaveImaged
from PIL import Image
from torch import nn

from gradprom.errors import UserError
from gradprom.inference.model import Model
from gradprom.monai import Enhanced

# MONAI tells of a decoder for GPUs that is not there whenever it makes a reader
READS = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


def half(channels: int = 1) -> Model:
    """Halves every value."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(0.5 * torch.eye(channels)[:, :, None, None])
    return Model(conv, channels=channels, name="half", precision="float32")


def sideways() -> Model:
    """Shifts an image to the right: what was in a column is in the next."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[0.0, 0, 0], [1, 0, 0], [0, 0, 0]]]]))
    return Model(conv, channels=1, precision="float32")


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_values_are_mapped_to_the_range_and_back(kind: type) -> None:
    volume = np.random.default_rng(0).integers(-1024, 3072, (1, 6, 7, 3)).astype(kind)
    found = Enhanced("ct", half(), value_range=(-1024, 3072))({"ct": volume})["ct"]
    assert found.dtype == kind
    # half of [0, 1] is half of the way up from -1024
    expected = (volume.astype(float) + 1024) / 2 - 1024
    assert np.abs(found - expected).max() <= (0.5 if np.issubdtype(kind, np.integer) else 0) + 1e-3


def test_arrays_and_tensors_stay_what_they_are_and_others_are_passed_on() -> None:
    sample = {"array": np.ones((1, 4, 4), np.float32), "tensor": torch.ones(1, 4, 4), "label": 3}
    found = Enhanced(("array", "tensor"), half(), value_range=(0, 1))(sample)
    assert isinstance(found["array"], np.ndarray)
    assert type(found["tensor"]) is torch.Tensor
    assert (found["array"].mean(), found["tensor"].mean(), found["label"]) == (0.5, 0.5, 3)
    assert sample["array"].mean() == 1


def test_metadata_affine_and_history_are_kept() -> None:
    affine = torch.tensor([[0, -2, 0, 7], [1.5, 0, 0, -3], [0, 0, 4, 1], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.rand(1, 5, 6, 2), affine=affine, meta={"filename_or_obj": "a.nii"})
    image.applied_operations = [{"class": "Something"}]
    found = Enhanced("image", half(), value_range=(0, 1))({"image": image})["image"]
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, affine)
    assert found.meta["filename_or_obj"] == "a.nii"
    assert found.applied_operations == [{"class": "Something"}]
    torch.testing.assert_close(found.as_tensor(), image.as_tensor() / 2)


@READS
def test_the_enhancer_sees_pictures_upright_as_monai_reads_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pipeline = Compose(
        [
            LoadImaged("image", reader="PILReader"),
            EnsureChannelFirstd("image"),
            Enhanced("image", sideways(), value_range=(0, 255)),
        ]
    )
    found = pipeline({"image": tmp_path / "a.png"})["image"]
    shifted = np.pad(pixels, ((0, 0), (1, 0)))[:, :-1]
    np.testing.assert_allclose(found.numpy()[0].T, shifted, atol=1e-3)
    np.testing.assert_allclose(sideways().enhance(pixels), shifted)


def test_images_with_the_height_first() -> None:
    image = np.random.default_rng(0).random((1, 5, 8, 2))
    found = Enhanced("image", sideways(), value_range=(0, 1), width_first=False)({"image": image})["image"]
    np.testing.assert_allclose(found, np.pad(image, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1], atol=1e-6)


@READS
def test_from_a_volume_s_file_to_a_file(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 1000, (6, 5, 3)).astype(np.int16)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nibabel.Nifti1Image(volume, affine).to_filename(tmp_path / "v.nii.gz")
    pipeline = Compose(
        [
            LoadImaged("image", reader="NibabelReader"),
            EnsureChannelFirstd("image"),
            Enhanced("image", half(), value_range=(0, 1000)),
            SaveImaged("image", output_dir=tmp_path, output_postfix="half", separate_folder=False, print_log=False),
        ]
    )
    pipeline({"image": tmp_path / "v.nii.gz"})
    written = nibabel.load(tmp_path / "v_half.nii.gz")
    np.testing.assert_allclose(written.get_fdata(), volume / 2, atol=1e-3)
    np.testing.assert_allclose(written.affine, affine)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_sequences_one_by_one(count: int) -> None:
    image = np.random.default_rng(0).random((count, 4, 4, 2), np.float32)
    found = Enhanced("image", half(), value_range=(0, 1), channels="each")({"image": image})["image"]
    np.testing.assert_allclose(found, image / 2, atol=1e-6)
    with pytest.raises(UserError, match=rf"image: expected 1 channel\(s\), which half takes, found {count}"):
        Enhanced("image", half(), value_range=(0, 1))({"image": image})


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((1, 4, 4), 300.0), r"image: expected values in value_range, 0 to 255, found 300 to 300; widen it"),
        (np.full((1, 4, 4), np.nan), "found nan to nan"),
        (np.zeros((4, 4)), r"image: expected an image of \(channels, width, height\), or .*, found \(4, 4\)"),
        (np.zeros((1, 4, 4, 0)), r"found \(1, 4, 4, 0\)"),
    ],
)
def test_what_is_no_image_for_it(image: np.ndarray, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Enhanced("image", half(), value_range=(0, 255))({"image": image})


def test_a_key_that_is_not_there() -> None:
    transform = {"model": half(), "value_range": (0, 1)}
    assert Enhanced("image", **transform, allow_missing_keys=True)({"label": 1}) == {"label": 1}
    with pytest.raises(KeyError, match="image"):
        Enhanced("image", **transform)({"label": 1})


def test_what_it_cannot_be_made_of() -> None:
    with pytest.raises(UserError, match="enlarges images 2 times"):
        Enhanced("image", Model(nn.Upsample(scale_factor=2), channels=1, scale=2), value_range=(0, 1))
    with pytest.raises(UserError, match="value_range: expected a lower and a higher value"):
        Enhanced("image", half(), value_range=(255, 0))


def test_a_pickled_transform_does_the_same() -> None:
    transform, sample = Enhanced("image", half(), value_range=(0, 1)), {"image": torch.rand(1, 5, 5)}
    assert torch.equal(pickle.loads(pickle.dumps(transform))(sample)["image"], transform(sample)["image"])
