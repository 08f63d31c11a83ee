"""Classifiers: any model of timm."""

from __future__ import annotations

from torch import Tensor, nn

from gradprom.errors import UserError
from gradprom.recognizers.normalize import ImageNetNormalize


class Classifier(nn.Module):
    """A class for each image: ImageNet normalisation, then a timm model (section 4.1).

    Args:
        image_channels: 1 (grey) or 3 (colour).
        classes: number of classes.
        encoder: a model's name in timm, ``resnet50`` for instance.

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
        except RuntimeError as error:
            raise UserError(
                f"encoder {encoder!r} is not a model of timm: take resnet18, resnet50 or a name from timm.list_models()"
            ) from error

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in [0, 1] to logits (N, classes)."""
        logits: Tensor = self.body(self.normalize(image))
        return logits
