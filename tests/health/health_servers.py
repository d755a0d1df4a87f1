"""Servers on this machine that do what a test tells them with each connection, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from devkit.api.certificates import write_certificate

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 30.0


@dataclass
class Server:
    """Where it listens and what it was asked."""

    scheme: str
    port: int = 0
    requests: list[str] = field(default_factory=list)
    """Heads of requests, as they came."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Trust:
    """A certificate for 127.0.0.1."""

    certificate: Path
    context: ssl.SSLContext
    """The server's."""


def make_trust(folder: Path) -> Trust:
    certificate, key = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return Trust(certificate, context)


@contextlib.asynccontextmanager
async def serving(serve: Serve, trust: Trust | None = None) -> AsyncIterator[Server]:
    """A server that reads the head of each request and goes on as `serve` says."""
    made = Server("http" if trust is None else "https")
    open_ones: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            made.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("utf-8"))
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, as it may
        finally:
            writer.transport.abort()
            open_ones.discard(writer)

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=trust.context if trust is not None else None)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        for writer in tuple(open_ones):
            writer.transport.abort()


def answering(*parts: bytes, hold: bool = False) -> Serve:
    """Says these and closes, or keeps the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hold:
            await reader.read()

    return serve


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    named = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in named.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
