"""An API server that follows a script: request by request, and any request beyond the script fails the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kube.session import ApiSession

Json = dict[str, Any]
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

AGENT = f"test/{os.getpid()}"
TIMEOUT_S = 30.0
"""For what must be answered; only a broken test waits so long."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived; `connection`: the number of the TCP connection, from 0."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    connection: int = -1


@dataclass(frozen=True)
class Kept:
    """The answer to a write that is kept: what was sent, at this version."""

    version: str
    status: int = 200
    spec: Json = field(default_factory=dict)
    """What something on the way puts into it."""
    annotations: Json | None = None
    """The same; None: they are left alone."""

    async def to(self, request: Request, writer: asyncio.StreamWriter) -> None:
        sent = request.body
        metadata = {"uid": "u1", **sent["metadata"], "resourceVersion": self.version}
        if self.annotations is not None:
            metadata["annotations"] = self.annotations
        body = {**sent, "metadata": metadata, "spec": sent["spec"] | self.spec}
        await obj(body, self.status)(writer)


@dataclass
class ScriptedApi:
    """`script`: (method, answer) in the order in which requests must come."""

    script: list[tuple[str, Answer | Kept]]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    connections: Iterator[int] = field(default_factory=itertools.count)
    port: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """A client closed its connection."""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number: int | None = None
        try:
            while True:
                request = await _read(reader)
                if request.headers.get("user-agent") != AGENT:
                    return  # a stranger who once knew somebody under this port
                number = next(self.connections) if number is None else number
                request = replace(request, connection=number)
                self.requests.append(request)
                step = len(self.requests) - 1
                if step >= len(self.script) or self.script[step][0] != request.method:
                    self.unexpected.append(f"{request.method} {request.path}")
                    return
                answer = self.script[step][1]
                await (answer.to(request, writer) if isinstance(answer, Kept) else answer(writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, headers, json.loads(raw) if raw else None)


@contextlib.asynccontextmanager
async def scripted(
    *script: tuple[str, Answer | Kept], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ScriptedApi, None]:
    """The server; at the end the whole script must have been played, and nothing else asked."""
    api = ScriptedApi(list(script), tls)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(api.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
        assert api.unexpected == [], api.unexpected
        assert len(api.requests) == len(api.script)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def session_with(url: str, folder: Path, **user: str) -> AsyncGenerator[ApiSession, None]:
    """A session through a kubeconfig for `url`, the user given by its fields."""
    async with ApiSession(kubeconfig(folder, url, **user), user_agent=AGENT) as session:
        yield session


def kubeconfig(folder: Path, url: str, *, cluster: Json | None = None, **user: str) -> Path:
    """A kubeconfig; JSON is YAML too."""
    path = folder / "kubeconfig"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": url, **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# --- answers ---


def raw(*pieces: bytes) -> Answer:
    """These bytes, each piece in a segment of its own."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)

    return answer


def text(status: int, body: bytes, **headers: str) -> Answer:
    """A whole answer; the connection stays open."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def obj(body: object, status: int = 200) -> Answer:
    """A JSON answer."""
    return text(status, json.dumps(body).encode())


def listed(*items: Json, version: str = "100") -> Answer:
    """A list, whose items name no kind."""
    bare = [{name: value for name, value in item.items() if name not in ("apiVersion", "kind")} for item in items]
    return obj({"kind": "LeaseList", "metadata": {"resourceVersion": version}, "items": bare})


def refusal(status: int, reason: str, **headers: str) -> Answer:
    """A Status object, as the API server refuses; the message must never be seen outside."""
    body = {"kind": "Status", "status": "Failure", "reason": reason, "code": status, "message": "SECRET"}
    return text(status, json.dumps(body).encode(), **headers)


def hang(*pieces: bytes) -> Answer:
    """Send that much, then nothing for ever."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await raw(*pieces)(writer)
        await asyncio.Event().wait()

    return answer


def cut(*pieces: bytes) -> Answer:
    """Send that much, then reset the connection."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await raw(*pieces)(writer)
        writer.transport.abort()

    return answer


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(kind: str, body: Json) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def stream(*lines: bytes) -> Answer:
    """A watch with these lines that ends in order."""
    return raw(STREAM_HEAD, *[chunk(line) for line in lines], STREAM_END)


def lease(version: str, holder: str | None = "a", *, transitions: int = 1, **metadata: Any) -> Json:
    """A Lease as the API server gives it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l", "namespace": "n", "resourceVersion": version, "uid": "u1", **metadata},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:05.000000Z",
            "leaseTransitions": transitions,
        },
    }
