"""A page of a small model, and what talks to it."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from torch import nn

from gradprom.inference.model import Model
from gradprom.serve.app import create_app
from gradprom.serve.page import Limits
from gradprom.serve.server import bind
from gradprom.serve.work import Worker

LIMITS = Limits(upload=2_000_000, pixels=1_000_000)


class Brighter(nn.Module):
    """Adds a tenth of the range."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 0.1


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker at work, which ends with the test."""
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()


def names_in(app: Any) -> list[str]:
    """The names of the files that lie at a server, even as they come and go."""
    return [name for _, _, names in os.walk(app.state.sessions.root) for name in names if name != ".lock"]


@dataclass
class Tab:
    """One open page, by its addresses."""

    client: TestClient
    token: str

    @property
    def base(self) -> str:
        return f"/api/{self.token}"

    def upload(self, name: str, data: bytes) -> Any:
        return self.client.post(f"{self.base}/files", params={"name": name}, content=data)

    def put(self, name: str, data: bytes) -> str:
        response = self.upload(name, data)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def start(self, id_: str, **settings: Any) -> Any:
        return self.client.post(f"{self.base}/files/{id_}/run", json=settings)

    def state(self, id_: str) -> Any:
        files = self.client.get(self.base).json()["files"]
        return next(file for file in files if file["id"] == id_)

    def run(self, id_: str, **settings: Any) -> Any:
        """Ask for something and wait for its end."""
        assert self.start(id_, **settings).status_code == 202
        return self.wait(id_)

    def wait(self, id_: str) -> Any:
        for _ in range(3000):
            state = self.state(id_)
            if state["job"]["state"] not in ("waiting", "running"):
                return state
            time.sleep(0.01)
        raise AssertionError("the job does not end")

    def result(self, id_: str) -> Any:
        return self.client.get(f"{self.base}/files/{id_}/result")

    def picture(self, id_: str, name: str) -> np.ndarray:
        number = self.state(id_)["view"]["number"]
        response = self.client.get(f"{self.base}/files/{id_}/view/{number}/{name}")
        assert response.status_code == 200, response.text
        with Image.open(io.BytesIO(response.content)) as image:
            return np.asarray(image)

    @property
    def root(self) -> Path:
        """The folder below which the server keeps everything."""
        return Path(self.client.app.state.sessions.root)  # type: ignore[attr-defined]

    def kept(self) -> list[str]:
        """The files that lie at the server, of all pages."""
        return names_in(self.client.app)


@pytest.fixture
def make_app() -> Callable[..., Starlette]:
    """A page of a grey model: ``make_app(enhancer, reader, limits=...)``."""

    def make(enhancer: nn.Module | None = None, reader: Any = None, channels: int = 1, **options: Any) -> Starlette:
        model = Model(enhancer or Brighter(), channels=channels, name="small")
        return create_app(model, reader, **{"limits": LIMITS, **options})

    return make


@pytest.fixture
def open_tab(make_app: Callable[..., Starlette]) -> Iterator[Callable[..., Tab]]:
    """Open a page: ``open_tab(enhancer, reader, ...)`` on a server of its own, ``open_tab(client=...)`` on that."""
    clients: list[TestClient] = []

    def make(*arguments: Any, client: TestClient | None = None, **options: Any) -> Tab:
        if client is None:
            client = TestClient(make_app(*arguments, **options), base_url="http://127.0.0.1:8765")
            client.__enter__()
            clients.append(client)
        return Tab(client, client.post("/api/sessions").json()["session"])

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """A page of a grey model that brightens."""
    return open_tab()


@pytest.fixture
def kept() -> Callable[[Starlette], list[str]]:
    """The names of the files that lie at a server."""
    return names_in


@pytest.fixture
def serve() -> Iterator[Callable[[Starlette], str]]:
    """Let an application answer on a port of its own: ``serve(app)`` gives its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: Starlette) -> str:
        listener = bind("127.0.0.1", 0)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="on", timeout_graceful_shutdown=3)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()
