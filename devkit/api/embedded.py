"""The embedded Kubernetes API: a server for tests and demos, in the caller's loop or in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from devkit.api.app import ApiApplication
from devkit.api.builtin import CRDS, NAMESPACES
from devkit.api.certificates import write_certificate
from devkit.api.counting import RequestCounter
from devkit.api.crd import DEFAULT_FOLDER, load_manifests
from devkit.api.errors import ApiError
from devkit.api.kubeconfig import write_kubeconfig
from devkit.api.ports import PortReservation
from devkit.api.registry import Options, Registry
from devkit.api.server_protocol import ADMIN, Counts
from devkit.api.store import Store

_GOODBYE_S: Final = 1.0
"""How long running requests may take to finish when the server stops."""
_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


class EmbeddedApi:
    """An API server in the running event loop.

    users: names beside `admin`; with none (and no tokens) the server lets everybody in.
    tokens: user -> token, where the caller must know them beforehand.
    db: an SQLite file; objects and the resourceVersion outlive the process.
    port: 0: any free one.
    namespaces: beside `default` and the three of kube-.
    crds: YAML files or folders with CustomResourceDefinitions.
    history: how many changes of a resource a watch can go back.
    authorize: users may do what Roles and bindings give them, `admin` everything; False: every user everything.
    clock_ahead_s: seconds by which the server's Date is ahead of the machine's.
    tls: HTTPS with a certificate made at the start.  kubectl (client-go) sends a token over HTTPS only, so users and
    kubectl together need it; Python's client does not.
    """

    def __init__(
        self,
        *,
        users: Iterable[str] = (),
        tokens: Mapping[str, str] | None = None,
        db: Path | None = None,
        port: int = 0,
        namespaces: Iterable[str] = (),
        crds: Iterable[Path] = (DEFAULT_FOLDER,),
        history: int = 1000,
        bookmark_interval_s: float = 60.0,
        tls: bool = False,
        authorize: bool = False,
        clock_ahead_s: float = 0.0,
    ) -> None:
        named = dict(tokens or {}) | {user: secrets.token_hex(16) for user in users}
        self._tokens = {ADMIN: secrets.token_hex(16)} | named if named else {}
        self._db = db
        self._wanted_port = port
        self._namespaces = (*_NAMESPACES, *namespaces)
        self._crds = tuple(crds)
        self._history = history
        self._bookmark_interval = bookmark_interval_s
        self._tls = tls
        self._authorize = authorize
        self._clock_ahead_s = clock_ahead_s
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._certificate: tuple[Path, Path] | None = None
        self._counter = RequestCounter()
        self._port: PortReservation | None = None
        self._store: Store | None = None
        self._serving: ApiApplication | None = None
        self._runner: web.AppRunner | None = None

    @classmethod
    def threaded(cls, **options: Any) -> ThreadedApi:
        """A server in a thread of its own, to be started by `with`; options as for the constructor."""
        return ThreadedApi(cls(**options))

    @classmethod
    def start_thread(cls, **options: Any) -> ThreadedApi:
        """The same, started."""
        made = cls.threaded(**options)
        made.start_sync()
        return made

    # --- ApiServer ---

    @property
    def url(self) -> str:
        """http(s)://127.0.0.1:PORT, the same until `stop`.  RuntimeError before the start."""
        if self._port is None:
            raise RuntimeError("the server is not started")
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port.port}"

    @property
    def ca_file(self) -> Path | None:
        """The server's own certificate; None: plain HTTP."""
        return self._certificate[0] if self._certificate is not None else None

    def token_for(self, user: str) -> str | None:
        """None when everybody is let in.  KeyError: the user was not named at construction."""
        return self._tokens[user] if self._tokens else None

    def write_kubeconfig(self, path: Path, user: str = ADMIN) -> None:
        """See ApiServer."""
        write_kubeconfig(path, url=self.url, ca_file=self.ca_file, token=self.token_for(user), user=user)

    def counts(self) -> Counts:
        """See ApiServer; a restart does not begin anew.  May be called from any thread."""
        return self._counter.read()

    async def start(self) -> None:
        """OSError when a port was wished for and is not free."""
        if self._port is None:
            self._port = PortReservation(self._wanted_port)
        if self._store is None:
            self._store = Store(self._db, self._history)
        registry = Registry(self._store)
        self._prepare(registry)
        self._store.forget_history()
        users = {token: user for user, token in self._tokens.items()}
        serving = ApiApplication(
            registry,
            users,
            self._counter,
            bookmark_interval_s=self._bookmark_interval,
            authorize=self._authorize,
            clock_ahead_s=self._clock_ahead_s,
        )
        # A handler is cancelled when its client leaves: an idle watch ends with its connection.
        runner = web.AppRunner(serving.app, access_log=None, handler_cancellation=True, shutdown_timeout=_GOODBYE_S)
        self._serving, self._runner = serving, runner
        await runner.setup()
        await web.SockSite(runner, self._port.listener(), backlog=512, ssl_context=self._ssl_context()).start()

    async def stop(self) -> None:
        """Running watches are ended, the port is given back.  A server without a database forgets everything."""
        await self._end()
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = self._certificate = None

    async def kill(self) -> None:
        """Every connection is reset; clients are refused until `restart`.  The objects stay."""
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await self._end()

    async def restart(self) -> None:
        """The same address, the same objects, an empty history."""
        await self._end()
        if self._db is not None and self._store is not None:
            self._store.close()
            self._store = None
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- the parts ---

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        if self._certificate is None:
            self._folder = tempfile.TemporaryDirectory(prefix="forge-api-")
            self._certificate = write_certificate(Path(self._folder.name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._certificate)
        return context

    def _prepare(self, registry: Registry) -> None:
        """Creates what must exist; what exists already stays as it is."""
        wanted = [(NAMESPACES, {"metadata": {"name": name}}) for name in self._namespaces]
        wanted += [(CRDS, document) for path in self._crds for document in load_manifests(path)]
        for resource, body in wanted:
            try:
                registry.create(resource, "", body, Options(manager="kube-apiserver"))
            except ApiError as refused:
                if refused.reason != "AlreadyExists":
                    raise

    async def _end(self) -> None:
        runner, serving = self._runner, self._serving
        self._runner = self._serving = None
        if serving is not None and self._store is not None:
            serving.stopping = True
            self._store.wake_watchers()
        if runner is not None:
            await runner.cleanup()


class ThreadedApi:
    """An EmbeddedApi in a thread with a loop of its own.

    Its asynchronous methods may be awaited in any loop; the others block.
    """

    def __init__(self, api: EmbeddedApi) -> None:
        self._api = api
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """See ApiServer."""
        return self._api.url

    @property
    def ca_file(self) -> Path | None:
        """See ApiServer."""
        return self._api.ca_file

    def token_for(self, user: str) -> str | None:
        """See ApiServer."""
        return self._api.token_for(user)

    def write_kubeconfig(self, path: Path, user: str = ADMIN) -> None:
        """See ApiServer."""
        self._api.write_kubeconfig(path, user)

    def counts(self) -> Counts:
        """See ApiServer."""
        return self._api.counts()

    async def start(self) -> None:
        """See ApiServer."""
        await asyncio.to_thread(self.start_sync)

    async def stop(self) -> None:
        """See ApiServer."""
        await asyncio.to_thread(self.stop_sync)

    async def kill(self) -> None:
        """See ApiServer."""
        await asyncio.to_thread(self.kill_sync)

    async def restart(self) -> None:
        """See ApiServer."""
        await asyncio.to_thread(self.restart_sync)

    def start_sync(self) -> None:
        """Starts thread and server."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop,), name="embedded-api", daemon=True)
        self._loop, self._thread = loop, thread
        thread.start()
        try:
            self._call(self._api.start())
        except BaseException:
            self.stop_sync()
            raise

    def stop_sync(self) -> None:
        """Ends both."""
        if self._loop is None or self._thread is None:
            return
        try:
            self._call(self._api.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    def kill_sync(self) -> None:
        """See ApiServer."""
        self._call(self._api.kill())

    def restart_sync(self) -> None:
        """See ApiServer."""
        self._call(self._api.restart())

    def __enter__(self) -> Self:
        if self._thread is None:
            self.start_sync()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_sync()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the server is not started")
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    with contextlib.closing(loop):
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
