"""Whether the paper's claims held, by results made up to say so or the reverse."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradprom.experiments.claims import TEXTS, Claim, Finding, claims_of, markdown, read_claims, write_claims
from gradprom.experiments.groups import groups_of, once
from gradprom.experiments.plan import Grid, Plan, expand
from gradprom.experiments.records import summarise
from gradprom.experiments.statistics import Interval

BETTER, WORSE, NEITHER = (Interval(mean, mean - 0.1, mean + 0.1, 9) for mean in (1.0, -1.0, 0.0))


@pytest.mark.parametrize(
    ("intervals", "conclusion"),
    [
        ((), "was not tested"),
        ((NEITHER, NEITHER), "could not be told"),
        ((BETTER, BETTER), "held (2 of 2 comparisons so, 0 the reverse, "),
        ((BETTER, NEITHER), "could not be told (1 of 2 comparisons so, 0 the reverse"),
        ((BETTER, WORSE), "did not hold (1 of 2 comparisons so, 1 the reverse"),
        ((WORSE, NEITHER), "did not hold (0 of 2 comparisons so, 1 the reverse"),
    ],
)
def test_a_conclusion_is_no_stronger_than_its_intervals(intervals: tuple[Interval, ...], conclusion: str) -> None:
    assert Claim("A-1", findings(*intervals)).conclusion.startswith(conclusion)


def findings(*intervals: Interval, seeds: int = 3) -> tuple[Finding, ...]:
    return tuple(
        Finding("isic2018", f"a{n}", "b", "gaussian 0.1", "", seeds, interval) for n, interval in enumerate(intervals)
    )


@pytest.mark.parametrize("of_one", [(BETTER, BETTER), (WORSE,), (BETTER, WORSE, NEITHER)])
def test_one_training_decides_nothing(of_one: tuple[Interval, ...]) -> None:
    assert Claim("A-1", findings(*of_one, seeds=1)).conclusion.startswith("could not be told (of one training: ")
    assert Claim("A-1", (*findings(*of_one, seeds=1), *findings(BETTER))).conclusion.startswith("could not be told")
    assert Claim("A-1", (*findings(*of_one, seeds=1), *findings(WORSE))).conclusion.startswith("did not hold")


def test_a_conclusion_says_how_large_the_differences_are_and_of_how_many_trainings() -> None:
    few = Interval(-2.0, None, None, 3)
    assert Claim("A-1", findings(BETTER)).conclusion == "held (+1.0000 dB [+0.9000, +1.1000])"
    assert Claim("A-1", findings(NEITHER, BETTER, few)).conclusion.endswith(
        ", from -2.0000 dB too few images for an interval to +1.0000 dB [+0.9000, +1.1000])"
    )
    mixed = Claim("A-1", (*findings(WORSE, BETTER, seeds=1), *findings(NEITHER, seeds=3))).conclusion
    assert mixed == (
        "could not be told (of 3 trainings: +0.0000 dB [-0.1000, +0.1000]; of one training: 1 of 2 comparisons so, "
        "1 the reverse, from -1.0000 dB [-1.1000, -0.9000] to +1.0000 dB [+0.9000, +1.1000])"
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    claims = [Claim(name, ()) for name in TEXTS]
    claims[0] = Claim("A-1", findings(BETTER, Interval(-2.0, None, None, 3)))
    write_claims(claims, tmp_path / "claims.csv")
    assert read_claims(tmp_path / "claims.csv") == claims


def test_the_table_shows_each_comparison_by_its_level() -> None:
    at = [Finding("camus", "a", "b", f"gaussian {sigma}", "crops of 96 pixels", 2, BETTER) for sigma in ("0.2", "0.1")]
    *_, first, second = markdown([Claim("A-1", tuple(at))]).splitlines()
    interval = "+1.0000 | [+0.9000, +1.1000] | better | 9"
    assert first == f"| A-1 | camus | a | b | gaussian 0.1 | crops of 96 pixels | 2 | {interval} |"
    assert second == f"| A-1 | camus | a | b | gaussian 0.2 | crops of 96 pixels | 2 | {interval} |"


def test_a_comparison_that_several_plans_hold_is_one_with_all_their_seeds(tmp_path: Path) -> None:
    base = {
        "dataset": {"name": "isic2018", "root": "."},
        "segmentation": {"encoder": "resnet18"},
        "training": {"view": "whole"},
    }
    axes = {"degradation": ("gaussian 0.1",), "strategy": ("enhancer_only", "gradprom"), "auxiliary": ("segmentation",)}
    plans = [
        Plan(f"table{number}", "A table", "table2", base, {}, (Grid({**axes, "seed": seeds}),))
        for number, seeds in enumerate([(0,), (0, 1, 2), (2,)])
    ]
    gains = (0.5, -0.25, 0.5)
    groups = []
    for plan in plans:
        for run in expand(plan):
            gain = gains[run.axes["seed"]] if run.axes["strategy"] == "gradprom" else 0.0
            leave(tmp_path, run.name, 30.0 + gain)
        groups += groups_of(plan, summarise(tmp_path, expand(plan)))
    (finding,) = claims_of(once(groups))[0].findings
    assert (finding.dataset, finding.seeds, finding.interval.mean) == ("isic2018", 3, pytest.approx(0.25))
    assert finding.interval.low < 0 < finding.interval.high  # of seed 0 alone it would be better


def leave(directory: Path, name: str, psnr: float) -> None:
    folder = directory / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"enhanced,i{number},{psnr}" for number in range(8)]
    (folder / "evaluation.csv").write_text("\n".join(["method,id,psnr", *lines]) + "\n")
    (folder / "evaluation.json").write_text('{"summary": {"enhanced": {"images": 8}}}')


def test_each_claim_compares_what_it_is_about(tmp_path: Path) -> None:
    axes = {
        "degradation": ("gaussian 0.1",),
        "strategy": ("enhancer_only", "gradprom", "joint", "frozen"),
        "supervision": ("supervised", "unsupervised"),
        "auxiliary": ("diagnosis", "segmentation", "both"),
        "gate": ("hard", "cone 0.5"),
        "seed": (0, 1),
    }
    base = {
        "dataset": {"name": "isic2018", "root": "."},
        "segmentation": {"encoder": "resnet18"},
        "diagnosis": {"encoder": "resnet18"},
        "training": {"view": "whole"},
    }
    plan = Plan("table2", "A table", "table2", base, {}, (Grid(axes, ({"strategy": ("joint",), "gate": ("hard",)},)),))
    psnr = {"enhancer_only": 30.0, "gradprom": 31.0, "joint": 35.0, "frozen": 31.5}
    for run in expand(plan):
        value = psnr[run.axes["strategy"]] - {"both": 0.25, "diagnosis": 0.1}.get(run.axes["auxiliary"], 0)
        value += 0.1 if run.axes["supervision"] == "supervised" else 0
        leave(tmp_path, run.name, value)
    claims = {claim.name: claim for claim in claims_of(groups_of(plan, summarise(tmp_path, expand(plan))))}
    means = {name: sorted({round(f.interval.mean, 2) for f in claim.findings}) for name, claim in claims.items()}
    assert means["A-1"] == [-0.5, 0.75, 0.85, 0.9, 1.0, 1.1]  # less frozen, and less the enhancer trained alone
    assert means["A-2"] == [-0.5]  # joint has the cone here, which the paper knows nothing of
    assert means["A-3"] == [-0.1, 0.1]  # with diagnosis the paper has it the other way round
    assert means["A-4"] == [0.15, 0.25]
    assert claims["A-2"].conclusion.startswith("did not hold (0 of 6 comparisons so, 6 the reverse, ")
    assert claims["A-4"].conclusion.startswith("held (4 of 4")
    assert claims["A-5"].conclusion == claims["4.5"].conclusion == "was not tested"
    assert "**A-4**: both tasks together give less than either alone: **held (" in markdown([*claims.values()])
