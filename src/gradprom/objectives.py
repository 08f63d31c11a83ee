"""The three losses of the paper: enhancement (Eq. 2), consistency (Eq. 3) and recognition (Eq. 4)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EnhancementLoss = Literal["mse", "l1"]
ConsistencyLoss = Literal["kl", "mse"]


def enhancement_loss(enhanced: Tensor, clean: Tensor, kind: EnhancementLoss = "mse") -> Tensor:
    """L_IP (Eq. 2): the pixel-wise difference between the enhanced and the clean image.

    Args:
        enhanced: shape (N, C, H, W), about [0, 1].
        clean: the same shape, in [0, 1].
        kind: ``mse``, mean squared error (the paper's), or ``l1``, mean absolute error.

    Returns:
        A scalar in float32 or wider, whatever the precision of ``enhanced``.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> enhancement_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5))
        tensor(0.2500)
    """
    if enhanced.shape != clean.shape:
        raise ValueError(f"enhanced has shape {tuple(enhanced.shape)} and clean {tuple(clean.shape)}: they must agree")
    distance = {"mse": F.mse_loss, "l1": F.l1_loss}[kind]
    return distance(_wide(enhanced), _wide(clean))


def consistency_loss(logits: Tensor, target: Tensor, kind: ConsistencyLoss = "kl") -> Tensor:
    """L_VR without labels (Eq. 3): what is read in the enhanced image against what is read in the clean one.

    Args:
        logits: of the enhanced image, shape (N, K) or (N, K, H, W).
        target: logits of the clean image, the same shape; no gradient flows through them.
        kind: ``kl``, the Kullback-Leibler divergence from the target's softmax to the other's, mean over images and
            pixels; or ``mse``, the mean squared error of the logits.

    Example:
        >>> logits = torch.tensor([[1.0, -1.0]])
        >>> consistency_loss(logits, logits).item(), consistency_loss(logits, logits + 1, kind="mse").item()
        (0.0, 1.0)
    """
    logits, target = _wide(logits), _wide(target.detach())
    if kind == "mse":
        return F.mse_loss(logits, target)
    divergence = F.kl_div(F.log_softmax(logits, 1), F.log_softmax(target, 1), reduction="none", log_target=True)
    return divergence.sum(1).mean()


def recognition_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """L_VR with labels (Eq. 4): the cross-entropy with a class for each image, or for each pixel.

    Args:
        logits: shape (N, K) or (N, K, H, W).
        truth: int64 class indices, shape (N,) or (N, H, W).

    Example:
        >>> recognition_loss(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)
    """
    return F.cross_entropy(_wide(logits), truth)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
