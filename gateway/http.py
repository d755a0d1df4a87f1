"""The HTTP side of the gateway: a handful of GET paths, read-only, with limits.

No request can change anything.  Bodies are refused, slow and surplus clients are dropped.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from gateway import views
from gateway.metrics import PodCollector
from gateway.views import Answer, Picture

log = logging.getLogger("gateway")

MOST_CONNECTIONS: Final = 64
MOST_HEADER: Final = 4096
IDLE_S: Final = 15.0
INDEX: Final = "Cardano Forge Manager: /status /metrics /startup-status /health /ready\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The paths and what they answer from."""

    def __init__(self, look: Callable[[], Picture], collector: PodCollector) -> None:
        self._look = look
        self._collector = collector
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._open = 0
        self.requests: Counter[str] = Counter()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1024, middlewares=[self._limits])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/startup-status", self._probe(views.startup))
        app.router.add_get("/health", self._probe(views.health))
        app.router.add_get("/ready", self._probe(views.ready))
        app.router.add_get("/status", self._status)
        return app

    @web.middleware
    async def _limits(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count, refuse bodies and a crowd, answer errors in JSON, say nothing of versions."""
        if self._open >= MOST_CONNECTIONS:
            return _plain(503, {"error": "too many requests at once"})
        if request.can_read_body:
            return _plain(413, {"error": "requests here have no body"})
        self._open += 1
        try:
            self.requests[request.path if request.match_info.http_exception is None else "other"] += 1
            response = await handler(request)
        except web.HTTPException as error:
            response = _plain(error.status, {"error": error.reason})
        finally:
            self._open -= 1
        response.headers["Cache-Control"] = "no-store"
        response.headers["Server"] = "forge-manager"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=INDEX)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        self._collector.picture = self._look()
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _plain(200, views.status(self._look()))

    def _probe(self, view: Callable[[Picture], Answer]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            result = view(self._look())
            return _plain(result.status, result.body)

        return answer


def _plain(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, text=json.dumps(body) + "\n", content_type="application/json")


async def listen(site: Site, port: int) -> tuple[web.AppRunner, int]:
    """Serve on all addresses; the runner and the port.  Raises OSError when the port is taken."""
    runner = web.AppRunner(
        site.application(),
        access_log=None,
        keepalive_timeout=IDLE_S,
        max_line_size=MOST_HEADER,
        max_field_size=MOST_HEADER,
        lingering_time=1.0,
        handle_signals=False,
    )
    await runner.setup()
    tcp = web.TCPSite(runner, host=None, port=port, backlog=MOST_CONNECTIONS, reuse_address=True)
    await tcp.start()
    addresses = runner.addresses
    return runner, int(addresses[0][1])
