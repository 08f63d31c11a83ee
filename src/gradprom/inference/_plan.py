"""What `enhance_files` is to do, found out before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradprom.errors import UserError
from gradprom.images import SUFFIXES, dicom, nifti
from gradprom.inference.recognition import Recognition, is_mask

_KINDS = (*SUFFIXES, *nifti.SUFFIXES, *dicom.SUFFIXES)


@dataclass(frozen=True)
class Job:
    """An image to be enhanced, to be read by recognizers, or both.

    Attributes:
        source: the image.
        target: the enhanced image.
        masks: where the recognizer's masks go, before and after; none where none are asked for.
        writes: whether the enhanced image is written; else it exists, and only what is read of it is missing.
    """

    source: Path
    target: Path
    masks: tuple[Path, ...] = ()
    writes: bool = True


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: in the order of the inputs.
        existing: how many images are left out because their outputs exist (``skip_existing``).
        passed_over: how many files in folders are no images: by their names, and by their first bytes no DICOM.
        named: those of the inputs that were named one by one, and not found in a folder.
    """

    jobs: tuple[Job, ...]
    existing: int = 0
    passed_over: int = 0
    named: frozenset[Path] = frozenset()


def plan_files(
    inputs: Sequence[str | Path],
    output: Path,
    *,
    recognition: Recognition | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """Find out which files would be enhanced into which, and refuse what cannot come out well.

    Raises:
        UserError: an input is missing, no images are found, two inputs would get one name, an output exists (without
            ``overwrite`` or ``skip_existing``), an output would replace an input, or ``output`` is a file.
    """
    if overwrite and skip_existing:
        raise UserError("expected at most one of --overwrite and --skip-existing, found both; choose one")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder for the output, found a file; name a folder")
    jobs: dict[str, Job] = {}
    passed_over = 0
    for source, relative in _find(inputs, output):
        if relative is None:
            passed_over += 1
            continue
        target = output / relative
        masks = () if recognition is None else recognition.masks(target)
        earlier = jobs.setdefault(os.path.normcase(target), Job(source, target, masks)).source
        if earlier.resolve() != source.resolve():
            _refuse_clash(earlier, source, target)
    if not jobs:
        names = ", ".join(str(path) for path in inputs) or "no input"
        raise UserError(f"{names}: expected images ({', '.join(_KINDS)}), found none; check the path")
    _check_clashes(jobs, None if recognition is None else recognition.table)
    touched = [job for job in jobs.values() if any(os.path.lexists(path) for path in (job.target, *job.masks))]
    if touched and not overwrite and not skip_existing:
        first = next(path for path in (touched[0].target, *touched[0].masks) if os.path.lexists(path))
        raise UserError(
            f"{first}: expected nothing there, found a file ({len(touched)} of {len(jobs)} outputs "
            "exist); use --overwrite, --skip-existing or another output folder"
        )
    planned = list(jobs.values())
    if skip_existing:
        planned = [missing for job in jobs.values() if (missing := _missing(job, recognition)) is not None]
    named = frozenset(path for path in map(Path, inputs) if not path.is_dir())
    return Plan(tuple(planned), len(jobs) - len(planned), passed_over, named)


def _missing(job: Job, recognition: Recognition | None) -> Job | None:
    """What of a job remains to be done; None: nothing."""
    if not os.path.lexists(job.target):
        return job
    if recognition is None or recognition.has(job.target):
        return None
    return Job(job.source, job.target, job.masks, writes=False)


def _check_clashes(jobs: dict[str, Job], table: Path | None) -> None:
    """Refuse masks and a table that would get the name of an image or of one another, and whatever replaces an input.

    Args:
        jobs: by the names of their targets.
        table: the table of what is read.
    """
    owners = {key: job.source for key, job in jobs.items()}
    for job in jobs.values():
        for path in job.masks:
            owner = owners.setdefault(os.path.normcase(path), job.source)
            if owner is not job.source:
                _refuse_clash(owner, job.source, path)
    if table is not None and os.path.normcase(table) in owners:
        owner = owners[os.path.normcase(table)]
        raise UserError(f"{owner}: the table of what is read would replace its result, {table}; rename it")
    sources = {job.source.resolve() for job in jobs.values()}
    for job in jobs.values():
        for path in (job.target, *job.masks):
            if path.resolve() in sources:
                raise UserError(
                    f"{path}: the result of {job.source} would replace an input; choose another output folder"
                )


def _refuse_clash(first: Path, second: Path, target: Path) -> None:
    raise UserError(f"{first} and {second} would both become {target}; rename one, or enhance them into two folders")


def _find(inputs: Sequence[str | Path], output: Path) -> Iterator[tuple[Path, Path | None]]:
    """Give each file and its name below the output folder: None for one in a folder that is no image by its name."""
    for path in map(Path, inputs):
        if not path.exists():
            raise UserError(f"{path}: expected a file or a folder, found nothing; check the path")
        if not path.is_dir():
            if is_mask(path.name):
                raise UserError(f"{path}: expected an image, found a mask of an earlier call; leave it out")
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
                yield found, found.relative_to(path) if is_image and not is_mask(name) else None
