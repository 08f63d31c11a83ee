"""Embedded: slices of a T1 brain template with grey and white matter masks; needs no download.

The MNI152 template (ICBM 2009a, symmetric) at 1 mm lies in nilearn's wheel. Fonov et al., "Unbiased average
age-appropriate brain templates from birth to adulthood", NeuroImage 47, S102 (2009).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from gradprom.datasets.sample import Dataset, Sample

# Heights in millimetres (MNI z). Neighbouring slices are nearly the same image, so a gap keeps train and test apart;
# the test slab lies in the middle, where the brain looks neither like its base nor like its top.
TEST_SLAB = (20, 40)
GAP = 8
MIN_BRAIN = 0.1  # share of a slice's pixels that must be grey or white matter


def load_brain_mr(*, channels: int | None = None) -> Dataset:
    """Axial slices, 1 mm apart, (233, 197, 1) uint8, with masks (background, grey matter, white matter).

    Slices from 20 to 40 mm are tested on, those more than 8 mm above or below are trained on, and slices with less than
    a tenth of brain are left out. There are no diagnoses.

    Example:
        >>> dataset = load_brain_mr()
        >>> len(dataset.train), len(dataset.test), dataset.test[0].read_image().shape
        (82, 21, (233, 197, 1))
    """
    train, test = _slices()
    return Dataset(
        name="brain_mr",
        channels=channels or 1,
        train=train,
        test=test,
        mask_classes=("background", "grey matter", "white matter"),
    )


@functools.cache
def _slices() -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    # slow to import, and of all datasets only this one needs it
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    template = load_mni152_template(resolution=1)
    lowest = int(template.affine[2, 3])
    intensity = np.rint(np.asarray(template.dataobj) * 255).astype(np.uint8)
    grey = np.asarray(load_mni152_gm_template(resolution=1).dataobj)
    white = np.asarray(load_mni152_wm_template(resolution=1).dataobj)
    tissue = np.argmax(np.stack([1 - grey - white, grey, white]), axis=0).astype(np.uint8)

    train, test = [], []
    for index in range(intensity.shape[2]):
        height = lowest + index
        if (tissue[:, :, index] > 0).mean() < MIN_BRAIN:
            continue
        sample = Sample(
            id=f"z{height:+04d}",
            read_image=functools.partial(_upright, intensity[:, :, index, None]),
            read_mask=functools.partial(_upright, tissue[:, :, index]),
        )
        if TEST_SLAB[0] <= height <= TEST_SLAB[1]:
            test.append(sample)
        elif not TEST_SLAB[0] - GAP <= height <= TEST_SLAB[1] + GAP:
            train.append(sample)
    return tuple(train), tuple(test)


def _upright(axial: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """From (left to right, back to front) to rows and columns, the front of the head on top."""
    return np.ascontiguousarray(np.rot90(axial))
