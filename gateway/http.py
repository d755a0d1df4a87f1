"""The HTTP side of the gateway: a handful of GET paths, read-only, with limits.

Promises: no request changes anything; bodies are refused; a client that does not deliver a request, or does not
read the answer, is cut after seconds; of too many connections the one that has been idle longest is cut, so a crowd
of silent clients cannot keep a probe out.  Answers, errors too, are JSON (but /metrics and /) and name no versions.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from gateway import views
from gateway.views import Answer, Picture
from ipc.acceptor import Acceptor

log = logging.getLogger("gateway")

MOST_CONNECTIONS: Final = 64
MOST_HEADER: Final = 4096
"""Bytes of the request line, and of any one header."""
MOST_BODY: Final = 1024
MOST_UNREAD: Final = 16 * 1024
"""Bytes a client may send for one request, all headers together."""
FIRST_S: Final = 5.0
"""Seconds in which a new connection must have delivered its first request."""
IDLE_S: Final = 15.0
"""Seconds from one request to the end of the next, its answer read by then."""
SHUTDOWN_S: Final = 0.5
COMPLAIN_EVERY_S: Final = 10.0

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
INDEX: Final = "Cardano Forge Manager: /status /metrics /startup-status /health /ready\n"
HEADERS: Final = {"Cache-Control": "no-store", "Server": "forge-manager", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The paths and what they answer from."""

    def __init__(self, look: Callable[[], Picture], collector: Collector) -> None:
        self._look = look
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self.requests: Counter[str] = Counter()
        """Requests by path; whatever has no path here counts as `other`."""

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY, middlewares=[self._limits])
        app.on_response_prepare.append(_set_headers)
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/startup-status", self._probe(views.startup))
        app.router.add_get("/health", self._probe(views.health))
        app.router.add_get("/ready", self._probe(views.ready))
        app.router.add_get("/status", self._status)
        return app

    @web.middleware
    async def _limits(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count, refuse bodies, answer errors in JSON."""
        if isinstance(request.protocol, _Client):
            request.protocol.served()
        error = request.match_info.http_exception
        self.requests[request.path if error is None else "other"] += 1
        if request.can_read_body:
            refused = _json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "requests here have no body"})
            refused.force_close()
            return refused
        if error is not None:
            answer = _json(error.status, {"error": error.reason})
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        return await handler(request)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=INDEX)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": METRICS_TYPE})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _json(HTTPStatus.OK, views.status(self._look()))

    def _probe(self, view: Callable[[Picture], Answer]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            result = view(self._look())
            return _json(result.status, result.body)

        return answer


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _json(status: int, body: dict[str, Any]) -> web.Response:
    text = json.dumps(body, allow_nan=False) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")


class _Crowd:
    """The open connections, longest idle first."""

    def __init__(self) -> None:
        self._clients: dict[_Client, None] = {}
        self._complain_at = 0.0

    def failed(self, error: Exception, now: float) -> None:
        """Say what a client's bytes did to the library, but not each time: strangers must not fill the log."""
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_EVERY_S
            log.warning("a connection failed", exc_info=error, extra={"event": "connection_failed"})

    def admit(self, client: _Client) -> None:
        self._clients[client] = None
        if len(self._clients) > MOST_CONNECTIONS:
            next(iter(self._clients)).cut()

    def served(self, client: _Client) -> None:
        """It has just delivered a request: it is the last to be cut now."""
        if self._clients.pop(client, True) is None:
            self._clients[client] = None

    def forget(self, client: _Client) -> None:
        self._clients.pop(client, None)


class _Client(web.RequestHandler):
    """One connection, with a time limit on each request."""

    __slots__ = ("_crowd", "_limit", "_sent")

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
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.admit(self)
        self._within(FIRST_S)

    async def start(self) -> None:
        """As aiohttp's own; what it does not foresee (a CONNECT to nowhere) ends this connection, not the worker."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  # a stranger's bytes in a library: any of its mistakes
            self._crowd.failed(error, asyncio.get_running_loop().time())
            self.cut()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._crowd.forget(self)
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

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

    def cut(self) -> None:
        """End the connection without another word."""
        self._crowd.forget(self)
        if self.transport is not None:
            self.transport.abort()

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
            log.error("a request failed", exc_info=exc, extra={"event": "request_failed"})
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
        self._acceptors: list[Acceptor] = []
        self.port = 0

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve these (`kernel.tcp.listen`)."""
        await self._runner.setup()
        manager, crowd, loop = self._runner.server, _Crowd(), asyncio.get_running_loop()
        assert manager is not None
        for sock in sockets:
            acceptor = Acceptor(sock, lambda: _Client(manager, crowd, loop))
            acceptor.start()
            self._acceptors.append(acceptor)
        self.port = int(sockets[0].getsockname()[1])

    async def close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await self._runner.cleanup()
