"""Who may talk to the page: no other site, under no other name, and nothing stays behind in caches."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing is loaded from elsewhere, and the browser is told so
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests that come from other sites' pages, and sets the headers of every response.

    A page elsewhere can make a browser send requests here. If it does so under a name of its own that it lets point to
    this machine (DNS rebinding), the Host header tells; if it does so openly, the Origin header tells.

    Args:
        app: what is guarded.
        names: host names that are this server's own, beside localhost and addresses written as numbers, to which no
            other site can lay claim.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        reason = self._refusal(Headers(scope=scope))
        app = self._app if reason is None else JSONResponse({"error": reason}, 403)
        await app(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not is_own(host, self._names):
            return (
                f"expected a request to this server's own name or address, found one to {host!r}; open the address "
                "that gradprom serve has printed"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return f"expected a request from this page, found one from {origin}; open the page itself"
        return None


def is_own(host: str, names: Collection[str]) -> bool:
    """Tell whether a Host header, with or without a port, is an address in numbers or one of ``names``.

    Example:
        >>> [is_own(host, {"localhost"}) for host in ("127.0.0.1:80", "[::1]:80", "localhost", "evil.example", "")]
        [True, True, True, False, False]
    """
    name, _, port = host.rpartition(":") if ":" in host and not host.endswith("]") else (host, "", "")
    if port and not port.isdecimal():
        return False
    if name.lower() in names:
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
