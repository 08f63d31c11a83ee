"""The enhancer as a transform of torchvision."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from gradprom.errors import UserError
from gradprom.inference.model import Model
from gradprom.transforms import Enhance


def half(channels: int = 1) -> Model:
    """Halves every value; its weights are real ones."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(0.5 * torch.eye(channels)[:, :, None, None])
    return Model(conv, channels=channels, name="half", precision="float32")


@pytest.mark.parametrize("shape", [(1, 5, 7), (4, 1, 5, 7), (2, 3, 1, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_any_leading_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = torch.rand(shape).to(dtype)
    enhanced = Enhance(half())(image)
    assert enhanced.dtype == dtype
    torch.testing.assert_close(enhanced, image / 2)


def test_integers_are_rounded() -> None:
    image = torch.tensor([[[0, 10, 255], [1, 3, 100]]], dtype=torch.uint8)
    enhanced = Enhance(half())(image)
    assert enhanced.dtype == torch.uint8
    assert (enhanced.float() - image / 2).abs().max() <= 0.5


def test_no_gradient_is_kept_and_the_image_stays() -> None:
    image = torch.rand(1, 4, 4, requires_grad=True)
    kept = image.detach().clone()
    enhanced = Enhance(half())(image)
    assert not enhanced.requires_grad
    assert not enhanced.is_inference()
    assert torch.equal(image, kept)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3)])
def test_pictures_stay_pictures(mode: str, channels: int) -> None:
    rng, bands = np.random.default_rng(0), {"L": (), "LA": (2,), "I;16": (), "RGB": (3,), "RGBA": (4,)}[mode]
    kind = np.uint16 if mode == "I;16" else np.uint8
    pixels = rng.integers(0, np.iinfo(kind).max, (6, 9, *bands), dtype=kind)
    enhanced = Enhance(half(channels))(PIL.Image.fromarray(pixels))
    assert (enhanced.mode, enhanced.size) == (mode, (9, 6))
    expected = pixels / 2.0
    if mode in ("LA", "RGBA"):  # opacity is not enhanced
        expected[..., -1] = pixels[..., -1]
    assert np.abs(np.asarray(enhanced) - expected).max() <= 0.5


def test_of_a_sample_only_images_are_enhanced() -> None:
    image, video = tv_tensors.Image(torch.rand(1, 6, 8)), tv_tensors.Video(torch.rand(2, 1, 6, 8))
    mask = tv_tensors.Mask(torch.ones(1, 6, 8, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0, 0, 3, 3]]), format="XYXY", canvas_size=(6, 8))
    found = Enhance(half())({"image": image, "video": video, "mask": mask, "boxes": boxes, "label": 3, "name": "a"})
    assert isinstance(found["image"], tv_tensors.Image)
    torch.testing.assert_close(found["image"].as_subclass(torch.Tensor), image.as_subclass(torch.Tensor) / 2)
    torch.testing.assert_close(found["video"].as_subclass(torch.Tensor), video.as_subclass(torch.Tensor) / 2)
    assert (found["mask"] is mask, found["boxes"] is boxes, found["label"], found["name"]) == (True, True, 3, "a")


def test_in_a_pipeline_of_torchvision() -> None:
    pipeline = v2.Compose([v2.ToImage(), Enhance(half()), v2.ToDtype(torch.float32, scale=True), v2.Resize((3, 4))])
    picture = PIL.Image.new("L", (8, 6), 200)
    torch.testing.assert_close(pipeline(picture).as_subclass(torch.Tensor), torch.full((1, 3, 4), 100 / 255))
    assert "Enhance('half', channels='match', tile=1024)" in repr(pipeline)


def test_a_larger_image_from_a_model_that_enlarges() -> None:
    model = Model(nn.Upsample(scale_factor=2), channels=1, scale=2)
    assert Enhance(model)(torch.rand(3, 1, 4, 5)).shape == (3, 1, 8, 10)
    assert Enhance(model)(PIL.Image.new("L", (5, 4))).size == (10, 8)


def test_a_grey_model_channel_by_channel() -> None:
    image = torch.rand(3, 4, 4)
    torch.testing.assert_close(Enhance(half(), channels="each")(image), image / 2)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.rand(4, 4), r"expected a tensor of shape \(\.\.\., channels, height, width\), found \(4, 4\)"),
        (torch.rand(0, 1, 4, 4), r"found \(0, 1, 4, 4\)"),
        (torch.full((1, 4, 4), 2.0), r"expected values in \[0, 1\], found 2 to 2"),
        (torch.rand(3, 4, 4), "half is a grey model, expected a grey image, found a colour one"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), "expected uint8, uint16 or floating point"),
        (PIL.Image.new("P", (4, 4)), r"expected a PIL image in mode L, .*, found P: convert it"),
        (PIL.Image.new("1", (4, 4)), "found 1: convert it"),
    ],
)
def test_what_is_no_image_for_it(image: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Enhance(half())(image)


@pytest.mark.parametrize("sample", [np.zeros((4, 4)), {"label": 3}, "a.png"])
def test_a_sample_without_an_image_does_not_pass_unchanged(sample: object) -> None:
    with pytest.raises(TypeError, match="expected a tensor or a PIL image, found "):
        Enhance(half())(sample)


def test_a_pickled_transform_does_the_same() -> None:
    image, enhance = torch.rand(1, 5, 5), Enhance(half())
    assert torch.equal(pickle.loads(pickle.dumps(enhance))(image), enhance(image))


def test_transforms_share_a_model_and_workers_its_memory() -> None:
    model = half()
    first, second = Enhance(model), Enhance(model, tile=64)
    assert first.model is second.model is model
    images = list(torch.rand(3, 1, 6, 6))
    loader = DataLoader(images, batch_size=None, collate_fn=first, num_workers=1, multiprocessing_context="spawn")
    for image, enhanced in zip(images, loader, strict=True):
        torch.testing.assert_close(enhanced, image / 2)
    assert model.enhancer.weight.is_shared()


def test_a_run_folder_by_its_path(trained: object, tmp_path: Path) -> None:
    folder = trained("enhancer_only")  # type: ignore[operator]
    enhance, image = Enhance(folder), torch.rand(1, 9, 7)
    with torch.no_grad():
        expected = enhance.model.enhancer(image[None])[0].clamp(0, 1)
    torch.testing.assert_close(enhance(image), expected)
    with pytest.raises(UserError, match="is not a run folder"):
        Enhance(tmp_path)
