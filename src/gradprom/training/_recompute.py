"""Activation checkpointing: what is computed within a block is forgotten, and computed again in the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(model: nn.Module) -> int:
    """Let each block of a model keep its inputs alone, and compute the rest again for every pass backwards through it.

    A block is a member of a ``Sequential``, ``ModuleList`` or ``ModuleDict`` that has parts and parameters of its own
    and lies in no other block: the residual blocks of SRResNet and of ResNets, the levels of U-Nets. Results and
    gradients stay as they were; batch norm counts a batch once, however often it is computed.

    Returns:
        The number of blocks; with 0 nothing is saved.

    Example:
        >>> from gradprom.enhancers.srresnet import SRResNet
        >>> recompute_blocks(SRResNet(image_channels=1, blocks=3, channels=4, scale=2))  # the one that enlarges, too
        4
    """
    blocks = _blocks(model)
    for block in blocks:
        if "forward" not in vars(block):  # a model that is trained a second time has it already
            block.forward = partial(_forward, block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    is_container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    for child in module.children():
        has_parts = any(True for _ in child.children())
        is_called = type(child).forward is not nn.Module.forward  # not a list of lists
        if is_container and has_parts and is_called and any(True for _ in child.parameters()):
            found.append(child)
        else:
            found += _blocks(child)
    return found


def _forward(block: nn.Module, forward: Any, *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block), **named)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _BuffersKept(block)


class _BuffersKept(AbstractContextManager[None]):
    """Copies take the changes: the running statistics saw this batch when it was computed first.

    It is entered once for every pass backwards, which a context of a generator cannot be.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._held: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        for part in self._block.modules():
            self._held += [(part, name, own) for name, own in part.named_buffers(recurse=False)]
        for part, name, own in self._held:
            setattr(part, name, own.clone())

    def __exit__(self, *error: object) -> None:
        for part, name, own in self._held:
            setattr(part, name, own)
        self._held.clear()
