"""What a NIfTI header says of its voxels' size and places, for slices of more of them on the same ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.images.image import UnreadableError


def enlarge(header: Any, axes: Sequence[int], scale: int) -> None:
    """Say of a header of nibabel's, in place, that there are ``scale`` times as many voxels along the axes of a slice.

    Args:
        header: of NIfTI-1 or NIfTI-2.
        axes: of a slice.
        scale: by how much it is enlarged.

    Raises:
        UnreadableError: more than the format can count.
    """
    most, longest = np.iinfo(header["dim"].dtype).max, max(int(header["dim"][axis + 1]) for axis in axes) * scale
    if longest > most:
        raise UnreadableError(
            f"expected at most {most} voxels along an axis of the enlarged volume, found {longest}; convert it to "
            "NIfTI-2, or take a model that enlarges less"
        )
    # an affine tells where the middle of a voxel lies: that of the first one moves towards the volume's corner
    shift = np.array([(1 / scale - 1) / 2 if axis in axes else 0.0 for axis in range(3)])
    if header["qform_code"] > 0:
        moved = _rotation(header) @ (shift * np.abs(header["pixdim"][1:4]))
        for name, by in zip(("qoffset_x", "qoffset_y", "qoffset_z"), moved, strict=True):
            header[name] += by
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name][3] += header[name][:3] @ shift
        header[name][list(axes)] /= scale
    for axis in axes:
        header["dim"][axis + 1] *= scale
        header["pixdim"][axis + 1] /= scale
    if (int(header["dim_info"]) >> 4 & 3) - 1 in axes:  # what was acquired one by one are no voxels any more
        for name in ("slice_start", "slice_end", "slice_code", "slice_duration"):
            header[name] = 0


def _rotation(header: Any) -> NDArray[np.float64]:
    """Where the axes of a volume point to by its quaternion; nibabel's own refuses what is off by a last digit."""
    from nibabel.quaternions import quat2mat

    vector = np.array([float(header[f"quatern_{letter}"]) for letter in "bcd"])
    rotation: NDArray[np.float64] = quat2mat([np.sqrt(max(0.0, 1 - vector @ vector)), *vector])
    if header["pixdim"][0] < 0:
        rotation[:, 2] *= -1
    return rotation
