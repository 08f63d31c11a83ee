"""An enhancer as a transform of torchvision, for datasets and pipelines; that of MONAI is in ``gradprom.monai``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from gradprom.errors import UserError
from gradprom.inference.model import Channels, Model

# others hold indices, inks or numbers without a range
_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


def as_model(model: Model | str | Path) -> Model:
    """The model itself, or what :func:`gradprom.load` takes: a run folder, a shipped model's name, an ONNX file.

    Raises:
        UserError: there is no such run folder or shipped model.
    """
    if isinstance(model, Model):
        return model
    from gradprom.inference.load import load

    return load(model)


class Enhance(v2.Transform):  # type: ignore[misc]
    """Enhance images, alone or within a sample, as a transform of ``torchvision.transforms.v2``.

    Of a sample (a tuple or a dictionary), images are enhanced and the rest is passed on: masks, boxes, labels. No
    gradients are kept. Two transforms made from one ``Model`` share it, and where worker processes are spawned,
    PyTorch shares its weights with them.

    Args:
        model: an enhancer, a run folder, the name of a shipped model, or an exported ONNX file.
        channels: as in :meth:`gradprom.inference.model.Model.enhance`: ``each`` enhances grey images by a colour model
            and colour images by a grey one, channel by channel.
        tile: as there, in pixels.

    Raises:
        UserError: when called: an image that is neither a tensor of shape (..., C, H, W), of uint8, uint16 or floating
            point in [0, 1], nor a PIL image in mode L, LA, RGB, RGBA or I;16; or one that does not go with the model.
        TypeError: when called without an image.

    Returns:
        The same kind of image: type, device, leading dimensions, mode; ``scale`` times as large.

    Example:
        >>> enhance = Enhance(Model(torch.nn.Identity(), channels=1))
        >>> enhance(torch.full((5, 1, 8, 8), 7, dtype=torch.uint8)).unique()
        tensor([7], dtype=torch.uint8)
        >>> pipeline = v2.Compose([enhance, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        >>> pipeline(PIL.Image.new("L", (8, 6), 255)).shape
        torch.Size([1, 6, 8])
    """

    def __init__(self, model: Model | str | Path, *, channels: Channels = "match", tile: int = 1024) -> None:
        super().__init__()
        self.model = as_model(model)
        self.channels = channels
        self.tile = tile

    def extra_repr(self) -> str:
        """What is shown between the brackets of the representation."""
        return f"{self.model.name!r}, channels={self.channels!r}, tile={self.tile}"

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse a sample without an image, which would pass through unchanged otherwise."""
        if not any(_is_image(value) for value in flat_inputs):
            found = ", ".join(sorted({type(value).__name__ for value in flat_inputs})) or "nothing"
            raise TypeError(f"expected a tensor or a PIL image, found {found}: convert it, by v2.ToImage for instance")

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Enhance one part of a sample if it is an image."""
        if isinstance(inpt, PIL.Image.Image):
            return self._picture(inpt)
        if not _is_image(inpt):
            return inpt
        return tv_tensors.wrap(self._tensor(inpt.as_subclass(Tensor)), like=inpt)

    def _picture(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        if picture.mode not in _MODES:
            raise UserError(
                f"expected a PIL image in mode {', '.join(_MODES)}, found {picture.mode}: convert it, "
                "by convert('L') or convert('RGB')"
            )
        return PIL.Image.fromarray(self._array(np.asarray(picture)))

    def _tensor(self, images: Tensor) -> Tensor:
        if images.ndim < 3 or 0 in images.shape:
            raise UserError(
                f"expected a tensor of shape (..., channels, height, width), found {tuple(images.shape)}: give it the "
                "dimensions that it lacks"
            )
        values = images.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not have
        flat = values.reshape(-1, *values.shape[-3:]).permute(0, 2, 3, 1).numpy()
        enhanced = torch.from_numpy(np.stack([self._array(image) for image in flat])).permute(0, 3, 1, 2)
        return enhanced.reshape(*images.shape[:-2], *enhanced.shape[-2:]).to(images)

    def _array(self, image: np.typing.NDArray[Any]) -> np.typing.NDArray[Any]:
        return self.model.enhance(image, channels=self.channels, tile=self.tile)


def _is_image(value: Any) -> bool:
    """Masks and boxes are tensors, too, of types of their own."""
    image_types = (PIL.Image.Image, tv_tensors.Image, tv_tensors.Video)
    return isinstance(value, image_types) or (isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor))
