"""A proxy before an API server, one per pod, through which its API path can be made to fail.

Plain HTTP on 127.0.0.1 towards the pod, whatever the server speaks towards the server.  Runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

import aiohttp
from aiohttp import web

from devkit.api.server_protocol import ApiServer

HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"}
)
_OF_THE_POD: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that are the pod's own, or not there."""
TLS_GOODBYE_S: Final = 0.3
"""What TLS connections take to say good-bye, at most; nothing tells when the last of them is gone."""


class FaultyProxy:
    """Modes: pass, hang, refuse, status, slow, lose (the write takes effect, its answer is lost), repeat."""

    def __init__(self, server: ApiServer, user: str) -> None:
        self._server = server
        self._token = server.token_for(user)
        self.counts: Counter[str] = Counter()
        """Requests by method; a watch counts as WATCH."""
        self._mode = "pass"
        self._delay_s = 0.0
        self._status = (500, {})  # type: tuple[int, dict[str, str]]
        self._changed: asyncio.Event
        self._open: set[asyncio.BaseTransport] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._site: web.TCPSite | None = None
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- for the test's thread ---

    def let_pass(self) -> None:
        self._do(self._set("pass"))

    def hang(self) -> None:
        """Accept, never answer; what is under way freezes, and is cut when the mode changes again."""
        self._do(self._set("hang"))

    def refuse(self) -> None:
        """Nobody listens; what was connected is cut."""
        self._do(self._set("refuse"))

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Every request gets this status."""
        self._status = (status, headers or {})
        self._do(self._set("status"))

    def slow(self, seconds: float) -> None:
        """Every request is passed on only after so long."""
        self._delay_s = seconds
        self._do(self._set("slow"))

    def lose_answers(self) -> None:
        """Every request takes effect; then the connection is cut instead of an answer."""
        self._do(self._set("lose"))

    def repeat(self, seconds: float) -> None:
        """Every write arrives once more, so long after it was answered; nobody hears what becomes of it then."""
        self._delay_s = seconds
        self._do(self._set("repeat"))

    def close(self) -> None:
        """End it; a second time is harmless."""
        if self._loop.is_closed():
            return
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # --- in the proxy's thread ---

    async def _start(self) -> None:
        self._changed = asyncio.Event()
        context = ssl.create_default_context(cafile=str(self._server.ca_file)) if self._server.ca_file else None
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        quiet = logging.getLogger("devkit.proxy")
        quiet.setLevel(logging.CRITICAL)  # connections cut on purpose are no errors
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2, logger=quiet)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = int(self._runner.addresses[0][1])

    async def _set(self, mode: str) -> None:
        was, self._mode = self._mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode == "refuse" and self._site is not None:
            await self._site.stop()
            self._site = None
        if mode == "refuse" or was == "hang":
            for transport in tuple(self._open):
                _cut(transport)
        if mode != "refuse" and self._site is None:
            await self._listen()

    async def _stop(self) -> None:
        self._mode = "closing"
        self._changed.set()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()
        await self._runner.cleanup()
        for _ in range(10):  # connections that were cut take some turns of the loop to be gone
            await asyncio.sleep(0)
        if self._server.ca_file is not None:
            await asyncio.sleep(TLS_GOODBYE_S)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        task = asyncio.current_task()
        assert task is not None
        self._open.add(transport)
        self._tasks.add(task)
        self.counts["WATCH" if "watch" in request.query else request.method] += 1
        try:
            return await self._answer(request)
        except ConnectionResetError:
            _cut(transport)  # otherwise aiohttp would answer 500 for us
            raise
        finally:
            self._open.discard(transport)
            self._tasks.discard(task)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """As the mode wants it.  ConnectionResetError: by a cut."""
        if self._mode == "hang":
            await self._frozen()
        if self._mode == "refuse":  # a connection kept alive from before
            raise ConnectionResetError
        if self._mode == "status":
            status, headers = self._status
            return web.json_response({"kind": "Status", "code": status, "reason": ""}, status=status, headers=headers)
        if self._mode == "slow":
            await asyncio.sleep(self._delay_s)
        if self._mode == "repeat" and request.method not in ("GET", "HEAD"):
            again = asyncio.ensure_future(self._again(request, await request.read()))
            self._tasks.add(again)
            again.add_done_callback(self._tasks.discard)
        return await self._forward(request)

    async def _again(self, request: web.Request, body: bytes) -> None:
        await asyncio.sleep(self._delay_s)
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.request(
                request.method,
                self._server.url + request.path_qs,
                headers=self._passed_on(request),
                data=body,
                skip_auto_headers=_OF_THE_POD,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                allow_redirects=False,
            ) as upstream:
                await upstream.read()

    def _passed_on(self, request: web.Request) -> dict[str, str]:
        """The headers that the server gets."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        return headers if self._token is None else headers | {"Authorization": f"Bearer {self._token}"}

    async def _frozen(self) -> None:
        """No byte passes until the mode changes, and then this connection is cut."""
        while self._mode == "hang":
            await self._changed.wait()
        raise ConnectionResetError("was frozen")

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        try:
            async with self._session.request(
                request.method,
                self._server.url + request.path_qs,
                headers=self._passed_on(request),
                data=await request.read(),
                skip_auto_headers=_OF_THE_POD,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                allow_redirects=False,
            ) as upstream:
                try:
                    return await self._pass_on(request, upstream)
                except BaseException:  # also a cancellation: whatever ends this ends the server's side too, at once
                    if upstream.connection is not None and upstream.connection.transport is not None:
                        _cut(upstream.connection.transport)
                    raise
        except aiohttp.ClientError:
            raise ConnectionResetError from None

    async def _pass_on(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        if self._mode == "lose":
            await upstream.read()
            raise ConnectionResetError("answer lost on purpose")
        if self._mode == "hang":
            await self._frozen()
        kept = {k: v for k, v in upstream.headers.items() if k.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=upstream.status, headers=kept)
        await response.prepare(request)
        await self._stream(upstream, response)
        await response.write_eof()
        return response

    async def _stream(self, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        while True:
            if self._mode == "hang":
                await self._frozen()
            read = asyncio.ensure_future(upstream.content.readany())
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({read, changed}, return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    if self._mode == "refuse":
                        raise ConnectionResetError
                    if self._mode == "hang":
                        await self._frozen()
                    data = await read
                else:
                    data = read.result()
            finally:
                changed.cancel()
                if not read.done():
                    read.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await read
            if self._mode == "hang":
                await self._frozen()
            if not data:
                return
            await response.write(data)


def _cut(transport: asyncio.BaseTransport) -> None:
    """End a connection without another byte."""
    if isinstance(transport, asyncio.Transport):
        transport.abort()
