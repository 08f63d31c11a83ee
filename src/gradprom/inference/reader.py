"""What the recognizers of a run say of an image: class probabilities, a mask, and where they look."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradprom.errors import UserError
from gradprom.images import to_channels
from gradprom.inference.model import check_values
from gradprom.inference.tiles import spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradprom.training.config import Config

_TILE, _OVERLAP = 1024, 256
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as `to_channels` takes it of whole numbers


@dataclass(frozen=True)
class Reading:
    """What was read of one image.

    Attributes:
        probabilities: of each class, in the order of ``Reader.classes``; they sum to 1. None without diagnosis.
        mask: (H, W) uint8 of the image's own size, an index into ``Reader.mask_classes`` for each pixel. None without
            segmentation.
    """

    probabilities: dict[str, float] | None
    mask: NDArray[np.uint8] | None


class Reader:
    """The recognizers of a run, ready for images.

    As in `evaluation.evaluate`, recognizers that were trained on whole images see every image resized to that size,
    and others see it at its own size (beyond 1024 pixels in tiles). An image is read as it is given: resizing takes a
    part of its noise away. A grey image is shown to a colour model in all three channels, a colour image to a grey
    model as its luma; the images of a dataset are brought to a model's channels in the same way.

    Args:
        recognizers: by task: ``diagnosis`` maps (N, ``channels``, H, W) in [0, 1] to logits (N, K), ``segmentation`` to
            (N, K, H, W). They are moved to ``device`` and put into eval mode.
        channels: 1 (grey) or 3 (colour).
        classes: names of the diagnoses.
        mask_classes: names of the pixel classes.
        size: side in pixels of the square that recognizers see; None: they see images at their own size.
        name: for messages.
        device: where they run.

    Attributes:
        classes: as given; empty where no recognizer tells them apart.
        mask_classes: likewise.
        tasks: ``diagnosis``, ``segmentation`` or both.

    Example:
        >>> class Brightness(nn.Module):
        ...     def forward(self, image):
        ...         return torch.stack([0 * image.mean((1, 2, 3)), image.mean((1, 2, 3))], dim=1)
        >>> reader = Reader({"diagnosis": Brightness()}, channels=1, classes=["dark", "bright"])
        >>> reader.read(np.zeros((4, 6), np.uint8)).probabilities
        {'dark': 0.5, 'bright': 0.5}
    """

    def __init__(
        self,
        recognizers: Mapping[str, nn.Module],
        *,
        channels: int,
        classes: Sequence[str] = (),
        mask_classes: Sequence[str] = (),
        size: int | None = None,
        name: str = "recognizer",
        device: str | torch.device = "cpu",
    ) -> None:
        self._recognizers = {task: model.to(device).eval() for task, model in recognizers.items()}
        self.channels = channels
        self.classes = tuple(classes) if "diagnosis" in recognizers else ()
        self.mask_classes = tuple(mask_classes) if "segmentation" in recognizers else ()
        self.tasks = tuple(recognizers)
        self.size = size
        self.name = name
        self.device = device
        # a map is made with hooks, which images that another thread reads in the meantime would run into
        self._lock = threading.Lock()

    def read(self, array: NDArray[Any]) -> Reading:
        """Read an image.

        Args:
            array: (H, W), (H, W, 1) or (H, W, 3); uint8, uint16, or floating point in [0, 1].

        Raises:
            UserError: an array of another kind, or values outside [0, 1].
        """
        pixels = self._pixels(array)
        probabilities = mask = None
        with self._lock, torch.inference_mode():
            if self.classes:
                logits = self._logits("diagnosis", pixels)[0]
                # in float64, so that they sum to 1 as closely as can be
                shares = logits.double().softmax(dim=0).tolist()
                probabilities = dict(zip(self.classes, shares, strict=True))
            if self.mask_classes:
                mask = self._segment(pixels)
        return Reading(probabilities, mask)

    def activation_map(self, array: NDArray[Any], *, task: str, target: int | None = None) -> NDArray[np.float32]:
        """Show where in an image a recognizer finds a class, see :func:`gradprom.explain.activation_map`.

        Args:
            array: as for ``read``. Where recognizers see images at their own size, larger ones than 1024 pixels are
                brought down to that for this map, which is coarse anyway.
            task: diagnosis or segmentation.
            target: index of the class; None: the one that is read, see there.

        Returns:
            (H, W) float32 in [0, 1].

        Raises:
            UserError: as ``read``; or there is no recognizer for the task, or none such class.
        """
        from gradprom.explain import activation_map

        if task not in self.tasks:
            raise UserError(
                f"{self.name} has no recognizer for task {task!r}, expected {' or '.join(self.tasks)}; choose that"
            )
        pixels = self._pixels(array)
        view = self._view(pixels)
        longest = max(view.shape[-2:])
        if longest > _TILE:
            size = [max(1, round(side * _TILE / longest)) for side in view.shape[-2:]]
            view = F.interpolate(view, size, mode="bilinear", antialias=True).clamp(0, 1)
        with self._lock:
            small = activation_map(self._recognizers[task], view, target)
        large = F.interpolate(small[None], pixels.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        found: NDArray[np.float32] = large.clamp(0, 1).cpu().numpy()
        return found

    def _pixels(self, array: NDArray[Any]) -> NDArray[Any]:
        """Give an array as (H, W, ``channels``), uint8, uint16 or float32 in [0, 1]."""
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)) or 0 in array.shape:
            raise UserError(
                f"array: expected (height, width) or (height, width, 1 or 3), found {array.shape}; give one image at a "
                "time, without opacity"
            )
        pixels = array.reshape(*array.shape[:2], -1)
        if not check_values(array):
            return to_channels(pixels, self.channels)
        pixels = pixels.astype(np.float32, copy=False)
        if pixels.shape[2] == 3 and self.channels == 1:
            return (pixels @ np.array(_LUMA, np.float32))[..., np.newaxis].clip(0, 1)
        return np.repeat(pixels, self.channels, axis=2) if pixels.shape[2] < self.channels else pixels

    def _view(self, pixels: NDArray[Any]) -> Tensor:
        """Give what a recognizer sees of a whole image, (1, C, H, W)."""
        from gradprom.datasets.augment import whole_view

        if self.size is not None:
            return whole_view(pixels, None, self.size)[0][None].to(self.device)
        peak = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
        values = torch.from_numpy(np.moveaxis(pixels, 2, 0).astype(np.float32, order="C"))
        return values[None].div_(float(peak)).to(self.device)

    def _logits(self, task: str, pixels: NDArray[Any]) -> Tensor:
        logits: Tensor = self._recognizers[task](self._view(pixels))
        if not logits.isfinite().all():
            raise UserError(
                f"{self.name}: expected finite numbers from the recognizer, found others; its weights are unusable"
            )
        return logits

    def _segment(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Give the class of each pixel."""
        height, width = pixels.shape[:2]
        if self.size is not None:
            return _largest(self._logits("segmentation", pixels), height, width)
        mask = np.empty((height, width), np.uint8)
        for y in spans(height, _TILE, _OVERLAP):
            for x in spans(width, _TILE, _OVERLAP):
                logits = self._logits("segmentation", pixels[y.start : y.stop, x.start : x.stop])
                found = _largest(logits, y.stop - y.start, x.stop - x.start)
                inner = found[y.keep_start - y.start : y.keep_stop - y.start, x.keep_start - x.start :]
                mask[y.keep_start : y.keep_stop, x.keep_start : x.keep_stop] = inner[:, : x.keep_stop - x.keep_start]
        return mask


def _largest(logits: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """Resize logits (1, K, h, w) bilinearly and give the class of the largest, (height, width); of equals the first.

    One class after the other: all of them at the size of a large image would take more memory than the image.
    """
    best: Tensor | None = None
    mask = torch.zeros((height, width), dtype=torch.uint8, device=logits.device)
    for index in range(logits.shape[1]):
        logit = logits[:, index : index + 1].float()
        if logit.shape[-2:] != (height, width):
            logit = F.interpolate(logit, (height, width), mode="bilinear", align_corners=False)
        if best is None:
            best = logit[0, 0]
            continue
        mask[logit[0, 0] > best] = index
        best = torch.maximum(best, logit[0, 0])
    return mask.cpu().numpy()


def load_reader(folder: str | Path, *, device: str = "cpu") -> Reader:
    """The recognizers of a run, ready to read arrays.

    Args:
        folder: a run folder.
        device: cpu, cuda or another of PyTorch's.

    Raises:
        UserError: the folder is not a run folder, its run trained no recognizer, its weights are missing or of another
            model, there is no such device, or a model is meant that comes with the package, without its recognizers.
    """
    from gradprom.inference.load import check_device, load_recognizers
    from gradprom.models import find_model
    from gradprom.training.folder import read_config, read_record

    check_device(device)
    recognizers = load_recognizers(folder)
    folder = find_model(folder)
    config, record = read_config(folder), read_record(folder)
    if not recognizers:
        raise UserError(
            f"{folder}: was trained with strategy {config.strategy}, which has no recognizer: give another run"
        )
    return Reader(
        recognizers,
        channels=record.channels,
        classes=record.classes,
        mask_classes=record.mask_classes,
        size=recognition_size(config),
        name=folder.name,
        device=device,
    )


def recognition_size(config: Config) -> int | None:
    """The side in pixels of the images that a run's recognizers read; None: they read images at their own size.

    Example:
        >>> from gradprom.training.config import Config, TrainingConfig
        >>> recognition_size(Config(training=TrainingConfig(view="whole", size=64))), recognition_size(Config())
        (64, None)
    """
    return config.size_of("cascade") if config.view_of("cascade") == "whole" else None
