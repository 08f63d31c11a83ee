"""The server as it is: on the network, with all that may be sent to it, and to its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from gradprom.errors import UserError
from gradprom.serve.server import address, bind, is_local, own_names

Serve = Callable[[Starlette], str]
Make = Callable[..., Starlette]
Kept = Callable[[Starlette], list[str]]


def ask(url: str, method: str = "GET", data: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=30) as response:
        return json.loads(response.read() or "null")


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        yield connection


def head(url: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *lines, "", ""]).encode()


def held(app: Starlette) -> int:
    """How many bytes of uploads lie at a server."""
    count = 0
    for folder, _, names in os.walk(app.state.sessions.root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it was deleted just now
                count += (Path(folder) / name).stat().st_size
    return count


def test_two_gigabytes_are_refused_before_they_come(serve: Serve, make_app: Make, kept: Kept) -> None:
    app = make_app()
    url = serve(app)
    path = f"/api/{ask(f'{url}api/sessions', 'POST', b'')['session']}/files?name=large.nii"
    with connected(url) as connection:
        connection.sendall(head(url, path, "Content-Length: 2000000000"))
        answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "large.nii: expected a file of at most 2 MB" in answer
    assert kept(app) == []
    assert ask(f"{url}api/about")["model"]["name"] == "small"


def test_what_comes_without_end_is_cut_off(serve: Serve, make_app: Make, kept: Kept) -> None:
    """The size is not told beforehand; the limit is 2 MB, and no more than that is ever kept."""
    app = make_app()
    url = serve(app)
    path = f"/api/{ask(f'{url}api/sessions', 'POST', b'')['session']}/files?name=endless"
    piece = b"%x\r\n" % 100_000 + bytes(100_000) + b"\r\n"
    sent = 0
    with connected(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head(url, path, "Transfer-Encoding: chunked"))
        while sent < 500_000_000:
            connection.sendall(piece)
            sent += 100_000
            assert held(app) <= 2_000_000
    assert 2_000_000 < sent < 100_000_000
    assert kept(app) == []
    assert ask(f"{url}api/about")["model"]["name"] == "small"


def test_an_upload_that_breaks_off_leaves_nothing(serve: Serve, make_app: Make, kept: Kept) -> None:
    app = make_app()
    url = serve(app)
    token = ask(f"{url}api/sessions", "POST", b"")["session"]
    with connected(url) as connection:
        connection.sendall(head(url, f"/api/{token}/files?name=half.png", "Content-Length: 1000000") + bytes(300_000))
        while not kept(app):
            pass
    for _ in range(2000):
        if not kept(app):
            break
        ask(f"{url}api/{token}")
    assert kept(app) == []
    assert ask(f"{url}api/{token}") == {"files": []}


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends, whatever goes wrong."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_it_is_ended(trained: Callable[[str], Path], tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "gradprom.cli", "serve", str(trained("enhancer_only")), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with running(command, environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        url = found.group()
        token = ask(f"{url}api/sessions", "POST", b"")["session"]
        ask(f"{url}api/{token}/files?name=secret.png", "POST", b"x")
        assert [path.name for path in temporary.rglob("secret.png")] == ["secret.png"]
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert list(temporary.glob("gradprom*")) == []
    assert process.returncode == (0 if number == signal.SIGINT else -number)
    assert "shows no recognizer" in errors
    assert "Traceback" not in errors
    assert "secret" not in errors


def test_the_address() -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert address(listener) == f"http://127.0.0.1:{port}/"
        assert is_local(listener)
        listener.listen()
        with pytest.raises(UserError, match=rf"^127\.0\.0\.1 port {port}: cannot be served on .*--port"):
            bind("127.0.0.1", port)
    with contextlib.closing(bind("0.0.0.0", 0)) as listener:
        assert address(listener) == f"http://{socket.gethostname()}:{listener.getsockname()[1]}/"
        assert not is_local(listener)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "192.0.2.1"])
def test_no_such_address(host: str) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(host)}.*check --host"):
        bind(host, 0)


def test_names_of_this_machine() -> None:
    assert {"scanner.example", socket.gethostname()} <= set(own_names("scanner.example"))
