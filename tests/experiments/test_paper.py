import itertools
from collections import Counter

import pytest

from gradprom.experiments.paper import Cell, best, cell, cells

# copied by hand from the paper's sentences, not from its tables: gains of GradProm over another cell
GAINS_UNSUPERVISED_DIAGNOSIS = {
    "0.05": (1.196, 0.007),
    "0.1": (1.231, 0.009),
    "0.2": (1.055, 0.010),
    "0.3": (0.911, 0.017),
}
GAINS_SUPERVISED_SEGMENTATION = {"0.05": (5.544, 0.082), "0.1": (7.085, 0.108), "0.2": (4.534, 0.240)}


def gain(cell_: Cell | None, other: Cell | None) -> tuple[float, float]:
    assert cell_ is not None
    assert other is not None
    return round(cell_.psnr - other.psnr, 3), round(cell_.ssim - other.ssim, 3)


def test_the_gains_that_the_text_states_are_those_of_the_cells() -> None:
    for level, expected in GAINS_UNSUPERVISED_DIAGNOSIS.items():
        key = {"level": level, "supervision": "unsupervised", "auxiliary": "diagnosis"}
        assert gain(cell(1, method="gradprom", **key), cell(1, method="frozen", **key)) == expected
    for level, expected in GAINS_SUPERVISED_SEGMENTATION.items():
        key = {"level": level, "supervision": "supervised", "auxiliary": "segmentation"}
        assert gain(cell(2, method="gradprom", **key), cell(2, method="enhancer_only", **key)) == expected
    across = cell(4, level="0.3", method="gradprom", supervision="unsupervised", auxiliary="diagnosis")
    assert (across.psnr, across.ssim) == (13.273, 0.325)


def test_every_printed_cell_is_there_once() -> None:
    counts = Counter(c.table for c in cells())
    # strategies or methods × levels; of Table 3 only what the text says about it
    expected = {"1": 8 * 4, "2": 10 * 4, "3": 2, "4": 8, "5": 11 * 3, "6": 8 * 3, "7": 10 * 2, "8": 8 * 3}
    assert counts == expected
    keys = [(c.table, c.dataset, c.level, c.method, c.supervision, c.auxiliary, c.backbone) for c in cells()]
    assert len(set(keys)) == len(keys)


def test_figures_lie_where_such_figures_can_lie() -> None:
    for c in cells():
        for share in (c.ssim, c.ssim_std, c.recognition):
            assert share is None or 0 < share < 1
        assert c.psnr is None or 8 < c.psnr < 37
        assert c.psnr_std is None or 0 < c.psnr_std < 3
        assert (c.psnr is None) == (c.ssim is None)
        assert (c.psnr_std is None) == (c.ssim_std is None)
        assert (c.psnr_std is not None) == (c.table in "12" and c.method != "recognizer_only")
        assert c.task == ("superresolution" if c.table == "7" else "denoise")
        assert c.supervision in ("", "supervised", "unsupervised")
        assert c.auxiliary in ("", "none", "diagnosis", "segmentation", "both")


def test_more_noise_is_harder_but_where_a_note_says_otherwise() -> None:
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for c in cells():
        if c.table not in "34" and c.psnr is not None:
            rows.setdefault((c.table, c.method, c.supervision, c.auxiliary, c.backbone), []).append(c)
    for row in rows.values():
        for easier, harder in itertools.pairwise(row):
            assert float(harder.level) > float(easier.level)
            assert harder.psnr < easier.psnr or harder.note.startswith("misprint")
            assert harder.ssim <= easier.ssim or "SSIM above its own" in harder.note


@pytest.mark.parametrize(
    ("table", "level", "psnr", "ssim"),
    [
        (5, "0.1", 36.173, 0.971),
        (5, "0.2", 28.024, 0.901),
        (5, "0.3", 23.703, 0.761),
        (6, "0.3", 21.362, 0.701),
        (7, "2", 25.167, 0.708),
        (7, "4", 19.524, 0.701),  # the SSIM is another method's than the PSNR
        (8, "0.2", 23.022, 0.700),
        (8, "0.3", 21.055, 0.599),  # and not the misprinted 29.767
        ("4", "0.3", 13.825, 0.458),
        ("2", "0.05", 36.825, 0.952),
    ],
)
def test_best(table: str | int, level: str, psnr: float, ssim: float) -> None:
    assert best(table, level) == (psnr, ssim)


def test_what_is_not_printed_is_none() -> None:
    assert best(3, "challenging") is None
    assert best(5, "0.05") is None
    assert best(9, "0.1") is None
    assert cell(5, level="0.1", method="joint", supervision="supervised", auxiliary="diagnosis") is None
    assert cell(2, level="0.1", method="joint", supervision="supervised", auxiliary="both") is None


def test_a_benchmark_is_found_whatever_was_asked_of_the_recognizer() -> None:
    for supervision in ("supervised", "unsupervised", None):
        for auxiliary in ("none", "segmentation", None):
            key = {"supervision": supervision, "auxiliary": auxiliary}
            assert cell(2, level="0.2", method="enhancer_only", **key).psnr == 22.367
            assert cell(2, level="0.2", method="recognizer_only", **key).recognition == 0.631
            assert cell(7, level="4", method="enhancer_only", **key).psnr == 16.222


def test_the_largest_backbone_is_taken_and_the_supervision_ignored_where_it_is_not_printed() -> None:
    for supervision in ("supervised", "unsupervised"):
        ours = cell(6, level="0.1", method="gradprom", supervision=supervision, auxiliary="diagnosis")
        theirs = cell(6, level="0.1", method="frozen", supervision=supervision, auxiliary="diagnosis")
        assert (ours.psnr, theirs.psnr) == (28.115, 24.784)


def test_both_halves_of_table_4() -> None:
    key = {"level": "0.3", "method": "frozen", "supervision": "supervised", "auxiliary": "diagnosis"}
    assert cell(4, **key).psnr == 8.262
    assert cell(4, **key, dataset="lizard").psnr == 16.352
