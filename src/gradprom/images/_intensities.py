"""Stored values to [0, 1] and back, so that they keep their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def repeated(array: NDArray[Any], scale: int) -> NDArray[Any]:
    """Each pixel of an array (H, W, ...) as a block of ``scale`` by ``scale`` of them.

    Example:
        >>> repeated(np.array([[1, 2]]), 2)
        array([[1, 1, 2, 2],
               [1, 1, 2, 2]])
    """
    return array if scale == 1 else array.repeat(scale, 0).repeat(scale, 1)


@dataclass(frozen=True)
class Intensities:
    """An affine map of stored values to [0, 1].

    What the enhancer changes is added to the stored value. So a value comes back exactly where nothing changed, however
    many bits it has, and values outside of the range are shown to the enhancer as its ends but are not cut off.

    Attributes:
        black: the stored value that becomes 0.
        white: the stored value that becomes 1; below ``black`` where low values are shown bright.

    Example:
        >>> hounsfield = Intensities(black=-1000, white=1000)
        >>> values = np.array([-1000, 0, 3000], np.int16)
        >>> unit = hounsfield.to_unit(values)
        >>> unit
        array([0. , 0.5, 1. ], dtype=float32)
        >>> hounsfield.changed(values, unit + np.float32(0.25), -32768, 32767)
        array([-500,  500, 3500], dtype=int16)
    """

    black: float
    white: float

    def to_unit(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Stored values of any shape as float32 in [0, 1]; 0 everywhere where ``black`` equals ``white``."""
        extent = float(self.white) - float(self.black)
        if extent == 0:
            return np.zeros(values.shape, np.float32)
        with np.errstate(over="ignore"):  # of an extent next to nothing, and clipped below
            unit: NDArray[np.float64] = (values.astype(np.float64) - self.black) / extent
        return unit.clip(0, 1).astype(np.float32)

    def changed(
        self, values: NDArray[Any], enhanced: NDArray[np.float32], low: float = -np.inf, high: float = np.inf
    ) -> NDArray[Any]:
        """Stored values as the enhancer left them.

        Args:
            values: as they were stored, whole numbers up to 2⁵³ in size, or floating point.
            enhanced: what the enhancer made of ``to_unit(values)``, of the same shape.
            low: the least that can be stored.
            high: the most that can be stored.

        Returns:
            An array like ``values``, rounded if of whole numbers, and cut off at ``low`` and ``high``.
        """
        extent = float(self.white) - float(self.black)
        change = (enhanced.astype(np.float64) - self.to_unit(values)) * extent
        result: NDArray[Any] = values + (np.rint(change) if values.dtype.kind in "iu" else change)
        return result.clip(low, high).astype(values.dtype)
