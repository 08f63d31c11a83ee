"""The page as a web application around one model: addresses, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gradprom.errors import UserError
from gradprom.serve.guard import Guard
from gradprom.serve.page import STATIC, Limits, Page
from gradprom.serve.uploads import RefusedError

if TYPE_CHECKING:
    from gradprom.inference.model import Model
    from gradprom.inference.reader import Reader


_LIMITS = Limits()


async def _on_refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 422
    # what more of a body there may be is not waited for
    return JSONResponse({"error": str(error)}, status, {"Connection": "close"})


async def _on_http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": "there is nothing at this address; open the page itself"}, status)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


def create_app(
    model: Model,
    reader: Reader | None = None,
    *,
    card: Path | None = None,
    limits: Limits = _LIMITS,
    names: Collection[str] = (),
) -> Starlette:
    """The page of a model, as an ASGI application; as long as it runs, its ``state.sessions`` are the open pages.

    Args:
        model: the enhancer.
        reader: reads images before and after.
        card: the model's card.
        limits: how much is taken.
        names: host names under which the page may be opened, beside localhost and addresses in numbers.
    """
    page = Page(model, reader, card, limits)
    file = "/api/{token}/files/{id}"
    return Starlette(
        routes=[
            Route("/", page.index),
            Route("/card", page.card),
            Route("/api/about", page.about),
            Route("/api/examples/{name}", page.thumbnail),
            Route("/api/sessions", page.open, methods=["POST"]),
            Route("/api/{token}", page.state),
            Route("/api/{token}/close", page.close, methods=["POST"]),
            Route("/api/{token}/files", page.upload, methods=["POST"]),
            Route("/api/{token}/examples/{name}", page.example, methods=["POST"]),
            Route(file, page.remove, methods=["DELETE"]),
            Route(f"{file}/run", page.run, methods=["POST"]),
            Route(f"{file}/cancel", page.cancel, methods=["POST"]),
            Route(f"{file}/result", page.result),
            Route(f"{file}/view/{{number:int}}/{{name}}", page.picture),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={
            RefusedError: _on_refused,
            UserError: _on_refused,
            ClientDisconnect: _on_disconnect,
            HTTPException: _on_http_error,
        },
        lifespan=page.running,
    )
