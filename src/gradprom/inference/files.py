"""An enhancer over files and folders: same names and formats out, and one bad file stops nothing else."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradprom.errors import PartialFailureError, UserError
from gradprom.images import MAX_PIXELS, dicom
from gradprom.images.frames import NoImageError
from gradprom.inference._file import FileWork, WithoutMaskError, derivation_of
from gradprom.inference._plan import Plan, plan_files
from gradprom.inference._report import Log, failures, passed_over, summarize
from gradprom.inference.model import Channels, Model
from gradprom.inference.reader import Reader
from gradprom.inference.recognition import Recognition
from gradprom.inference.tiles import spans

# After these, no other file can be written either
_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Enhanced:
    """What was done.

    Attributes:
        written: the outputs, in the order of the inputs.
        existing: how many images were left out because their output existed.
        passed_over: how many files in folders were no images: by their names, and by their first bytes no DICOM.
        no_images: files in folders that are whole and hold no image to enhance (reports, plans, masks, DICOMDIR), each
            with what it holds.
        read: outputs that existed already, of which only what recognizers read was missing and was written.
        links: links to folders, found in folders, which are not followed.
    """

    written: tuple[Path, ...]
    existing: int = 0
    passed_over: int = 0
    no_images: tuple[tuple[Path, str], ...] = ()
    read: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()


def enhance_files(
    model: Model,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    reader: Reader | None = None,
    channels: Channels = "match",
    tile: int = 1024,
    overlap: int | None = None,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
    deidentify: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Enhanced:
    """Enhance image files into a folder, under the same names and in the same formats.

    PNG, JPEG, TIFF (with all its pages) and NIfTI are told by their names, DICOM by its preamble or a name that ends in
    .dcm. How intensities are mapped to what the enhancer sees, and back, is said in `dicom.open_dicom` and
    `nifti.open_nifti`. DICOM objects become new objects, in one new series for each series: the same in every call of
    the same weights and window, but another in each with ``deidentify``. Where name and content disagree, the name
    decides what is written, if that loses nothing; else the file fails.

    Args:
        model: the enhancer.
        inputs: files, and folders which are searched with all below them; a file ``a/b.png`` of the folder given
            becomes ``output/a/b.png``, a file given by itself ``output/b.png``. Links to folders are not followed.
        output: a folder; it is made if need be, and never read from.
        reader: recognizers that read every image before and after enhancement, each frame as the enhancer sees it.
            Class probabilities go into ``output/recognition.csv``, masks beside the images (``b.mask-before.png``,
            ``b.mask-after.png``): class numbers of 8 bits, of the image's size, orientation and pages; NIfTI with its
            affines; DICOM as a segmentation that refers to its image; PNG for JPEG, which would spoil them. A DICOM
            object that can have no segmentation is enhanced and read, and its missing masks count as a failure.
        channels: "match" or "each", see `Model.enhance`.
        tile: see `Model.enhance`.
        overlap: see `Model.enhance`.
        max_pixels: larger images are refused.
        window: the two values, after rescale slope and intercept, that the enhancer sees as 0 and 1 in grey DICOM and
            NIfTI files, the same in all; else each series' and each NIfTI file's own least and greatest value, and
            -1024 to 3071 of a CT in Hounsfield units.
        deidentify: take out of DICOM objects what identifies the patient, see `dicom.Derivation`. Other files are
            refused then, as nothing is taken out of them; names of files and folders stay as they are.
        overwrite: replace outputs that exist.
        skip_existing: leave out images whose outputs exist. Where only what a ``reader`` reads is missing, that is
            written and the image stays; it is enhanced once more for that.

    Returns:
        What was written, and how many files were left out.

    Raises:
        UserError: something is wrong that can be seen before any work (an input is missing, an output exists, two would
            get one name, ``recognition.csv`` is another table, highdicom is not installed); nothing was written then.
        PartialFailureError: some images could not be enhanced, have no masks, or lie in folders that cannot be read;
            the message says which (three at most where the same is wrong with many), and why; ``failures`` holds all.

    Example:
        >>> import tempfile, torch, numpy as np
        >>> from gradprom.images import Image, write_image
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_image(folder / "in" / "a.png", Image(np.zeros((2, 2, 1), np.uint8)))
        >>> model = Model(torch.nn.Identity(), channels=1)
        >>> [path.name for path in enhance_files(model, [folder / "in"], folder / "out").written]
        ['a.png']
    """
    output = Path(output)
    spans(1, tile, overlap or 0)  # refuses sizes that fit no image
    if window is not None and not (window[0] < window[1] and math.isfinite(window[1] - window[0])):  # also refuses nan
        raise UserError(
            f"window {window[0]:g} {window[1]:g}: expected two finite, rising numbers; give the lower one first"
        )
    derivation = derivation_of(model, window, deidentify=deidentify)
    recognition = None if reader is None else Recognition(reader, output, overwrite=overwrite)
    plan = plan_files(inputs, output, recognition=recognition, overwrite=overwrite, skip_existing=skip_existing)
    if any(path.suffix.lower() in dicom.SUFFIXES for job in plan.jobs for path in job.masks):
        dicom.load_highdicom()
    is_new = not output.exists()
    _make_folder(output)
    work = FileWork(model, channels, tile, overlap, max_pixels, window, derivation, recognition)
    log = _do_all(work, plan)
    if not log.done and is_new:
        _remove_empty(output)
    if wrong := failures(log, plan):
        raise (PartialFailureError if log.done or plan.existing else UserError)(summarize(log, plan, output), wrong)
    if plan.jobs and not log.done:
        listed = "; ".join(passed_over(log.no_images, plan.links))
        raise UserError(f"expected images, found none ({listed}); check the inputs")
    return Enhanced(
        tuple(log.written), plan.existing, plan.passed_over, tuple(log.no_images), tuple(log.read), plan.links
    )


def _do_all(work: FileWork, plan: Plan) -> Log:
    """Do one job after the other, and show how far they are."""
    log = Log()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        if work.window is None and plan.jobs:
            work.derivation.ranges = dicom.find_ranges(plan.sources, max_pixels=work.max_pixels, track=_track(progress))
        files = progress.add_task("enhancing", total=len(plan.jobs))
        tiles = progress.add_task("tiles", visible=False)

        def on_tile(done: int, total: int) -> None:
            progress.update(tiles, completed=done, total=total, visible=total > 1)

        for number, job in enumerate(plan.jobs):
            progress.update(files, description=job.source.name)
            done = log.written if job.writes else log.read
            try:
                work.do(job, on_tile)
            except WithoutMaskError as error:
                done.append(job.target)
                log.without_masks.append((job.source, f"enhanced, but without its mask: {error}"))
            except NoImageError as error:
                if job.source in plan.named:
                    log.failed.append((job.source, _without_name(error, job.source)))
                else:
                    log.no_images.append((job.source, error.found))
            except UserError as error:
                log.failed.append((job.source, _without_name(error, job.source)))
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_MORE:
                    log.failed += [(later.source, "not tried any more") for later in plan.jobs[number + 1 :]]
                    break
            except (MemoryError, torch.OutOfMemoryError):
                log.failed.append((job.source, "expected to fit into memory, found too little; give a smaller --tile"))
            else:
                done.append(job.target)
            progress.update(tiles, visible=False)
            progress.advance(files)
    return log


def _track(progress: Progress) -> Callable[[Sequence[Path], str], Iterable[Path]]:
    return lambda paths, what: progress.track(paths, description=what)


def _make_folder(output: Path) -> None:
    reason = "no permission to write there"
    try:
        output.mkdir(parents=True, exist_ok=True)
        if os.access(output, os.W_OK | os.X_OK):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(f"{output}: the output folder cannot be written to ({reason}); choose another")


def _remove_empty(output: Path) -> None:
    """Take away what was made for outputs that did not come: empty folders, and nothing else."""
    for folder, _, _ in os.walk(output, topdown=False):
        with contextlib.suppress(OSError):  # it is not empty
            Path(folder).rmdir()


def _without_name(error: UserError, source: Path) -> str:
    return str(error).removeprefix(f"{source}: ")
