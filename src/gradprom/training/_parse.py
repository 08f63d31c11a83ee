"""From YAML and the command line to a Config: jsonargparse does the types, this module the sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from gradprom.errors import UserError
from gradprom.training.config import Config

_MODE = "gradprom"
_NO_GROUP = "there is a single value, or none, where a group of options belongs: see gradprom train --help-all"
_KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "dict": "options"}


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

    jsonargparse.set_loader(_MODE, _load_yaml, (yaml.YAMLError,))
    jsonargparse.set_dumper(_MODE, lambda data: yaml.safe_dump(data, sort_keys=False))
    return Parser(parser_mode=_MODE, **options)


def to_config(parser: Any, namespace: Any) -> Config:
    """The Config among a parser's results."""
    fields = [name for name in Config.__dataclass_fields__ if name in namespace]
    try:
        instantiated = parser.instantiate(namespace)
    except TypeError as error:
        raise UserError(_NO_GROUP) from error
    for name in fields:  # jsonargparse passes over a lone value here
        if is_dataclass(instantiated[name]) and isinstance(namespace[name], str | int | float | list | None):
            raise UserError(f"{name}: {_NO_GROUP}")
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


def _load_yaml(text: str) -> Any:
    """YAML as jsonargparse reads it, without what a configuration has no use for and which can do harm.

    A few nested aliases stand for billions of values, ``class_path`` has jsonargparse import the module it names, and
    ``config`` reads another file.
    """
    import jsonargparse

    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise UserError("the configuration uses YAML aliases (*name), which are not accepted: write the values out")
    data = jsonargparse.get_loader("yaml")(text)
    for key in _keys(data):
        if key in ("class_path", "init_args", "config"):
            raise UserError(f"option {key!r} is not accepted in a configuration: see gradprom train --help-all")
    return data


def _keys(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        yield from data
    if isinstance(data, dict | list):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _keys(item)


def _sentence(message: str) -> str:
    r"""One line out of jsonargparse's paragraphs.

    >>> _sentence('Parser key "training.size":\n  Expected a <class \'int\'>. Got value: x')
    'training.size: expected a whole number, found x: see gradprom train --help-all'
    """
    message, hint = re.sub(r"\x1b\[[0-9;]*m", "", message), ": see gradprom train --help-all"
    keys = re.findall(r'[Pp]arser key "([^"]+)"', message)
    unknown = re.search(r"(?:Group '([^']+)' does not accept o|O)ption '([^']+)'", message)
    expected = re.search(r"Expected an? (.+?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    found = re.search(r"(?:Got|Given) value: (.*)", message)
    inner = re.search(rf"^ +- (.+){hint}", message, re.MULTILINE)
    if inner:  # a group of options that may also be null has been here before
        text = f"in {'.'.join(keys)}, {inner[1]}"
    elif unknown:
        text = f"there is no option {'.'.join(name for name in (*keys, *unknown.groups()) if name)!r}"
    elif keys and expected and found:
        kind = expected[1].removeprefix("typing.Literal").removeprefix("<class '").removesuffix("'>")
        kind = f"one of {kind[1:-1]}" if kind.startswith("[") else _KINDS.get(kind, kind)
        text = f"{'.'.join(keys)}: expected {kind}, found {found[1].strip()}"
    elif "Unexpected config" in message:
        text = "the configuration file holds no options: expected lines such as strategy: gradprom"
    else:
        message = re.sub(r'Parser key "([^"]+)"', r"\1", message)
        lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
        text = ": ".join(line.rstrip(":.") for line in lines[:6])
    return text + hint
