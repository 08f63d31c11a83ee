"""ImageNet normalisation, which stands between enhancer and recognizer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# per channel, on intensities in [0, 1]: https://docs.pytorch.org/vision/stable/models.html
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageNetNormalize(nn.Module):
    """(x - mean) / std with ImageNet's figures; for grey images with their means over the channels.

    Example:
        >>> ImageNetNormalize(1)(torch.zeros(1, 1, 1, 1)).item()
        -1.9867...
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        if image_channels == 1:
            mean, std = mean.mean().reshape(1), std.mean().reshape(1)
        # constants of the architecture, not state: they need not be stored with the weights
        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in [0, 1] to the same shape."""
        return (image - self.mean) / self.std
