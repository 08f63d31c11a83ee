"""How the results of an experiment come into docs beside those that were there."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CLAIMS = """About.

- **A-1**: gradprom improves: **{conclusion}**.
{findings}
- **A-4**: both tasks give less: **was not tested**.

Our best PSNR in dB beside the best that the paper prints of any method, from its own setting:

| table | dataset | level | ours | paper | difference |
| --- | --- | --- | --- | --- | --- |
{best}
"""
FINDING = "  - {}: {:+.4f} dB [{:+.4f}, {:+.4f}], {} (9 patients or images)"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/docs_results.py")


def test_claims_of_two_experiments_are_one(script: ModuleType) -> None:
    better = FINDING.format("a less b at gaussian 0.2", 0.2, 0.1, 0.3, "better")
    told = FINDING.format("a less b at gaussian 0.1", 0.0, -0.1, 0.1, "no difference told")
    worse = FINDING.format("a less b at gaussian 0.1", -0.2, -0.3, -0.1, "worse")
    rows = "| 5 | isic2018 | 0.1 | 36.2 (frozen) | 36.1 | +0.1 |", "| 5 | isic2018 | 0.1 | 35.2 (joint) | 36.1 | -0.9 |"
    before = CLAIMS.format(conclusion="held in 1 of 2", findings=f"{better}\n{told}", best=rows[0])
    after = CLAIMS.format(conclusion="did not hold", findings=worse, best=rows[1])
    merged = script.merged_claims(before, after)
    assert better in merged
    assert worse in merged
    assert told not in merged
    assert "improves: **held in 1 of 2 comparisons, the reverse in 1**." in merged
    assert "A-4**: both tasks give less: **was not tested**" in merged
    assert rows[0] in merged
    assert rows[1] not in merged


def test_what_docs_know_more_of_stays(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs, experiment = tmp_path / "docs", tmp_path / "experiment"
    for folder, counts in ((docs, {"2": 1, "5": 2}), (experiment, {"2": 2, "5": 1})):
        tables = folder / "tables"
        tables.mkdir(parents=True)
        lines = [f"{table},{folder.name}" for table, count in counts.items() for _ in range(count)]
        (folder / "results.csv").write_text("\n".join(["table,psnr", *lines, ""]))
        for table in counts:
            (tables / f"table{table}.md").write_text(f"### Table {table}\n\nby {folder.name}\n")
            (tables / f"table{table}.csv").write_text(f"table,psnr\n{table},1\n")
    (experiment / "claims.md").write_text(CLAIMS.format(conclusion="", findings="", best=""))
    (experiment / "experiment.yaml").touch()
    done, begun = experiment / "runs" / "done", experiment / "runs" / "begun"
    for run, finished in ((done, "true"), (begun, "false")):
        (run / "on-other").mkdir(parents=True)
        (run / "run.json").write_text(f'{{"finished": {finished}}}')
        for folder in (run, run / "on-other"):
            (folder / "evaluation.json").write_text("{}")
            (folder / "evaluation.csv").write_text("id\n")
        (run / "checkpoint.pt").touch()
    (docs / "results.md").write_text(
        f"# By hand\n\n{script.MARKER}\n\n## Table 2\n\nby docs\n\n## Table 5\n\nby docs\n"
    )

    script.main(experiment, docs)
    page = (docs / "results.md").read_text()
    assert page.startswith(f"# By hand\n\n{script.MARKER}\n\n## The paper's claims\n")
    assert "## Table 2\n\nby experiment\n\n## Table 5\n\nby docs\n" in page
    assert sorted((docs / "results.csv").read_text().split()[1:]) == ["2,experiment"] * 2 + ["5,docs"] * 2
    assert capsys.readouterr().out == "table 5: 1 rows here, 2 in docs, which stay\n"
    kept = {path.relative_to(docs / "experiment").as_posix() for path in (docs / "experiment").rglob("*.*")}
    own = {"run.json", "evaluation.json", "evaluation.csv"}
    assert kept == {"experiment.yaml", *(f"runs/done/{name}" for name in own)} | {
        f"runs/done/on-other/evaluation.{ending}" for ending in ("json", "csv")
    }

    (done / "evaluation.json").write_text('{"dataset": "/home/me/data"}')
    with pytest.raises(SystemExit, match="names a folder of this machine"):
        script.main(experiment, docs)
