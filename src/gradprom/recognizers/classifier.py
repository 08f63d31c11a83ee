"""Classifiers: any model of timm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gradprom._padding import pad_to_least
from gradprom.errors import UserError
from gradprom.recognizers.normalize import ImageNetNormalize


class Classifier(nn.Module):
    """A class for each image: ImageNet normalisation, then a timm model (section 4.1).

    Args:
        image_channels: 1 (grey) or 3 (colour).
        classes: number of classes.
        encoder: a model's name in timm, ``resnet50`` for instance. To one that is made for a single size of image (a
            vision transformer) every image is resized.

    Raises:
        UserError: timm has no such model.

    Example:
        >>> import torch
        >>> Classifier(image_channels=3, classes=2, encoder="resnet18")(torch.rand(2, 3, 40, 31)).shape
        torch.Size([2, 2])
    """

    def __init__(self, image_channels: int, classes: int, encoder: str = "resnet50") -> None:
        super().__init__()
        import timm

        self.normalize = ImageNetNormalize(image_channels)
        try:
            self.body: nn.Module = timm.create_model(
                encoder, pretrained=False, in_chans=image_channels, num_classes=classes
            )
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"encoder {encoder!r} is not a model of timm: take resnet18, resnet50 or a name from timm.list_models()"
            ) from error
        about = self.body.pretrained_cfg
        self.size: tuple[int, int] | None = about["input_size"][-2:] if about.get("fixed_input_size") else None

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in [0, 1], any size, to logits (N, classes)."""
        if self.size is not None and image.shape[-2:] != self.size:
            image = F.interpolate(image, self.size, mode="bilinear", antialias=True)
        # every halving of the many that encoders make must leave something to halve
        logits: Tensor = self.body(pad_to_least(self.normalize(image), 32))
        return logits
