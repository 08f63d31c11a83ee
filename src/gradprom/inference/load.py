"""Models back from a run folder or an exported file by its path, or from the package by their name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gradprom._chain import chain_scale
from gradprom.datasets.sample import Dataset
from gradprom.enhancers import build_enhancer
from gradprom.errors import UserError
from gradprom.inference.model import Model
from gradprom.inference.onnx import is_onnx, load_onnx
from gradprom.models import find_model, is_shipped
from gradprom.recognizers import build_recognizer
from gradprom.strategies import STRATEGIES
from gradprom.training.config import Config, EnhancerConfig, RecognizerConfig
from gradprom.training.folder import read_config, read_record, weights_path
from gradprom.weights import read_weights


def load(folder: str | Path, *, device: str = "cpu", enhancer: nn.Module | None = None) -> Model:
    """The enhancer of a run, of an exported file, or of those that come with the package, ready for arrays and files.

    Args:
        folder: a run folder, the name of a shipped model, see :func:`gradprom.models.find_model`, or an ONNX file of
            ``gradprom export``, which ONNX Runtime then computes on the processor.
        device: cpu, cuda or another of PyTorch's.
        enhancer: the run's own model, where it was trained with one that no configuration names.

    Raises:
        UserError: the folder is not a run folder, or has no weights, or they are of another model, or there is no
            such device; or what :func:`gradprom.inference.onnx.load_onnx` refuses.
    """
    folder = find_model(folder)
    check_device(device)
    if is_onnx(folder):
        if enhancer is not None:
            raise UserError(f"{folder}: holds a network of its own, leave out the one that was given with it")
        return load_onnx(folder, device=device)
    config, record = read_config(folder), read_record(folder)
    if not STRATEGIES[config.strategy].enhancer:
        raise UserError(
            f"{folder}: was trained with strategy {config.strategy}, which has no enhancer: give another run"
        )
    path, scale = weights_path(folder, "enhancer"), chain_scale(config.degradation)
    # what is loaded replaces every weight: where the first ones came from is of no account here
    if enhancer is None:
        enhancer = build_enhancer(_without_pretrained(config).enhancer, record.channels, scale)
    _fill(enhancer, path)
    return Model(enhancer, channels=record.channels, scale=scale, name=folder.name, device=device)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        UserError: there is none of that name.

    Example:
        >>> check_device("cpu")
    """
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device {device!r} cannot be used on this machine: take cpu, or cuda or mps if it has one"
        ) from error


def load_recognizers(folder: str | Path) -> dict[str, nn.Module]:
    """The recognizers of a run by task, in eval mode; none for strategy enhancer_only.

    Raises:
        UserError: as :func:`load`, or a model is meant that comes with the package, without its recognizers.
    """
    folder = find_model(folder)
    if is_shipped(folder):
        raise UserError(
            f"{folder.name}: comes without the recognizer that it was trained with, which is many times as large: "
            "train a run of your own to have images read as well"
        )
    config, record = read_config(folder), read_record(folder)
    if not STRATEGIES[config.strategy].recognizer:
        return {}
    shape = Dataset(record.dataset, record.channels, (), (), tuple(record.classes), tuple(record.mask_classes))
    recognizers = {}
    for task, recognizer in _without_pretrained(config).tasks.items():
        recognizers[task] = build_recognizer(task, recognizer, shape).eval()
        _fill(recognizers[task], weights_path(folder, task))
    return recognizers


def _without_pretrained(config: Config) -> Config:
    def bare(recognizer: RecognizerConfig | None) -> RecognizerConfig | None:
        return None if recognizer is None else RecognizerConfig(encoder=recognizer.encoder)

    enhancer = EnhancerConfig(**(vars(config.enhancer) | {"pretrained": "none"}))
    fields = {"enhancer": enhancer, "diagnosis": bare(config.diagnosis), "segmentation": bare(config.segmentation)}
    return Config(**(vars(config) | fields))


def _fill(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise UserError(
            f"{path}: holds the weights of another model than config.yaml beside it names, give the run's own folder"
        ) from error
