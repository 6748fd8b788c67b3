"""The server of the page: on this machine alone, and for whoever has the address, which holds a random token.

No other machine reaches 127.0.0.1; no other user of this one knows the token; no page that a browser has open besides
can ask for anything, as it would not know the token either, and as requests for another host or of another origin are
refused.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from stages.lib.core.errors import UserError
from tools.browse.listing import Listing, Marks, Paths
from tools.browse.pictures import Pictures

HERE = Path(__file__).parent
PAGE = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
MOST_SENT = 64 << 10  # bytes of a correction
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # pictures of patients do not stay in the browser's cache
}
Result = TypeVar("Result")


class Server:
    """Answers the page's requests, one at a time: the mapped files and the network are for one thread alone."""

    def __init__(self, name: str, read: Callable[[], tuple[Listing, Pictures]], paths: Paths, frozen: str) -> None:
        """
        Args:
            read: Reads the outs; again whenever the page is loaded and they have changed.
            frozen: Why labels can't be corrected; "" where they can.
        """
        self.token = secrets.token_urlsafe(24)
        self._name, self._read, self._paths, self._frozen = name, read, paths, frozen
        self._thread = ThreadPoolExecutor(1)
        self._load()

    def _load(self) -> None:
        self._seen = self._paths.stamps()
        self._listing, self._pictures = self._read()
        self._known = {case: i for i, case in enumerate(self._listing.cases)}
        self._marks = Marks(self._paths.raw, self._listing)
        self._network: Any = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_SENT, middlewares=[self._guarded])
        app.add_routes(
            [
                web.get("/{token}/", self._page),
                web.get("/{token}/{file:page[.](js|css)}", self._page),
                web.get("/{token}/cases.json", self._cases),
                web.get("/{token}/case/{case}", self._case),
                web.get("/{token}/small/{case}", self._small),
                web.get("/{token}/slice/{case}/{depth}", self._slice),
                web.get("/{token}/heat/{case}", self._heat),
                web.get("/{token}/unlike", self._unlike),
                web.get("/{token}/training", self._training),
                web.get("/{token}/alike", self._alike),
                web.post("/{token}/marks", self._mark),
            ]
        )
        return app

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuses what does not come from the page; a user's mistake becomes a message."""
        token = request.path.split("/")[1]
        port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
        here = {f"127.0.0.1:{port}", f"localhost:{port}"}
        origin = request.headers.get("Origin")
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            response: web.StreamResponse = web.Response(status=404, text="not found: is the address complete?")
        elif request.host not in here or origin is not None and origin.removeprefix("http://") != request.host:
            response = web.Response(status=403, text="this page answers its own requests alone")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=error.reason)
            except UserError as error:
                response = web.Response(status=409, text=str(error))
        response.headers.update(HEADERS)
        return response

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("file", "page.html")
        return web.Response(text=(HERE / name).read_text(encoding="utf-8"), content_type=PAGE[name])

    async def _cases(self, request: web.Request) -> web.Response:
        def work() -> dict[str, Any]:
            if self._paths.stamps() != self._seen:  # dvc repro has run meanwhile
                self._load()
            marks = self._marks.all()
            return {"dataset": self._name, "frozen": self._frozen, "marks": marks, **self._listing.content()}

        return _json(await self._in_thread(work))

    async def _case(self, request: web.Request) -> web.Response:
        case = self._asked(request)
        content = await self._in_thread(self._pictures.about, case)
        return _json(content | self._listing.about(self._known[case]))

    async def _small(self, request: web.Request) -> web.Response:
        content = await self._in_thread(self._pictures.small, self._asked(request))
        return web.Response(body=content, content_type="image/png")

    async def _slice(self, request: web.Request) -> web.Response:
        try:
            depth = int(request.match_info["depth"])
            content = await self._in_thread(self._pictures.slice, self._asked(request), depth)
        except (ValueError, IndexError):
            raise web.HTTPNotFound(reason="the case has no such slice") from None
        return web.Response(body=content, content_type="application/octet-stream")

    async def _heat(self, request: web.Request) -> web.Response:
        case, label = self._asked(request), request.query.get("class", "")
        content, depth = await self._in_thread(lambda: self._looks().heat(case, label))
        response = web.Response(body=content, content_type="image/png")
        response.headers["X-Slice"] = "" if depth is None else str(depth + 1)
        return response

    async def _unlike(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(lambda: self._looks().unlike()))

    async def _training(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(lambda: self._looks().training(self._listing)))

    async def _alike(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(self._pictures.alike))

    async def _mark(self, request: web.Request) -> web.Response:
        if self._frozen:
            raise UserError(self._frozen)
        try:
            given = json.loads(await request.text())
            path, label, note = (str(given.get(name, "")) for name in ("path", "label", "note"))
            excluded = given.get("excluded", False) is True
        except (ValueError, AttributeError):
            raise web.HTTPBadRequest(reason="expected a JSON object") from None

        def work() -> list[dict[str, Any]]:
            self._marks.mark(path, label, excluded, note)
            return self._marks.all()

        return _json(await self._in_thread(work))

    def _asked(self, request: web.Request) -> str:
        case = request.match_info["case"]
        if case not in self._known:
            raise web.HTTPNotFound(reason="there is no such case")
        return case

    def _looks(self) -> Any:
        if self._network is None:
            from tools.browse.looks import Looks

            self._network = Looks(self._paths)
        return self._network


def _json(content: Any) -> web.Response:
    return web.Response(text=json.dumps(content), content_type="application/json")
