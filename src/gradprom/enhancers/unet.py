"""U-Net enhancers: one on a pretrained encoder, one residual and made for denoising."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from gradprom._padding import pad_to_multiple
from gradprom._resize import resized


class EncoderUNet(nn.Module):
    """A U-Net on a ResNet, or on any encoder of segmentation-models-pytorch, that predicts the difference to its input.

    Args:
        image_channels: 1 (grey) or 3 (colour).
        encoder: a name of segmentation-models-pytorch, ``resnet50`` for instance, or of timm.
        scale: scale factor; the image is enlarged bicubically before the network sees it.

    Example:
        >>> import torch
        >>> EncoderUNet(1, encoder="resnet18")(torch.rand(2, 1, 33, 20)).shape
        torch.Size([2, 1, 33, 20])
    """

    def __init__(self, image_channels: int, encoder: str = "resnet50", scale: int = 1) -> None:
        super().__init__()
        from gradprom.recognizers.segmenter import build_unet

        self.scale = scale
        self.body = build_unet(encoder, image_channels, image_channels)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are for."""
        return self.body.get_submodule("encoder")

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in about [0, 1] to (N, C, scale·H, scale·W)."""
        height, width = (side * self.scale for side in image.shape[-2:])
        image = resized(image, (height, width))
        difference: Tensor = self.body(pad_to_multiple(image, 32))
        return image + difference[..., :height, :width]


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ResidualUNet(nn.Module):
    """A U-Net of residual blocks without normalisation that predicts the difference to its input.

    The layout follows DRUNet (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2021):
    strided convolutions down, transposed ones up, skips added, not concatenated.

    Args:
        image_channels: 1 (grey) or 3 (colour).
        blocks: residual blocks at each of the 4 levels, on the way down and on the way up.
        channels: width at full resolution; it doubles at each of the 3 levels below.
        scale: scale factor; the image is enlarged bicubically before the network sees it.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 3, 9, 30)
        >>> torch.equal(ResidualUNet(3, blocks=1, channels=8)(image), image)  # it starts as the identity
        True
    """

    def __init__(self, image_channels: int, blocks: int = 2, channels: int = 16, scale: int = 1) -> None:
        super().__init__()
        self.scale = scale
        widths = [channels << level for level in range(4)]
        self.head = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.encode = nn.ModuleList(self._level(width, blocks) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(upper, lower, 2, stride=2) for upper, lower in pairwise(widths))
        self.middle = self._level(widths[-1], blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(lower, upper, 2, stride=2) for upper, lower in pairwise(widths))
        self.decode = nn.ModuleList(self._level(width, blocks) for width in widths[:-1])
        self.tail = nn.Conv2d(channels, image_channels, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    @staticmethod
    def _level(width: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(*(_Block(width) for _ in range(blocks)))

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in about [0, 1] to (N, C, scale·H, scale·W)."""
        height, width = (side * self.scale for side in image.shape[-2:])
        image = resized(image, (height, width))
        x = self.head(pad_to_multiple(image, 8))
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            skips.append(encode(x))
            x = down(skips[-1])
        x = self.middle(x)
        for up, decode, skip in zip(reversed(self.up), reversed(self.decode), reversed(skips), strict=True):
            x = decode(up(x) + skip)
        difference: Tensor = self.tail(x)
        return image + difference[..., :height, :width]
