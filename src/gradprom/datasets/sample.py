"""What a sample is, and what a dataset gives to the rest of the house."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it; pixels are read only when asked for.

    Attributes:
        id: unique within its dataset; names files and seeds the sample's random numbers.
        read_image: gives the image as (height, width, channels), uint8 or uint16, channels 1 or 3.
        read_mask: gives the class of each pixel as (height, width) uint8, or None where there is no mask.
        label: index into the dataset's ``classes``, or None.
        group: the patient, or whatever else must not be split between training and test; None: the sample alone.
        files: all that the sample is made of, each where it ought to be, whether it is there or not.
    """

    id: str
    read_image: Callable[[], NDArray[np.uint8] | NDArray[np.uint16]]
    read_mask: Callable[[], NDArray[np.uint8]] | None = None
    label: int | None = None
    group: str | None = None
    files: tuple[Path, ...] = ()

    def missing(self) -> list[Path]:
        """Those of ``files`` that are not there."""
        return [path for path in self.files if not path.is_file()]


@dataclass(frozen=True)
class Dataset:
    """A dataset split into training and test samples.

    Attributes:
        name: as in the configuration.
        channels: 1 (grey) or 3 (colour); every image of the dataset is brought to this number.
        train: samples to learn from; validation images are taken out of them by the training room.
        test: samples to measure on.
        classes: names of the diagnoses, empty when images have no labels.
        mask_classes: names of the pixel classes, empty when images have no masks; the first is the background.
    """

    name: str
    channels: int
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    classes: tuple[str, ...] = field(default=())
    mask_classes: tuple[str, ...] = field(default=())
