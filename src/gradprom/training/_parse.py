"""From YAML and the command line to a Config: jsonargparse does the types, this module the sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

from gradprom.errors import UserError
from gradprom.training.config import Config


def add_config_arguments(parser: Any) -> None:
    """Give a jsonargparse parser an option for every field of :class:`Config`, and ``--config FILE``."""
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(Config, fail_untyped=True)


def make_parser(**options: Any) -> Any:
    """A parser that raises UserError where argparse would print its usage and exit."""
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            raise UserError(_sentence(message)) from ex

    return Parser(**options)


def to_config(parser: Any, namespace: Any) -> Config:
    """The Config among a parser's results."""
    fields = {name: namespace[name] for name in Config.__dataclass_fields__ if name in namespace}
    instantiated = parser.instantiate(namespace)
    return Config(**{name: instantiated[name] for name in fields})


def parse_config(path: Path | None, arguments: list[str]) -> Config:
    """See :func:`gradprom.training.config.parse`."""
    parser = make_parser(prog="gradprom train")
    add_config_arguments(parser)
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: no such configuration file")
        arguments = ["--config", str(path), *arguments]
    return to_config(parser, parser.parse_args(arguments))


def _sentence(message: str) -> str:
    """One line out of jsonargparse's paragraphs."""
    message = re.sub(r"\x1b\[[0-9;]*m", "", message)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return ": ".join(line.rstrip(":.") for line in lines[:6]) + ": see gradprom train --help"
