"""``gradprom data``: which datasets there are, and whether a copy of one is whole."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gradprom._arguments import add_command
from gradprom.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from gradprom.datasets.about import About
    from gradprom.datasets.check import Report

_SHOWN = 20
_QUICK = 16
_CHECK_EXAMPLES = """examples:
  gradprom data check isic2018 data/isic
  gradprom data check covid_ct data/COVID-CT --split random --write-split split.csv
  gradprom data check covid_ct data/COVID-CT --split split.csv

exit code: 0 the copy is whole, 1 some of it must be mended, 2 it cannot be used at all"""


def add_data_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``data`` with its ``list`` and ``check`` to the commands of a parser."""
    summary = "list the datasets, or check a copy of one"
    data = add_command(commands, "data", summary, "example:\n  gradprom data check isic2018 data/isic")
    verbs = data.add_subparsers(title="commands", metavar="COMMAND", required=True)

    summary = "which datasets there are, under which licence, where to get them and how to cite them"
    listing = add_command(verbs, "list", summary, "example:\n  gradprom data list")
    listing.set_defaults(run=_list)

    summary = "read every image and mask of a dataset, count, and say what is missing or does not fit"
    check = add_command(verbs, "check", summary, _CHECK_EXAMPLES)
    check.add_argument("name", metavar="NAME", help="one of gradprom data list")
    check.add_argument("root", metavar="ROOT", nargs="?", type=Path, help="its folder (brain_mr has none)")
    check.add_argument("--split", help="official, random or a file of columns id and part (default: the dataset's own)")
    check.add_argument("--test-fraction", type=float, default=0.2, help="share tested on at random (default: 0.2)")
    check.add_argument("--split-seed", type=int, default=0, help="of a random split (default: 0)")
    check.add_argument("--views", default="both", help="of camus: both, 2CH or 4CH (default: both)")
    check.add_argument("--structures", default="endocardium", help="of camus: endocardium or all")
    check.add_argument("--max-pixels", type=int, default=100_000_000, help="refuse larger (default: 100 million)")
    check.add_argument(
        "--quick", action="store_true", help=f"look at every name, but read no more than {_QUICK} images"
    )
    check.add_argument("--write-split", type=Path, metavar="FILE", help="write down which image is in which part")
    check.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    check.set_defaults(run=_check)


def _list(_: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from gradprom.datasets.about import ABOUT

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for name, about in ABOUT.items():
        table.add_row(name, _entry(about))
    # in one piece, so that a reader who has seen enough may close the pipe
    Console(markup=False).print(table, "\ngradprom data check NAME ROOT says whether a copy is whole.")
    return 0


def _entry(about: About) -> str:
    lines = [about.what, f"tasks: {', '.join(about.tasks)}", f"licence: {about.licence}", about.where]
    if about.cite:
        lines.append(f"cite: {about.cite}")
    if about.layout:
        lines.append(f"in ROOT: {about.layout}")
    return "\n".join(lines)


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from gradprom.datasets import load_dataset
    from gradprom.datasets.check import check_dataset
    from gradprom.datasets.splits import write_split

    target: Path | None = options.write_split
    if target is not None and target.exists() and not options.overwrite:
        raise UserError(f"{target}: exists already: choose another name, or replace it with --overwrite")
    dataset = load_dataset(
        options.name,
        options.root,
        split=options.split,
        test_fraction=options.test_fraction,
        split_seed=options.split_seed,
        max_pixels=options.max_pixels,
        views=options.views,
        structures=options.structures,
        whole=False,
    )
    report = check_dataset(dataset, limit=_QUICK if options.quick else None)
    print(_size(report))
    Console(markup=False).print(_counts(report))
    print("\n".join(_findings(report)))
    if target is not None:
        write_split(dataset, target)
        print(f"split written to {target}")
    if not report.read:
        return 2
    return 1 if report.problems else 0


def _size(report: Report) -> str:
    """How many images there are, against how many were published."""
    from gradprom.datasets.about import ABOUT

    images = report.train.images + report.test.images
    published = ABOUT[report.dataset.name].images
    found = f"{report.dataset.name}: {images} images"
    if report.incomplete:
        found += f" with all their files, {report.incomplete} without"
    if published is None:
        return found
    if images == published:
        return f"{found}, as many as the published set has"
    return f"{found}; the published set has {published}: " + (
        "a subset" if images < published else "look for files that do not belong to it"
    )


def _counts(report: Report) -> Table:
    """Images, patients, classes and shares of mask classes in training and test."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    parts = (report.train, report.test)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(overflow="fold")
    for name in ("training", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("images", *(str(part.images) for part in parts))
    if any(part.groups for part in parts):
        table.add_row("patients", *(str(part.groups) for part in parts))
    for index, name in enumerate(report.dataset.classes):
        table.add_row(Text(f"class {name}"), *(str(part.labels[index]) for part in parts))
    for index, name in enumerate(report.dataset.mask_classes):
        shares = (100 * part.pixels[index] / sum(part.pixels) if any(part.pixels) else 0 for part in parts)
        table.add_row(Text(f"mask {name}"), *(f"{share:.2f} %" for share in shares))
    return table


def _findings(report: Report) -> list[str]:
    """What was seen in the files, then what is wrong with them, a line each."""
    images = report.train.images + report.test.images + report.incomplete
    (narrowest, widest), (lowest, highest) = report.widths, report.heights
    depths = ", ".join(f"{count} of {bits} bits" for bits, count in report.bits.items())
    lines = []
    if report.read:
        lines.append(f"sizes: {narrowest} to {widest} pixels wide, {lowest} to {highest} high")
        used = "grey" if report.dataset.channels == 1 else "colour"
        lines.append(f"images: {report.grey} grey, {report.colour} colour, used as {used}; {depths}")
    for what, sentences in (
        ("missing", [str(path) for path in report.missing]),
        ("warning", report.warnings),
        ("problem", report.problems),
    ):
        lines += [f"{what}: {sentence}" for sentence in sentences[:_SHOWN]]
        if len(sentences) > _SHOWN:
            lines.append(f"{what}: and {len(sentences) - _SHOWN} more")
    looked = f"{report.read} of {images} images read, {report.whole} whole, {_number(report.problems, 'problem')}"
    looked += f", {_number(report.warnings, 'warning')}"
    lines.append(f"{looked}: mend the problems before this dataset is used" if report.problems else looked)
    return lines


def _number(sentences: tuple[str, ...], what: str) -> str:
    return f"{len(sentences) or 'no'} {what}{'' if len(sentences) == 1 else 's'}"
