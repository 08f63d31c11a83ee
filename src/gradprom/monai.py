"""An enhancer as a dictionary transform of MONAI; needs ``pip install "gradprom[monai]"``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray

from gradprom.errors import UserError
from gradprom.inference.model import Channels, Model
from gradprom.transforms import as_model


class Enhanced(MapTransform):  # type: ignore[misc]
    """Enhance the images of a dictionary: pictures, and volumes slice by slice across their last axis.

    Values are mapped from ``value_range`` to [0, 1], enhanced, and mapped back; integers are rounded. Type, device and
    metadata, the affine among them, stay as they are. No gradients are kept.

    Args:
        keys: of the images, each (C, W, H) or (C, W, H, D), an array or a tensor.
        model: an enhancer that does not enlarge, a run folder, the name of a shipped model, or an exported ONNX file.
        value_range: the values that are black and white: (0, 255) for 8 bits, for a CT (-1024, 3071) or what it was
            cut off to by ``ScaleIntensityRanged``.
        channels: ``each`` enhances channel by channel what has other channels than the model: the sequences of an MR
            examination, for instance.
        width_first: as MONAI's readers give images; false for images of shape (C, H, W) or (C, H, W, D). The enhancer
            is shown them upright.
        tile: as in :meth:`gradprom.inference.model.Model.enhance`, in pixels.
        allow_missing_keys: pass dictionaries over that lack a key.

    Raises:
        UserError: the model enlarges images, or the range is empty; when called: an image of another shape, channels
            that do not go with the model, or values outside ``value_range``.

    Example:
        >>> model = Model(torch.nn.Identity(), channels=1)
        >>> transform = Enhanced("image", model, value_range=(-1024, 3071))
        >>> transform({"image": np.full((1, 8, 6, 2), -1000, np.int16)})["image"].mean()
        np.float64(-1000.0)
    """

    backend = (TransformBackends.NUMPY, TransformBackends.TORCH)

    def __init__(
        self,
        keys: KeysCollection,
        model: Model | str | Path,
        *,
        value_range: tuple[float, float],
        channels: Channels = "match",
        width_first: bool = True,
        tile: int = 1024,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.model = as_model(model)
        self.low, self.high = map(float, value_range)
        self.channels = channels
        self.width_first = width_first
        self.tile = tile
        if not self.low < self.high:
            raise UserError(f"value_range: expected a lower and a higher value, found {value_range}; give both")
        if self.model.scale != 1:
            raise UserError(
                f"{self.model.name} enlarges images {self.model.scale} times, after which their metadata would be "
                "wrong; take a model that keeps the size"
            )

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Enhance the images of one sample."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._enhanced(key, result[key])
        return result

    def _enhanced(self, key: Hashable, image: NdarrayOrTensor) -> NdarrayOrTensor:
        values = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        if values.ndim not in (3, 4) or 0 in values.shape:
            raise UserError(
                f"{key}: expected an image of (channels, width, height), or a volume with a depth after them, found "
                f"{values.shape}; EnsureChannelFirstd gives them channels"
            )
        least, greatest = values.min(), values.max()
        if not (least >= self.low and greatest <= self.high):  # written so that it refuses nan as well
            raise UserError(
                f"{key}: expected values in value_range, {self.low:g} to {self.high:g}, found {least:g} to "
                f"{greatest:g}; widen it, or cut off what is beyond by ScaleIntensityRanged(clip=True) before"
            )
        unit = ((values.astype(np.float64) - self.low) / (self.high - self.low)).astype(np.float32)
        slices = unit if unit.ndim == 4 else unit[..., np.newaxis]
        planes = [self._plane(key, slices[..., index]) for index in range(slices.shape[-1])]
        enhanced = np.stack(planes, axis=-1).reshape(unit.shape).astype(np.float64) * (self.high - self.low) + self.low
        if not np.issubdtype(values.dtype, np.floating):
            enhanced = enhanced.round()
        result, *_ = convert_to_dst_type(enhanced.astype(values.dtype), image)
        if isinstance(image, MetaTensor):
            result.copy_meta_from(image)
        return result

    def _plane(self, key: Hashable, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels first and last, for a network that is shown the height first."""
        axes = (2, 1, 0) if self.width_first else (1, 2, 0)
        upright = plane.transpose(axes)
        given, taken = upright.shape[2], self.model.channels
        if given != taken and self.channels != "each":
            raise UserError(
                f"{key}: expected {taken} channel(s), which {self.model.name} takes, found {given}; give another "
                "model, or channels='each'"
            )
        # by itself, each of them: two together would be taken for grey and opacity
        parts = [upright] if given == taken else np.split(upright, given, axis=2)
        enhanced = np.concatenate(
            [self.model.enhance(part, channels=self.channels, tile=self.tile) for part in parts], axis=2
        )
        return enhanced.transpose(np.argsort(axes))
