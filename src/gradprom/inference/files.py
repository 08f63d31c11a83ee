"""An enhancer over files and folders: same names and formats out, and one bad file stops nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradprom.errors import PartialFailureError, UserError
from gradprom.images import MAX_PIXELS, SUFFIXES, dicom, nifti, read_image, tiff_pages, write_image
from gradprom.images.frames import Frames, NoImageError
from gradprom.images.image import Format
from gradprom.inference.model import Channels, Model
from gradprom.inference.strips import enhance_by_strips, is_for_strips
from gradprom.inference.tiles import spans

# After these, no other file can be written either
_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_KINDS = (*SUFFIXES, *nifti.SUFFIXES, *dicom.SUFFIXES)


@dataclass(frozen=True)
class Plan:
    """What is to be done, found out before any work.

    Attributes:
        jobs: input and output of each image, in the order of the inputs.
        existing: how many images are left out because their output exists (``skip_existing``).
        passed_over: how many files in folders are no images: by their names, and by their first bytes no DICOM.
        named: those of the inputs that were named one by one, and not found in a folder.
    """

    jobs: tuple[tuple[Path, Path], ...]
    existing: int = 0
    passed_over: int = 0
    named: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Enhanced:
    """What was done.

    Attributes:
        written: the outputs, in the order of the inputs.
        existing: how many images were left out because their output existed.
        passed_over: how many files in folders were no images: by their names, and by their first bytes no DICOM.
        no_images: files in folders that are whole and hold no image to enhance (reports, plans, masks, DICOMDIR), each
            with what it holds.
    """

    written: tuple[Path, ...]
    existing: int = 0
    passed_over: int = 0
    no_images: tuple[tuple[Path, str], ...] = ()


@dataclass
class _Log:
    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    no_images: list[tuple[Path, str]] = field(default_factory=list)


def enhance_files(
    model: Model,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
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
        channels: "match" or "each", see `Model.enhance`.
        tile: see `Model.enhance`.
        overlap: see `Model.enhance`.
        max_pixels: larger images are refused.
        window: the two values, after rescale slope and intercept, that the enhancer sees as 0 and 1 in grey DICOM and
            NIfTI files, the same in all; else each file's own least and greatest value.
        deidentify: take out of DICOM objects what identifies the patient, see `dicom.Derivation`. Other files are
            refused then, as nothing is taken out of them; names of files and folders stay as they are.
        overwrite: replace outputs that exist.
        skip_existing: leave out images whose outputs exist.

    Returns:
        What was written, and how many files were left out.

    Raises:
        UserError: something is wrong that can be seen before any work, see `plan_files`; nothing was written then.
        PartialFailureError: some images (or all) could not be enhanced; the message lists which, and why.

    Example:
        >>> import tempfile, torch, numpy as np
        >>> from gradprom.images import Image
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
    plan = plan_files(inputs, output, overwrite=overwrite, skip_existing=skip_existing)
    is_new = not output.exists()
    _make_folder(output)
    log = _Log()

    def enhance(source: Path, target: Path, on_tile: Callable[[int, int], None]) -> None:
        frames = _open_frames(source, derivation, window, max_pixels)
        if deidentify and (frames is None or frames.format != "dicom"):
            raise UserError(f"{source}: expected DICOM alone with --deidentify, found another format; leave it out")
        if frames is None and is_for_strips(source, target, max_pixels):
            enhance_by_strips(
                model,
                source,
                target,
                channels=channels,
                tile=tile,
                overlap=model.needed_overlap(tile) if overlap is None else overlap,
                max_pixels=max_pixels,
                on_tile=on_tile,
            )
        elif frames is None:
            image = read_image(source, max_pixels)
            _check_suffix(source, image.format)
            enhanced = model.enhance_image(image, channels=channels, tile=tile, overlap=overlap, on_tile=on_tile)
            write_image(target, enhanced)
        else:
            options: dict[str, Any] = {"channels": channels, "tile": tile, "overlap": overlap}
            frames.write(target, model.enhance_frames(frames, on_tile=on_tile, **options))

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        files = progress.add_task("enhancing", total=len(plan.jobs))
        tiles = progress.add_task("tiles", visible=False)
        for number, (source, target) in enumerate(plan.jobs):
            progress.update(files, description=source.name)

            def on_tile(done: int, total: int) -> None:
                progress.update(tiles, completed=done, total=total, visible=total > 1)

            try:
                enhance(source, target, on_tile)
            except NoImageError as error:
                if source in plan.named:
                    log.failed.append((source, _without_name(error, source)))
                else:
                    log.no_images.append((source, error.found))
            except UserError as error:
                log.failed.append((source, _without_name(error, source)))
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_MORE:
                    log.failed += [(path, "not tried any more") for path, _ in plan.jobs[number + 1 :]]
                    break
            except (MemoryError, torch.OutOfMemoryError):
                log.failed.append((source, "expected to fit into memory, found too little; give a smaller --tile"))
            else:
                log.written.append(target)
            progress.update(tiles, visible=False)
            progress.advance(files)
    if not log.written and is_new:
        _remove_empty(output)
    if log.failed:
        raise (PartialFailureError if log.written else UserError)(_summary(log, output))
    if plan.jobs and not log.written:
        listed = "; ".join(f"{path} holds {what}" for path, what in log.no_images)
        raise UserError(f"expected images, found none ({listed}); check the inputs")
    return Enhanced(tuple(log.written), plan.existing, plan.passed_over, tuple(log.no_images))


def plan_files(
    inputs: Sequence[str | Path], output: str | Path, *, overwrite: bool = False, skip_existing: bool = False
) -> Plan:
    """Find out which files would be enhanced into which, and refuse what cannot come out well.

    Raises:
        UserError: an input is missing, no images are found, two inputs would get one name, an output exists (without
            ``overwrite`` or ``skip_existing``), an output would replace an input, or ``output`` is a file.
    """
    output = Path(output)
    if overwrite and skip_existing:
        raise UserError("expected at most one of --overwrite and --skip-existing, found both; choose one")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder for the output, found a file; name a folder")
    jobs: dict[str, tuple[Path, Path]] = {}
    passed_over = 0
    for source, relative in _find(inputs, output):
        if relative is None:
            passed_over += 1
            continue
        target = output / relative
        key = os.path.normcase(target)
        earlier = jobs.setdefault(key, (source, target))[0]
        if earlier.resolve() != source.resolve():
            raise UserError(
                f"{earlier} and {source} would both become {target}; rename one, or enhance them into two folders"
            )
    if not jobs:
        names = ", ".join(str(path) for path in inputs) or "no input"
        raise UserError(f"{names}: expected images ({', '.join(_KINDS)}), found none; check the path")
    sources = {source.resolve() for source, _ in jobs.values()}
    for source, target in jobs.values():
        if target.resolve() in sources:
            raise UserError(f"{target}: the result of {source} would replace an input; choose another output folder")
    existing = [key for key, (_, target) in jobs.items() if os.path.lexists(target)]
    if existing and not overwrite and not skip_existing:
        raise UserError(
            f"{jobs[existing[0]][1]}: expected nothing there, found a file ({len(existing)} of {len(jobs)} outputs "
            "exist); use --overwrite, --skip-existing or another output folder"
        )
    if skip_existing:
        jobs = {key: job for key, job in jobs.items() if key not in set(existing)}
    named = frozenset(path for path in map(Path, inputs) if not path.is_dir())
    return Plan(tuple(jobs.values()), len(existing) if skip_existing else 0, passed_over, named)


def _find(inputs: Sequence[str | Path], output: Path) -> Iterator[tuple[Path, Path | None]]:
    """Give each file and its name below the output folder: None for one in a folder that is no image by its name."""
    for path in map(Path, inputs):
        if not path.exists():
            raise UserError(f"{path}: expected a file or a folder, found nothing; check the path")
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        if path.resolve() == output.resolve():
            raise UserError(f"{path}: the results would replace the inputs; choose another output folder")

        def refuse(error: OSError) -> None:
            raise UserError(
                f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions"
            ) from error

        for folder, folders, names in os.walk(path, onerror=refuse):
            here = Path(folder)
            # hidden ones are other programs' own; sorted, so that every run goes the same way
            folders[:] = sorted(
                name for name in folders if name[0] != "." and (here / name).resolve() != output.resolve()
            )
            for name in sorted(names):
                found = here / name
                # DICOM objects are named by their UIDs or numbers, or anything else: only their bytes tell
                is_image = name[0] != "." and (name.lower().endswith(_KINDS) or dicom.is_dicom(found))
                yield found, found.relative_to(path) if is_image else None


def _open_frames(
    source: Path, derivation: dicom.Derivation, window: tuple[float, float] | None, max_pixels: int
) -> Frames | None:
    """Open a file of frames; None for one that holds a single plain image, or what only its reader can refuse."""
    if nifti.is_nifti(source):
        return nifti.open_nifti(source, window=window, max_pixels=max_pixels)
    suffix = source.suffix.lower()
    if suffix in dicom.SUFFIXES or (suffix not in SUFFIXES and dicom.is_dicom(source)):
        return dicom.open_dicom(source, derivation, window=window, max_pixels=max_pixels)
    if suffix in SUFFIXES and dicom.is_dicom(source):
        raise UserError(
            f"{source}: expected a name that ends as its content, DICOM, has it, found {source.suffix!r}; rename it"
        )
    if SUFFIXES.get(suffix) == "tiff" and tiff_pages.has_pages(source):
        return tiff_pages.open_pages(source, max_pixels=max_pixels)
    return None


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


def _without_name(error: UserError, source: Path) -> str:
    return str(error).removeprefix(f"{source}: ")


def _summary(log: _Log, output: Path) -> str:
    count = len(log.failed) + len(log.written)
    passed_over = [f"{path}: passed over, it holds {what}" for path, what in log.no_images]
    if count == 1:
        return "\n".join(["{}: {}".format(*log.failed[0]), *passed_over])
    rest = f"the other {len(log.written)} are in {output}" if log.written else f"nothing was written to {output}"
    failed = [f"{path}: {reason}" for path, reason in log.failed]
    return "\n".join([f"{len(log.failed)} of {count} images could not be enhanced; {rest}:", *failed, *passed_over])
