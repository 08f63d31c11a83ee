"""The paper's claims (sections 4.4 and 4.5), each held against what was measured, with intervals."""

from __future__ import annotations

import csv
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradprom._chain import describe_chain
from gradprom._files import atomic_path
from gradprom.experiments.groups import Group, alike, common_seeds, compare
from gradprom.experiments.statistics import Interval, as_columns, verdict

WEIGHT = 1e-4
"""λ of the paper."""
TEXTS: Mapping[str, str] = {
    "A-1": "gradprom improves on the enhancer trained alone and on a frozen recognizer at every noise level",
    "A-2": "gradprom is better than joint training and a frozen recognizer",
    "A-3": "with diagnosis gradprom is better unsupervised than supervised, with segmentation the reverse",
    "A-4": "both tasks together give less than either alone",
    "A-5": "gradprom is better than a frozen recognizer under noise and blur together",
    "4.5": "on images of another kind gradprom is better than a frozen recognizer",
}
"""The claims as the paper numbers them, in our words."""
_SIDES = ("dataset", "first", "less", "degradation", "trained_on")
COLUMNS = ("claim", *_SIDES, "seeds", "difference", "low", "high", "n", "verdict")
_ABOUT = (
    "PSNR of the first less that of the second, in dB, paired over the test images, with 95 % intervals of a bootstrap "
    "over patients (over images where patients are not known; n of them). With one seed an interval says nothing of "
    "other trainings, and decides nothing here, however narrow: by how much trainings differ is known from several "
    "seeds alone, which widen it. None is corrected for there being many comparisons: of twenty without any difference "
    "one may well be told apart."
)
_HEAD = ("claim", *_SIDES[:-1], "trained on", "seeds", "difference, dB", "95 % interval", "verdict", "n")
_PLAIN = tuple(f"gaussian {sigma}" for sigma in ("0.05", "0.1", "0.2", "0.3"))


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim speaks of.

    Attributes:
        dataset: what both were tested on.
        first, second: strategy, task and supervision of each side.
        degradation: a chain.
        trained_on: what the cascade saw of the images.
        seeds: how many both sides have in common.
        interval: PSNR of the first less that of the second, in dB.
    """

    dataset: str
    first: str
    second: str
    degradation: str
    trained_on: str
    seeds: int
    interval: Interval

    @property
    def sides(self) -> tuple[str, ...]:
        """What was compared, whatever came out."""
        return self.dataset, self.first, self.second, self.degradation, self.trained_on


@dataclass(frozen=True)
class Claim:
    """A claim and what was found.

    Attributes:
        name: one of :data:`TEXTS`.
        findings: all comparisons that were measured; none: it was not put to the test.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def conclusion(self) -> str:
        """Held, did not hold, or could not be told, with how large the differences are.

        A claim speaks of all its comparisons: it held where all are as it says, and did not where one is the reverse.
        Of one training a comparison tells nothing of others, so it decides neither.

        >>> from dataclasses import replace
        >>> one = Finding("isic2018", "a", "b", "blur 3 1", "", 1, Interval(0.2, 0.1, 0.3, n=9))
        >>> Claim("A-0", (replace(one, seeds=3),)).conclusion
        'held (+0.2000 dB [+0.1000, +0.3000])'
        >>> Claim("A-0", (one,)).conclusion
        'could not be told (of one training: +0.2000 dB [+0.1000, +0.3000])'
        """
        if not self.findings:
            return "was not tested"
        several = [verdict(finding.interval) for finding in self.findings if finding.seeds > 1]
        if "worse" in several:
            said = "did not hold"
        else:
            said = "held" if several.count("better") == len(self.findings) else "could not be told"
        parts = [self._counted(seeds) for seeds in sorted({finding.seeds for finding in self.findings}, reverse=True)]
        return f"{said} ({'; '.join(parts)})"

    def _counted(self, seeds: int) -> str:
        """What the comparisons over so many seeds say."""
        found = [finding for finding in self.findings if finding.seeds == seeds]
        verdicts = [verdict(finding.interval) for finding in found]
        all_alike = seeds > 1 and len(found) == len(self.findings)
        of = "" if all_alike else f"of {'one training' if seeds == 1 else f'{seeds} trainings'}: "
        counts = f"{verdicts.count('better')} of {len(found)} comparisons so, {verdicts.count('worse')} the reverse, "
        intervals = sorted((finding.interval for finding in found), key=lambda one: one.mean)
        ends = list(dict.fromkeys(f"{one.mean:+.4f} dB {_bounds(one)}" for one in (intervals[0], intervals[-1])))
        between = ends[0] if len(ends) == 1 else f"from {ends[0]} to {ends[1]}"
        return f"{of}{counts if len(found) > 1 else ''}{between}"


def claims_of(groups: Sequence[Group]) -> list[Claim]:
    """The claims A-1 to A-5 and that of section 4.5, tested by PSNR on the same images.

    Args:
        groups: of all plans that were run.
    """
    plain = [group for group in groups if group.axes["degradation"] in _PLAIN and group.dataset == "isic2018"]
    challenging = [group for group in groups if group.axes["degradation"] == describe_chain("challenging")]
    away = [group for group in groups if group.dataset in ("isic2018 to crchisto", "isic2018 to lizard")]

    def less(which: Sequence[Group], *strategies: str) -> Iterator[Finding]:
        for strategy in strategies:
            yield from _pairs(which, strategy, _same("supervision", "auxiliary"))

    found = {
        "A-1": less(plain, "enhancer_only", "frozen"),
        "A-2": less(plain, "joint", "frozen"),
        "A-3": itertools.chain(
            _supervisions(plain, "diagnosis", "unsupervised"), _supervisions(plain, "segmentation", "supervised")
        ),
        "A-4": itertools.chain.from_iterable(
            _pairs(plain, "gradprom", _same("supervision"), first=one, second="both")
            for one in ("segmentation", "diagnosis")
        ),
        "A-5": less(challenging, "frozen"),
        "4.5": less(away, "frozen"),
    }
    return [Claim(name, tuple(found[name])) for name in TEXTS]


def markdown(claims: Sequence[Claim]) -> str:
    """One sentence a claim with what its intervals are of on top, and all comparisons below in a table."""
    lines = [_ABOUT, ""]
    lines += [f"- **{claim.name}**: {TEXTS[claim.name]}: **{claim.conclusion}**." for claim in claims]
    by_level = operator.attrgetter("dataset", "degradation", "trained_on", "first", "second")
    rows = [_cells(claim.name, finding) for claim in claims for finding in sorted(claim.findings, key=by_level)]
    if rows:
        lines += ["", *(f"| {' | '.join(row)} |" for row in (_HEAD, ["---"] * len(_HEAD), *rows))]
    return "\n".join(lines) + "\n"


def _cells(claim: str, finding: Finding) -> list[str]:
    interval = finding.interval
    middle = [str(finding.seeds), f"{interval.mean:+.4f}", _bounds(interval), verdict(interval), str(interval.n)]
    return [claim, *finding.sides, *middle]


def write_claims(claims: Iterable[Claim], path: str | Path) -> None:
    """Write every comparison as a row of a CSV, whole or not at all.

    Args:
        claims: with their findings.
        path: of the file; what was there is replaced.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for claim in claims:
            for finding in claim.findings:
                one = finding.interval
                numbers = (finding.seeds, *as_columns(one).values(), one.n, verdict(one))
                writer.writerow([claim.name, *finding.sides, *numbers])


def read_claims(path: str | Path) -> list[Claim]:
    """The claims that :func:`write_claims` wrote, all of :data:`TEXTS`, also those without findings."""
    found: dict[str, list[Finding]] = {name: [] for name in TEXTS}
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            low, high = (float(row[end]) if row[end] else None for end in ("low", "high"))
            interval = Interval(float(row["difference"]), low, high, int(row["n"]))
            dataset, first, second, degradation, trained_on = (row[name] for name in _SIDES)
            finding = Finding(dataset, first, second, degradation, trained_on, int(row["seeds"]), interval)
            found[row["claim"]].append(finding)
    return [Claim(name, tuple(findings)) for name, findings in found.items()]


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "too few images for an interval"
    return f"[{interval.low:+.4f}, {interval.high:+.4f}]"


def _same(*axes: str) -> Callable[[Group, Group], bool]:
    return lambda a, b: all(a.axes[axis] == b.axes[axis] for axis in axes)


def _pairs(
    groups: Sequence[Group],
    strategy: str,
    same: Callable[[Group, Group], bool],
    *,
    first: str | None = None,
    second: str | None = None,
) -> Iterator[Finding]:
    """The paper's own rule at its own λ, less another strategy trained and measured in the same way."""
    ours = [group for group in groups if _is_papers(group, "gradprom") and first in (None, group.axes["auxiliary"])]
    others = [group for group in groups if _is_papers(group, strategy) and second in (None, group.axes["auxiliary"])]
    for a in ours:
        for b in others:
            alone = strategy == "enhancer_only"
            if a is not b and alike(a, b) and (alone or same(a, b)):
                yield from _finding(a, b)


def _supervisions(groups: Sequence[Group], auxiliary: str, better: str) -> Iterator[Finding]:
    ours = [group for group in groups if _is_papers(group, "gradprom") and group.axes["auxiliary"] == auxiliary]
    for a in ours:
        for b in ours:
            if alike(a, b) and a.axes["supervision"] == better != b.axes["supervision"]:
                yield from _finding(a, b)


def _finding(a: Group, b: Group) -> Iterator[Finding]:
    interval = compare(a, b, "psnr")
    if interval is not None:
        view = {"whole": "whole images of", "crop": "crops of"}[a.config.view_of("cascade")]
        trained_on = f"{view} {a.config.size_of('cascade')} pixels"
        where = a.axes["degradation"], trained_on, len(common_seeds(a, b))
        yield Finding(a.dataset, _name(a), _name(b), *where, interval)


def _is_papers(group: Group, strategy: str) -> bool:
    axes = group.axes
    return axes["strategy"] == strategy and axes["gate"] in (None, "hard") and axes["weight"] in (None, WEIGHT)


def _name(group: Group) -> str:
    names = (group.axes["strategy"], group.axes["auxiliary"], group.axes["supervision"])
    return " ".join(name for name in names if name not in (None, "none"))
