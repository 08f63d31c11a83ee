"""``gradprom serve``: words to a call; what it serves is tested in tests/serve."""

from __future__ import annotations

import builtins
import socket
from pathlib import Path
from typing import Any

import pytest

from gradprom import cli
from gradprom.serve import server


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "gradprom serve runs/isic --port 9000" in text
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [],
            {
                "host": "127.0.0.1",
                "names": [],
                "port": 8765,
                "max_upload": 512,
                "max_pixels": 100_000_000,
                "device": "cpu",
            },
        ),
        (
            [
                "--host",
                "::1",
                "--name",
                "a",
                "--name",
                "b",
                "--port",
                "0",
                "--max-upload",
                "7",
                "--max-pixels",
                "8",
                "--device",
                "cuda",
            ],
            {"host": "::1", "names": ["a", "b"], "port": 0, "max_upload": 7, "max_pixels": 8, "device": "cuda"},
        ),
    ],
)
def test_words(words: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(server, "serve", lambda *arguments, **options: calls.append((arguments, options)))
    assert cli.main(["serve", "run", *words]) == 0
    assert calls == [(("run",), expected)]


@pytest.mark.parametrize(
    "words", [[], ["run", "--port", "65536"], ["run", "--port", "x"], ["run", "--max-upload", "0"]]
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", *words])
    assert ended.value.code == 2
    assert "usage: gradprom serve" in capsys.readouterr().err


def test_no_such_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", str(tmp_path / "missing"), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradprom: ")
    assert "missing" in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert cli.main(["serve", str(tmp_path), "--port", port]) == 2
    assert f"127.0.0.1 port {port}: cannot be served on" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli.main(["serve", "run"]) == 2
    assert (
        "needs uvicorn, which is not installed; install it with pip install 'gradprom[web]'" in capsys.readouterr().err
    )
