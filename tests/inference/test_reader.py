"""What recognizers say of an array: by hand, and as evaluation has it."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from torch import Tensor, nn

from gradprom.errors import UserError
from gradprom.experiments.evaluate import evaluate_run
from gradprom.inference.load import load_recognizers
from gradprom.inference.reader import Reader, load_reader
from gradprom.training.config import Config
from gradprom.training.run import train

Trained = Callable[[str], Path]


class Mean(nn.Module):
    """Logits 0, the mean of the first channel, and twice that of the last; notes what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        means = x.mean((2, 3))
        return torch.stack([0 * means[:, 0], means[:, 0], 2 * means[:, -1]], dim=1)


class Threshold(nn.Module):
    """Class 1 above one half, class 2 above 0.8."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape[-2:]))
        grey = x[:, 0]
        return torch.stack([0 * grey, grey - 0.5, 10 * (grey - 0.8) + 0.3], dim=1)


def reader(**options: object) -> Reader:
    both = {"diagnosis": Mean(), "segmentation": Threshold()}
    names = {"classes": ["a", "b", "c"], "mask_classes": ["none", "grey", "white"]}
    return Reader(**{"recognizers": both, "channels": 1, **names, **options})


@pytest.fixture(scope="module")
def both(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two recognizers that see whole images."""
    changes = {
        "strategy": "joint",
        "diagnosis.encoder": "test_resnet",
        "training.view": "whole",
        "training.warmup.steps": "1",
        "training.cascade.steps": "2",
    }
    return train(make_config(changes), tmp_path_factory.mktemp("both") / "run")


def test_probabilities_by_hand() -> None:
    array = np.array([[0, 255], [255, 255]], np.uint8)
    found = reader().read(array).probabilities
    powers = np.exp([0, 0.75, 1.5])
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_allclose(list(found.values()), powers / powers.sum(), atol=1e-7)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


def test_a_mask_by_hand() -> None:
    array = np.array([[0.2, 0.6, 0.9], [0.5, 0.51, 1.0]])
    mask = reader().read(array).mask
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_every_kind_of_number(dtype: type, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape)
    peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    array = (values * peak).astype(dtype)
    one = reader()
    found = one.read(array)
    np.testing.assert_allclose(one._recognizers["diagnosis"].seen[0][0, 0], array.reshape(5, 7) / peak, atol=1e-6)
    assert found.mask.shape == (5, 7)


def test_grey_for_a_colour_model_is_repeated() -> None:
    one, array = reader(channels=3), np.random.default_rng(0).integers(0, 255, (4, 6), np.uint8)
    for given in (array, array / 255):
        one.read(given)
        for channel in one._recognizers["diagnosis"].seen.pop()[0]:
            np.testing.assert_allclose(channel, array / 255, atol=1e-6)


def test_colour_for_a_grey_model_is_its_luma() -> None:
    one, array = reader(), np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    luma = np.asarray(PilImage.fromarray(array).convert("L")) / 255
    for given, tolerance in ((array, 1e-6), (array / 255, 0.51 / 255)):
        one.read(given)
        np.testing.assert_allclose(one._recognizers["diagnosis"].seen.pop()[0, 0], luma, atol=tolerance)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), r"expected \(height, width\) or \(height, width, 1 or 3\), found \(2, 2, 2\)"),
        (np.zeros((2, 2, 4), np.uint8), "without opacity"),
        (np.zeros((0, 2), np.uint8), r"found \(0, 2\)"),
        (np.zeros((2, 2), np.int32), "expected uint8, uint16 or floating point"),
        (np.full((2, 2), 1.5), r"expected values in \[0, 1\], found 1\.5 to 1\.5"),
        (np.full((2, 2), np.nan), r"expected values in \[0, 1\], found nan"),
    ],
)
def test_other_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reader().read(array)


def test_one_task_alone() -> None:
    found = reader(recognizers={"diagnosis": Mean()})
    assert (found.tasks, found.mask_classes) == (("diagnosis",), ())
    assert found.read(np.zeros((4, 4), np.uint8)).mask is None
    found = reader(recognizers={"segmentation": Threshold()})
    assert (found.tasks, found.classes) == (("segmentation",), ())
    assert found.read(np.zeros((4, 4), np.uint8)).probabilities is None
    with pytest.raises(UserError, match="recognizer has no recognizer for task 'diagnosis', expected segmentation"):
        found.activation_map(np.zeros((4, 4), np.uint8), task="diagnosis")


def test_of_a_size_the_whole_is_seen_at_that_size() -> None:
    one = reader(size=16)
    array = np.zeros((40, 64), np.uint8)
    array[:, 32:] = 255
    found = one.read(array)
    assert one._recognizers["diagnosis"].seen[0].shape == (1, 1, 16, 16)
    assert found.mask.shape == (40, 64)
    # one half is white: only between the two middle pixels of the small view is the border not known
    np.testing.assert_array_equal(found.mask[:, :30], 0)
    np.testing.assert_array_equal(found.mask[:, 34:], 2)


def test_a_mask_is_enlarged_between_the_logits_not_the_classes() -> None:
    # logits that rise from left to right: their zero lies between two of the four pixels, at 1.5 + 0.25
    ramp = torch.tensor([-7.0, -3.0, 1.0, 5.0]).expand(1, 1, 4, 4)
    model = nn.Module()
    model.forward = lambda x: torch.cat([0 * ramp, ramp], dim=1)
    mask = reader(recognizers={"segmentation": model}, size=4).read(np.zeros((64, 64), np.uint8)).mask
    centres = (np.arange(64) + 0.5) / 16 - 0.5
    np.testing.assert_array_equal(mask, np.broadcast_to(centres > 1.75, (64, 64)))


def test_large_images_are_segmented_in_tiles() -> None:
    one, array = reader(recognizers={"segmentation": Threshold()}), np.random.default_rng(0).random((1100, 1500))
    mask = one.read(array).mask
    np.testing.assert_array_equal(mask, np.where(array > 0.5, np.where(10 * array - 7.7 > array - 0.5, 2, 1), 0))
    shapes = one._recognizers["segmentation"].shapes
    assert len(shapes) > 1
    assert max(max(shape) for shape in shapes) <= 1024


def test_numbers_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_full((1, 2, *x.shape[2:]), float("nan"))

    with pytest.raises(UserError, match="expected finite numbers from the recognizer"):
        reader(recognizers={"segmentation": Broken()}).read(np.zeros((4, 4), np.uint8))


def test_probabilities_are_the_softmax_of_the_run_s_recognizer(both: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    loaded, found = load_reader(both), load_reader(both).read(array)
    assert (loaded.classes, loaded.mask_classes, loaded.size) == (("a", "b"), ("background", "foreground"), 32)
    assert (loaded.channels, loaded.name) == (1, "run")
    models = load_recognizers(both)
    view = torch.from_numpy(array / np.float32(255))[None, None]
    with torch.no_grad():
        logits, pixels = (models[task](view)[0].double().numpy() for task in ("diagnosis", "segmentation"))
    np.testing.assert_allclose(list(found.probabilities.values()), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    np.testing.assert_array_equal(found.mask, pixels.argmax(axis=0))


def rows_of(folder: Path, output: Path) -> dict[str, dict[str, str]]:
    """What an evaluation read of the clean test images, by id."""
    evaluate_run(folder, output=output)
    with (output / "evaluation.csv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file) if row["method"] == "clean"}


def test_a_diagnosis_is_evaluation_s(both: Path, images: Path, tmp_path: Path) -> None:
    loaded, rows = load_reader(both), rows_of(both, tmp_path)
    assert rows
    for name, row in rows.items():
        array = np.asarray(PilImage.open(images / "images" / f"{name}.png"))
        probabilities = loaded.read(array).probabilities
        assert max(probabilities, key=probabilities.get) == row["predicted"]


def test_at_full_resolution_a_mask_is_evaluation_s(trained: Trained, images: Path, tmp_path: Path) -> None:
    folder = trained("gradprom")
    loaded, rows = load_reader(folder), rows_of(folder, tmp_path)
    assert rows
    assert (loaded.classes, loaded.size) == ((), None)
    for name, row in rows.items():
        array, truth = (np.asarray(PilImage.open(images / kind / f"{name}.png")) for kind in ("images", "masks"))
        mask = loaded.read(array).mask
        matrix = [int(((truth > 0) == t).astype(int)[mask == p].sum()) for t in (0, 1) for p in (0, 1)]
        assert " ".join(map(str, matrix)) == row["matrix"]


def test_maps_lie_on_the_array(both: Path) -> None:
    loaded, array = load_reader(both), np.random.default_rng(0).integers(0, 255, (48, 40), np.uint8)
    for task in loaded.tasks:
        for target in (None, 0, 1):
            found = loaded.activation_map(array, task=task, target=target)
            assert (found.shape, found.dtype) == ((48, 40), np.float32)
            assert found.min() >= 0
            assert found.max() <= 1
    with pytest.raises(UserError, match="target 2: expected the index of a class, 0 to 1"):
        loaded.activation_map(array, task="diagnosis", target=2)


def test_a_map_shows_where_the_class_is() -> None:
    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.AvgPool2d(8)

        def forward(self, x: Tensor) -> Tensor:
            bright = self.encoder(x).mean((1, 2, 3))
            return torch.stack([-bright, bright], dim=1)

    from gradprom import explain

    model, array = Bright(), np.zeros((2100, 1400), np.uint8)
    array[1500:1700, 300:500] = 255
    one = reader(recognizers={"diagnosis": model}, classes=["no", "yes"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "_last_feature_map", lambda recognizer, images: recognizer.encoder)
        found = one.activation_map(array, task="diagnosis", target=1)
    assert found.shape == array.shape
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 1500 <= row < 1700
    assert 300 <= column < 500
    assert found[:1400].max() == found[:, 600:].max() == 0


def test_an_image_is_read_after_a_map_that_is_being_made(both: Path) -> None:
    loaded, array = load_reader(both), np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    expected, found, waited = loaded.read(array).probabilities, [], []
    thread = threading.Thread(target=lambda: found.append(loaded.read(array).probabilities))

    def read_meanwhile(*_: object) -> None:
        if thread.ident is None:
            thread.start()
            thread.join(0.3)
            waited.append(thread.is_alive())

    loaded._recognizers["diagnosis"].normalize.register_forward_hook(read_meanwhile)
    loaded.activation_map(array, task="diagnosis", target=1)
    thread.join()
    assert waited == [True]
    assert found == [expected]


def test_a_run_without_a_recognizer(trained: Trained) -> None:
    with pytest.raises(UserError, match="was trained with strategy enhancer_only, which has no recognizer"):
        load_reader(trained("enhancer_only"))


def test_a_device_that_is_not_there(both: Path) -> None:
    with pytest.raises(UserError, match="device 'nonsense' cannot be used"):
        load_reader(both, device="nonsense")
