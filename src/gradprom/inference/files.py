"""An enhancer over files and folders: same names and formats out, and one bad file stops nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradprom.errors import PartialFailureError, UserError
from gradprom.images import MAX_PIXELS, dicom
from gradprom.images.frames import NoImageError
from gradprom.inference._file import FileWork
from gradprom.inference._plan import Plan, plan_files
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
    """

    written: tuple[Path, ...]
    existing: int = 0
    passed_over: int = 0
    no_images: tuple[tuple[Path, str], ...] = ()
    read: tuple[Path, ...] = ()


@dataclass
class _Log:
    written: list[Path] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    no_images: list[tuple[Path, str]] = field(default_factory=list)


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
    `nifti.open_nifti`. DICOM objects become new objects, in one new series for each series of this call. Where name and
    content disagree, the name decides what is written, if that loses nothing; else the file fails.

    Args:
        model: the enhancer.
        inputs: files, and folders which are searched with all below them; a file ``a/b.png`` of the folder given
            becomes ``output/a/b.png``, a file given by itself ``output/b.png``. Links to folders are not followed.
        output: a folder; it is made if need be, and never read from.
        reader: recognizers that read every image before and after enhancement, each frame as the enhancer sees it.
            Class probabilities go into ``output/recognition.csv``, masks beside the images (``b.mask-before.png``,
            ``b.mask-after.png``): class numbers of 8 bits, of the image's size, orientation and pages; NIfTI with its
            affines; DICOM as a segmentation that refers to its image; PNG for JPEG, which would spoil them.
        channels: "match" or "each", see `Model.enhance`.
        tile: see `Model.enhance`.
        overlap: see `Model.enhance`.
        max_pixels: larger images are refused.
        window: the two values, after rescale slope and intercept, that the enhancer sees as 0 and 1 in grey DICOM and
            NIfTI files, the same in all; else each file's own least and greatest value.
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
        PartialFailureError: some images (or all) could not be enhanced; the message lists which, and why.

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
    if window is not None and not window[0] < window[1]:  # also refuses nan
        raise UserError(f"window {window[0]:g} {window[1]:g}: expected two rising numbers; give the lower one first")
    derivation = dicom.Derivation(model.name, deidentify=deidentify)
    recognition = None if reader is None else Recognition(reader, output, overwrite=overwrite)
    plan = plan_files(inputs, output, recognition=recognition, overwrite=overwrite, skip_existing=skip_existing)
    if any(path.suffix.lower() in dicom.SUFFIXES for job in plan.jobs for path in job.masks):
        dicom.load_highdicom()
    is_new = not output.exists()
    _make_folder(output)
    work = FileWork(model, channels, tile, overlap, max_pixels, window, derivation, recognition)
    log = _do_all(work, plan)
    done = [*log.written, *log.read]
    if not done and is_new:
        _remove_empty(output)
    if log.failed:
        raise (PartialFailureError if done else UserError)(_summary(log, output))
    if plan.jobs and not done:
        listed = "; ".join(f"{path} holds {what}" for path, what in log.no_images)
        raise UserError(f"expected images, found none ({listed}); check the inputs")
    return Enhanced(tuple(log.written), plan.existing, plan.passed_over, tuple(log.no_images), tuple(log.read))


def _do_all(work: FileWork, plan: Plan) -> _Log:
    """Do one job after the other, and show how far they are."""
    log = _Log()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        files = progress.add_task("enhancing", total=len(plan.jobs))
        tiles = progress.add_task("tiles", visible=False)

        def on_tile(done: int, total: int) -> None:
            progress.update(tiles, completed=done, total=total, visible=total > 1)

        for number, job in enumerate(plan.jobs):
            progress.update(files, description=job.source.name)
            try:
                work.do(job, on_tile)
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
                (log.written if job.writes else log.read).append(job.target)
            progress.update(tiles, visible=False)
            progress.advance(files)
    return log


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


def _summary(log: _Log, output: Path) -> str:
    done = len(log.written) + len(log.read)
    count = len(log.failed) + done
    passed_over = [f"{path}: passed over, it holds {what}" for path, what in log.no_images]
    if count == 1:
        return "\n".join(["{}: {}".format(*log.failed[0]), *passed_over])
    rest = f"the other {done} are in {output}" if done else f"nothing was written to {output}"
    failed = [f"{path}: {reason}" for path, reason in log.failed]
    return "\n".join([f"{len(log.failed)} of {count} images could not be enhanced; {rest}:", *failed, *passed_over])
