"""Put an experiment into docs: results.csv, the pictures, results.md below its marker, and what was measured.

    cp -r docs/experiment experiment                    (to go on from what was measured before)
    gradprom experiment PLAN... -o experiment --data DATA      (again, until all is done)
    python benchmarks/docs_results.py experiment

Tables that the experiment knows less of than docs do stay as they are. What stands above the marker in docs/results.md
is written by hand and left alone. docs/experiment holds of each finished run what the tables are made from: every test
image's measures, and no image and no weights.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from gradprom.experiments.claims import Claim, Finding, markdown
from gradprom.experiments.engine import RECORD
from gradprom.experiments.records import RUNS, is_trained
from gradprom.experiments.statistics import Interval

MARKER = "<!-- below: made by benchmarks/docs_results.py -->"
CLAIMS = "The paper's claims"
TRADEOFF = "The trade-off between image quality and independent recognition"
FINDING = r"  - (.*): ([+-][\d.]+) dB (?:\[([+-][\d.]+), ([+-][\d.]+)\]|too few .*), .* \((\d+) patients or images\)"
DOCS = Path(__file__).parents[1] / "docs"
MEASURED = ("run.json", "measured.json", "evaluation.json", "evaluation.csv")


def main(directory: Path, docs: Path = DOCS) -> None:
    tables = directory / "tables"
    before, after = read_rows(docs / "results.csv"), read_rows(directory / "results.csv")
    known, now = (Counter(row["table"] for row in rows) for rows in (before, after))
    stays = {table for table, count in known.items() if now[table] < count}
    keep_measured(directory, docs / "experiment")

    with (docs / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(after[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in after if row["table"] not in stays)
        writer.writerows(row for row in before if row["table"] in stays)

    page = docs / "results.md"
    head, _, below = page.read_text(encoding="utf-8").partition(MARKER)
    sections = dict(part.split("\n", 1) for part in below.split("\n## ")[1:])
    for path in sorted(tables.glob("*.md")):
        if stays.isdisjoint(row["table"] for row in read_rows(path.with_suffix(".csv"))):
            title, text = path.read_text(encoding="utf-8").removeprefix("### ").split("\n", 1)
            sections[title] = text
    for picture in tables.glob("tradeoff-*.png"):
        shutil.copy(picture, docs / picture.name)
    pictures = [f"![{path.stem}]({path.name})\n" for path in sorted(docs.glob("tradeoff-*.png"))]
    claims = merged_claims(sections.pop(CLAIMS, ""), (directory / "claims.md").read_text(encoding="utf-8"))
    sections.pop(TRADEOFF, None)
    middle = [f"{title}\n{sections[title]}" for title in sorted(sections)]
    parts = [f"{CLAIMS}\n\n{claims}", *middle, "\n".join([f"{TRADEOFF}\n", *pictures])]
    page.write_text(f"{head}{MARKER}\n\n" + "\n".join(f"## {part.strip()}\n" for part in parts), encoding="utf-8")
    for table in sorted(stays):
        print(f"table {table}: {now[table]} rows here, {known[table]} in docs, which stay")


def merged_claims(before: str, after: str) -> str:
    """The claims with all comparisons of both: of one that is in both the later counts, and of our best the better."""
    found: dict[str, Claim] = {}
    best: dict[str, tuple[float, str]] = {}
    for text in (before, after):
        for name, what, part in re.findall(r"^- \*\*(\S+)\*\*: (.*): \*\*.*\n((?:  - .*\n?)*)", text, re.MULTILINE):
            findings = {one.what: one for one in found[name].findings} if name in found else {}
            for line in part.splitlines():
                said, mean, low, high, n = re.fullmatch(FINDING, line).groups()
                ends = [None if end is None else float(end) for end in (low, high)]
                findings[said] = Finding(said, Interval(float(mean), *ends, n=int(n)))
            found[name] = Claim(name, what, tuple(findings.values()))
        for line in re.findall(r"^\| \d.*", text, re.MULTILINE):
            cell, ours = re.match(r"((?:\| \S+ ){3})\| ([\d.]+)", line).groups()
            best[cell] = max(best.get(cell, (0.0, "")), (float(ours), line))
    head = re.findall(r"^Our best.*\n\n.*\n.*\n", after + before, re.MULTILINE)[:1]
    return markdown(found.values()) + "".join(["\n", *head, *(f"{line}\n" for _, (_, line) in sorted(best.items()))])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keep_measured(directory: Path, kept: Path) -> None:
    """Copy what was measured of the finished runs, without where this machine has its files."""
    for folder in sorted((directory / RUNS).iterdir()):
        measured = [path.parent for path in folder.rglob("evaluation.json")]
        if not is_trained(folder) or folder not in measured:
            continue
        for source in measured:
            evaluation = json.loads((source / "evaluation.json").read_text(encoding="utf-8"))
            if any(str(value).startswith("/") for value in evaluation.values()):
                raise SystemExit(f"{source}: names a folder of this machine")
            target = kept / RUNS / source.relative_to(directory / RUNS)
            target.mkdir(parents=True, exist_ok=True)
            for name in MEASURED:
                if (source / name).exists():
                    shutil.copy(source / name, target / name)
    shutil.copy(directory / RECORD, kept / RECORD)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
