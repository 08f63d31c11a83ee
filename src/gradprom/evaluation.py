"""Measuring an enhancer and its recognizers on a test set, beside the input itself and a baseline without training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gradprom import measures
from gradprom._evaluation import INDEPENDENT, Evaluation, Row, summarize
from gradprom.baselines import bicubic, cached_non_local_means
from gradprom.datasets.sample import Sample
from gradprom.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["TASKS", "Evaluation", "Row", "evaluate", "read_clean"]

TASKS = ("diagnosis", "segmentation")


def evaluate(
    samples: Sequence[Sample],
    *,
    channels: int,
    degrade: Callable[[Tensor, int], Tensor],
    enhancer: nn.Module | None = None,
    recognizers: Mapping[str, nn.Module] | None = None,
    readers: Mapping[str, nn.Module] | None = None,
    classes: Sequence[str] = (),
    mask_classes: Sequence[str] = (),
    sigma: float | None = None,
    scale: int = 1,
    seed: int = 0,
    device: str | torch.device = "cpu",
    recognition_size: int | None = None,
    baselines: bool = True,
    cache: Path | None = None,
    degradation: str = "",
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure on whole test images, one at a time, each at its own size, by :data:`gradprom.measures.PROTOCOL`.

    Every method sees the same degraded image, for its noise is keyed by the sample's id and ``seed``. With a
    ``recognition_size`` recognizers read the whole clean image resized to it, degraded and enhanced there, as they are
    trained; without one they read the images that are measured.

    Args:
        samples: the test set.
        channels: 1 or 3; images are brought to this number.
        degrade: maps a clean image (C, H, W) in [0, 1] and a key to the degraded one, which may be smaller.
        enhancer: maps (N, C, h, w) in [0, 1], in channels_last, to (N, C, H, W); None measures the baselines and what
            is read from them.
        recognizers: by task: ``diagnosis`` maps (N, C, H, W) in [0, 1] to logits (N, K), ``segmentation`` to
            (N, K, H, W).
        readers: recognizers that no enhancer was trained with: whether they read better tells whether the image itself
            became easier to read, and not only for the recognizer that it was trained together with.
        classes: names of the diagnoses.
        mask_classes: names of the pixel classes.
        sigma: the noise's standard deviation, which non-local means knows; estimated from each image if None.
        scale: by how much ``degrade`` makes images smaller.
        seed: of the test images' degradation.
        device: where the models run; they are moved there.
        recognition_size: side in pixels of the images that are read; None: their own size.
        baselines: whether to measure, beside the enhanced images, what the enhancer starts from and non-local means
            (not of super-resolution), and to read the clean images. Without an enhancer all that is done anyway.
        cache: folder to keep the images of non-local means in, by their content; it may be deleted at any time.
        degradation: in words, for the record.
        autocast: context in which the models run, for another precision than float32.
        progress: a running progress display; None shows one on stderr.

    Raises:
        UserError: there are no samples, or a sample is smaller than SSIM's window, or its mask does not fit, or the
            enhancer's output has another size than the clean image.
        ValueError: a recognizer's task is unknown or has no classes.

    Example:
        >>> from gradprom.degradations import GaussianNoise, degrade
        >>> samples = [Sample("grey", lambda: np.full((32, 32, 1), 127, np.uint8))]
        >>> noise = GaussianNoise(0.1)
        >>> result = evaluate(samples, channels=1, degrade=lambda image, key: degrade(noise, image, key), sigma=0.1)
        >>> {method: round(values["psnr"], -1) for method, values in result.summary.items()}
        {'input': 20.0, 'non-local means': 40.0}
    """
    names = {"diagnosis": tuple(classes), "segmentation": tuple(mask_classes)}
    reading = {("", task): model for task, model in (recognizers or {}).items()}
    reading |= {(INDEPENDENT, task): model for task, model in (readers or {}).items()}
    for _, task in reading:
        if task not in TASKS or not names[task]:
            raise ValueError(f"recognizer {task!r}: expected one of {', '.join(TASKS)}, with names for its classes")
    if not samples:
        raise UserError("there are no test samples to evaluate on: give a dataset with at least one test image")
    from gradprom.datasets.augment import whole_view
    from gradprom.datasets.loader import test_key

    def run(model: nn.Module, image: Tensor) -> Tensor:
        with autocast():  # measures are taken in float32 all the same
            # convolutions on the processor are a quarter faster so
            output: Tensor = model(image[None].to(device, memory_format=torch.channels_last))[0]
        return output.float().cpu()

    start = baselines or enhancer is None
    restore = functools.partial(cached_non_local_means, sigma=sigma, cache=cache) if baselines else None
    candidates = functools.partial(
        _candidates,
        degrade=degrade,
        enhance=None if enhancer is None else functools.partial(run, enhancer),
        restore=restore,
        start=start,
        scale=scale,
    )
    models = [model for model in (enhancer, *reading.values()) if model is not None]
    rows: list[Row] = []
    pooled: dict[tuple[str, str, str], Tensor] = {}
    with _inference(models, device), nullcontext(progress) if progress else _display() as bar:
        for sample in bar.track(samples, description="evaluating"):
            clean, key = read_clean(sample, channels), test_key(sample.id, seed)
            images = read_from = candidates(sample.id, clean, key)
            pixel_classes = None
            if sample.read_mask is not None and any(task == "segmentation" for _, task in reading):
                pixel_classes = sample.read_mask()
            mask = None if pixel_classes is None else torch.from_numpy(pixel_classes)
            if reading and recognition_size is not None:
                pixels = clean.permute(1, 2, 0).numpy()
                if pixel_classes is not None:
                    _check_mask(sample.id, pixel_classes.shape, pixels.shape)
                small, mask = whole_view(pixels, pixel_classes, recognition_size)
                read_from = candidates(sample.id, small, key)
            for method, image in images.items():
                if method == "clean" and not start:
                    continue
                read = {}
                for (reader, task), model in reading.items():
                    logits = run(model, read_from[method])
                    if task == "diagnosis":
                        found = _diagnosis(sample, logits, len(classes))
                    else:
                        found = _segmentation(sample.id, logits, mask, len(mask_classes))
                    read[reader, task] = found
                    pooled[method, reader, task] = pooled.get((method, reader, task), 0) + found.matrix
                if method != "clean" or read:
                    rows.append(_row(method, sample, image, images["clean"], read, classes))
    return Evaluation(tuple(rows), summarize(rows, pooled), seed, degradation)


def read_clean(sample: Sample, channels: int) -> Tensor:
    """The sample's image, shape (channels, H, W), float32 in [0, 1]; grey is the luma of colour.

    Raises:
        UserError: the image is smaller than SSIM's window.

    Example:
        >>> import numpy as np
        >>> sample = Sample("white", lambda: np.full((16, 12, 1), 255, np.uint8))
        >>> read_clean(sample, channels=3).shape, read_clean(sample, channels=1).max()
        (torch.Size([3, 16, 12]), tensor(1.))
    """
    from gradprom.images import to_channels

    pixels = sample.read_image()
    height, width = pixels.shape[:2]
    if min(height, width) < measures.SSIM_WINDOW:
        raise UserError(
            f"test image {sample.id!r}: SSIM needs at least {measures.SSIM_WINDOW} pixels on each side, "
            f"found {width} x {height}: take it out of the test set"
        )
    pixels = to_channels(pixels, channels)
    return torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(2, 0, 1).contiguous()


def _candidates(
    name: str,
    clean: Tensor,
    key: int,
    degrade: Callable[[Tensor, int], Tensor],
    enhance: Callable[[Tensor], Tensor] | None,
    restore: Callable[[Tensor], Tensor] | None,
    start: bool,
    scale: int,
) -> dict[str, Tensor]:
    """What is measured of one image, by method, each (C, H, W) in [0, 1]; ``clean`` is the last."""
    # super-resolution by γ gives back multiples of γ: what is left over at the right and below is not compared
    height, width = (size // scale * scale for size in clean.shape[-2:])
    if min(height, width) < measures.SSIM_WINDOW:
        raise UserError(
            f"test image {name!r}: SSIM needs at least {measures.SSIM_WINDOW} pixels on each side, in multiples of "
            f"{scale}, found {clean.shape[-1]} x {clean.shape[-2]}: take it out of the test set"
        )
    clean = clean[:, :height, :width].contiguous()
    degraded = degrade(clean, key)
    images = {}
    if start:
        images = {"input": degraded} if scale == 1 else {"bicubic": bicubic(degraded, (height, width))}
    if scale == 1 and restore is not None:
        images["non-local means"] = restore(degraded)
    if enhance is not None:
        enhanced = enhance(degraded).clamp(0.0, 1.0)
        if enhanced.shape != clean.shape:
            raise UserError(
                f"test image {name!r}: expected an enhanced image of shape {tuple(clean.shape)}, found "
                f"{tuple(enhanced.shape)}: use an enhancer made for these channels and this scale"
            )
        images["enhanced"] = enhanced
    return {**images, "clean": clean}


@dataclass(frozen=True)
class _Reading:
    """What a recognizer read of one image: the class, or None for pixels, and its confusion matrix."""

    matrix: Tensor
    predicted: int | None = None


def _diagnosis(sample: Sample, logits: Tensor, classes: int) -> _Reading:
    predicted = logits.argmax(dim=0, keepdim=True)
    if sample.label is None:
        return _Reading(torch.zeros(classes, classes, dtype=torch.int64), int(predicted))
    return _Reading(measures.confusion(predicted, torch.tensor([sample.label]), classes), int(predicted))


def _segmentation(name: str, logits: Tensor, mask: Tensor | None, classes: int) -> _Reading:
    if mask is None:
        return _Reading(torch.zeros(classes, classes, dtype=torch.int64))
    predicted = logits.argmax(dim=0)
    mask = mask[: predicted.shape[0], : predicted.shape[1]]
    _check_mask(name, mask.shape, predicted.shape)
    try:
        return _Reading(measures.confusion(predicted, mask, classes))
    except ValueError as error:
        raise UserError(f"test image {name!r}: its mask cannot be compared with the segmentation: {error}") from error


def _check_mask(name: str, mask: tuple[int, ...], image: tuple[int, ...]) -> None:
    if mask != image[:2]:
        raise UserError(
            f"test image {name!r}: its mask cannot be compared with the segmentation: expected {image[0]} x {image[1]} "
            f"pixels, found {mask[0]} x {mask[1]}: give a mask of the image's size"
        )


def _row(
    method: str,
    sample: Sample,
    image: Tensor,
    clean: Tensor,
    read: Mapping[tuple[str, str], _Reading],
    classes: Sequence[str],
) -> Row:
    compared = method != "clean"
    values: dict[str, Any] = {}
    for (reader, task), reading in read.items():
        if task == "diagnosis" and reading.predicted is not None:
            values[f"{reader}predicted"] = classes[reading.predicted]
            values["label"] = None if sample.label is None else classes[sample.label]
        elif task == "segmentation" and reading.matrix.any():
            values[f"{reader}iou"] = measures.mean_iou(reading.matrix)
            values[f"{reader}matrix"] = " ".join(map(str, reading.matrix.flatten().tolist()))
    return Row(
        method,
        sample.id,
        group=sample.group,
        psnr=float(measures.psnr(image[None], clean[None])) if compared else None,
        ssim=float(measures.ssim(image[None], clean[None])) if compared else None,
        **values,
    )


@contextmanager
def _inference(models: Sequence[nn.Module], device: str | torch.device) -> Iterator[None]:
    """Models in eval mode on the device and no gradients; their modes are given back."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.to(device).eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True)
