"""What `enhance_files` is to do, found out before any work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
        sources: all images, with those that are left out: what objects of a series share, they share with these.
        passed_over: how many files in folders are no images: by their names, and by their first bytes no DICOM.
        named: those of the inputs that were named one by one, and not found in a folder.
        links: links to folders, found in folders: they are not followed.
        unreadable: folders that could not be searched, each with the system's reason.
    """

    jobs: tuple[Job, ...]
    existing: int = 0
    sources: tuple[Path, ...] = ()
    passed_over: int = 0
    named: frozenset[Path] = frozenset()
    links: tuple[Path, ...] = ()
    unreadable: tuple[tuple[Path, str], ...] = ()


@dataclass
class _LeftOut:
    files: int = 0
    links: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


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
    left_out = _LeftOut()
    for source, relative in _find(inputs, output, left_out):
        target = output / relative
        masks = () if recognition is None else recognition.masks(target)
        earlier = jobs.setdefault(os.path.normcase(target), Job(source, target, masks)).source
        if os.path.realpath(earlier) != os.path.realpath(source):
            _refuse_clash(earlier, source, target)
    if not jobs:
        for folder, reason in left_out.unreadable:
            raise UserError(f"{folder}: {reason}")
        names = ", ".join(str(path) for path in inputs) or "no input"
        raise UserError(f"{names}: expected images ({', '.join(_KINDS)}), found none; check the path")
    _check_clashes(jobs, None if recognition is None else recognition.table)
    _check_cases(jobs, output)
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
    return Plan(
        tuple(planned),
        len(jobs) - len(planned),
        tuple(job.source for job in jobs.values()),
        left_out.files,
        named,
        tuple(left_out.links),
        tuple(left_out.unreadable),
    )


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
    sources = {os.path.realpath(job.source) for job in jobs.values()}  # unlike Path.resolve, it takes links in a circle
    for job in jobs.values():
        for path in (job.target, *job.masks):
            if os.path.realpath(path) in sources:
                raise UserError(
                    f"{path}: the result of {job.source} would replace an input; choose another output folder"
                )


def _check_cases(jobs: dict[str, Job], output: Path) -> None:
    """Refuse outputs whose names differ in their case alone, where the output folder does not tell them apart."""
    owners: dict[str, tuple[Path, Path]] = {}
    for job in jobs.values():
        for path in (job.target, *job.masks):
            owner, other = owners.setdefault(str(path).casefold(), (job.source, path))
            if other == path:
                continue
            if not _ignores_case(output):
                return
            _refuse_clash(owner, job.source, path)


def _ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder, or of the place where it is to be made, takes a.png for A.png."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(prefix=".case-", dir=folder) as probe:
            path = Path(probe.name)
            return path.with_name(path.name.upper()).exists()
    except OSError:  # nothing can be written there, which is said elsewhere
        return False


def _refuse_clash(first: Path, second: Path, target: Path) -> None:
    raise UserError(f"{first} and {second} would both become {target}; rename one, or enhance them into two folders")


def _find(inputs: Sequence[str | Path], output: Path, left_out: _LeftOut) -> Iterator[tuple[Path, Path]]:
    """Give each image and its name below the output folder; what else lies in folders is put into ``left_out``."""
    place = os.path.realpath(output)
    for path in map(Path, inputs):
        if not path.exists():
            raise UserError(f"{path}: expected a file or a folder, found nothing; check the path")
        if not path.is_dir():
            if is_mask(path.name):
                raise UserError(f"{path}: expected an image, found a mask of an earlier call; leave it out")
            yield path, Path(path.name)
            continue
        if os.path.realpath(path) == place:
            raise UserError(f"{path}: the results would replace the inputs; choose another output folder")

        def leave_out(error: OSError) -> None:
            reason = f"the folder cannot be read ({error.strerror}); check its permissions"
            left_out.unreadable.append((Path(error.filename), reason))

        for folder, folders, names in os.walk(path, onerror=leave_out):
            here = Path(folder)
            # hidden ones are other programs' own; sorted, so that every run goes the same way
            folders[:] = sorted(name for name in folders if name[0] != "." and os.path.realpath(here / name) != place)
            left_out.links += [here / name for name in folders if (here / name).is_symlink()]
            for name in sorted(names):
                found = here / name
                # DICOM objects are named by their UIDs or numbers, or anything else: only their bytes tell
                is_image = name[0] != "." and (name.lower().endswith(_KINDS) or dicom.is_dicom(found))
                if is_image and not is_mask(name):
                    yield found, found.relative_to(path)
                else:
                    left_out.files += 1
