"""What became of the images of a call, and how that is said."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gradprom._files import write_text
from gradprom.errors import UserError
from gradprom.images.frames import writing
from gradprom.inference._plan import Plan
from gradprom.inference.recognition import TABLE

_FEW = 3
_HEADER = "file,reason\n"


@dataclass
class Log:
    """What became of each image.

    Attributes:
        written: outputs.
        read: outputs that existed already, of which what recognizers read was written.
        without_masks: images that are in one of both, each with the reason why they have no masks.
        failed: images that are in neither, each with the reason.
        no_images: files that hold no image, each with what they hold.
    """

    written: list[Path] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)
    without_masks: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    no_images: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many images came out."""
        return len(self.written) + len(self.read)


def summarize(log: Log, plan: Plan, output: Path) -> str:
    """Say what went wrong: a line for each file or reason, below one that says how much of it all that is.

    Example:
        >>> log = Log(written=[Path("out/a.png")], failed=[(Path("b.png"), "is empty")])
        >>> print(summarize(log, Plan(()), Path("out")))
        1 of 2 images could not be enhanced; the other one is in out:
        b.png: is empty
    """
    wrong = failures(log, plan)
    beside = passed_over(log.no_images, plan.links)
    if plan.existing or plan.passed_over:
        beside.append(f"{plan.existing} existed already, {count(plan.passed_over, 'other file')} passed over")
    lines = [*grouped(wrong), *beside]
    if len(wrong) == 1 and len(log.failed) + log.done <= 1:
        return "\n".join(lines)
    if not log.failed:
        return "\n".join([f"{count(log.done, 'image')} came into {output}, but:", *lines])
    others = {0: f"nothing was written to {output}", 1: f"the other one is in {output}"}
    rest = others.get(log.done, f"the other {log.done} are in {output}")
    total = len(log.failed) + log.done
    return "\n".join([f"{len(log.failed)} of {total} images could not be enhanced; {rest}:", *lines])


def failures(log: Log, plan: Plan) -> list[tuple[Path, str]]:
    """All that went wrong, file by file."""
    return [*log.failed, *log.without_masks, *plan.unreadable]


def check_list(path: Path) -> None:
    """Refuse to write a list of failures over something else.

    Raises:
        UserError: ``path`` is not the name of such a list, or is there and is none.
    """
    if path.suffix.lower() != ".csv" or path.name == TABLE:
        raise UserError(f"{path}: expected a name for the list that ends in .csv and is not {TABLE}; choose another")
    found = None
    try:
        place = next(folder for folder in path.absolute().parents if folder.exists())
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise UserError(f"{path}: the list cannot be written ({place} takes no files); choose another folder")
        if path.exists() and not path.is_file():
            found = "a folder, a pipe or a device"
        elif path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                found = None if file.read(len(_HEADER)) in ("", _HEADER) else "another file"
    except OSError as error:
        raise UserError(f"{path}: the list cannot be written ({error.strerror}); choose another file") from error
    if found is not None:
        raise UserError(f"{path}: expected an earlier list of what failed, found {found}; choose another name")


def write_list(path: Path, failures: Iterable[tuple[Path, str]]) -> None:
    """Write a row for each failure, or none, in place of an earlier list.

    Raises:
        UserError: it cannot be written.
    """
    text = io.StringIO(_HEADER, newline="")
    text.seek(0, io.SEEK_END)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(failures)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())


def passed_over(no_images: Iterable[tuple[Path, str]], links: Iterable[Path]) -> list[str]:
    """Say what was found in folders and left alone.

    Example:
        >>> passed_over([(Path("a.dcm"), "a dose")], [Path("in/more")])
        ['a.dcm: passed over, it holds a dose', 'in/more: passed over, it is a link to a folder; name it to follow it']
    """
    found = [(path, f"passed over, it holds {what}") for path, what in no_images]
    return grouped([*found, *((path, "passed over, it is a link to a folder; name it to follow it") for path in links)])


def grouped(reasons: Iterable[tuple[Path, str]]) -> list[str]:
    """A line for each file and what is said of it; one line for more than a few of which the same is said.

    Example:
        >>> grouped([(Path(name), "is empty") for name in "abcdefg"])
        ['a, b, c and 4 more: is empty']
    """
    paths: dict[str, list[Path]] = {}
    for path, reason in reasons:
        paths.setdefault(reason, []).append(path)
    lines = []
    for reason, same in paths.items():
        if len(same) > _FEW:
            names = ", ".join(map(str, same[:_FEW]))
            lines.append(f"{names} and {len(same) - _FEW} more: {reason}")
        else:
            lines += [f"{path}: {reason}" for path in same]
    return lines


def count(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> count(1, "other file"), count(0, "image")
        ('1 other file', '0 images')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"
