"""Other sites' pages get no answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

Make = Callable[..., Starlette]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8765", 200),
        ("10.1.2.3", 200),
        ("scanner-7:8765", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8765", 403),
        ("127.0.0.1:8765@evil.example", 403),
        ("::1", 403),
        ("[evil]", 403),
        ("", 403),
    ],
)
def test_only_under_its_own_names(make_app: Make, host: str, status: int) -> None:
    client = TestClient(make_app(names=["Scanner-7"]), base_url="http://127.0.0.1")
    response = client.get("/api/about", headers={"Host": host})
    assert response.status_code == status
    assert ("error" in response.json()) == (status == 403)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 201),
        ("http://127.0.0.1:8765", 201),
        ("https://127.0.0.1:8765", 201),
        ("http://127.0.0.1:9999", 403),
        ("http://localhost:8765", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:8765.evil.example", 403),
        ("null", 403),
    ],
)
def test_only_from_its_own_page(make_app: Make, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}
    with TestClient(make_app(), base_url="http://127.0.0.1:8765") as client:
        assert client.post("/api/sessions", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/api/about", "/static/app.js", "/nowhere", "/api/sessions"])
def test_nothing_is_loaded_from_elsewhere_or_kept(make_app: Make, path: str) -> None:
    with TestClient(make_app(), base_url="http://127.0.0.1") as client:
        headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert not any(word in policy for word in ("http", "*", "unsafe", "data:"))
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
