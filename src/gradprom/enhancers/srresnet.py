"""SRResNet, the paper's baseline enhancer (Ledig et al., CVPR 2017, the generator without its discriminator)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradprom._resize import resized
from gradprom.errors import UserError


def _conv(inputs: int, outputs: int, size: int, batch_norm: bool = False) -> list[nn.Module]:
    # the bias of a convolution before batch norm is taken away again by the norm
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=not batch_norm)
    return [conv, nn.BatchNorm2d(outputs)] if batch_norm else [conv]


class ResidualBlock(nn.Module):
    """x + conv(prelu(conv(x))), each convolution with batch norm or without; shape (N, C, H, W) in and out."""

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(channels, channels, 3, batch_norm), nn.PReLU(), *_conv(channels, channels, 3, batch_norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, C, H, W) in and out."""
        return torch.add(x, self.body(x))


class SRResNet(nn.Module):
    """SRResNet for denoising (scale 1) and super-resolution (scale 2 or 4).

    Args:
        image_channels: 1 (grey) or 3 (colour).
        blocks: residual blocks; 16 in the paper, 5 in ESTR.
        channels: width of the network; 64 in the paper.
        batch_norm: batch norm after each convolution of the body, as in the original.
        scale: scale factor from input to output: 1, 2 or 4.
        residual: add the input, enlarged bicubically, to the output, so that the network learns the difference. The
            original has no such connection; training with it is many times shorter.

    Raises:
        UserError: the scale factor is not 1, 2 or 4.

    Example:
        >>> enhancer = SRResNet(image_channels=1, blocks=2, channels=8, scale=2)
        >>> enhancer(torch.rand(1, 1, 7, 5)).shape
        torch.Size([1, 1, 14, 10])
    """

    def __init__(
        self,
        image_channels: int,
        blocks: int = 16,
        channels: int = 64,
        batch_norm: bool = True,
        scale: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise UserError(f"scale is {scale}: SRResNet enlarges by a factor of 1, 2 or 4")
        self.scale = scale
        self.residual = residual
        self.head = nn.Sequential(*_conv(image_channels, channels, 9), nn.PReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(channels, batch_norm) for _ in range(blocks)))
        self.fuse = nn.Sequential(*_conv(channels, channels, 3, batch_norm))
        self.enlarge = nn.Sequential(
            *(
                nn.Sequential(*_conv(channels, 4 * channels, 3), nn.PixelShuffle(2), nn.PReLU())
                for _ in range({1: 0, 2: 1, 4: 2}[scale])
            )
        )
        self.tail = nn.Conv2d(channels, image_channels, 9, padding=4)
        if residual:  # start as the identity: nothing is learnt yet of the difference
            for parameter in self.tail.parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in about [0, 1] to (N, C, scale·H, scale·W)."""
        head = self.head(image)
        enhanced: Tensor = self.tail(self.enlarge(head + self.fuse(self.blocks(head))))
        if not self.residual:
            return enhanced
        return resized(image, (enhanced.shape[-2], enhanced.shape[-1])) + enhanced
