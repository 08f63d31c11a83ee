import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradprom.experiments.report import ReportRun, write_report
from gradprom.measures import PROTOCOL

METRICS = "stage,step,loss,validation_psnr,learning_rate,images_per_second,data_share\n"


class Page(HTMLParser):
    """Tags that are still open, every tag with its attributes, and the text."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if not self.open or self.open[-1] != "style" else ""

    def images(self) -> dict[str, Image.Image]:
        return {
            attributes["alt"]: Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition("base64,")[2])))
            for tag, attributes in self.tags
            if tag == "img"
        }


def written(path: Path, *args, **options) -> Page:
    write_report(path, *args, **options)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def summary(psnr: float) -> dict[str, dict[str, float | int | None]]:
    base = {"images": 4, "psnr": psnr, "psnr_std": 1.25, "ssim": 0.5, "ssim_std": 0.25, "accuracy": None, "miou": 0.625}
    return {"input": base, "enhanced": {**base, "psnr": psnr + 10}, "clean": {**base, "psnr": None, "psnr_std": None}}


def promotion_csv(path: Path, names: tuple[str, ...] = ("diagnosis",), steps: int = 60) -> Path:
    columns = [f"{what}_{name}" for name in names for what in ("loss", "alignment", "norm", "promoted")]
    lines = [",".join(["step", "main_loss", "main_norm", "skipped", "ratio", *columns])]
    for step in range(1, steps + 1):
        alignment = "nan" if step == 1 else "0.5" if step % 4 else "-0.5"
        lines.append(f"{step},0.1,0.5,{int(step == 2)},0.01" + f",0.7,{alignment},2.0,{int(step % 4 > 0)}" * len(names))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def metrics_csv(path: Path) -> Path:
    rows = [
        f"{stage},{step},{1 / step},{20 + step if step % 5 == 0 else ''},1e-4,10,0.01"
        for stage in ("warmup", "pretrain", "cascade")
        for step in range(1, 11)
    ]
    path.write_text(METRICS + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_everything_is_in_one_file_that_loads_and_runs_nothing(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((12, 16, 3))
    runs = [
        ReportRun(
            "first", {"steps": 10}, summary(20), metrics_csv(tmp_path / "m.csv"), None, [("input, 20 dB", picture)]
        ),
        ReportRun("second", {}, summary(21), tmp_path / "m.csv", promotion_csv(tmp_path / "p.csv", ("a", "b"))),
    ]
    page = written(tmp_path / "page" / "report.html", "Title", runs, ["A note."])
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["report.html"]
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attributes
        assert "href" not in attributes
    assert not re.search(r"url\(|@import", (tmp_path / "page" / "report.html").read_text(encoding="utf-8"))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for expected in ("Not a medical device", PROTOCOL, "A note.", "20.00 ± 1.25", "31.00 ± 1.25", "0.625", "mIoU"):
        assert expected in page.text
    assert "balanced accuracy" not in page.text.replace(PROTOCOL, "")
    for name in ("a", "b"):
        # three of four steps have 0.5, the first of them is not defined: (44 - 15) * 0.5 / 59
        assert f"{name}: promoted in 75.0% of 60 steps, mean alignment 0.246" in page.text
    assert "not finite: 1." in page.text
    captions = list(page.images())
    assert captions[0] == "input, 20 dB"
    for start in ("Enhancement loss", "PSNR on", "Pretraining", "Alignment", "Promotion rate", "Length", "Auxiliary"):
        assert any(caption.startswith(start) for caption in captions), start
    for image in page.images().values():
        image.load()


def test_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> & \"$\\bad{\" '"
    run = ReportRun(
        evil,
        {evil: evil, "root": Path("/data/<x>"), "size": (64, 64)},
        {evil: {"images": 1, "psnr": math.inf, "psnr_std": math.nan, "ssim": 1.0, "ssim_std": 0.0}},
        metrics_csv(tmp_path / "m.csv"),
        promotion_csv(tmp_path / "p.csv", ("$\\bad{", "_hidden")),
        [(evil, np.zeros((2, 2)))],
    )
    page = written(tmp_path / "report.html", evil, [run], [evil])
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 5
    assert evil in page.images()
    assert "–" in page.text
    assert "nan" not in page.text
    assert "root: /data/<x>" in page.text


def test_pictures_keep_their_pixels(tmp_path: Path) -> None:
    grey = np.array([[0, 128], [255, 7]], np.uint8)
    colour = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    pictures = [
        ("uint8", grey),
        ("one channel", grey[..., None]),
        ("uint16", grey.astype(np.uint16) * 257),
        ("float", grey / np.float32(255)),
        ("colour", colour),
        ("beyond", np.array([[-1.0, 2.0, np.nan]])),
    ]
    images = written(tmp_path / "report.html", "Pictures", [ReportRun("run", pictures=pictures)]).images()
    for name in ("uint8", "one channel", "uint16", "float"):
        np.testing.assert_array_equal(np.asarray(images[name]), grey)
    np.testing.assert_array_equal(np.asarray(images["colour"]), colour)
    np.testing.assert_array_equal(np.asarray(images["beyond"]), [[0, 255, 0]])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        METRICS,
        "step\n1\n",
        "nonsense,\n1,2,3,4\n",
        METRICS + "cascade,1\ncascade,x,y,z\n",
        "a\0b,step\n1,2\n",
    ],
)
def test_files_that_say_nothing_are_left_out(tmp_path: Path, content: str) -> None:
    file = tmp_path / "some.csv"
    file.write_text(content, encoding="utf-8")
    page = written(tmp_path / "report.html", "Empty", [ReportRun("run", {}, {}, file, file), ReportRun("none")])
    assert page.images() == {}
    assert "Training" not in page.text
    assert "Measures" not in page.text


def test_a_missing_file_is_left_out_and_an_old_report_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    page = written(path, "New", [ReportRun("run", {"a": 1}, {}, tmp_path / "no.csv", tmp_path / "no.csv")])
    assert "old" not in page.text
    assert "a: 1" in page.text
