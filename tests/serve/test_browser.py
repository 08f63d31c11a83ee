"""The page in a browser: from a dropped file to the downloaded one, by mouse, by keyboard, at every width."""

from __future__ import annotations

import base64
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread
from starlette.applications import Starlette

from gradprom import cli
from gradprom.inference.load import load
from gradprom.inference.reader import load_reader
from gradprom.serve.app import create_app
from gradprom.serve.examples import EXAMPLES
from gradprom.serve.page import Limits

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
QUIET = ("gpu", "background-networking", "component-update", "sync")
FLAGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]
LONG = "a_name_that_is_longer_than_any_telephone_is_wide_and_has_no_gaps.png"
ROLES = "button|slider|combobox|radio|link|textbox|spinbutton|progressbar|img|region|group"
UNNAMED = re.compile(rf"- ({ROLES})(:|$| \[)")
DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""
BEYOND = """() => [...document.querySelectorAll("body *")]
  .filter((element) => {
    if (element.closest("#files, #stage, .unseen, .skip, .hidden-input, #status")) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
  })
  .map((element) => element.outerHTML.slice(0, 100))"""
Open = Callable[..., Any]
Kept = Callable[[Starlette], list[str]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(trained: Callable[[str], Path]) -> Path:
    return trained("joint")


@pytest.fixture
def app(run: Path) -> Starlette:
    return create_app(load(run), load_reader(run), limits=Limits(upload=2_000_000))


@pytest.fixture
def open_page(chromium: Any, serve: Callable[[Starlette], str], app: Starlette) -> Iterator[Open]:
    """Open the page; in the end nothing may have been asked of others, and nothing gone wrong in it."""
    url = serve(app)
    contexts, wrong = [], []

    def open_it(width: int = 1200, height: int = 900, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith(url) or wrong.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        page.get_by_role("button", name="Skin lesion").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


def drop(page: Any, name: str, data: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def choose(page: Any, *files: tuple[str, bytes]) -> None:
    page.get_by_label("Choose images").set_input_files(
        [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    )


def until(what: Callable[[], bool], page: Any) -> None:
    for _ in range(300):
        if what():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it does not come to pass")


def wait_for_picture(page: Any, name: str) -> None:
    """Until the picture of a name is loaded and painted."""
    picture = page.get_by_role("img", name=name, exact=True)
    picture.wait_for()
    until(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 0"), page)


def png(folder: Path, *shape: int) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, shape or (40, 48), np.uint8)
    Image.fromarray(values).save(folder / "made.png")
    return (folder / "made.png").read_bytes()


@pytest.mark.parametrize("name", ["scan é.png", "phantom.dcm", "brain.nii"])
def test_from_a_drop_to_the_download(open_page: Open, run: Path, tmp_path: Path, name: str) -> None:
    data = EXAMPLES[name].make()[0] if name in EXAMPLES else png(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    words = ["enhance", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--channels", "each"]
    assert cli.main(words) == 0

    page = open_page()
    drop(page, name, data)
    if name == "brain.nii":
        assert page.get_by_label("Slice").input_value() == "6"
        page.get_by_role("button", name="Enhance all 11 images").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == name.replace(".", "-enhanced.")
    path = tmp_path / name
    download.value.save_as(path)
    expected = tmp_path / "out" / name
    if name == "phantom.dcm":
        np.testing.assert_array_equal(dcmread(path).pixel_array, dcmread(expected).pixel_array)
    else:
        assert path.read_bytes() == expected.read_bytes()
    if name == "brain.nii":
        assert nibabel.load(path).shape == (197, 233, 11)


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (375, "light"), (1600, "light"), (1600, "dark")])
def test_nothing_sticks_out_at_any_width(open_page: Open, tmp_path: Path, width: int, scheme: str) -> None:
    def check() -> None:
        page.wait_for_timeout(100)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
        assert page.evaluate(BEYOND) == []
        # white ink on a white page would be seen by nobody
        ink, paper = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
        light, dark = sorted((ink, paper), key=lambda colour: -sum(map(int, re.findall(r"\d+", colour))))
        assert (paper == dark) == (scheme == "dark")
        assert (light, dark) == ((ink, paper) if scheme == "dark" else (paper, ink))

    page = open_page(width, color_scheme=scheme)
    check()
    choose(page, (LONG, png(tmp_path)), ("x.txt", b"x"))
    choose(page, ("phantom.dcm", EXAMPLES["phantom.dcm"].make()[0]))
    page.get_by_role("button", name="phantom.dcm, enhanced").click()
    for mode in ("Side by side", "Difference", "Slider"):
        page.get_by_role("radio", name=mode).check()
        check()
    page.get_by_role("button", name="x.txt, failed").click()
    check()
    page.get_by_role("button", name=LONG).click()
    page.get_by_role("button", name="Examples").click()
    check()


def test_by_keyboard_alone(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    chosen: list[Any] = []
    page.on("filechooser", lambda chooser: chosen.append(chooser))

    def opened() -> bool:
        # pressed again, for Chromium opens none when a stalled machine lets the key up 5 s after it went down
        page.keyboard.press("Space")
        page.wait_for_timeout(500)
        return bool(chosen)

    until(opened, page)
    chosen[0].set_files({"name": "a.png", "mimeType": "", "buffer": png(tmp_path)})
    wait_for_picture(page, "Enhanced: a.png")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"add", "mode", "overlay", "zoom-in", "zoom-fit", "stage", "divider"} <= reached
    assert {"download", "remove", "noise"} <= reached

    divider = page.get_by_role("slider", name="Divider between before and after")
    divider.focus()
    for key, value in (("ArrowLeft", 48), ("End", 100), ("PageDown", 90), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert divider.get_attribute("aria-valuenow") == str(value)
    level = page.locator("#zoom-level")
    fit = level.inner_text()
    page.locator("#stage").focus()
    page.keyboard.press("+")
    assert level.inner_text() != fit
    page.keyboard.press("0")
    assert level.inner_text() == fit
    page.get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Drop an image to enhance it").wait_for()
    assert page.evaluate("document.activeElement.id") == "choose"


def test_everything_has_a_name_for_screen_readers(open_page: Open) -> None:
    page = open_page()
    assert not [line for line in page.locator("body").aria_snapshot().splitlines() if UNNAMED.search(line)]
    page.get_by_role("button", name="Brain, 11 slices").click()
    wait_for_picture(page, "Enhanced: brain.nii")
    assert not [line for line in page.locator("body").aria_snapshot().splitlines() if UNNAMED.search(line)]
    for role, name in (
        ("slider", "Slice"),
        ("slider", "σ"),
        ("combobox", "Compare with"),
        ("combobox", "Overlay"),
        ("combobox", "Window"),
        ("spinbutton", "Black"),
        ("spinbutton", "White"),
        ("img", "Noisy input: brain.nii"),
        ("table", "Share of the picture"),
    ):
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.locator("#status").inner_text() == "brain.nii: enhanced"


def test_noise_and_its_measure(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    choose(page, ("a.png", png(tmp_path)))
    wait_for_picture(page, "Input: a.png")
    assert page.get_by_text("PSNR against the original").count() == 0
    page.get_by_label("σ").fill("0.2")
    wait_for_picture(page, "Noisy input: a.png")
    found = re.search(r"original: ([\d.]+) dB with noise, ([\d.]+) dB enhanced", page.locator("#psnr").inner_text())
    assert found is not None
    # σ 0.2 is 14 dB, and a little more as what leaves the range is cut off
    assert float(found[1]) == pytest.approx(14.6, abs=0.8)
    page.get_by_label("Compare with").select_option("original")
    wait_for_picture(page, "Original: a.png")
    page.get_by_text("made from the image with noise of σ 0.2").wait_for()


def test_a_window_and_the_difference(open_page: Open) -> None:
    page = open_page()
    choose(page, ("phantom.dcm", EXAMPLES["phantom.dcm"].make()[0]))
    page.get_by_label("Window").select_option("lung: −1350 to 150")
    until(lambda: page.get_by_label("Black").input_value() == "-1350", page)
    page.get_by_label("Black").fill("500")
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The value seen as black must be below the one seen as white.").wait_for()
    page.get_by_label("Black").fill("")
    page.get_by_label("White").fill("")
    page.get_by_role("button", name="Apply").click()
    until(lambda: page.get_by_label("Window").input_value() == "", page)
    page.get_by_role("radio", name="Difference").check()
    wait_for_picture(page, "What the model changed in phantom.dcm: orange is brighter, blue is darker")
    page.get_by_text(re.compile(r"^darker by [\d.]+ %$")).wait_for()
    assert page.get_by_role("slider", name="Divider").count() == 0


def test_zoom_and_divider_by_mouse(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    choose(page, ("a.png", png(tmp_path)))
    wait_for_picture(page, "Enhanced: a.png")
    box = page.locator("#stage").bounding_box()
    divider = page.get_by_role("slider", name="Divider")
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, middle, steps=3)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "25"
    before, after = (page.get_by_role("img", name=name) for name in ("Input: a.png", "Enhanced: a.png"))
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    at = after.bounding_box()
    assert before.bounding_box() == at
    assert at["width"] > box["width"]
    page.mouse.move(box["x"] + box["width"] * 0.6, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6 - 50, middle + 30, steps=3)
    page.mouse.up()
    moved = after.bounding_box()
    assert (moved["x"] - at["x"], moved["y"] - at["y"]) == (pytest.approx(-50), pytest.approx(30))
    assert before.bounding_box() == moved
    assert divider.get_attribute("aria-valuenow") == "25"
    page.get_by_role("button", name="Fit").click()
    assert after.bounding_box()["width"] <= box["width"]


def test_wrong_files_get_sentences_and_others_are_done(
    open_page: Open, tmp_path: Path, app: Starlette, kept: Kept
) -> None:
    page = open_page()
    choose(page, ("notes.txt", b"hello"), ("empty.png", b""), ("large.nii", bytes(2_000_001)), ("a.png", png(tmp_path)))
    page.get_by_role("button", name="a.png, enhanced").wait_for()
    for name, sentence in (
        ("notes.txt", "notes.txt: expected a PNG, JPEG or TIFF image, found another kind of file"),
        ("empty.png", "empty.png: expected an image, found an empty file or a folder"),
        ("large.nii", "large.nii: expected a file of at most 2 MB, found one of 2 MB; use gradprom enhance"),
    ):
        page.get_by_role("button", name=f"{name}, failed").click()
        alert = page.get_by_role("alert").filter(has_text=sentence)
        alert.wait_for()
        assert page.get_by_role("link", name="Download").count() == 0
    assert "large.nii" not in kept(app)


def test_what_is_left_is_deleted(open_page: Open, tmp_path: Path, app: Starlette, kept: Kept) -> None:
    page = open_page()
    choose(page, ("a.png", png(tmp_path)), ("b.png", png(tmp_path)))
    page.get_by_role("button", name="b.png, enhanced").wait_for()
    page.get_by_role("button", name="Remove").click()
    until(lambda: "a.png" not in kept(app), page)
    assert "b.png" in kept(app)
    page.goto("about:blank")
    until(lambda: kept(app) == [], page)


def test_cancelled_and_begun_again(
    chromium: Any, serve: Callable[[Starlette], str], make_app: Callable[..., Starlette], tmp_path: Path
) -> None:
    go_on = threading.Event()

    class Slow(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            go_on.wait(300)  # longer than all that comes before it is set, on however slow a machine
            return image

    page = chromium.new_page()
    page.set_default_timeout(60_000)
    page.goto(serve(make_app(torch.nn.Sequential(Slow(), torch.nn.Identity()))))
    page.get_by_role("button", name="Skin lesion").wait_for()
    try:
        choose(page, ("a.png", png(tmp_path)), ("b.png", png(tmp_path)))
        page.get_by_role("button", name="b.png, in work").press("Enter")
        waiting = page.get_by_text("Waiting, 1 before this").first
        try:
            waiting.wait_for()
        except playwright.TimeoutError:
            pytest.fail(f"b.png does not wait for a.png; the page shows\n{page.locator('body').aria_snapshot()}")
        page.get_by_role("button", name="a.png, in work").click()
        page.get_by_role("progressbar", name="Enhancing").wait_for()
        page.get_by_role("button", name="Cancel").click()
        go_on.set()
        page.get_by_role("button", name="a.png, stopped").wait_for()
        page.get_by_role("button", name="Enhance", exact=True).click()
        page.get_by_role("button", name="a.png, enhanced").wait_for()
        page.get_by_role("button", name="b.png, enhanced").wait_for()
    finally:
        go_on.set()
        page.close()


def test_a_file_is_chosen_as_its_upload_ends(open_page: Open, tmp_path: Path) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)
        if len(held) != 2:
            route.continue_()

    page = open_page()
    page.route(re.compile("/run$"), hold)
    choose(page, ("a.png", png(tmp_path)), ("b.png", png(tmp_path)))
    until(lambda: len(held) == 2, page)  # b.png is at the server, and what is to be done with it is asked for
    page.get_by_role("button", name="b.png").press("Enter")
    page.get_by_role("heading", name="b.png").wait_for()
    held[1].continue_()
    page.get_by_role("button", name="b.png, enhanced").wait_for()
    assert page.get_by_role("button", name="b.png").get_attribute("aria-current") == "true"
    assert page.get_by_role("heading", name="b.png").is_visible()


def test_an_answer_that_is_overtaken_changes_nothing(open_page: Open, tmp_path: Path) -> None:
    held: list[tuple[Any, Any]] = []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page = open_page()
    page.route(re.compile(r"/api/[^/]+$"), hold)
    choose(page, ("a.png", png(tmp_path)))
    until(lambda: bool(held), page)
    with page.expect_response(re.compile("/run$")):
        page.locator("#noise").fill("0.1")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    route, response = held[0]
    early = response.json()
    early["files"][0]["job"] = None  # as the server would have answered before anything was asked for
    route.fulfill(response=response, json=early)
    page.get_by_role("button", name="a.png, enhanced").wait_for()
