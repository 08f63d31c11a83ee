"""How the results of an experiment come into docs beside those that were there."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from gradprom.experiments.plan import read_plan
from gradprom.experiments.tables import Result, read_results, write_results

PLANE = (
    "method,weight,max_ratio,seeds,psnr,psnr_difference,psnr_low,psnr_high,psnr_verdict,recognition,recognition_difference,"
    "recognition_low,recognition_high,recognition_verdict,front\n"
    "joint,1,,3,30,-0.5,-0.6,-0.4,worse,0.5,,,,,yes\n"
)
HEADER = "claim,dataset,first,less,degradation,trained_on,seeds,difference,low,high,n,verdict\n"


SHOWN = [f"tradeoff-isic2018-{level}-both-supervised" for level in ("0.1", "0.2")]
TITLES = {number: read_plan(f"table{number}").title for number in (2, 5)}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/docs_results.py")


def test_claims_of_two_experiments_are_one(script: ModuleType, tmp_path: Path) -> None:
    row = "A-1,{},a,b,gaussian {},crops,{},{},{},{},9,{}\n".format
    better = row("isic2018", 0.2, 1, 0.2, 0.1, 0.3, "better")
    told = row("isic2018", 0.1, 1, 0, -0.1, 0.1, "no difference told")
    worse = row("isic2018", 0.1, 1, -0.2, -0.3, -0.1, "worse")
    elsewhere = row("camus", 0.1, 1, 0.2, 0.1, 0.3, "better")
    of_three = row("isic2018", 0.3, 3, 0, -0.1, 0.1, "no difference told")
    of_one = row("isic2018", 0.3, 1, 0.2, 0.1, 0.3, "better")
    for name, rows in (("before", better + told + of_three), ("after", worse + elsewhere + of_one)):
        (tmp_path / name).write_text(HEADER + rows)
    merged = script.merged(*(script.read_claims(tmp_path / name) for name in ("before", "after")))
    script.write_claims(merged, tmp_path / "merged")
    assert (tmp_path / "merged").read_text() == HEADER + better + worse + of_three + elsewhere


def test_what_docs_know_more_of_stays(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs, experiment = tmp_path / "docs", tmp_path / "experiment"
    # of Table 8 the experiment has as many cells, of one seed in place of two
    kinds = ((docs, {"2": 1, "5": 2, "8": 1}, 2), (experiment, {"2": 3, "5": 1, "8": 1, "_mine": 1}, 1))
    for folder, counts, seeds in kinds:
        tables = folder / "tables"
        tables.mkdir(parents=True)
        cell = Result("", "isic2018", "denoise", "0.1", "joint", "supervised", "both", psnr=30.0, seeds=seeds)
        rows = [replace(cell, table=table, ssim=float(seeds)) for table, n in counts.items() for _ in range(n)]
        more = [replace(cell, table="2", level="0.2", psnr=31.0) for _ in range(2) if folder is experiment]
        rows += [*more, replace(cell, table="5", level="0.2", psnr=31.0)]
        for name in (*SHOWN, f"tradeoff-only-in-{folder.name}"):
            (tables / f"{name}.png").write_text(folder.name)
            (tables / f"{name}.csv").write_text(PLANE)
        write_results(rows, folder / "results.csv")
        (folder / "claims.csv").write_text(HEADER)
        for table in counts:
            (tables / f"table{table}.md").write_text(f"### A title\n\nby {folder.name}\n")
            write_results([row for row in rows if row.table == table], tables / f"table{table}.csv")
    for name in SHOWN:
        shutil.copy(docs / "tables" / f"{name}.png", docs)
        shutil.copy(docs / "tables" / f"{name}.csv", docs)
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
        f"# By hand\n\n{script.MARKER}\n\n## {TITLES[2]}\n\nby docs\n\n## {TITLES[5]}\n\nby docs\n"
        "\n## A plan that was once there\n\nby docs\n"
    )

    script.main(experiment, docs)
    page = (docs / "results.md").read_text()
    assert page.startswith(f"# By hand\n\n{script.MARKER}\n\n## The paper's claims\n")
    assert f"## {TITLES[2]}\n\nby experiment\n\n## {TITLES[5]}\n\nby docs\n" in page
    assert "A plan that was" not in page  # it is none of gradprom's
    assert "A title" not in page
    kept_rows = [(row.table, row.seeds) for row in read_results(docs / "results.csv")]
    assert sorted(kept_rows) == [("2", 1)] * 5 + [("5", 2)] * 3 + [("8", 2)]
    assert "| 5 | isic2018 | 0.1 | 30.000 (joint) | 36.173 | -6.173 |" in page
    # of the first docs know more, by Tables 5 and 8, and of the second the experiment does, by Table 2
    assert [(docs / f"{name}.png").read_text() for name in SHOWN] == ["docs", "experiment"]
    assert (docs / "tradeoff-only-in-experiment.png").read_text() == "experiment"
    picture = "![tradeoff-only-in-experiment](tradeoff-only-in-experiment.png)\n\n| method | λ |"
    assert picture in page
    assert "| joint | 1 |  | 30.000 | **-0.5000 [-0.6000, -0.4000]** | 0.5000 |  | yes |" in page
    assert capsys.readouterr().out == (
        "table 5: 2 trainings here, 6 in docs, which stay\ntable 8: 1 trainings here, 2 in docs, which stay\n"
    )
    kept = {path.relative_to(docs / "experiment").as_posix() for path in (docs / "experiment").rglob("*.*")}
    own = {"run.json", "evaluation.json", "evaluation.csv"}
    assert kept == {"experiment.yaml", *(f"runs/done/{name}" for name in own)} | {
        f"runs/done/on-other/evaluation.{ending}" for ending in ("json", "csv")
    }

    (experiment / "claims.csv").unlink()
    with pytest.raises(SystemExit, match="--tables-only"):
        script.main(experiment, docs)
    (experiment / "claims.csv").write_text(HEADER)
    (done / "evaluation.json").write_text('{"dataset": "/home/me/data"}')
    with pytest.raises(SystemExit, match="names a folder of this machine"):
        script.main(experiment, docs)
