"""Segmenters: a U-Net of segmentation-models-pytorch on any of its encoders, or of timm's."""

from __future__ import annotations

from torch import Tensor, nn

from gradprom._padding import pad_to_multiple
from gradprom.errors import UserError
from gradprom.recognizers.normalize import ImageNetNormalize


def build_unet(encoder: str, in_channels: int, out_channels: int) -> nn.Module:
    """A U-Net without pretrained weights; names that smp does not have are looked up in timm.

    Raises:
        UserError: neither library has such an encoder.
    """
    import segmentation_models_pytorch as smp

    names = [encoder] if encoder in smp.encoders.encoders or encoder.startswith("tu-") else [f"tu-{encoder}"]
    try:
        unet: nn.Module = smp.Unet(names[0], encoder_weights=None, in_channels=in_channels, classes=out_channels)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"encoder {encoder!r} is not known to segmentation-models-pytorch or timm, or cannot carry a U-Net: "
            "take resnet18, resnet50 or another name from their lists"
        ) from error
    return unet


class Segmenter(nn.Module):
    """A class for each pixel: ImageNet normalisation, then a U-Net (section 4.1).

    Args:
        image_channels: 1 (grey) or 3 (colour).
        classes: number of pixel classes, background included.
        encoder: ``resnet50`` or another encoder of segmentation-models-pytorch or timm.

    Example:
        >>> import torch
        >>> Segmenter(image_channels=1, classes=3, encoder="resnet18")(torch.rand(2, 1, 40, 31)).shape
        torch.Size([2, 3, 40, 31])
    """

    def __init__(self, image_channels: int, classes: int, encoder: str = "resnet50") -> None:
        super().__init__()
        self.normalize = ImageNetNormalize(image_channels)
        self.body = build_unet(encoder, image_channels, classes)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for."""
        return self.body.get_submodule("encoder")

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in [0, 1], any size, to logits (N, classes, H, W)."""
        height, width = image.shape[-2:]
        logits: Tensor = self.body(pad_to_multiple(self.normalize(image), 32))
        return logits[..., :height, :width]
