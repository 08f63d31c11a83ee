"""Small datasets on disk, and the place of the real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def colour(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Build ROOT/images/a.png..., and by wish masks and labels.csv."""

    def make(
        count: int = 10,
        *,
        part: str = "",
        grey: bool = False,
        mask_values: list[int] | None = None,
        labels: list[str] | None = None,
    ) -> Path:
        root = tmp_path / "root"
        names = "abcdefghijklmnopqrstuvwxyz"[:count]
        for index, name in enumerate(names):
            pixels = colour(index)
            save(root / part / "images" / f"{name}.png", pixels[..., 0] if grey else pixels)
            if mask_values is not None:
                drawn = np.random.default_rng(index).choice(mask_values, (20, 30)).astype(np.uint8)
                save(root / part / "masks" / f"{name}.png", drawn)
        if labels is not None:
            lines = [f"{name}.png,{label}" for name, label in zip(names, labels, strict=True)]
            (root / part / "labels.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
        return root

    return make


@pytest.fixture
def make_isic(tmp_path: Path) -> Callable[..., Path]:
    def make(diagnoses: list[str] | None = None, count: int = 10, column: str = "isic_id") -> Path:
        root = tmp_path / "isic"
        names = [f"ISIC_{index:07d}" for index in range(count)]
        for index, name in enumerate(names):
            save(root / "ISIC2018_Task1-2_Training_Input" / f"{name}.jpg", colour(index))
            mask = np.zeros((20, 30), np.uint8)
            mask[5:10, 5 : 6 + index] = 255
            save(root / "ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png", mask)
        if diagnoses is not None:
            lines = [f"{name},{diagnosis}" for name, diagnosis in zip(names, diagnoses, strict=True)]
            (root / "metadata.csv").write_text("\n".join([f"{column},diagnosis", *lines]), encoding="utf-8")
        return root

    return make


@pytest.fixture
def real_isic() -> Path:
    given = os.environ.get("GRADPROM_DATA")
    root = (Path(given) if given else Path(__file__).parents[3] / "shared" / "data") / "isic2018"
    if not root.is_dir():
        pytest.skip(f"needs the real ISIC images in {root}: set GRADPROM_DATA to the folder that holds isic2018")
    return root
