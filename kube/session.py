"""One session with one API server: a request that always ends in time, counted, its failure named.

Built on `kubernetes.aio`'s configuration, authentication and connections; bodies stay plain JSON objects, since a
compare-and-swap must send back exactly what it read.  Its `Watch` is not used: it retries on its own, makes model
objects, and cannot tell a watch that ended from one that was cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.config import ConfigException

from kube.client import Connections
from kube.errors import ANSWERS, TRANSPORT_ERRORS, ApiFailure, Failure, SessionConfigError, classify, from_status
from kube.settings import load_client

Json = dict[str, Any]
_Version = tuple[int, int, int, int] | None

CONNECT_S: Final = 1.5
OPEN_WATCH_S: Final = 5.0
"""For a watch to be answered; its events come later."""
WATCH_GRACE_S: Final = 5.0
"""A server that does not close a watch in time is given this much longer."""
CLOSE_S: Final = 0.2
MOST_BODY: Final = 2**22
"""Bytes of one answer or watch event (etcd's objects end at 1.5 MiB)."""
_METHOD: Final = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH"}


@dataclass(eq=False)
class _Generation:
    """The connections that are trusted together; once retired they serve nobody new."""

    client: Connections
    users: int = 0
    retired: bool = False

    async def close(self) -> None:
        """Cut them; waits for no peer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.client.close()


class ApiSession:
    """`async with ApiSession(...)`: connections are made when needed and closed at the end."""

    def __init__(self, kubeconfig: Path | None, *, user_agent: str, context: str = "") -> None:
        """`context`: of the kubeconfig; empty: its current one."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._user_agent = user_agent
        self._current: _Generation
        self._reload = False
        """The credentials or the trust were refused: read the files again, they rotate."""
        self._replaced = False
        """Something failed, and the kubeconfig is not the one that was read: its server may have another address."""
        self._read_as: _Version = None
        self.loads = 0
        """How often the settings were read: after another time it may be another server that answers."""
        self.requests_total: Counter[str] = Counter()
        """By verb: get, list, watch, create, update, patch."""
        self.failures_total = 0
        """Requests that failed for the server's or the network's sake; "not found" and conflicts are answers."""

    async def __aenter__(self) -> Self:
        """Raises SessionConfigError."""
        self._current = _Generation(await self._load())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._current.close()

    async def request(
        self,
        verb: str,
        path: str,
        *,
        timeout_s: float,
        body: Json | None = None,
        query: list[tuple[str, str]] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request; the JSON object answered.  Ends within `timeout_s` seconds.  Raises ApiFailure."""
        answered, _ = await self.exchange(
            verb, path, timeout_s=timeout_s, body=body, query=query, content_type=content_type
        )
        return answered

    async def exchange(
        self,
        verb: str,
        path: str,
        *,
        timeout_s: float,
        body: Json | None = None,
        query: list[tuple[str, str]] | None = None,
        content_type: str = "application/json",
    ) -> tuple[Json, Mapping[str, str]]:
        """The same, with the answer's headers, whose names have no case."""
        self.requests_total[verb] += 1
        end = asyncio.get_running_loop().time() + timeout_s
        async with self._attempt(timeout_s, end) as client, asyncio.timeout_at(end):
            response = await _send(client, _METHOD[verb], path, query or [], body, content_type, timeout_s)
            with contextlib.closing(response):
                return _object(response.status, response.headers, await _body(response)), response.headers

    async def watch(self, path: str, query: list[tuple[str, str]], *, timeout_s: int) -> AsyncGenerator[Json, None]:
        """The events of one watch, until the server closes it after `timeout_s` seconds.  Raises ApiFailure.

        TIMEOUT a few seconds later if the server does not.
        """
        self.requests_total["watch"] += 1
        query = [*query, ("watch", "true"), ("timeoutSeconds", str(timeout_s))]
        now = asyncio.get_running_loop().time()
        end = now + timeout_s + WATCH_GRACE_S
        opened_by = min(end, now + OPEN_WATCH_S)
        async with self._attempt(timeout_s, opened_by) as client:
            async with asyncio.timeout_at(opened_by):
                # aiohttp's own limit covers a whole response: it must not end a healthy watch.
                response = await _send(client, "GET", path, query, None, "application/json", end - now + OPEN_WATCH_S)
                if response.status != 200:
                    with contextlib.closing(response):
                        raise _refusal(response.status, response.headers, await _body(response))
            with contextlib.closing(response):
                while True:
                    # No timeout spans a yield: it would strike the caller's code instead of ours.
                    async with asyncio.timeout_at(end):
                        line = await response.content.readline()
                    if not line:
                        return
                    yield _event(line)

    # --- connections ---

    async def _load(self) -> Connections:
        self._read_as = _version(self._kubeconfig)
        client = await load_client(self._kubeconfig, self._context)
        self.loads += 1
        client.user_agent = self._user_agent
        return client

    @contextlib.asynccontextmanager
    async def _attempt(self, timeout_s: float, ready_by: float) -> AsyncIterator[Connections]:
        """The client for one request; whatever goes wrong inside is counted and leaves as ApiFailure.

        A failure that may be the connection's fault retires all connections, since a dead one would swallow the next
        attempts too; those still in use by others may finish.
        """
        used: _Generation | None = None
        try:
            if self._reload or self._replaced:
                async with asyncio.timeout_at(ready_by):
                    await self._replace_by_reloaded()
            used = self._current
            used.users += 1
            yield used.client
        except ApiFailure as failure:
            self._note(used, failure)
            raise
        except TRANSPORT_ERRORS as error:
            named = classify(error, timeout_s)
            self._note(used, named)
            raise named from None
        finally:
            if used is not None:
                used.users -= 1
                if used.retired and used.users == 0:
                    await used.close()

    def _note(self, used: _Generation | None, failure: ApiFailure) -> None:
        self.failures_total += failure.kind not in ANSWERS
        self._reload |= failure.credentials_suspect
        if failure.kind not in ANSWERS and _version(self._kubeconfig) not in (None, self._read_as):
            self._replaced = True
        if failure.connection_suspect and used is not None:
            self._retire(used)

    def _retire(self, used: _Generation) -> None:
        """New requests get connections of their own, under the same settings."""
        if used is not self._current or used.retired:
            return
        used.retired = True
        self._current = _Generation(used.client.anew())

    async def _replace_by_reloaded(self) -> None:
        self._replaced = False
        try:
            client = await self._load()
        except SessionConfigError as error:
            if not self._reload:  # what was read before may serve yet; this file is not tried again as it is
                return
            raise ApiFailure(Failure.UNAUTHORIZED, str(error)) from None
        self._reload = False
        old, self._current = self._current, _Generation(client)
        old.retired = True
        if old.users == 0:
            await old.close()


def _version(kubeconfig: Path | None) -> _Version:
    """Another one when the file was written or replaced; None: there is none, or it cannot be looked at."""
    if kubeconfig is None:
        return None
    try:
        found = kubeconfig.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


async def _send(
    client: Connections,
    method: str,
    path: str,
    query: list[tuple[str, str]],
    body: Json | None,
    content_type: str,
    timeout_s: float,
) -> aiohttp.ClientResponse:
    """The response, its body not read yet."""
    try:
        headers = await client.headers(content_type)
    except (ConfigException, OSError, ValueError):
        raise ApiFailure(Failure.UNAUTHORIZED, "the service account's token cannot be read") from None
    limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
    return await client.send(method, path, query, headers, body, limits)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > MOST_BODY:
            raise ApiFailure(Failure.MALFORMED, f"the API server's answer is longer than {MOST_BODY} bytes")
    return bytes(read)


def _object(status: int, headers: Mapping[str, str], raw: bytes) -> Json:
    """The JSON object of an answer.  Raises ApiFailure for every status but 200, 201 and 202."""
    if status not in (200, 201, 202):
        raise _refusal(status, headers, raw)
    parsed = json.loads(raw)
    if not isinstance(parsed, dict):
        raise ApiFailure(Failure.MALFORMED, "the API server's answer is not a JSON object")
    return parsed


def _refusal(status: int, headers: Mapping[str, str], raw: bytes) -> ApiFailure:
    """What a status and the Status object in the body mean; proxies send other bodies, or none."""
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        parsed = None
    reason = parsed.get("reason") if isinstance(parsed, dict) else None
    return from_status(status, reason if isinstance(reason, str) else "", headers.get("Retry-After"))


def _event(line: bytes) -> Json:
    """One watch event.  Raises ApiFailure, also for an ERROR event."""
    if not line.endswith(b"\n"):
        raise ApiFailure(Failure.UNREACHABLE, "the watch was cut in the middle of an event")
    parsed = json.loads(line)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("object"), dict):
        raise ApiFailure(Failure.MALFORMED, "a watch event without an object")
    if parsed.get("type") == "ERROR":
        status = parsed["object"]
        code, reason = status.get("code"), status.get("reason")
        raise from_status(code if type(code) is int else 500, reason if isinstance(reason, str) else "", None)
    return parsed
