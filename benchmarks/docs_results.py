"""Put an experiment into docs: results.csv, claims.csv, pictures, results.md below its marker, what was measured.

    cp -r docs/experiment experiment                    (to go on from what was measured before)
    gradprom experiment PLAN... -o experiment --data DATA      (again, until all is done)
    python benchmarks/docs_results.py experiment

Tables and planes (a picture and its figures) that the experiment knows less of than docs do stay as they are, and
tables of other plans than gradprom's own do not come into docs. What stands above the marker in docs/results.md is
written by hand and left alone. docs/experiment holds of each finished run what the tables are made from: every test
image's measures, and no image and no weights.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gradprom.experiments.claims import Claim, markdown, read_claims, write_claims
from gradprom.experiments.engine import RECORD
from gradprom.experiments.plan import shipped_plans
from gradprom.experiments.planes import plane_markdown, plane_name
from gradprom.experiments.records import RUNS, is_trained
from gradprom.experiments.results import against_paper
from gradprom.experiments.tables import Result, read_results, write_results

MARKER = "<!-- below: made by benchmarks/docs_results.py -->"
CLAIMS = "The paper's claims"
TRADEOFF = "The trade-off between image quality and independent recognition"
DOCS = Path(__file__).parents[1] / "docs"
MEASURED = ("run.json", "measured.json", "evaluation.json", "evaluation.csv")


def main(directory: Path, docs: Path = DOCS) -> None:
    tables = directory / "tables"
    if not (directory / "claims.csv").exists():
        raise SystemExit(f"{directory}: has no claims.csv: make its tables by gradprom experiment --tables-only first")
    shipped = {plan.name: plan.title for plan in shipped_plans()}
    named = {name.removeprefix("table") for name in shipped}
    before, after = (
        [row for row in read_results(folder / "results.csv") if row.table in named] for folder in (docs, directory)
    )
    claims = merged(read_claims(docs / "claims.csv"), read_claims(directory / "claims.csv"))
    known, now = trainings(before), trainings(after)
    stays = {table for table, count in known.items() if now[table] < count}
    in_docs, here = planes([row for row in before if row.table in stays]), planes(after)
    keep_measured(directory, docs / "experiment")

    rows = [row for row in after if row.table not in stays] + [row for row in before if row.table in stays]
    write_results(rows, docs / "results.csv")
    write_claims(claims, docs / "claims.csv")

    page = docs / "results.md"
    head, _, below = page.read_text(encoding="utf-8").partition(MARKER)
    sections = dict(part.split("\n", 1) for part in below.split("\n## ")[1:])
    for name, title in shipped.items():
        path = tables / f"{name}.md"
        if path.exists() and stays.isdisjoint(row.table for row in read_results(path.with_suffix(".csv"))):
            sections[title] = path.read_text(encoding="utf-8").split("\n", 1)[1]
    for figures in tables.glob("tradeoff-*.csv"):
        name = re.sub("(-b)+$", "", figures.stem)  # planes of several settings are told apart by that alone
        if here[name] >= in_docs[name]:
            for path in (figures, figures.with_suffix(".png")):
                shutil.copy(path, docs / path.name)
    said = f"{markdown(claims)}\n{against_paper(rows)}"
    middle = [f"{title}\n{sections[title]}" for title in sorted(shipped.values()) if title in sections]
    shown = [plane(path) for path in sorted(docs.glob("tradeoff-*.png"))]
    parts = [f"{CLAIMS}\n\n{said}", *middle, "\n".join([f"{TRADEOFF}\n", *shown])]
    page.write_text(f"{head}{MARKER}\n\n" + "\n".join(f"## {part.strip()}\n" for part in parts), encoding="utf-8")
    for table in sorted(stays):
        print(f"table {table}: {now[table]} trainings here, {known[table]} in docs, which stay")


def trainings(rows: Iterable[Result]) -> Counter[str]:
    """Of each table how many cells it has, each as often as it has seeds."""
    return Counter(row.table for row in rows for _ in range(row.seeds or 1))


def planes(rows: Iterable[Result]) -> Counter[str]:
    """Of each picture, by its name, how many trainings it may show."""
    return Counter(
        f"tradeoff-{plane_name(row.dataset, row.level, row.auxiliary, row.supervision)}"
        for row in rows
        for _ in range(row.seeds or 1)
    )


def plane(picture: Path) -> str:
    """A picture, and its figures below it where they are known."""
    shown, figures = f"![{picture.stem}]({picture.name})\n", picture.with_suffix(".csv")
    if not figures.exists():
        return shown
    with figures.open(encoding="utf-8", newline="") as file:
        return f"{shown}\n{plane_markdown(list(csv.DictReader(file)))}"


def merged(before: list[Claim], after: list[Claim]) -> list[Claim]:
    """The claims with the comparisons of both; of one that is in both that of more seeds, or else the later, counts."""
    found = []
    for old, new in zip(before, after, strict=True):
        kept = {one.sides: one for one in old.findings}
        for one in new.findings:
            if one.sides not in kept or one.seeds >= kept[one.sides].seeds:
                kept[one.sides] = one
        found.append(Claim(new.name, tuple(kept.values())))
    return found


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
