"""Reading and writing weights: safetensors, or PyTorch files by the loader that executes nothing."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradprom._files import atomic_path
from gradprom.errors import UserError
from gradprom.images.frames import writing


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors, whole or not at all.

    Raises:
        UserError: it cannot be written: the disk is full, for one.
    """
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in state.items()})
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save``; what is not plain data and tensors is refused, never executed.

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, give the path of a file of weights") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: is damaged, or holds other things than tensors and plain data and was not opened, for that could "
            "run any code: give a file written by gradprom, or save the weights' state_dict"
        ) from error
    except Exception as error:  # the loader lets out whatever error a damaged file makes it stumble over
        raise UserError(f"{path}: is damaged or not a PyTorch file, give a file of weights") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a PyTorch file.

    Raises:
        UserError: the file is missing, damaged or holds something else than named tensors.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "enhancer.safetensors"
        >>> save_weights(file, {"bias": torch.zeros(2)})
        >>> read_weights(file)
        {'bias': tensor([0., 0.])}
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file, give the path of a file of weights") from error
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: is damaged or not a safetensors file, give a file of weights") from error
    state = read_torch(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: expected named tensors (a state_dict), found {type(state).__name__}")
    return dict(state)
