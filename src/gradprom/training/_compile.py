"""torch.compile for the models of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from gradprom.errors import UserError, first_line


def compile_models(models: Mapping[str, nn.Module], device: torch.device) -> None:
    """Compile models in place, so that names of weights stay; the work is done when they are first called.

    Raises:
        UserError: nothing can be compiled on this machine; told before a run begins.
    """
    import torch._functorch.config

    # the gradients of several losses pass through the enhancer's graph one after the other, so it must be kept
    torch._functorch.config.donated_buffer = False
    try:
        torch.compile(_probe)(torch.ones(2, device=device))
    except Exception as error:  # whatever the compilers of this platform make of it
        raise UserError(
            f"training.compile is true, but torch.compile fails on this machine ({first_line(error)}): install a C++ "
            "compiler such as g++ with Python's headers, or set training.compile to false"
        ) from error
    for model in models.values():
        model.compile(dynamic=False)  # images have one size a stage, and code for any size is slower


def uncompiled(compiled: bool) -> AbstractContextManager[object]:
    """A context in which compiled models run as they were written.

    To look at images of many sizes: compiling anew for each would take longer than it saves.
    """
    if not compiled:
        return nullcontext()
    context: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return context


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
