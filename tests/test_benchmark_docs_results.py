"""How the results of an experiment come into docs beside those that were there."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from gradprom.experiments.tables import Result, read_results, write_results

HEADER = "claim,first,less,degradation,trained_on,seeds,difference,low,high,n,verdict\n"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/docs_results.py")


def test_claims_of_two_experiments_are_one(script: ModuleType, tmp_path: Path) -> None:
    better = "A-1,a,b,gaussian 0.2,crops,1,0.2,0.1,0.3,9,better\n"
    told = "A-1,a,b,gaussian 0.1,crops,1,0,-0.1,0.1,9,no difference told\n"
    worse = "A-1,a,b,gaussian 0.1,crops,1,-0.2,-0.3,-0.1,9,worse\n"
    for name, rows in (("before", better + told), ("after", worse)):
        (tmp_path / name).write_text(HEADER + rows)
    merged = script.merged(*(script.read_claims(tmp_path / name) for name in ("before", "after")))
    script.write_claims(merged, tmp_path / "merged")
    assert (tmp_path / "merged").read_text() == HEADER + better + worse


def test_what_docs_know_more_of_stays(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs, experiment = tmp_path / "docs", tmp_path / "experiment"
    for folder, counts in ((docs, {"2": 1, "5": 2}), (experiment, {"2": 2, "5": 1})):
        tables = folder / "tables"
        tables.mkdir(parents=True)
        rows = [Result(table, folder.name, "denoise", "0.1", "joint") for table, n in counts.items() for _ in range(n)]
        write_results(rows, folder / "results.csv")
        (folder / "claims.csv").write_text(HEADER)
        for table in counts:
            (tables / f"table{table}.md").write_text(f"### Table {table}\n\nby {folder.name}\n")
            write_results([row for row in rows if row.table == table], tables / f"table{table}.csv")
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
    kept_rows = [(row.table, row.dataset) for row in read_results(docs / "results.csv")]
    assert kept_rows == [("2", "experiment")] * 2 + [("5", "docs")] * 2
    assert capsys.readouterr().out == "table 5: 1 rows here, 2 in docs, which stay\n"
    kept = {path.relative_to(docs / "experiment").as_posix() for path in (docs / "experiment").rglob("*.*")}
    own = {"run.json", "evaluation.json", "evaluation.csv"}
    assert kept == {"experiment.yaml", *(f"runs/done/{name}" for name in own)} | {
        f"runs/done/on-other/evaluation.{ending}" for ending in ("json", "csv")
    }

    (done / "evaluation.json").write_text('{"dataset": "/home/me/data"}')
    with pytest.raises(SystemExit, match="names a folder of this machine"):
        script.main(experiment, docs)
