"""``gradprom models``: the enhancers that come with the package, and their cards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gradprom._arguments import add_command
from gradprom.errors import UserError

if TYPE_CHECKING:
    from gradprom.models import Measures

_LEVELS = {"none": "clean"} | {f"gaussian {sigma}": f"σ {sigma}" for sigma in ("0.05", "0.1", "0.2", "0.3")}
_CAPTION = (
    "PSNR in dB, mean over images that the model never saw: enhanced, and below it what was given. A clean image comes "
    "back as close to itself as its column says."
)
_EXAMPLES = """examples:
  gradprom models
  gradprom models dermoscopy
  gradprom enhance dermoscopy noisy/ -o enhanced/"""


def add_models_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``models`` to the commands of a parser."""
    summary = "list the ready-made enhancers, or print the card of one"
    models = add_command(commands, "models", summary, _EXAMPLES)
    models.add_argument("name", metavar="NAME", nargs="?", help="whose card to print (default: list all of them)")
    models.set_defaults(run=_models)


def _models(options: argparse.Namespace) -> int:
    from gradprom.models import CARD, ROOT, shipped

    names = shipped()
    if not names:
        raise UserError("no models came with this installation of gradprom: train one with gradprom train")
    if options.name is None:
        _list(names)
    elif options.name in names:
        print((ROOT / options.name / CARD).read_text(encoding="utf-8"), end="")
    else:
        raise UserError(f"{options.name}: is not a shipped model, expected {' or '.join(names)}")
    return 0


def _list(names: tuple[str, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from gradprom.models import read_measures

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1, caption=_CAPTION)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for level in _LEVELS.values():
        table.add_column(level, justify="right", no_wrap=True)
    for name in names:
        measures = read_measures(name)
        table.add_row(name, _entry(name, measures), *(_cell(measures, level) for level in _LEVELS))
    # in one piece, so that a reader who has seen enough may close the pipe
    Console(markup=False).print(table, "\ngradprom models NAME prints a model's card.")


def _entry(name: str, measures: Measures) -> str:
    from gradprom._chain import describe_chain
    from gradprom.models import ROOT
    from gradprom.training.folder import ENHANCER, read_config, read_record

    folder = ROOT / name
    colours = {1: "grey", 3: "colour"}[read_record(folder).channels]
    size = (folder / ENHANCER).stat().st_size / 1e6
    trained = describe_chain(read_config(folder).degradation)
    return f"{measures.what}; {colours} images, {size:.1f} MB. Trained for: {trained}"


def _cell(measures: Measures, level: str) -> str:
    values = (measures.psnr(level, method) for method in ("enhanced", "input"))
    return "\n".join("" if value is None else f"{value:.1f}" for value in values)
