"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples, line by line as they are written here."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def whole_number(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """An argument's type: a whole number of at least ``least`` and, if given, at most ``most``.

    >>> whole_number(1)("12")
    12
    >>> whole_number(0, 65535)("-1")
    Traceback (most recent call last):
    ...
    argparse.ArgumentTypeError: -1 is not a whole number of at least 0 and at most 65535
    """

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            upper = "" if most is None else f" and at most {most}"
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}{upper}")
        return int(text)

    return number
