"""The page on the network: an address, a model, and a server until it is told to end."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradprom.errors import UserError

if TYPE_CHECKING:
    from gradprom.inference.reader import Reader


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    port: int = 8765,
    max_upload: int = 512,
    max_pixels: int = 100_000_000,
    device: str = "cpu",
) -> None:
    """Serve the page of a model until Ctrl-C or a signal to end; what was uploaded is deleted then.

    Args:
        model: a run folder, the name of a shipped model, or an exported ONNX file.
        host: where to listen; 127.0.0.1 is this machine alone.
        names: under which the page may be opened, beside ``host``, this machine's own and addresses in numbers.
        port: 0 for any that is free.
        max_upload: megabytes of a file.
        max_pixels: of a file, all its frames together.
        device: where the models run.

    Raises:
        UserError: the web extra is not installed, the address cannot be had, or the model cannot be loaded.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"the web page needs {error.name}, which is not installed; install it with pip install 'gradprom[web]'"
        ) from error

    from gradprom.inference.load import load
    from gradprom.models import CARD, find_model
    from gradprom.serve.app import create_app
    from gradprom.serve.page import Limits

    with contextlib.closing(bind(host, port)) as listener:
        folder = find_model(model)
        enhancer = load(model, device=device)
        card = folder / CARD
        app = create_app(
            enhancer,
            _load_reader(model, device),
            card=card if card.is_file() else None,
            limits=Limits(max_upload * 1_000_000, max_pixels),
            names=(*own_names(host), *names),
        )
        listener.listen()  # who opens the page right after it is announced waits a moment, and is not refused
        print(f"{enhancer.name}: {address(listener)} (Ctrl-C ends it, and deletes all that was uploaded)", flush=True)
        if not is_local(listener):
            print(
                "gradprom: everybody who reaches this machine can use the page, and what they send is not encrypted",
                file=sys.stderr,
            )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=3,
            lifespan="on",
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends well, and passes it on then
            uvicorn.Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """Take an address.

    Raises:
        UserError: it cannot be had.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UserError(f"{host}: expected a name or an address of this machine, found none; check --host") from error
    try:
        # another server may have ended just now; on Windows it would mean to share a port with one that runs
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host} port {port}: cannot be served on ({error.strerror}); choose another with --port, 0 for any that "
            "is free, or check --host"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """The address of the page, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 (looked at, not bound to)
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(listener: socket.socket) -> bool:
    """Whether only programs on this machine reach it."""
    import ipaddress

    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def own_names(host: str) -> tuple[str, ...]:
    """Names under which the page may be opened: the one that was given, and the machine's own."""
    name = socket.gethostname()
    return host, name, name.partition(".")[0], f"{name}.local"


def _load_reader(model: str | Path, device: str) -> Reader | None:
    from gradprom.inference.reader import load_reader

    try:
        return load_reader(model, device=device)
    except UserError as error:
        print(f"gradprom: the page shows no recognizer ({error})", file=sys.stderr)
        return None
