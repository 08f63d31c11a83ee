"""Bad input, each kind through the command line: one clear sentence, nothing half-written, nothing executed."""

from __future__ import annotations

import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradprom import cli

Options = Callable[..., list[str]]
Trained = Callable[[str], Path]


@dataclass
class Place:
    """What a case may use: a dataset and runs of its own, and a folder ``out`` that is not there yet."""

    folder: Path
    data: Path
    options: Options
    trained: Trained

    @property
    def out(self) -> str:
        return str(self.folder / "out")

    def run(self, strategy: str = "enhancer_only") -> Path:
        return Path(shutil.copytree(self.trained(strategy), self.folder / "run"))

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def image(self, name: str, height: int, width: int, grey: int = 100) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width), grey, np.uint8)).save(path)
        return str(path)

    def train(self, text: str | None = None, **changes: object) -> list[str]:
        """Words for a training on ``data``, with a configuration file of ``text``."""
        config = [] if text is None else ["--config", self.file("config.yaml", text)]
        return ["train", *self.options({"dataset.root": self.data, **changes}), *config, "-o", self.out]


Case = Callable[[Place], list[str]]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int = 20_000) -> bytes:
    """A valid black PNG, one bit a pixel, deflated row by row."""
    deflate = zlib.compressobj()
    rows = b"".join(deflate.compress(bytes(1 + side // 8)) for _ in range(side)) + deflate.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def missing_mask(place: Place) -> list[str]:
    (place.data / "masks" / "i03.png").unlink()
    return place.train()


def no_masks(place: Place) -> list[str]:
    shutil.rmtree(place.data / "masks")
    return place.train()


def truncated_jpeg(place: Place) -> list[str]:
    path = place.data / "images" / "i03.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])
    return place.train()


def truncated_jpeg_to_enhance(place: Place) -> list[str]:
    run, noisy = place.run(), place.folder / "noisy"
    for name in ("good", "bad"):
        place.image(f"noisy/{name}.jpg", 20, 30)
    whole = (noisy / "bad.jpg").read_bytes()
    (noisy / "bad.jpg").write_bytes(whole[: len(whole) // 2])
    return ["enhance", str(run), str(noisy), "-o", place.out]


def empty_dataset(place: Place) -> list[str]:
    shutil.rmtree(place.data / "images")
    (place.data / "images").mkdir()
    return place.train()


def empty_folder_to_enhance(place: Place) -> list[str]:
    (place.folder / "empty").mkdir()
    return ["enhance", str(place.run()), str(place.folder / "empty"), "-o", place.out]


def one_pixel(place: Place) -> list[str]:
    for name in ("images", "masks"):
        place.image(f"own_images/{name}/i03.png", 1, 1, grey=0)
    return place.train()


def other_mask_size(place: Place) -> list[str]:
    place.image("own_images/masks/i03.png", 40, 47, grey=0)
    return place.train()


def labels_name_a_missing_file(place: Place) -> list[str]:
    (place.data / "labels.csv").write_text("image,label\nnowhere,a\n")
    return place.train()


def huge_image_to_enhance(place: Place) -> list[str]:
    return ["enhance", str(place.run()), place.file("huge.png", huge_png()), "-o", place.out]


def huge_image_beside_another(place: Place) -> list[str]:
    place.file("noisy/huge.png", huge_png())
    place.image("noisy/good.png", 20, 30)
    return ["enhance", str(place.run()), str(place.folder / "noisy"), "-o", place.out]


def huge_image_to_train_on(place: Place) -> list[str]:
    place.file("own_images/images/i03.png", huge_png())
    return place.train()


def colour_for_a_grey_model(place: Place) -> list[str]:
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(place.folder / "colour.png")
    return ["enhance", str(place.run()), str(place.folder / "colour.png"), "-o", place.out]


def without_weights(place: Place) -> list[str]:
    run = place.run()
    (run / "enhancer.safetensors").unlink()
    return ["enhance", str(run), place.image("a.png", 20, 20), "-o", place.out]


def evaluate_without_weights(place: Place) -> list[str]:
    run = place.run("gradprom")
    (run / "recognizer.safetensors").unlink()
    return ["evaluate", str(run), "-o", place.out]


def report_without_weights(place: Place) -> list[str]:
    run = place.run()
    (run / "enhancer.safetensors").unlink()
    return ["report", str(run), "-o", f"{place.out}/report.html"]


def evil_checkpoint(place: Place) -> list[str]:
    run = place.run()
    torch.save({"stage": 0, "step": 0, "models": Touch(place.folder / "executed")}, run / "checkpoint.pt")
    return ["train", "--resume", str(run)]


def evil_pickle(place: Place) -> list[str]:
    run = place.run()
    (run / "checkpoint.pt").write_bytes(pickle.dumps(Touch(place.folder / "executed")))
    return ["train", "--resume", str(run)]


def evil_weights(place: Place) -> list[str]:
    run = place.run()
    (run / "enhancer.safetensors").write_bytes(pickle.dumps(Touch(place.folder / "executed")))
    return ["enhance", str(run), place.image("a.png", 20, 20), "-o", place.out]


def evil_pretrained(place: Place) -> list[str]:
    torch.save(Touch(place.folder / "executed"), place.folder / "weights.pt")
    return place.train(**{"enhancer.pretrained": place.folder / "weights.pt"})


def evil_yaml(place: Place) -> list[str]:
    return place.train(f"dataset: !!python/object/apply:pathlib.Path.touch [{place.folder / 'executed'}]\n")


def dataset_within_a_file(place: Place) -> list[str]:
    return place.train(**{"dataset.root": place.file("file", "x")})


# what is done, the exit code, what the sentence says, and what is written all the same
CASES: dict[str, tuple[Case, int, str, set[str]]] = {
    "unknown key": (lambda p: p.train("nonsense: 1"), 2, "no option 'nonsense'", set()),
    "unknown nested key": (lambda p: p.train("training: {sice: 1}"), 2, "no option 'training.sice'", set()),
    "wrong type": (lambda p: p.train("training: {seed: x}"), 2, r"training\.seed: expected a whole number", set()),
    "no yaml": (lambda p: p.train("a: ["), 2, "Problems parsing config", set()),
    "evil yaml": (evil_yaml, 2, "could not determine a constructor", set()),
    "negative sigma": (lambda p: p.train(degradation="gaussian -1"), 2, r"gaussian has sigma -1", set()),
    "contradiction": (lambda p: p.train(**{"diagnosis.encoder": "a"}), 2, r"needs training\.view whole", set()),
    "no root": (lambda p: p.train(**{"dataset.root": None}), 2, "dataset folder needs a root", set()),
    "missing root": (lambda p: p.train(**{"dataset.root": "/nowhere"}), 2, "/nowhere/images: no such folder", set()),
    "a file as root": (dataset_within_a_file, 2, r"file/images: no such folder", set()),
    "missing mask": (missing_mask, 2, r"masks/i03\.png: expected all files of each image", set()),
    "no masks": (no_masks, 2, "'folder' has no masks", set()),
    "truncated JPEG": (truncated_jpeg, 2, r"i03\.jpg", set()),
    "truncated JPEG to enhance": (
        truncated_jpeg_to_enhance,
        1,
        r"1 of 2 images could not be enhanced.*bad\.jpg",
        {"out", "out/good.jpg"},
    ),
    "empty dataset": (empty_dataset, 2, "images: expected files ending in", set()),
    "empty folder to enhance": (empty_folder_to_enhance, 2, "empty: expected images", set()),
    "image of one pixel": (one_pixel, 2, r"i03\.png: expected at least 11 pixels .*found 1 x 1", set()),
    "mask of another size": (other_mask_size, 2, r"masks/i03\.png: expected 48 x 40 pixels", set()),
    "labels for a missing file": (labels_name_a_missing_file, 2, r"labels\.csv: .*found 'nowhere'", set()),
    "huge PNG": (huge_image_to_enhance, 2, r"huge\.png: .*100,?000,?000.*--max-pixels", set()),
    "huge PNG beside another": (
        huge_image_beside_another,
        1,
        r"huge\.png: .*--max-pixels",
        {"out", "out/good.png"},
    ),
    "huge PNG to train on": (huge_image_to_train_on, 2, r"i03\.png: .*100,?000,?000.*dataset\.max_pixels", set()),
    "colour for a grey model": (colour_for_a_grey_model, 2, r"colour\.png.*--channels each", set()),
    "too few images": (
        lambda p: p.train(**{"dataset.validation_images": 10}),
        2,
        "has 10 training images, of which dataset.validation_images holds out 10",
        set(),
    ),
    "unknown encoder": (lambda p: p.train(**{"segmentation.encoder": "best"}), 2, "encoder 'best' is not known", set()),
    "missing pretrained": (lambda p: p.train(**{"enhancer.pretrained": "/no.pt"}), 2, r"/no\.pt: no such file", set()),
    "evil pretrained": (evil_pretrained, 2, r"weights\.pt: .*holds other things than tensors", set()),
    "no run": (lambda p: ["enhance", "/nowhere", "a.png", "-o", p.out], 2, "/nowhere: is not a run folder", set()),
    "no weights": (without_weights, 2, r"has no enhancer\.safetensors", set()),
    "no weights to evaluate": (evaluate_without_weights, 2, r"has no segmentation\.safetensors", set()),
    "no weights to report": (report_without_weights, 2, r"has no enhancer\.safetensors", set()),
    "evil checkpoint": (evil_checkpoint, 2, r"checkpoint\.pt: .*holds other things than tensors", set()),
    "pickle as checkpoint": (evil_pickle, 2, r"checkpoint\.pt: ", set()),
    "pickle as weights": (evil_weights, 2, r"enhancer\.safetensors: is damaged", set()),
}


def below(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder)), path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("name", CASES)
def test_bad_input(
    name: str,
    tmp_path: Path,
    own_images: Path,
    options: Options,
    trained: Trained,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case, code, sentence, written = CASES[name]
    words = case(Place(tmp_path, own_images, options, trained))
    before = dict(below(tmp_path))
    capsys.readouterr()

    assert cli.main(words) == code

    output = capsys.readouterr()
    assert output.out == ""
    # progress may be shown first; of what was wrong there is one sentence, and a line for each file that failed
    told = output.err[output.err.index("gradprom: ") :]
    assert re.search(sentence, told, re.DOTALL), told
    assert told.count("\n") == (1 if code == 2 else 2)
    assert "Traceback" not in output.err
    after = dict(below(tmp_path))
    assert after.keys() - before.keys() == written
    assert {name: after.get(name) for name in before} == before


def test_a_huge_image_is_enhanced_once_the_limit_is_raised(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(huge_png(320))
    words = ["enhance", str(trained("enhancer_only")), str(tmp_path / "in.png"), "--max-pixels"]
    assert cli.main([*words, "102399", "-o", str(tmp_path / "out")]) == 2
    assert cli.main([*words, "102400", "-o", str(tmp_path / "out")]) == 0
