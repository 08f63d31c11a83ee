"""Tables of labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from gradprom.errors import UserError, reason_of


def read_table(path: Path, *, key: Sequence[str], value: str) -> list[tuple[str, str]]:
    """The pairs (key, value) of a CSV file with a header, each stripped of blanks around it.

    Args:
        path: the file, UTF-8, with commas.
        key: names the key's column may have, the preferred first.
        value: name of the value's column.

    Raises:
        UserError: when the file cannot be read as a table, a column is missing, or a key comes twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            key_column = next((name for name in key if name in columns), None)
            if key_column is None or value not in columns:
                raise UserError(
                    f"{path}: expected the columns {' or '.join(key)}, and {value}, "
                    f"found {', '.join(columns) or 'none'}: name them in the first line"
                )
            pairs = [((row[key_column] or "").strip(), (row[value] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: expected a table in CSV (UTF-8, commas), found {reason_of(error)}: save it as such"
        ) from error
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise UserError(f"{path}: expected each image once, found {name!r} twice: remove one of the lines")
        seen.add(name)
    return pairs
