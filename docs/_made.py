"""What pages say that the code knows better: commands' help, options and their defaults, and the public interface.

A page asks for it by a comment, ``<!-- made: commands -->``, which is replaced as the page is read.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from unittest.mock import patch

import docstring_parser
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import gradprom
from gradprom import cli
from gradprom.training import config

COLUMNS = 88  # fits the page's width
_MARKER = re.compile(r"<!-- made: (\w+)((?: [\w.]+)*) -->")
# pages lie beside the README in the repository; on the site its sections stand elsewhere
_LINKS = {"../README.md#how-it-is-measured": "protocol.md"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx fill in each page as it is read."""
    app.connect("source-read", lambda _app, _name, source: source.__setitem__(0, fill(source[0])))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill(text: str) -> str:
    """A page's text with what its comments ask for in their places."""
    makers = {"commands": commands, "options": options, "names": names, "api": api}
    for here, there in _LINKS.items():
        text = text.replace(f"]({here})", f"]({there})")
    return _MARKER.sub(lambda found: makers[found[1]](*found[2].split()), text)


def commands() -> str:
    """Every command with its help, as Markdown."""
    with patch.dict(os.environ, COLUMNS=str(COLUMNS)):
        parts = [
            f"## {name}\n\n```text\n{parser.format_help()}```\n" for name, parser in walk(cli._parser(), "gradprom")
        ]
    return "\n".join(parts)


def walk(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those of its commands, each with the words that call it."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield from walk(command, f"{name} {word}")


def options() -> str:
    """Every option of a configuration, its default and what it means, as Markdown tables."""
    groups = [
        ("The run", "", config.Config),
        ("dataset", "dataset.", config.DatasetConfig),
        ("enhancer", "enhancer.", config.EnhancerConfig),
        ("diagnosis and segmentation", "diagnosis.", config.RecognizerConfig),
        ("promotion", "promotion.", config.PromotionConfig),
        ("training", "training.", config.TrainingConfig),
        ("training.warmup, training.pretrain and training.cascade", "training.warmup.", config.StageConfig),
    ]
    return "\n".join(f"## {title}\n\n{_table(prefix, group)}\n" for title, prefix, group in groups)


def _table(prefix: str, group: type) -> str:
    said = {one.arg_name: one.description for one in docstring_parser.parse(group.__doc__ or "").params}
    rows = ["| option | default | |", "|---|---|---|"]
    for field in dataclasses.fields(group):
        if field.default is dataclasses.MISSING:
            default = "a group"
        else:
            default = f"`{'null' if field.default is None else field.default}`".replace("True", "true")
        meaning = " ".join((said[field.name] or "").split()).replace("|", r"\|")
        rows.append(f"| `{prefix}{field.name}` | {default.replace('False', 'false')} | {meaning} |")
    return "\n".join(rows)


def names() -> str:
    """What ``import gradprom`` gives, and where each name is explained."""
    rows = ["| name | |", "|---|---|"]
    for name in sorted(gradprom.__all__):
        home = gradprom._HOMES[name]
        said = " ".join((inspect.getdoc(getattr(gradprom, name)) or "").partition("\n\n")[0].split())
        rows.append(f"| {{py:obj}}`{name} <{home}.{name}>` | {said} |")
    return "\n".join(rows)


def api(*modules: str) -> str:
    """Directives that have Sphinx print the docstrings of modules and, of packages, all that is public in them."""
    parts = [_directive(name) for module in modules for name in public_modules(module)]
    return "\n".join(["```{eval-rst}", *parts, "```"])


def public_modules(name: str) -> list[str]:
    """A module's name and, of a package, those of its public modules."""
    module = importlib.import_module(name)
    found = [name]
    for part in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if not part.name.startswith("_"):
            found += public_modules(f"{name}.{part.name}")
    return found


def _directive(name: str) -> str:
    members = public_members(importlib.import_module(name))
    lines = [name, "-" * len(name), "", f".. automodule:: {name}", "   :member-order: bysource"]
    return "\n".join([*lines, *([f"   :members: {', '.join(members)}"] if members else []), ""])


def public_members(module: ModuleType) -> list[str]:
    """The names of a module's own that have a docstring, and those that it shows of private modules."""
    documented = {name for scope, name in ModuleAnalyzer.for_module(module.__name__).find_attr_docs() if not scope}
    shown = getattr(module, "__all__", ())
    parts = [importlib.import_module(name) for name in public_modules(module.__name__)[1:]]
    deeper = {name for part in parts for name in getattr(part, "__all__", ())}
    found = []
    for name in shown or vars(module):
        thing = getattr(module, name)
        home = getattr(thing, "__module__", "") if inspect.isclass(thing) or inspect.isfunction(thing) else ""
        # what another public module is home to is explained there
        private = name in shown and name not in deeper and any(part.startswith("_") for part in home.split("."))
        own = home == module.__name__ or private
        if not name.startswith("_") and (name in documented or (own and inspect.getdoc(thing))):
            found.append(name)
    return found
