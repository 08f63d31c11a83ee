"""What starting costs: ``import gradprom`` beyond ``import torch``, and how soon the command line helps.

    python benchmarks/startup.py [--repeats 9]

Every figure is of fresh processes that take turns; the first round, which may have to compile modules to bytecode, is
not measured. Commands are found where ``gradprom --help`` lists them.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys

from _measure import excess, interleaved, median_of, options, pinned, row, write_rows

IMPORTS = {
    "import torch": "import torch",
    "import gradprom": "import torch, gradprom",
    "import of every public name": "import torch; from gradprom import *",
}


def run(*words: str) -> str:
    return subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True).stdout


def commands() -> list[str]:
    """The words of every command: "", "train", "data list" and so on.

    >>> {"", "train", "data", "data list"} <= set(commands())
    True
    """

    def below(words: str) -> list[str]:
        text = run("-m", "gradprom.cli", *words.split(), "--help")
        block = text.partition("\ncommands:\n")[2].partition("\n\n")[0]
        # what is indented deeper is an explanation that goes on
        names = re.findall(r"^ {4}([a-z][a-z-]*)(?: |$)", block, re.MULTILINE)
        return [words, *(found for name in names for found in below(f"{words} {name}".strip()))]

    return below("")


def main() -> None:
    arguments = options(__doc__, repeats=9).parse_args()
    pins = pinned(repeats=arguments.repeats, python=sys.version.split()[0])
    helps = {f"gradprom {words} --help".replace("  ", " "): words.split() for words in commands()}
    calls = {name: ["-c", code] for name, code in IMPORTS.items()}
    calls |= {name: ["-m", "gradprom.cli", *words, "--help"] for name, words in helps.items()}
    calls = {name: words for name, words in calls.items() if arguments.only in f"start-up, {name}"}
    if any(name in calls for name in IMPORTS):
        calls["import torch"] = ["-c", IMPORTS["import torch"]]
    times = interleaved({name: functools.partial(run, *words) for name, words in calls.items()}, arguments.repeats)
    rows = []
    for clock in ("cpu", "wall"):
        series = {name: getattr(found, clock) for name, found in times.items()}
        for name in series:
            if name in helps:
                rows.append(row(f"start-up, {name}: seconds, {clock}", median_of(series[name]), "< 1", pins))
            elif name != "import torch":
                value = excess(series[name], series["import torch"])
                goal = "< 0.3" if name == "import gradprom" else None
                rows.append(row(f"start-up, {name}: seconds beyond import torch, {clock}", value, goal, pins))
    write_rows(rows, arguments.results)


if __name__ == "__main__":
    main()
