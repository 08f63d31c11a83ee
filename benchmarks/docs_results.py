"""Put the tables of an experiment into docs: results.csv, the pictures, and results.md below its marker.

    gradprom experiment PLAN... -o DIR --data DATA      (again, until all is done)
    python benchmarks/docs_results.py DIR

What stands above the marker in docs/results.md is written by hand and left alone.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

MARKER = "<!-- below: made by benchmarks/docs_results.py -->"
DOCS = Path(__file__).parents[1] / "docs"


def main(directory: Path) -> None:
    tables = directory / "tables"
    shutil.copy(directory / "results.csv", DOCS / "results.csv")
    parts = [f"## The paper's claims\n\n{(directory / 'claims.md').read_text(encoding='utf-8')}"]
    parts += [path.read_text(encoding="utf-8").replace("### ", "## ", 1) for path in sorted(tables.glob("*.md"))]
    pictures = sorted(tables.glob("tradeoff-*.png"))
    if pictures:
        parts.append("## The trade-off between image quality and independent recognition\n")
    for picture in pictures:
        shutil.copy(picture, DOCS / picture.name)
        parts.append(f"![{picture.stem}]({picture.name})\n")
    page = DOCS / "results.md"
    head = page.read_text(encoding="utf-8").partition(MARKER)[0]
    page.write_text("\n".join([f"{head}{MARKER}\n", *parts]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
