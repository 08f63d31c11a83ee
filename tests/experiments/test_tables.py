import dataclasses
import itertools
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradprom.errors import UserError
from gradprom.experiments.statistics import Interval
from gradprom.experiments.tables import COLUMNS, Result, latex, markdown, read_results, write_results


def result(method: str, psnr: float | None = None, level: str = "0.1", **rest) -> Result:
    return Result("2", "isic2018", "denoise", level, method, psnr=psnr, **rest)


def tables(text: str) -> dict[str, list[list[str]]]:
    """The tables of a Markdown page by their captions, as rows of cells; the first row is the header."""
    parts = text.strip().split("\n\n")
    found = {}
    for caption, part in itertools.pairwise(parts):
        if part.startswith("|"):
            lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines()]
            assert set(lines[1]) == {"---"}
            assert len({len(line) for line in lines}) == 1
            found[caption] = [lines[0], *lines[2:]]
    return found


HEADER = ",".join(COLUMNS) + "\n"
QUALITY = "Image quality: PSNR in dB / SSIM"
DIFFERENCE = "PSNR less that of enhancer_only, in dB"

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
figures = st.none() | st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
counts = st.none() | st.integers(0, 10**9)
results = st.builds(
    Result,
    **dict.fromkeys(COLUMNS[:5], words),
    **dict.fromkeys(COLUMNS[5:7], st.none() | words),
    **dict.fromkeys(COLUMNS[7:-3], figures),
    **dict.fromkeys(COLUMNS[-3:], counts),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(results, max_size=5))
def test_results_come_back_from_their_file(tmp_path_factory: pytest.TempPathFactory, given_: list[Result]) -> None:
    path = tmp_path_factory.mktemp("results") / "results.csv"
    write_results(given_, path)
    back = read_results(path)
    for old, new in zip(given_, back, strict=True):
        for name in COLUMNS:
            expected = getattr(old, name)
            assert getattr(new, name) == (
                pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected
            )


def test_the_file_has_the_columns_that_were_agreed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.csv"
    given_ = result("gradprom", 36.19341234, weight=1e-4, images=111, seeds=3, difference=Interval(1, 0, 2, 3))
    write_results([given_], path)
    assert path.read_text(encoding="utf-8") == (
        "table,dataset,task,level,method,supervision,auxiliary,weight,max_ratio,psnr,psnr_std,ssim,ssim_std,"
        "recognition,independent_recognition,paper_psnr,paper_ssim,images,seeds,steps\n"
        "2,isic2018,denoise,0.1,gradprom,,,0.0001,,36.1934,,,,,,,,111,3,\n"
    )
    (back,) = read_results(path)
    assert back == dataclasses.replace(given_, psnr=36.1934, difference=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found nothing"),
        ("sigma,psnr\n0.1,3\n", "expected the columns table,dataset.*found sigma,psnr"),
        (HEADER + "1,2\n", "row 1: expected 20 values, found 2"),
        (HEADER + "2,i,d,0.1,m,,,,,,,,,,,,,,,\n2,i,d,0.1,m,,,much,,,,,,,,,,,,\n", "row 2.*column weight.*'much'"),
        (HEADER + "2,i,d,0.1,m,,,,,,,,,,,,,,1.5,\n", "row 1.*column seeds.*'1.5'"),
    ],
)
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_no_file_and_no_text_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path / "binary.csv")


def test_rows_and_columns_stand_in_the_papers_order() -> None:
    def trained(method: str, supervision: str, auxiliary: str = "segmentation", **rest) -> Result:
        return result(method, 30.0, supervision=supervision, auxiliary=auxiliary, weight=1e-4, **rest)

    ordered = [
        result("input", 20.0),
        result("non-local means", 28.0),
        result("enhancer_only", 30.0, supervision="supervised"),
        result("recognizer_only", recognition=0.7, ssim=0.5, auxiliary="segmentation"),
        trained("joint", "unsupervised"),
        trained("frozen", "unsupervised"),
        trained("gradprom", "unsupervised"),
        trained("gradprom", "unsupervised", max_ratio=0.5),
        trained("joint", "supervised"),
        trained("frozen", "supervised"),
        trained("gradprom", "supervised"),
        dataclasses.replace(trained("gradprom", "supervised"), weight=1.0),
        trained("gradprom", "supervised", max_ratio=0.1),
        trained("gradprom", "supervised", max_ratio=0.5),
        trained("gradprom", "unsupervised", "both"),
        trained("gradprom", "supervised", "both"),
    ]
    levels = [result("input", 20.0, level=level) for level in ("0.05", "0.3", "1.5", "challenging")]
    shuffled = [*ordered, *levels]
    random.Random(0).shuffle(shuffled)
    rows = tables(markdown(shuffled, "t"))[QUALITY]
    keys = ["supervision", "auxiliary", "λ", "cone ρ"]
    assert rows[0] == ["method", *keys, "σ 0.05", "σ 0.1", "σ 0.3", "σ 1.5", "challenging"]
    expected = [
        [
            r.method + (" + cone" if r.max_ratio else ""),
            r.supervision or "",
            r.auxiliary or "",
            "" if r.weight is None else f"{r.weight:g}",
            "" if r.max_ratio is None else f"{r.max_ratio:g}",
        ]
        for r in ordered
    ]
    assert [row[:5] for row in rows[1:]] == expected


def test_a_cell_shows_what_there_is_and_a_dash_for_what_there_is_not() -> None:
    given_ = [
        result("enhancer_only", 36.194, psnr_std=0.021, ssim=0.8971, ssim_std=0.0011, paper_psnr=27.735,
               paper_ssim=0.854),
        result("joint", 31.5, level="0.2", independent_recognition=0.5, weight=1.0),
        result("gradprom", paper_psnr=26.9, level="0.2", recognition=0.7, independent_recognition=0.625, majority=0.6,
               balanced_accuracy=0.55),
    ]  # fmt: skip
    found = tables(markdown(given_, "t"))
    assert found[QUALITY][1:] == [
        ["enhancer_only", "", "**36.19 ± 0.02** / 0.897 ± 0.001 (paper 27.735 / 0.854)", "–"],
        ["joint", "1", "–", "**31.50** / –"],
        ["gradprom", "", "–", "– / – (paper 26.900 / –)"],
    ]
    assert found["Recognition"][1:] == [
        ["joint", "1", "–", "– (independent 0.500)"],
        ["gradprom", "", "–", "0.700 (independent 0.625, balanced 0.550, majority 0.600)"],
    ]
    assert DIFFERENCE not in found


def test_the_highest_psnr_of_a_column_is_bold_and_so_is_what_looks_the_same() -> None:
    given_ = [
        *(result(method, psnr) for method, psnr in (("joint", 30.004), ("frozen", 29.996), ("gradprom", 29.99))),
        *(result(method, psnr, level="0.2") for method, psnr in (("joint", 9.0), ("frozen", 10.0), ("input", None))),
        result("gradprom", float("nan"), level="0.2"),
    ]
    rows = tables(markdown(given_, "t"))[QUALITY]
    assert {row[0]: ["**" in cell for cell in row[1:]] for row in rows[1:]} == {
        "joint": [True, False],
        "frozen": [True, True],
        "gradprom": [False, False],
    }


@pytest.mark.parametrize("render", [markdown, lambda results, title: latex(results, title, "tab:x")])
def test_no_difference_without_its_interval_and_the_word_it_allows(render) -> None:
    cases = {
        "joint": (Interval(-0.2, -0.25, -0.1, 50), "worse"),
        "frozen": (Interval(0.2, -0.05, 0.45, 50), "no difference told"),
        "gradprom": (Interval(0.2, 0.15, 0.25, 50, confidence=0.99), "better"),
        "soft": (Interval(9.0, None, None, 2), "no difference told"),
    }
    given_ = [result(method, 30.0, difference=interval) for method, (interval, _) in cases.items()]
    text = render(given_, "t")
    plain = re.sub(r"\$-\$", "-", re.sub(r"\{([\[\]])\}", r"\1", text)).replace("--", "–")
    for method, (interval, word) in cases.items():
        ends = "–" if interval.low is None else f"{interval.low:+.3f}, {interval.high:+.3f}"
        (line,) = (line for line in plain.splitlines() if method in line and f"{interval.mean:+.3f}" in line)
        assert f"{interval.mean:+.3f} [{ends}]" in line
        assert [w for w in ("better", "worse", "no difference told") if w in line] == [word]
    assert re.search(r"95\\?% or 99\\?%", text)


def test_differences_to_several_references_are_tables_of_their_own() -> None:
    given_ = [
        result("joint", difference=Interval(-0.2, -0.25, -0.1, 50)),
        result("gradprom", difference=Interval(0.5, 0.25, 0.75, 50), reference="joint"),
    ]
    found = tables(markdown(given_, "t"))
    assert [row[0] for row in found[DIFFERENCE][1:]] == ["joint"]
    assert [row[0] for row in found["PSNR less that of joint, in dB"][1:]] == ["gradprom"]


def test_settings_are_a_column_where_they_differ_and_a_sentence_where_they_do_not() -> None:
    first = result("gradprom", 30.0, recognizer="resnet18", enhancer="srresnet", images=111, seeds=1, steps=300)
    second = result("gradprom", 30.0, recognizer="resnet34", enhancer="srresnet", images=111, seeds=3, steps=300)
    text = markdown([first, second], "t")
    rows = tables(text)[QUALITY]
    assert [row[1] for row in rows] == ["recognizer", "resnet18", "resnet34"]
    assert "Test images: 111. Seeds: 1 to 3. Training steps: 300. Enhancer: srresnet." in text


def test_datasets_are_named_where_there_are_several() -> None:
    across = [dataclasses.replace(result("frozen", 8.0, level="0.3"), dataset=name) for name in ("lizard", "camus")]
    assert tables(markdown(across, "t"))[QUALITY][0][1:] == ["camus, σ 0.3", "lizard, σ 0.3"]
    scaled = [dataclasses.replace(result("frozen", 8.0, level=level), task="superresolution") for level in "42"]
    assert tables(markdown(scaled, "t"))[QUALITY][0][1:] == ["γ 2", "γ 4"]


def test_the_paper_is_spoken_of_only_where_it_stands() -> None:
    assert "paper" not in markdown([result("joint", 30.0)], "t")
    assert "paper's own figures" in markdown([result("joint", 30.0, paper_ssim=0.5)], "t")


def test_two_results_for_one_cell_and_none_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two results of gradprom \+ cone at level 0\.1"):
        markdown([result("gradprom", psnr, max_ratio=0.5) for psnr in (30.0, 31.0)], "t")
    for nothing in ([], [result("gradprom")]):
        with pytest.raises(ValueError, match="no results"):
            markdown(nothing, "t")


def test_markdown_keeps_text_from_becoming_markup() -> None:
    given_ = [result("a|b", 30.0, enhancer="<b>*x*"), result("a|b", 30.0, enhancer="plain")]
    text = markdown(given_, "A <i> & *title*\nwith two lines")
    assert text.startswith("### A &lt;i> &amp; \\*title\\* with two lines\n")
    assert "| a\\|b | &lt;b>\\*x\\* | **30.00** / – |" in text


@settings(max_examples=60, deadline=None)
@given(st.text("\\{}$&#_%^~[]<>ab±σ–- 1\n", max_size=20), st.text("{}&_%\\x", min_size=1, max_size=8))
def test_latex_is_balanced_and_rectangular_whatever_the_words(title: str, method: str) -> None:
    rows = [
        result(method, 30.0, paper_psnr=29.0, difference=Interval(-0.2, -0.25, -0.1, 50)),
        result("joint", 31.0, level="0.2", weight=1.0, recognition=0.5),
    ]
    text = latex(rows, title, "tab:a-b_c.d")
    bare = re.sub(r"\\[\\{}$&#_%]", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert len(re.findall(r"\\begin\{tabular\}\{lllcc\}|\\begin\{tabular\}\{llcc\}", text)) == 3
    for line in bare.splitlines():
        # the only comment sign is that which ends the line with \resizebox
        assert "%" not in line.removesuffix("%")
        if "&" in line:
            assert line.count("&") == 3


def test_latex_shows_the_same_cells() -> None:
    given_ = [result("enhancer_only", 36.194, psnr_std=0.021, ssim=0.8971, paper_psnr=27.735, paper_ssim=0.854)]
    text = latex(given_, "t", "tab:x")
    expected = r"enhancer\_only & \shortstack{\textbf{36.19 $\pm$ 0.02} / 0.897\\(paper 27.735 / 0.854)} \\"
    assert expected in text.splitlines()


def test_a_label_that_latex_could_not_refer_to_is_refused() -> None:
    for label in ("", "tab:{x}", "a b", "größe"):
        with pytest.raises(ValueError, match="label"):
            latex([result("joint", 30.0)], "t", label)
