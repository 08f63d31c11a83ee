"""An enhancer as a program of torch.export, for images of any size, and the comparison of what was exported with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradprom.errors import UserError, first_line
from gradprom.inference.model import Model
from gradprom.inference.onnx import OnnxEnhancer

TOLERANCE = 1e-4
# no side but 96 and 64 is a multiple of 8, where U-Nets have nothing to pad
_SIZES = ((2, 61, 83), (1, 96, 64))
_SMALL = 9


class Clipped(nn.Module):
    """An enhancer whose output is clipped to [0, 1], as :meth:`gradprom.inference.model.Model.enhance` gives it."""

    def __init__(self, enhancer: nn.Module) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W) in [0, 1]."""
        enhanced: Tensor = self.enhancer(image).clamp(0.0, 1.0)
        return enhanced


@dataclass(frozen=True)
class Traced:
    """An enhancer in two forms.

    Attributes:
        name: for messages.
        module: the enhancer with its output clipped, on the CPU and in eval mode.
        program: the same as a program, with batch, height and width left open.
        channels: what it takes.
        least: the shortest side, in pixels, of images that the program takes.
    """

    name: str
    module: nn.Module
    program: torch.export.ExportedProgram
    channels: int
    least: int


def trace(model: Model) -> Traced:
    """Make a program of an enhancer; the model is left as it is.

    Raises:
        UserError: its network cannot be followed by torch.export, for instance because what it computes depends on the
            values of pixels.

    Example:
        >>> traced = trace(Model(nn.Upsample(scale_factor=2), channels=1, scale=2))
        >>> traced.program.module()(torch.ones(1, 1, 5, 7)).shape, traced.least
        (torch.Size([1, 1, 10, 14]), 1)
    """
    # not in the public interface, but what PyTorch's own exporter to ONNX sets: without it the program refuses sizes
    # for reasons that concern nothing but the order of numbers in memory
    from torch.fx.experimental import _config as symbolic

    if isinstance(model.enhancer, OnnxEnhancer):
        raise UserError(f"{model.name}: is an exported file already, give the run that it was exported from")
    module = Clipped(copy.deepcopy(model.enhancer).to("cpu")).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    free = torch.export.Dim.DYNAMIC
    try:
        with symbolic.patch(backed_size_oblivious=True), torch.no_grad():  # type: ignore[attr-defined]
            example = torch.rand(2, model.channels, 37, 45, generator=torch.Generator().manual_seed(0))
            program = torch.export.export(module, (example,), dynamic_shapes=({0: free, 2: free, 3: free},))
    except Exception as error:  # whatever a network may make PyTorch raise
        raise UserError(
            f"{model.name}: expected a network that torch.export can follow, found {first_line(error)}; a model whose "
            "steps depend on the values of pixels cannot be exported"
        ) from error
    for node in program.graph.nodes:  # or the folders of this machine would go out with the file
        node.meta.pop("stack_trace", None)
    lowest = [int(bounds.lower) for bounds in program.range_constraints.values()]
    return Traced(model.name, module, program, model.channels, max([1, *lowest]))


def check(traced: Traced, run: Callable[[Tensor], Tensor], what: str, least: int = 1) -> float:
    """Compare what was exported with the enhancer itself, on made-up images of three sizes.

    Args:
        traced: the enhancer.
        run: what was exported, (N, C, H, W) to (N, C, scale·H, scale·W).
        what: for messages, such as "ONNX file".
        least: the shortest side of images that it takes.

    Returns:
        The largest difference, at most ``TOLERANCE``.

    Raises:
        UserError: it fails, or gives something else.

    Example:
        >>> traced = trace(Model(nn.Identity(), channels=1))
        >>> check(traced, lambda image: image, "copy")
        0.0
        >>> check(traced, lambda image: image + 0.1, "copy")
        Traceback (most recent call last):
        ...
        gradprom.errors.UserError: enhancer: expected the exported copy to give what PyTorch gives within 0.0001, ...
    """
    generator, largest = torch.Generator().manual_seed(1), 0.0
    small = max(_SMALL, least)
    for batch, height, width in (*_SIZES, (1, small, small + 4)):
        image = torch.rand(batch, traced.channels, height, width, generator=generator)
        try:
            with torch.no_grad():
                expected = traced.module(image)
            found = run(image)
        except Exception as error:  # whatever a runtime may raise
            raise UserError(
                f"{traced.name}: expected the exported {what} to take an image of {width}×{height} pixels, found "
                f"{first_line(error)}; export to another format"
            ) from error
        difference = (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
        if not difference <= TOLERANCE:  # written so that it refuses nan as well
            raise UserError(
                f"{traced.name}: expected the exported {what} to give what PyTorch gives within {TOLERANCE:g}, found "
                f"{difference:g} on an image of {width}×{height} pixels; export to another format"
            )
        largest = max(largest, difference)
    return largest
