"""What is done with an uploaded file: enhanced by the same way as on the command line, read, and drawn for the page."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradprom import measures
from gradprom._resize import resized
from gradprom.errors import UserError
from gradprom.inference._file import FileWork, derivation_of
from gradprom.inference._plan import Job as FileJob
from gradprom.inference.model import Model
from gradprom.inference.strips import is_for_strips
from gradprom.serve import rendering
from gradprom.serve.presentation import Presentation, present
from gradprom.serve.watched import Seen, SeenEnoughError, WatchedModel, checked_at_layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradprom.inference.reader import Reader
    from gradprom.serve.work import Job

MOST_NOISE = 0.5
_TILE = 1024  # that of the command line, so that the same bytes come of it


@dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes:
        frame: which of the file's images to look at, from 0; None for the middle one.
        sigma: standard deviation of the noise that is added first, 0 to 0.5.
        window: the two values that are seen as black and white in grey DICOM and NIfTI; None: as without --window.
        whole: enhance all images of a file of many, not only the one that is looked at.
    """

    frame: int | None = None
    sigma: float = 0.0
    window: tuple[float, float] | None = None
    whole: bool = False

    @property
    def outcome(self) -> tuple[float, tuple[float, float] | None]:
        """What decides on the file that is written."""
        return self.sigma, self.window


def parse_settings(words: object) -> Settings:
    """Settings as the page sends them: an object with some of ``frame``, ``sigma``, ``low``, ``high`` and ``whole``.

    Raises:
        UserError: they are something else, or out of range.

    Example:
        >>> parse_settings({"sigma": 0.1, "low": -160, "high": 240})
        Settings(frame=None, sigma=0.1, window=(-160.0, 240.0), whole=False)
    """
    if not isinstance(words, Mapping):
        raise UserError(f"expected settings by name, found {words!r}; reload the page")
    frame, whole = words.get("frame"), words.get("whole", False)
    if not (frame is None or (type(frame) is int and frame >= 0)) or type(whole) is not bool:
        raise UserError(
            f"expected the number of an image and true or false, found {frame!r}, {whole!r}; reload the page"
        )
    sigma = _number(words, "sigma", 0.0)
    if not 0 <= sigma <= MOST_NOISE:
        raise UserError(f"noise: expected a standard deviation from 0 to {MOST_NOISE}, found {sigma:g}; choose another")
    ends = words.get("low"), words.get("high")
    if ends == (None, None):
        return Settings(frame, sigma, None, whole)
    if None in ends:
        raise UserError("window: expected two values, found one; give both, or none for the file's own")
    low, high = _number(words, "low", 0.0), _number(words, "high", 0.0)
    if not (low < high and math.isfinite(high - low)):
        raise UserError(
            f"window: expected the value seen as black below that seen as white, at a finite distance, found {low:g} "
            f"and {high:g}"
        )
    return Settings(frame, sigma, (low, high), whole)


@dataclass(frozen=True)
class View:
    """One image of a file as the page shows it.

    Attributes:
        frame: which image, from 0.
        frames: how many the file has.
        format: png, jpeg, tiff, dicom or nifti.
        width: of the pictures, in pixels.
        height: likewise.
        aspect: how many times as wide as high their pixels are.
        factor: by how much they were made smaller to be shown.
        channels: of the image, 1 or 3.
        sigma: of the noise that was added.
        window: that was asked for.
        windows: names and ends of windows that suit the file.
        change: of intensities in [0, 1], which has the full colour in the picture of the difference.
        psnr: in dB against the image without noise, of ``before`` and ``after``; empty where none was added.
        readings: what the recognizers say of ``clean`` (where noise was added), ``before`` and ``after``.
        pictures: names of the pictures, each a PNG in the view's folder.
        is_whole: whether all of the file was enhanced, and written.
    """

    frame: int
    frames: int
    format: str
    width: int
    height: int
    aspect: float
    factor: int
    channels: int
    sigma: float
    window: tuple[float, float] | None
    windows: tuple[tuple[str, float, float], ...]
    change: float
    psnr: dict[str, float | None]
    readings: dict[str, dict[str, Any]]
    pictures: tuple[str, ...]
    is_whole: bool


def enhance_upload(
    model: Model,
    reader: Reader | None,
    source: Path,
    output: Path,
    pictures: Path,
    settings: Settings,
    job: Job,
    max_pixels: int,
) -> View:
    """Enhance a file, or one image of it, and draw what came of that.

    Args:
        model: the enhancer.
        reader: reads the image before and after; None: nothing is read.
        source: the file.
        output: a folder; the enhanced file appears in it under the same name, byte for byte as
            ``gradprom enhance --channels each`` writes it.
        pictures: a folder that is made, for the pictures.
        settings: what is asked for.
        job: is told how far the work is, and ends it.
        max_pixels: larger files are refused.

    Raises:
        UserError: the file cannot be enhanced; the sentence begins with its name, without folders.
        JobCancelledError: the work is not wanted any more; whether the file was written by then is open.
    """
    target = output / source.name
    watched = WatchedModel(model, sigma=settings.sigma, frame=settings.frame, whole=settings.whole)
    # noise that was put in is no part of the source
    added = f", after Gaussian noise of standard deviation {settings.sigma:g} was added" if settings.sigma else ""
    derivation = derivation_of(model, settings.window, added=added)
    file = FileWork(watched, "each", _TILE, None, max_pixels, settings.window, derivation, None)
    is_whole = True
    try:
        if is_for_strips(source, target, max_pixels):
            raise UserError(f"{source}: expected at most {max_pixels} pixels here; gradprom enhance takes larger ones")
        with checked_at_layers(model.enhancer.modules(), job.check):
            file.do(FileJob(source, target), job.advance)
    except SeenEnoughError:
        is_whole = False
    except UserError as error:
        # folders of the server are nobody's business
        raise UserError(str(error).replace(str(source), source.name).replace(str(target), source.name)) from error
    except torch.OutOfMemoryError as error:
        raise MemoryError from error
    seen = watched.seen
    if seen is None:
        raise RuntimeError("the enhancer was not asked for the image that was wanted")
    try:
        pictures.mkdir()
        return _view(seen, present(source, seen.format, seen.exif), reader, pictures, settings, job, is_whole)
    except BaseException:
        shutil.rmtree(pictures, ignore_errors=True)
        raise


def _view(
    seen: Seen,
    presentation: Presentation,
    reader: Reader | None,
    folder: Path,
    settings: Settings,
    job: Job,
    is_whole: bool,
) -> View:
    images = {"clean": seen.clean} if settings.sigma else {}
    images |= {"before": seen.before, "after": seen.after}
    ratios = {} if not settings.sigma or seen.after.shape != seen.clean.shape or seen.factor > 1 else _psnr(images)
    height, width = seen.after.shape[:2]
    # where the enhancer enlarges, all else is enlarged as any viewer would
    images = {name: _enlarged(pixels, height, width) for name, pixels in images.items()}
    names = []

    def save(name: str, picture: NDArray[np.uint8]) -> None:
        job.check()
        rendering.save_png(folder / f"{name}.png", presentation.turned(picture))
        names.append(name)

    for name, pixels in images.items():
        save(name, rendering.to_bytes(pixels))
    picture, change = rendering.difference(images["before"], images["after"])
    save("difference", picture)
    readings: dict[str, dict[str, Any]] = {}
    if reader is not None:
        job.step = "reading"
        for name, pixels in images.items():
            job.check()
            reading = reader.read(pixels)
            readings[name] = {"probabilities": reading.probabilities}
            if reading.mask is not None:
                save(f"mask-{name}", rendering.regions(reading.mask))
                counts = np.bincount(reading.mask.ravel(), minlength=len(reader.mask_classes))
                shares = (counts / reading.mask.size).tolist()
                readings[name]["shares"] = dict(zip(reader.mask_classes, shares, strict=True))
            for task, values in _maps(reader, pixels):
                save(f"{task}-{name}", rendering.heat(values))
    return View(
        frame=seen.frame,
        frames=seen.frames,
        format=seen.format,
        width=height if presentation.transpose else width,
        height=width if presentation.transpose else height,
        aspect=presentation.aspect,
        factor=seen.factor,
        channels=seen.clean.shape[2],
        sigma=settings.sigma,
        window=settings.window,
        windows=presentation.windows,
        change=change,
        psnr=ratios,
        readings=readings,
        pictures=tuple(names),
        is_whole=is_whole,
    )


def _psnr(images: Mapping[str, NDArray[Any]]) -> dict[str, float | None]:
    """PSNR of before and after against clean; None where it is infinite, which JSON has no word for."""
    clean = _tensor(images["clean"])
    ratios = {name: measures.psnr(_tensor(images[name]), clean).item() for name in ("before", "after")}
    return {name: ratio if math.isfinite(ratio) else None for name, ratio in ratios.items()}


def _maps(reader: Reader, pixels: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Where each recognizer looks; none of one that has no feature maps to show."""
    for task in reader.tasks:
        try:
            yield task, reader.activation_map(pixels, task=task)
        except UserError:
            continue


def _enlarged(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    if pixels.shape[:2] == (height, width):
        return pixels
    large: NDArray[Any] = resized(_tensor(pixels), (height, width))[0].permute(1, 2, 0).numpy()
    return large


def _tensor(pixels: NDArray[Any]) -> torch.Tensor:
    """(H, W, C) to (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(rendering.to_unit(pixels)).permute(2, 0, 1)[None]


def _number(words: Mapping[str, Any], name: str, default: float) -> float:
    value = words.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: expected a number, found {value!r}; give one")
    return float(value)
