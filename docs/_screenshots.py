"""Screenshots of the page of ``gradprom serve``, of made-up and freely licensed images alone.

    python docs/_screenshots.py MODEL FOLDER     (MODEL: a run folder or a shipped model's name)

Needs a Chromium, and playwright and the web extra.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
LOOKS = [(width, scheme) for width in (1600, 375) for scheme in ("light", "dark")]


def main(model: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gradprom.cli", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - the own command
        try:
            url = re.search(r"http://\S+", server.stdout.readline()).group()
            with sync_playwright() as found:
                browser = found.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                for width, scheme in LOOKS:
                    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
                    shoot(context.new_page(), url, lambda name, w=width, s=scheme: folder / f"{name}-{w}-{s}.png")
                    context.close()
                browser.close()
        finally:
            server.terminate()


def shoot(page: Any, url: str, path: Any) -> None:
    def take(name: str) -> None:
        page.wait_for_timeout(700)
        page.screenshot(path=path(name), full_page=True)

    def done(name: str) -> None:
        page.get_by_role("button", name=f"{name}, enhanced").wait_for(timeout=300_000)

    page.goto(url)
    page.get_by_role("button", name="Chest phantom").wait_for()
    while not page.evaluate("[...document.querySelectorAll('#example-list img')].every((image) => image.complete)"):
        page.wait_for_timeout(200)
    take("empty")
    page.get_by_role("button", name="Skin lesion").click()
    done("lesion.png")
    take("slider")
    page.get_by_role("radio", name="Side by side").check()
    take("pair")
    page.get_by_role("radio", name="Difference").check()
    take("difference")
    page.get_by_role("radio", name="Slider").check()
    if page.get_by_label("Overlay").is_visible():
        page.get_by_label("Overlay").select_option(index=1)
        take("overlay")
        page.get_by_label("Overlay").select_option(index=0)
    page.get_by_role("button", name="Examples").click()
    page.get_by_role("button", name="Brain, 11 slices").click()
    done("brain.nii")
    page.get_by_role("button", name="Enhance all 11 images").click()
    page.wait_for_timeout(600)
    page.screenshot(path=path("working"), full_page=True)
    page.get_by_role("link", name="Download").wait_for(timeout=300_000)
    take("volume")
    page.get_by_role("button", name="Examples").click()
    page.get_by_role("button", name="Chest phantom").click()
    done("phantom.dcm")
    page.get_by_label("Window").select_option(index=2)
    done("phantom.dcm")
    take("window")
    with tempfile.TemporaryDirectory() as temporary:
        note = Path(temporary) / "notes.txt"
        note.write_text("no image", encoding="utf-8")
        page.get_by_label("Choose images").set_input_files(note)
        page.get_by_role("button", name="notes.txt, failed").wait_for()
        take("error")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
