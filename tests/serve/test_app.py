"""The page's addresses, from an upload to the result, and whatever else may be sent to them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from torch import nn

from gradprom.serve import page
from gradprom.serve.page import Limits

Open = Callable[..., Any]


class Brighter(nn.Module):
    """Adds a tenth of the range."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 0.1


class Gate(nn.Module):
    """Stands still until it is let go on; what comes after it is a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.entered.set()
        assert self.go_on.wait(30)
        return image


def png(height: int = 20, width: int = 30, seed: int = 0) -> bytes:
    """A grey PNG of noise that leaves room for a tenth more."""
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 200, (height, width), np.uint8)
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def volume(folder: Path) -> bytes:
    values = np.random.default_rng(0).integers(0, 900, (6, 7, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "made.nii")
    return (folder / "made.nii").read_bytes()


def test_a_file_may_go_while_the_page_asks_for_all(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        tab.put(name, png())
    session = tab.client.app.state.sessions.get(tab.token)
    describe = page.Page._describe

    def swept(self: page.Page, upload: Any) -> Any:
        session.uploads.pop(upload.id)
        return describe(self, upload)

    monkeypatch.setattr(page.Page, "_describe", swept)
    assert [file["name"] for file in tab.client.get(tab.base).json()["files"]] == ["a.png", "b.png"]


def test_from_upload_to_result(tab: Any) -> None:
    data = png()
    id_ = tab.put("Köpfe 1.png", data)
    assert tab.state(id_)["job"] is None
    state = tab.run(id_)
    assert (state["name"], state["size"], state["job"]["state"]) == ("Köpfe 1.png", len(data), "done")
    assert state["written"] == {"sigma": 0, "window": None}
    expected = pixels(data) + 25.5
    np.testing.assert_allclose(tab.picture(id_, "after"), expected, atol=0.51)
    response = tab.result(id_)
    np.testing.assert_allclose(pixels(response.content), expected, atol=0.51)
    assert response.headers["content-disposition"] == "attachment; filename*=utf-8''K%C3%B6pfe%201-enhanced.png"
    assert response.headers["cache-control"] == "no-store"


def test_noise_changes_the_result(tab: Any) -> None:
    id_ = tab.put("a.png", png())
    tab.run(id_)
    plain = tab.result(id_).content
    state = tab.run(id_, sigma=0.2)
    assert state["written"]["sigma"] == 0.2
    assert state["view"]["psnr"]["before"] == pytest.approx(14, abs=2)
    noisy = tab.result(id_).content
    assert noisy != plain
    for sigma, expected in ((0.2, noisy), (0, plain)):
        tab.run(id_, sigma=sigma)
        assert tab.result(id_).content == expected


def test_a_slice_then_the_volume_then_another_slice(tab: Any, tmp_path: Path) -> None:
    id_ = tab.put("a.nii", volume(tmp_path))
    state = tab.run(id_)
    assert (state["view"]["frame"], state["view"]["frames"], state["written"]) == (2, 5, None)
    assert tab.result(id_).status_code == 404
    assert tab.run(id_, frame=1, whole=True)["written"] == {"sigma": 0, "window": None}
    result = tab.result(id_)
    assert result.status_code == 200
    # to look at another slice takes nothing away; to ask for something else does
    state = tab.run(id_, frame=4)
    assert (state["view"]["frame"], state["written"]) == (4, {"sigma": 0, "window": None})
    assert tab.result(id_).content == result.content
    assert tab.run(id_, frame=4, low=0, high=500)["written"] is None
    assert tab.result(id_).status_code == 404
    assert "a.nii" in tab.kept()
    assert tab.kept().count("a.nii") == 1


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("notes.txt", b"hello", "notes.txt: expected a PNG, JPEG or TIFF image, found another kind of file"),
        ("report.pdf", b"%PDF-1.7", "report.pdf: expected a PNG, JPEG or TIFF image, found a PDF"),
        ("cut.png", png()[:200], "cut.png: expected a whole PNG file, found one that is cut short"),
        ("a.nii.gz", b"\x1f\x8b nonsense", "a.nii.gz: expected a gzip file"),
        ("a.dcm", b"\0" * 500, "a.dcm: expected a DICOM file, found another kind of file"),
        ("large.png", png(1001, 1000), "large.png: expected at most 1000000 pixels, found 1000×1001"),
    ],
)
def test_a_wrong_file_gets_a_sentence_and_the_next_is_enhanced(tab: Any, name: str, data: bytes, sentence: str) -> None:
    id_ = tab.put(name, data)
    state = tab.run(id_)
    assert state["job"]["state"] == "failed"
    assert state["job"]["error"].startswith(sentence)
    assert "\n" not in state["job"]["error"]
    assert str(tab.root) not in state["job"]["error"]
    assert tab.result(id_).status_code == 404
    assert tab.run(tab.put("good.png", png()))["job"]["state"] == "done"


def test_what_is_too_large_is_refused_and_not_kept(tab: Any) -> None:
    response = tab.upload("large.bin", bytes(2_000_001))
    assert response.status_code == 413
    assert response.json()["error"].startswith("large.bin: expected a file of at most 2 MB, found a larger one")
    assert tab.kept() == []
    assert tab.upload("fits.bin", bytes(2_000_000)).status_code == 201


def test_all_together_have_a_limit_too(open_tab: Open) -> None:
    first = open_tab()
    second = open_tab(client=first.client)
    ids = [first.put("a.bin", bytes(1_900_000)) for _ in range(4)]
    response = second.upload("b.bin", bytes(1_900_000))
    assert response.status_code == 503
    assert response.json()["error"].startswith("the server holds as much as it may, 8 MB")
    assert first.client.delete(f"{first.base}/files/{ids[0]}").status_code == 204
    assert second.upload("b.bin", bytes(1_900_000)).status_code == 201


def test_an_empty_file(tab: Any) -> None:
    response = tab.upload("folder", b"")
    assert response.status_code == 422
    assert response.json()["error"] == "folder: expected an image, found an empty file or a folder"
    assert tab.kept() == []


def test_ten_at_once_are_enhanced_one_at_a_time(open_tab: Open) -> None:
    class Busy(Brighter):
        running = most = 0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            Busy.running += 1
            Busy.most = max(Busy.most, Busy.running)
            result = super().forward(nn.functional.avg_pool2d(image, 9, 1, 4))
            Busy.running -= 1
            return result

    first = open_tab(Busy())
    tabs = [first, *(open_tab(client=first.client) for _ in range(9))]
    barrier = threading.Barrier(10)

    def use(number: int) -> tuple[bytes, bytes]:
        barrier.wait()
        tab = tabs[number]
        id_ = tab.put(f"{number}.png", png(seed=number))
        state = tab.run(id_)
        assert state["job"]["state"] == "done"
        return png(seed=number), tab.result(id_).content

    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(use, range(10)))
    assert Busy.most == 1
    alone = open_tab(Busy())
    for data, result in done:
        id_ = alone.put("a.png", data)
        alone.run(id_)
        assert alone.result(id_).content == result


def test_cancelled_between_two_layers(open_tab: Open) -> None:
    gate = Gate()
    tab = open_tab(nn.Sequential(gate, Brighter()))
    id_, waiting = tab.put("a.png", png()), tab.put("b.png", png())
    tab.start(id_)
    tab.start(waiting)
    assert gate.entered.wait(10)
    assert tab.state(waiting)["job"] | {"done": 0} == {
        "state": "waiting", "step": "enhancing", "done": 0, "total": 0, "ahead": 1, "error": None,
    }  # fmt: skip
    assert tab.client.post(f"{tab.base}/files/{id_}/cancel").status_code == 200
    gate.go_on.set()
    assert tab.wait(id_)["job"]["state"] == "cancelled"
    assert tab.wait(waiting)["job"]["state"] == "done"
    assert tab.result(id_).status_code == 404
    assert tab.run(id_)["job"]["state"] == "done"


def test_progress_is_told(open_tab: Open, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Told(Brighter):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(tab.state(id_)["job"])
            return super().forward(image)

    tab = open_tab(Told())
    id_ = tab.put("a.nii", volume(tmp_path))
    tab.run(id_, whole=True)
    assert [(job["done"], job["total"]) for job in seen] == [(0, 0), (1, 5), (2, 5), (3, 5), (4, 5)]


def test_nothing_outlives_the_page_or_the_server(make_app: Callable[..., Starlette], open_tab: Open) -> None:
    with TestClient(make_app(), base_url="http://127.0.0.1:8765") as client:
        tabs = [open_tab(client=client) for _ in range(3)]
        for tab in tabs:
            tab.run(tab.put("secret.png", png()))
        root = tabs[0].root
        tab = tabs[0]
        id_ = tab.put("removed.png", png())
        assert client.delete(f"{tab.base}/files/{id_}").status_code == 204
        assert "removed.png" not in tab.kept()
        assert client.post(f"{tab.base}/close", headers={"Origin": "http://127.0.0.1:8765"}).status_code == 204
        assert not (root / tab.token).exists()
        assert client.get(tab.base).status_code == 410
        assert tabs[1].kept().count("secret.png") == 4  # two pages, each its own and the result
    assert not root.exists()


def test_a_forgotten_page_is_cleared_away(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_SWEEP", 0.01)
    monkeypatch.setattr("gradprom.serve.sessions.IDLE", 0.05)
    tab = open_tab()
    tab.put("a.png", png())
    root = tab.root
    for _ in range(1000):
        if not (root / tab.token).exists():
            break
        threading.Event().wait(0.01)
    assert not (root / tab.token).exists()
    assert tab.client.get(tab.base).status_code == 410


def test_pages_do_not_see_each_other(open_tab: Open) -> None:
    mine = open_tab()
    id_ = mine.put("a.png", png())
    mine.run(id_)
    other = open_tab(client=mine.client)
    assert other.client.get(other.base).json() == {"files": []}
    for path in (f"files/{id_}/result", f"files/{id_}/view/1/after"):
        assert other.client.get(f"{other.base}/{path}").status_code == 404
        assert mine.client.get(f"{mine.base}/{path}").status_code == 200
    assert other.start(id_).status_code == 404


@pytest.mark.parametrize("name", ["..%2F..%2Fin%2Fa", "../in/a", "nothing", "after%00", "after.png"])
def test_no_other_files_are_given_as_pictures(tab: Any, name: str) -> None:
    id_ = tab.put("a.png", png())
    tab.run(id_)
    assert tab.client.get(f"{tab.base}/files/{id_}/view/1/{name}").status_code == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"nonsense", 422),
        (b"\xff\xfe", 422),
        (b"[1, 2]", 422),
        (b"[" * 9000, 422),
        (b'{"sigma": 7}', 422),
        (b'{"sigma": NaN}', 422),
        (b'{"frame": 1e400}', 422),
        (b" " * 20_000, 413),
    ],
)
def test_wrong_settings_start_nothing(tab: Any, content: bytes, status: int) -> None:
    id_ = tab.put("a.png", png())
    response = tab.client.post(f"{tab.base}/files/{id_}/run", content=content)
    assert response.status_code == status
    assert response.json()["error"]
    assert tab.state(id_)["job"] is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/static/../page.py", 404),
        ("GET", "/static/%2e%2e/page.py", 404),
        ("GET", "/api/examples/nothing.png", 404),
        ("GET", "/api/nobody/files/1/result", 410),
        ("POST", "/api/nobody/files", 410),
        ("POST", "/api/nobody/close", 410),
        ("DELETE", "/", 405),
        ("GET", "/card", 404),
    ],
)
def test_wrong_addresses(tab: Any, method: str, path: str, status: int) -> None:
    response = tab.client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]


def test_an_error_of_our_own_is_no_trace_on_the_page(open_tab: Open, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("secret detail")

    tab = open_tab(Broken())
    error = tab.run(tab.put("a.png", png()))["job"]["error"]
    assert error.startswith("something went wrong inside gradprom (ZeroDivisionError)")
    assert "secret detail" not in error
    assert "secret detail" in caplog.text
    assert "a.png" not in caplog.text


def test_what_the_page_is_told_about_the_model(open_tab: Open, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Card of σ", encoding="utf-8")
    tab = open_tab(card=tmp_path / "card.md", limits=Limits(3_000_000, 5))
    about = tab.client.get("/api/about").json()
    assert about["model"] == {"name": "small", "channels": 1, "scale": 1, "card": True}
    assert about["reader"] is None
    assert about["limits"] == {"upload": 3_000_000, "pixels": 5, "noise": 0.5}
    response = tab.client.get("/card")
    assert (response.text, response.headers["content-type"]) == ("# Card of σ", "text/plain; charset=utf-8")
    assert tab.client.get("/").text.startswith("<!doctype html>")


def test_an_example_is_enhanced_as_an_upload_is(tab: Any) -> None:
    about = tab.client.get("/api/about").json()
    names = [example["name"] for example in about["examples"]]
    assert tab.client.get(f"/api/examples/{names[-1]}").headers["content-type"] == "image/png"
    response = tab.client.post(f"{tab.base}/examples/phantom.dcm")
    assert response.status_code == 201
    state = tab.run(response.json()["id"], sigma=about["exampleNoise"], low=-160, high=240)
    assert (state["view"]["format"], state["view"]["channels"]) == ("dicom", 1)
    assert tab.client.post(f"{tab.base}/examples/nothing").status_code == 404
