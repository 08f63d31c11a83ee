"""Errors that are meant for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class UserError(Exception):
    """A mistake in what was given to gradprom: the message is one sentence for a person.

    The command line prints it without a traceback and exits with code 2.

    Args:
        message: the sentence.
        failures: where several files were to be worked on, each that failed, with its own reason.

    Example:
        >>> raise UserError("image.png: expected an image, found a directory")
        Traceback (most recent call last):
        ...
        gradprom.errors.UserError: image.png: expected an image, found a directory
    """

    exit_code = 2

    def __init__(self, message: str, failures: Sequence[tuple[Path, str]] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class PartialFailureError(UserError):
    """Some of the work was done and some could not be; the command line exits with code 1."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """The first line of an error, for a sentence of our own.

    Example:
        >>> first_line(ValueError("a\\nb")), first_line(ValueError())
        ('a', 'ValueError')
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def reason_of(error: Exception) -> str:
    """What an error says, of one of the operating system's its text alone.

    Example:
        >>> reason_of(PermissionError(13, "Permission denied", "a.csv"))
        'Permission denied'
    """
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
