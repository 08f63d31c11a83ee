"""``gradprom serve``: the web page of a model."""

from __future__ import annotations

import argparse

from gradprom._arguments import add_command, whole_number

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
    serve = add_command(commands, "serve", summary, _EXAMPLES)
    serve.add_argument("model", metavar="MODEL", help="run folder, a name of gradprom models, or an exported ONNX file")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    serve.add_argument(
        "--name",
        action="append",
        default=[],
        help="a name it is reached by, as from a proxy that passes it on; repeatable",
    )
    serve.add_argument("--port", type=whole_number(0, 65535), default=8765, help="0: any free one (default: 8765)")
    serve.add_argument(
        "--max-upload", type=whole_number(1), default=512, metavar="MB", help="refuse larger files (default: 512)"
    )
    serve.add_argument(
        "--max-pixels", type=whole_number(1), default=100_000_000, help="refuse larger images (default: 100 million)"
    )
    serve.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    serve.set_defaults(run=_serve)


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
