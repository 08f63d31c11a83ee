"""What is answered at each of the page's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from gradprom import __version__
from gradprom.serve.enhancing import MOST_NOISE, enhance_upload, parse_settings
from gradprom.serve.examples import EXAMPLES, NOISE
from gradprom.serve.rendering import MASK_COLOURS
from gradprom.serve.sessions import Session, Sessions
from gradprom.serve.uploads import RefusedError, Store, Upload
from gradprom.serve.work import Job, Worker

if TYPE_CHECKING:
    from gradprom.inference.model import Model
    from gradprom.inference.reader import Reader

STATIC = Path(__file__).parent / "static"
_SWEEP = 20.0  # seconds between looks for forgotten pages
_SETTINGS_BYTES = 10_000
_DISCARDED, _PATIENCE = 16_000_000, 2.0  # bytes, seconds
_HELD = 4  # as many files of the greatest size may lie on the server at a time


@dataclass(frozen=True)
class Limits:
    """How much the page takes.

    Attributes:
        upload: bytes of a file; four times as many may lie on the server at a time.
        pixels: of a file, all its frames together.
    """

    upload: int = 512_000_000
    pixels: int = 100_000_000


class Page:
    """Answers requests. Files are received as they come, and worked on one after the other by one thread.

    Args:
        model: the enhancer.
        reader: the recognizers beside it, if there are any.
        card: the model's card, if there is one.
        limits: how much is taken.
    """

    def __init__(self, model: Model, reader: Reader | None, card: Path | None, limits: Limits) -> None:
        self._model = model
        self._reader = reader
        self._card = card
        self._limits = limits

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Work as long as the server does, and leave nothing behind."""
        self._worker = Worker()
        self._worker.start()
        self.sessions = Sessions(self._worker, Store(self._limits.upload, _HELD * self._limits.upload))
        app.state.sessions = self.sessions
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await run_in_threadpool(self._worker.stop)
            await run_in_threadpool(self.sessions.close_all)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            for session in self.sessions.idle():
                await run_in_threadpool(self.sessions.close, session)

    async def index(self, _: Request) -> Response:
        """The page itself."""
        return FileResponse(STATIC / "index.html")

    async def about(self, _: Request) -> Response:
        """What model this is, and what the page offers."""
        reader = self._reader
        return JSONResponse(
            {
                "version": __version__,
                "model": {
                    "name": self._model.name,
                    "channels": self._model.channels,
                    "scale": self._model.scale,
                    "card": self._card is not None,
                },
                "reader": None
                if reader is None
                else {"tasks": reader.tasks, "classes": reader.classes, "maskClasses": reader.mask_classes},
                "colours": MASK_COLOURS,
                "limits": asdict(self._limits) | {"noise": MOST_NOISE},
                "examples": [
                    {"name": example.name, "title": example.title, "what": example.what}
                    for example in EXAMPLES.values()
                ],
                "exampleNoise": NOISE,
            }
        )

    async def card(self, _: Request) -> Response:
        """The model's card, as it is written."""
        if self._card is None:
            raise RefusedError(404, "this model has no card")
        return PlainTextResponse(self._card.read_text(encoding="utf-8"))

    async def thumbnail(self, request: Request) -> Response:
        """A small picture of an example."""
        example = EXAMPLES.get(request.path_params["name"])
        if example is None:
            raise RefusedError(404, "there is no such example")
        return Response(await run_in_threadpool(example.thumbnail), media_type="image/png")

    async def open(self, _: Request) -> Response:
        """A session for a page that was just opened."""
        return JSONResponse({"session": self.sessions.open().token}, 201)

    async def state(self, request: Request) -> Response:
        """How far everything is, and a page's sign of life."""
        session = self.sessions.get(request.path_params["token"])
        # a copy: another thread may take files away meanwhile
        return JSONResponse({"files": [self._describe(upload) for upload in list(session.uploads.values())]})

    async def close(self, request: Request) -> Response:
        """A page is left: all it uploaded is deleted."""
        session = self.sessions.get(request.path_params["token"])
        await run_in_threadpool(self.sessions.close, session)
        return Response(status_code=204)

    async def upload(self, request: Request) -> Response:
        """Take a file, whose bytes are the body of the request."""
        session = self.sessions.get(request.path_params["token"])
        name = request.query_params.get("name", "")
        length = request.headers.get("content-length", "")
        promised = int(length) if length.isdecimal() else 0
        chunks = request.stream()
        try:
            upload, receiver = self.sessions.receive(session, name, promised)
            with receiver:
                async for chunk in chunks:
                    self.sessions.get(session.token)  # it may have ended since, and a slow upload is a sign of life
                    receiver.write(chunk)
                receiver.finish()
        except RefusedError:
            if promised <= _DISCARDED:
                await _discard(chunks)
            raise
        self.sessions.add(session, upload)
        return JSONResponse(self._describe(upload), 201)

    async def example(self, request: Request) -> Response:
        """Take an example as if it had been uploaded."""
        session = self.sessions.get(request.path_params["token"])
        example = EXAMPLES.get(request.path_params["name"])
        if example is None:
            raise RefusedError(404, "there is no such example")
        data, _ = await run_in_threadpool(example.make)
        upload, receiver = self.sessions.receive(session, example.name, len(data))
        with receiver:
            receiver.write(data)
            receiver.finish()
        self.sessions.add(session, upload)
        return JSONResponse(self._describe(upload), 201)

    async def run(self, request: Request) -> Response:
        """Let a file, or one image of it, be enhanced; what was to be done with it before is cancelled."""
        session, upload = self._find(request)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _SETTINGS_BYTES:
                raise RefusedError(413, "expected settings, found something larger; reload the page")
        job = self._job(upload, body)
        self.sessions.submit(session, upload, job)
        return JSONResponse(self._describe(upload), 202)

    def _job(self, upload: Upload, body: bytes) -> Job:
        try:
            settings = parse_settings(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise RefusedError(422, "expected settings as JSON, found something else; reload the page") from error

        def work(job: Job) -> None:
            if upload.written is not None and upload.written.outcome != settings.outcome:
                # what was enhanced as a whole was enhanced otherwise
                upload.written = None
                upload.result.unlink(missing_ok=True)
            number = upload.view_number + 1
            view = enhance_upload(
                self._model,
                self._reader,
                upload.source,
                upload.result.parent,
                upload.pictures(number),
                settings,
                job,
                self._limits.pixels,
            )
            upload.view, upload.view_number = view, number
            if view.is_whole:
                upload.written = settings
            # the page may still be fetching those of the view before
            upload.forget_pictures(number - 2)

        return Job(work)

    async def cancel(self, request: Request) -> Response:
        """Stop what is being done with a file."""
        _, upload = self._find(request)
        for job in upload.jobs:
            self._worker.cancel(job)
        return JSONResponse(self._describe(upload))

    async def remove(self, request: Request) -> Response:
        """Delete a file and all that was made of it."""
        session, upload = self._find(request)
        await run_in_threadpool(self.sessions.remove, session, upload)
        return Response(status_code=204)

    async def picture(self, request: Request) -> Response:
        """A picture of a view."""
        _, upload = self._find(request)
        name, view = request.path_params["name"], upload.view
        path = upload.pictures(request.path_params["number"]) / f"{name}.png"
        if view is None or name not in view.pictures or not path.is_file():
            raise RefusedError(404, "this picture is not here any more")
        return FileResponse(path, media_type="image/png")

    async def result(self, request: Request) -> Response:
        """The enhanced file."""
        _, upload = self._find(request)
        if upload.written is None or not upload.result.is_file():
            raise RefusedError(404, f"{upload.name}: is not enhanced yet, or not any more")
        first, dot, ending = upload.name.partition(".")
        return FileResponse(
            upload.result, media_type="application/octet-stream", filename=f"{first}-enhanced{dot}{ending}"
        )

    def _find(self, request: Request) -> tuple[Session, Upload]:
        return self.sessions.find(request.path_params["token"], request.path_params["id"])

    def _describe(self, upload: Upload) -> dict[str, Any]:
        """A file as the page knows it."""
        job = upload.jobs[-1] if upload.jobs else None
        view, written = upload.view, upload.written
        return {
            "id": upload.id,
            "name": upload.name,
            "size": upload.size,
            "job": job
            and {
                "state": job.state,
                "step": job.step,
                "done": job.done,
                "total": job.total,
                "ahead": self._worker.ahead(job),
                "error": job.error,
            },
            "view": view and asdict(view) | {"number": upload.view_number},
            "written": written and {"sigma": written.sigma, "window": written.window},
        }


async def _discard(chunks: AsyncIterator[bytes]) -> None:
    """Read on for a moment: browsers that are sending read no answer, and take a connection that ends for an error."""
    count = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_PATIENCE):
            async for chunk in chunks:
                count += len(chunk)
                if count > _DISCARDED:
                    return
