"""``gradprom serve``: the web page of a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable

_EXAMPLES = """examples:
  gradprom serve dermoscopy
  gradprom serve runs/isic --port 9000
  gradprom serve runs/isic --host 0.0.0.0 --max-upload 100

Files stay on the computer where this runs, in a temporary folder ($TMPDIR), until the page is left.
The page asks nobody who they are: with another --host than 127.0.0.1, put a server with passwords
and encryption before it."""


def add_serve_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``serve`` to the commands of a parser."""
    summary = "a web page on which images are enhanced, compared and read"
    serve = commands.add_parser(
        "serve",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("model", metavar="MODEL", help="run folder, or the name of a shipped model")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    serve.add_argument(
        "--name",
        action="append",
        default=[],
        help="a name it is reached by, as from a proxy that passes it on; repeatable",
    )
    serve.add_argument("--port", type=_number(0, 65535), default=8765, help="0: any free one (default: 8765)")
    serve.add_argument(
        "--max-upload", type=_number(1), default=512, metavar="MB", help="refuse larger files (default: 512)"
    )
    serve.add_argument(
        "--max-pixels", type=_number(1), default=100_000_000, help="refuse larger images (default: 100 million)"
    )
    serve.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    serve.set_defaults(run=_serve)


def _number(least: int, most: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            upper = "" if most is None else f" and at most {most}"
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}{upper}")
        return int(text)

    return number


def _serve(options: argparse.Namespace) -> int:
    from gradprom.serve.server import serve

    serve(
        options.model,
        host=options.host,
        names=options.name,
        port=options.port,
        max_upload=options.max_upload,
        max_pixels=options.max_pixels,
        device=options.device,
    )
    return 0
