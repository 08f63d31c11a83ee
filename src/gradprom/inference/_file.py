"""One file: opened, read by the recognizer, enhanced, read again, and written with what was read."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradprom.errors import UserError
from gradprom.images import SUFFIXES, dicom, nifti, read_image, tiff_pages, write_image
from gradprom.images._tiff import check_resizable
from gradprom.images.frames import Frames, reading, writing
from gradprom.images.image import Format
from gradprom.images.masks import mask_image
from gradprom.inference._plan import Job
from gradprom.inference.model import Channels, Model
from gradprom.inference.reader import Reading
from gradprom.inference.recognition import Recognition, When
from gradprom.inference.strips import enhance_by_strips, is_for_strips

if TYPE_CHECKING:
    from numpy.typing import NDArray

OnTile = Callable[[int, int], None]
_PAIR = {".hdr": ".img", ".img": ".hdr"}


def derivation_of(
    model: Model, window: tuple[float, float] | None, *, deidentify: bool = False, added: str = ""
) -> dicom.Derivation:
    """What DICOM objects share that a model enhances with a window, in this call and in others.

    Args:
        model: the enhancer. Models of one name are told apart: a run that is trained anew has other weights.
        window: see `FileWork`.
        deidentify: see `dicom.Derivation`.
        added: what was done to the pixels before, for people.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.enhancer.state_dict().items():
        if isinstance(value, torch.Tensor):
            # as bytes, since numpy has no name for some types
            digest.update(name.encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    settings = f"{digest.hexdigest()} {window and tuple(map(float, window))}"
    return dicom.Derivation(f"{model.name}{added}", settings=settings, deidentify=deidentify)


class WithoutMaskError(UserError):
    """An image was enhanced, written and read, and its masks could not be written, for what kind of image it is."""


@dataclass(frozen=True)
class FileWork:
    """What is done with every file of a call; the options are those of `enhance_files`.

    Attributes:
        derivation: what the DICOM objects of the call share.
        recognition: where it is kept what recognizers read; None: they are not asked.
    """

    model: Model
    channels: Channels
    tile: int
    overlap: int | None
    max_pixels: int
    window: tuple[float, float] | None
    derivation: dicom.Derivation
    recognition: Recognition | None

    def do(self, job: Job, on_tile: OnTile) -> None:
        """Do a job. An image is read before anything is written, and what was read is written right after the image.

        Raises:
            WithoutMaskError: all is done but the masks, of which there is none.
            UserError: the file cannot be read, enhanced or written; no image is left half-written.
        """
        frames = self._open_frames(job.source)
        if self.derivation.deidentify is not None and (frames is None or frames.format != "dicom"):
            raise UserError(f"{job.source}: expected DICOM alone with --deidentify, found another format; leave it out")
        if frames is not None:
            self._do_frames(job, frames, on_tile)
        elif is_for_strips(job.source, job.target, self.max_pixels):
            self._do_strips(job, on_tile)
        else:
            self._do_image(job, on_tile)

    def _do_strips(self, job: Job, on_tile: OnTile) -> None:
        if self.recognition is not None:
            raise UserError(
                f"{job.source}: expected at most {self.max_pixels} pixels with --recognize, which reads images as a "
                "whole, found more; raise --max-pixels if memory allows, or enhance it without --recognize"
            )
        enhance_by_strips(
            self.model,
            job.source,
            job.target,
            channels=self.channels,
            tile=self.tile,
            overlap=self.model.needed_overlap(self.tile) if self.overlap is None else self.overlap,
            max_pixels=self.max_pixels,
            on_tile=on_tile,
        )

    def _do_image(self, job: Job, on_tile: OnTile) -> None:
        image = read_image(job.source, self.max_pixels)
        _check_suffix(job.source, image.format)
        with reading(job.source, "TIFF"):
            check_resizable(image, self.model.scale)
        enhanced = self.model.enhance_image(image, on_tile=on_tile, **self._options())
        images = (image, enhanced)
        readings = [self._read(one.pixels) for one in images]

        def write_mask(when: When) -> None:
            which = 0 if when == "before" else 1
            (mask,) = _masks(readings[which])
            write_image(job.masks[which], mask_image(images[which], mask))

        def write() -> None:
            if job.writes:
                write_image(job.target, enhanced)
            self._keep(job, *readings)

        _write_with_masks(job, write, write_mask)

    def _do_frames(self, job: Job, frames: Frames, on_tile: OnTile) -> None:
        frames.check(self.model.scale)
        before: list[Reading] = []
        after: list[Reading] = []
        if self.recognition is not None:
            for index in range(frames.count):
                before += self._read(frames.read(index))

        def enhanced() -> Iterator[NDArray[Any]]:
            for pixels in self.model.enhance_frames(frames, on_tile=on_tile, **self._options()):
                after.extend(self._read(pixels))
                yield pixels

        def write_mask(when: When) -> None:
            if when == "before":
                self._write_masks(job.masks[0], job.source, _masks(before), frames.format, when)
            else:
                self._write_masks(job.masks[1], job.target, _masks(after), frames.format, when)

        def write() -> None:
            if job.writes:
                frames.write(job.target, enhanced())
            else:
                deque(enhanced(), maxlen=0)
            self._keep(job, before, after)

        _write_with_masks(job, write, write_mask)

    def _options(self) -> dict[str, Any]:
        return {"channels": self.channels, "tile": self.tile, "overlap": self.overlap}

    def _read(self, pixels: NDArray[Any]) -> list[Reading]:
        return [] if self.recognition is None else [self.recognition.reader.read(pixels)]

    def _keep(self, job: Job, before: list[Reading], after: list[Reading]) -> None:
        if self.recognition is not None:
            self.recognition.add(job.target, before, after)

    def _write_masks(self, path: Path, of: Path, masks: list[NDArray[np.uint8]], kind: str, when: When) -> None:
        if kind == "nifti":
            nifti.write_slice_masks(path, of, masks)
        elif kind == "tiff":
            tiff_pages.write_page_masks(path, of, masks)
        elif self.recognition is not None:
            names = self.recognition.reader.mask_classes
            dicom.write_segmentation(path, of, masks, names=names, derivation=self.derivation, when=when)

    def _open_frames(self, source: Path) -> Frames | None:
        """Open a file of frames; None for one that holds a single plain image, or what only its reader can refuse."""
        limit: dict[str, Any] = {"max_pixels": self.max_pixels}
        if nifti.is_nifti(source):
            return nifti.open_nifti(source, window=self.window, **limit)
        suffix = source.suffix.lower()
        if suffix in dicom.SUFFIXES or (suffix not in SUFFIXES and dicom.is_dicom(source)):
            return dicom.open_dicom(source, self.derivation, window=self.window, **limit)
        if suffix in SUFFIXES and dicom.is_dicom(source):
            raise UserError(
                f"{source}: expected a name that ends as its content, DICOM, has it, found {suffix!r}; rename it"
            )
        if suffix in _PAIR and any(source.with_suffix(other).exists() for other in _cases(_PAIR[suffix])):
            raise UserError(
                f"{source}: expected an image in one file, found one half of a pair of .hdr and .img; convert the pair "
                "to .nii.gz and give that"
            )
        if SUFFIXES.get(suffix) == "tiff" and tiff_pages.has_pages(source):
            return tiff_pages.open_pages(source, **limit)
        return None


def _masks(readings: list[Reading]) -> list[NDArray[np.uint8]]:
    return [reading.mask for reading in readings if reading.mask is not None]


def _cases(suffix: str) -> tuple[str, str]:
    return suffix, suffix.upper()


def _write_with_masks(job: Job, write: Callable[[], None], write_mask: Callable[[When], None]) -> None:
    """Write an image and both of its masks, where there are any: the image alone if it can have none, else all or none.

    Masks of an earlier call go first: who is interrupted finds none, and never those of another image.

    Raises:
        WithoutMaskError: the image is written, and can have no mask.
        UserError: something else stands in the way.
    """
    if not job.masks:
        write()
        return
    _remove(job.masks)
    try:
        # first what costs little: an image that can have no mask is not asked for a second one
        refused = _refusal(job.masks[0], lambda: write_mask("before"))
        write()
        refused = refused or _refusal(job.masks[1], lambda: write_mask("after"))
    except BaseException:
        _remove(job.masks)
        raise
    if refused is not None:
        _remove(job.masks)
        raise WithoutMaskError(refused)


def _refusal(path: Path, write: Callable[[], None]) -> str | None:
    """Write a mask; give the reason where the image can have none, and raise what else is wrong."""
    try:
        write()
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return str(error).removeprefix(f"{path}: ")
    return None


def _remove(paths: tuple[Path, ...]) -> None:
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def _check_suffix(source: Path, found: Format) -> None:
    """Refuse a name by which the result could not be written without loss.

    A JPEG that is named .png (datasets have them) is written as the PNG that its name promises.
    """
    named = SUFFIXES.get(source.suffix.lower())
    if named is None or (named == "jpeg" and found != "jpeg"):
        raise UserError(
            f"{source}: expected a name that ends as its content, {found.upper()}, has it, found {source.suffix!r}; "
            "rename it"
        )
