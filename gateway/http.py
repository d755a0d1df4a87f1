"""The HTTP side of the gateway: a handful of GET paths, read-only, with limits.

Promises: no request changes anything; bodies are refused; a client that does not deliver a request, or does not
read the answer, is cut after seconds; of too many connections one that has been idle longest is cut, and requests take
turns, so that no crowd keeps a probe out, whether it is silent, asks all the time, or sends many requests ahead.
Answers, errors too, are JSON (but /metrics and /) and name no versions.  What the guard does not let
(`gateway.guard`) is answered before anything is looked at; what has no path here counts as guarded.  No page of
another site gets an answer, nor a request whose framing two readers could take differently.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from gateway import views
from gateway.exposition import Exposition, accepts
from gateway.guard import Guard
from gateway.live import MOST_STREAMS, Live, TooMany
from gateway.views import Answer, Picture
from ipc.acceptor import Acceptor
from ipc.complaints import Complaint

log = logging.getLogger("gateway")

MOST_CONNECTIONS: Final = 64
MOST_HEADER: Final = 4096
"""Bytes of the request line, and of any one header."""
MOST_BODY: Final = 1024
MOST_UNREAD: Final = 16 * 1024
"""Bytes a client may send for one request, all headers together."""
MOST_UNSENT: Final = 64 * 1024
"""Bytes of answers that wait for a client before their writer waits too; with TLS asyncio would have it half a MiB."""
FIRST_S: Final = 5.0
"""Seconds in which a new connection must have delivered its first request."""
IDLE_S: Final = 15.0
"""Seconds from one request to the end of the next, its answer read by then."""
SHUTDOWN_S: Final = 0.5

INDEX: Final = "Cardano Forge Manager: /status /metrics /startup-status /health /ready\n"
"""What `/` answers to who does not ask for HTML."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "forge-manager",
    "X-Content-Type-Options": "nosniff",
}
PAGE: Final = Path(__file__).parent / "page"
TRY_AGAIN_S: Final = 5
EVENTS: Final = "/events"
ASKS: Final = ('Basic realm="forge-manager", charset="UTF-8"', 'Bearer realm="forge-manager"')
"""What a 401 asks for: the first makes a browser ask its user."""

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]*)?", re.ASCII)
"""RFC 3986, section 3.2.2; whose name it is does not matter (docs/gateway.md says why)."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The paths and what they answer from."""

    def __init__(
        self,
        look: Callable[[], Picture],
        exposition: Exposition,
        story: Callable[[], dict[str, Any]],
        guard: Guard | None = None,
    ) -> None:
        """story: what the page shows.  guard: None: everybody may see everything."""
        self._look = look
        self.guard = guard if guard is not None else Guard()
        self._readers: set[Client] = set()
        """Who follows /events."""
        self._exposition = exposition
        self.live = Live(lambda: json.dumps(story(), allow_nan=False, separators=(",", ":")).encode("ascii"))
        self._page = (PAGE / "index.html").read_text("utf-8")
        self._style, self._script = ((PAGE / name).read_text("utf-8") for name in ("page.css", "page.js"))
        self.requests: Counter[str] = Counter()
        """Requests by path; whatever has no path here counts as `other`."""

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY, middlewares=[self._limits])
        app.on_response_prepare.append(_set_headers)
        app.router.add_get("/", self._index)
        app.router.add_get("/page.css", _text(self._style, "text/css"))
        app.router.add_get("/page.js", _text(self._script, "text/javascript"))
        app.router.add_get(EVENTS, self._events, allow_head=False)
        app.router.add_head(EVENTS, self._events_head)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/startup-status", self._probe(views.startup))
        app.router.add_get("/health", self._probe(views.health))
        app.router.add_get("/ready", self._probe(views.ready))
        app.router.add_get("/status", self._status)
        return app

    @web.middleware
    async def _limits(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count, refuse what nobody here would ask and who may not, answer errors in JSON."""
        if isinstance(request.protocol, Client):
            request.protocol.served()
        await asyncio.sleep(0)  # else a client's next request, sent ahead, is answered before anybody else has a turn
        error = request.match_info.http_exception
        path = _path(request)
        self.requests[path or "other"] += 1
        if (refused := _improper(request)) is not None:
            refused.force_close()
            return refused
        if not self.guard.lets(path, request.headers.getall("Authorization", ())):
            return _unauthorized(path)
        if error is None:
            answer = await handler(request)
        else:
            answer = _json(error.status, {"error": error.reason})
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        if "Upgrade" in request.headers:  # refused by being ignored; but aiohttp reads no further request after it
            answer.force_close()
        return answer

    async def _index(self, request: web.Request) -> web.StreamResponse:
        html = accepts(_asked(request, "Accept"), "text/html")
        text, kind = (self._page, "text/html") if html else (INDEX, "text/plain")
        return web.Response(text=text, content_type=kind, headers={"Vary": "Accept"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        client, transport = request.protocol, request.transport
        if not isinstance(client, Client) or transport is None:
            raise ConnectionError("it is gone already")
        self._readers.add(client)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})

        async def write(message: bytes) -> None:
            if not response.prepared:
                await response.prepare(request)
                client.streams()
            client.reads()
            await response.write(message)

        try:
            await self.live.follow(write, transport.get_write_buffer_size)
        except TooMany:
            return _too_many()
        except ConnectionError:  # it has seen enough
            return response
        except TimeoutError:
            client.cut()
            return response
        finally:
            self._readers.discard(client)

    async def _events_head(self, request: web.Request) -> web.StreamResponse:
        """How the page learns why it is told nothing more: an EventSource does not say."""
        if self.live.full:
            return _too_many()
        return web.Response(content_type="text/event-stream")

    def look_again(self) -> None:
        """Take over what has changed of the guard's files; who follows by a token that has ended is cut."""
        if self.guard.look():
            for client in tuple(self._readers):
                client.cut()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        made = self._exposition.render(_asked(request, "Accept"), _asked(request, "Accept-Encoding"))
        headers = {"Content-Type": made.content_type, "Vary": "Accept, Accept-Encoding"}
        return web.Response(body=made.body, headers=headers | ({"Content-Encoding": "gzip"} if made.encoding else {}))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _json(HTTPStatus.OK, views.status(self._look()))

    def _probe(self, view: Callable[[Picture], Answer]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            result = view(self._look())
            told = self.guard.tells_reasons(request.headers.getall("Authorization", ()))
            return _json(result.status, result.body if told else result.verdict)

        return answer


def _path(request: web.Request) -> str:
    """As it is routed, however it was written; empty: nothing is there, or not by this method."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _asked(request: web.Request, header: str) -> str:
    """What all headers of that name say together (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getall(header, ()))


def _improper(request: web.Request) -> web.Response | None:
    """The answer to what no probe, scraper, browser or tool asks; None: it is in order."""
    headers = request.headers
    if request.version not in (HttpVersion10, HttpVersion11):
        return _json(HTTPStatus.BAD_REQUEST, {"error": "HTTP/1.1 and HTTP/1.0 are spoken here"})
    if request.can_read_body or "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
        return _json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "requests here have no body"})
    hosts = headers.getall("Host", ())
    if len(hosts) > 1 or (not hosts and request.version == HttpVersion11) or not all(map(_HOST.fullmatch, hosts)):
        return _json(HTTPStatus.BAD_REQUEST, {"error": "a request has one Host, and that a host's name"})
    site, mode = headers.get("Sec-Fetch-Site", "none"), headers.get("Sec-Fetch-Mode")
    if site not in ("same-origin", "none") and mode != "navigate":  # a link may lead here from anywhere
        return _json(HTTPStatus.FORBIDDEN, {"error": "pages of other sites get nothing here"})
    return None


def _unauthorized(path: str) -> web.Response:
    text = "a token is needed: Authorization: Bearer TOKEN, or as the password of any user"
    answer = _json(HTTPStatus.UNAUTHORIZED, {"error": text})
    for challenge in ASKS if path != EVENTS else ASKS[1:]:  # no box over a page that somebody reads: it says it itself
        answer.headers.add("WWW-Authenticate", challenge)
    answer.force_close()
    return answer


def _too_many() -> web.Response:
    many = _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"{MOST_STREAMS} look already; try again"})
    many.headers["Retry-After"] = str(TRY_AGAIN_S)
    return many


def _text(text: str, kind: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind)

    return answer


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _json(status: int, body: dict[str, Any]) -> web.Response:
    text = json.dumps(body, allow_nan=False) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")


class _Visitors:
    """Connections from one address: those that have not asked yet, and those that have, each longest idle first."""

    def __init__(self) -> None:
        self.new: dict[Client, None] = {}
        self.known: dict[Client, None] = {}

    def __len__(self) -> int:
        return len(self.new) + len(self.known)

    def first_to_go(self) -> Client:
        """Who asks all the time is never idle, so half of the places are for those who are about to begin."""
        return next(iter(self.new if len(self.new) > len(self.known) else self.known))


class _Crowd:
    """The open connections.  Of too many the address goes short that has most of them."""

    def __init__(self) -> None:
        self._visitors: dict[str, _Visitors] = {}
        self._broken = Complaint(log, "connection_failed", "a connection failed", passes=True)
        self._failing = Complaint(log, "request_failed", "a request failed", level=logging.ERROR, passes=True)

    def __len__(self) -> int:
        return sum(map(len, self._visitors.values()))

    def failed(self, error: Exception) -> None:
        """Say what a client's bytes did to the library, but not each time: strangers must not fill the log."""
        self._broken.again(error=error)

    def not_answered(self, error: BaseException | None) -> None:
        """Likewise, of a fault of ours."""
        self._failing.again(error=error)

    def admit(self, client: Client) -> None:
        self._visitors.setdefault(client.address, _Visitors()).new[client] = None
        if len(self) > MOST_CONNECTIONS:
            max(self._visitors.values(), key=len).first_to_go().cut()

    def served(self, client: Client) -> None:
        """It has just delivered a request: it is the last of its kind to be cut now."""
        if self.forget(client):
            self._visitors.setdefault(client.address, _Visitors()).known[client] = None

    def forget(self, client: Client) -> bool:
        """Whether it was there."""
        visitors = self._visitors.get(client.address, _Visitors())
        found = visitors.new.pop(client, True) is None or visitors.known.pop(client, True) is None
        if not visitors:
            self._visitors.pop(client.address, None)
        return found


class Client(web.RequestHandler):
    """One connection, with a time limit on each request."""

    __slots__ = ("_crowd", "_gone", "_limit", "_making", "_sent", "address")

    def __init__(self, manager: web.Server, crowd: _Crowd, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say: none
            keepalive_timeout=IDLE_S,
            max_line_size=MOST_HEADER,
            max_field_size=MOST_HEADER,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._crowd = crowd
        self._limit: asyncio.TimerHandle | None = None
        self._making: asyncio.Task[object] | None = None
        self._gone = False
        self._sent = 0
        self.address = ""

    def shakes_hands(self, making: asyncio.Task[object], peername: object) -> None:
        """With TLS: from here on it counts, and its time for the first request runs; `making` makes a transport."""
        self._making = making
        self._enter(peername)

    def _enter(self, peername: object) -> None:
        """peername: as sockets give it, its first part the address."""
        self.address = str(peername[0]) if isinstance(peername, tuple) else ""
        self._crowd.admit(self)
        self._within(FIRST_S)

    def has_shaken_hands(self) -> None:
        """`making` has ended, with a transport or without."""
        self._making = None
        if self.transport is None:
            self._forget()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(MOST_UNSENT)
        if self._gone:  # it was cut while its last handshake message was on the way
            self.cut()
        elif self._making is None:
            self._enter(transport.get_extra_info("peername"))

    async def start(self) -> None:
        """As aiohttp's own; what it does not foresee (a CONNECT to nowhere) ends this connection, not the worker."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  # a stranger's bytes in a library: any of its mistakes
            self._crowd.failed(error)
            self.cut()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        self._crowd.forget(self)
        if self._limit is not None:
            self._limit.cancel()

    def data_received(self, data: bytes) -> None:
        self._sent += len(data)
        if self._sent > MOST_UNREAD:
            self.cut()
        else:
            super().data_received(data)

    def served(self) -> None:
        """A whole request arrived; the time for its answer and the next one begins."""
        self._sent = 0
        self._crowd.served(self)
        self._within(IDLE_S)

    def streams(self) -> None:
        """It is told something again and again from now on: `gateway.live` has its own limits."""
        if self._limit is not None:
            self._limit.cancel()

    def reads(self) -> None:
        """It took what it was told: it is the last to be cut now."""
        self._crowd.served(self)

    def cut(self) -> None:
        """End the connection without another word."""
        self._gone = True
        self._crowd.forget(self)
        if self.transport is not None:
            self.transport.abort()
        elif self._making is not None:
            self._making.cancel()

    def _within(self, seconds: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = asyncio.get_running_loop().call_later(seconds, self.cut)

    def log_exception(self, *args: Any, **facts: Any) -> None:
        """Not for a body that turns out to be none while it is thrown away: strangers must not fill the log."""
        if not isinstance(facts.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **facts)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP request, or to a fault of ours; the latter is logged."""
        if isinstance(exc, UnicodeError) and "Expect" in request.headers:
            status = HTTPStatus.EXPECTATION_FAILED  # aiohttp's own refusal fails to repeat bytes that are no text
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._crowd.not_answered(exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had already begun")
        answer = _json(status, {"error": HTTPStatus(status).phrase})
        answer.headers.update(HEADERS)
        answer.force_close()
        return answer


class Listener:
    """A running server on sockets that listen already.  `port` is where, the same on IPv4 and IPv6."""

    def __init__(self, site: Site) -> None:
        self._runner = web.AppRunner(site.application(), handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        self._tls = site.guard.tls
        self._crowd = _Crowd()
        self._acceptors: list[Acceptor] = []
        self.port = 0

    @property
    def connections(self) -> int:
        """How many count now, those that shake hands too."""
        return len(self._crowd)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve these (`kernel.tcp.listen`)."""
        await self._runner.setup()
        manager, crowd, loop = self._runner.server, self._crowd, asyncio.get_running_loop()
        assert manager is not None
        for sock in sockets:
            acceptor = self._accept(sock, lambda: Client(manager, crowd, loop))
            acceptor.start()
            self._acceptors.append(acceptor)
        self.port = int(sockets[0].getsockname()[1])

    def _accept(self, sock: socket.socket, factory: Callable[[], Client]) -> Acceptor:
        files = self._tls
        if files is None:
            return Acceptor(sock, factory)
        from gateway.tls import TlsAcceptor  # with ssl

        return TlsAcceptor(sock, factory, lambda: files.value)

    async def close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await self._runner.cleanup()
