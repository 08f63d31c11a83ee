"""The paper's claims (sections 4.4 and 4.5), each held against what was measured, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gradprom._chain import PRESETS, describe_chain
from gradprom.experiments.groups import Group, alike, common_seeds, compare
from gradprom.experiments.statistics import Interval, verdict

WEIGHT = 1e-4
"""λ of the paper."""
_ABOUT = (
    "PSNR of the first less that of the second, in dB, paired over the test images, with 95 % intervals of a bootstrap "
    "over patients (over images where patients are not known). The intervals say nothing of other seeds, and none is "
    "corrected for there being many comparisons: of twenty without any difference one may well be told apart."
)
_PLAIN = tuple(f"gaussian {sigma}" for sigma in ("0.05", "0.1", "0.2", "0.3"))


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim speaks of: PSNR of the first less that of the second, in dB."""

    what: str
    interval: Interval


@dataclass(frozen=True)
class Claim:
    """A claim and what was found.

    Attributes:
        name: as the paper numbers it.
        text: what it says, in our words.
        findings: all comparisons that were measured; none: it was not put to the test.
    """

    name: str
    text: str
    findings: tuple[Finding, ...]

    @property
    def conclusion(self) -> str:
        """Held, held in part, did not hold, or could not be told.

        >>> Claim("A-0", "", (Finding("a", Interval(0.2, 0.1, 0.3, n=9)),)).conclusion
        'held'
        """
        verdicts = [verdict(finding.interval) for finding in self.findings]
        better, worse, total = verdicts.count("better"), verdicts.count("worse"), len(verdicts)
        if not total:
            return "was not tested"
        if not better + worse:
            return "could not be told"
        if better == total:
            return "held"
        if not better:
            return f"did not hold (the reverse in {worse} of {total} comparisons, no difference told in the others)"
        return f"held in {better} of {total} comparisons, the reverse in {worse}"


def claims_of(groups: Sequence[Group]) -> list[Claim]:
    """The claims A-1 to A-5 and that of section 4.5, tested by PSNR on the same images.

    Args:
        groups: of all plans that were run.
    """
    plain = [group for group in groups if group.axes["degradation"] in _PLAIN and group.dataset == "isic2018"]
    challenging = [group for group in groups if group.axes["degradation"] == describe_chain(PRESETS["challenging"])]
    away = [group for group in groups if group.dataset in ("isic2018 to crchisto", "isic2018 to lizard")]

    def less(which: Sequence[Group], *strategies: str) -> Iterator[Finding]:
        for strategy in strategies:
            yield from _pairs(which, strategy, _same("supervision", "auxiliary"))

    return [
        Claim(
            "A-1",
            "gradprom improves on the enhancer trained alone and on a frozen recognizer at every noise level",
            tuple(less(plain, "enhancer_only", "frozen")),
        ),
        Claim(
            "A-2",
            "gradprom is better than joint training and a frozen recognizer",
            tuple(less(plain, "joint", "frozen")),
        ),
        Claim(
            "A-3",
            "with diagnosis gradprom is better unsupervised than supervised, with segmentation the reverse",
            (*_supervisions(plain, "diagnosis", "unsupervised"), *_supervisions(plain, "segmentation", "supervised")),
        ),
        Claim(
            "A-4",
            "both tasks together give less than segmentation alone",
            tuple(_pairs(plain, "gradprom", _same("supervision"), first="segmentation", second="both")),
        ),
        Claim(
            "A-5",
            "gradprom is better than a frozen recognizer under noise and blur together",
            tuple(less(challenging, "frozen")),
        ),
        Claim(
            "4.5", "on images of another kind gradprom is better than a frozen recognizer", tuple(less(away, "frozen"))
        ),
    ]


def markdown(claims: Iterable[Claim]) -> str:
    """One sentence a claim, and the comparisons below it, with what their intervals are of on top."""
    lines = [_ABOUT, ""]
    for claim in claims:
        lines.append(f"- **{claim.name}**: {claim.text}: **{claim.conclusion}**.")
        lines += [f"  - {finding.what}: {_text(finding.interval)}" for finding in claim.findings]
    return "\n".join(lines) + "\n"


def _text(interval: Interval) -> str:
    bounds = "too few images for an interval"
    if interval.low is not None and interval.high is not None:
        bounds = f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    return f"{interval.mean:+.4f} dB {bounds}, {verdict(interval)} ({interval.n} patients or images)"


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
        seeds = len(common_seeds(a, b))
        view = {"whole": "whole images of", "crop": "crops of"}[a.config.view_of("cascade")]
        where = f"at {a.axes['degradation']}, {view} {a.config.size_of('cascade')} pixels"
        yield Finding(f"{_name(a)} less {_name(b)} {where}, {seeds} seed{'s' if seeds > 1 else ''}", interval)


def _is_papers(group: Group, strategy: str) -> bool:
    axes = group.axes
    return axes["strategy"] == strategy and axes["gate"] in (None, "hard") and axes["weight"] in (None, WEIGHT)


def _name(group: Group) -> str:
    names = (group.axes["strategy"], group.axes["auxiliary"], group.axes["supervision"])
    return " ".join(name for name in names if name not in (None, "none"))
