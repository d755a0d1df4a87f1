"""One GET of the node's metrics: bounded in time and size, every failure named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cardano.scrape import MAX_BODY, ScrapeError, fetch

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 30.0


@contextlib.asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """A server that does what it is told with each connection; its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, as it should
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/metrics"
    finally:
        listening.close()


def answering(*parts: bytes, hold: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hold:
            await reader.read()
        else:
            writer.close()
            await writer.wait_closed()

    return serve


async def failure(serve: Serve, timeout_s: float = PATIENCE_S) -> str:
    async with server(serve) as url:
        with pytest.raises(ScrapeError) as caught:
            await fetch(url, timeout_s)
    return str(caught.value)


async def test_a_body_ends_with_the_connection_when_no_length_is_given() -> None:
    async with server(answering(b"HTTP/1.0 200 OK\r\n\r\na 1\n", b"b 2\n")) as url:
        assert await fetch(url, PATIENCE_S) == "a 1\nb 2\n"


async def test_a_body_ends_with_its_length_though_the_server_keeps_the_connection() -> None:
    async with server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n", hold=True)) as url:
        assert await fetch(url, PATIENCE_S) == "a 1\n"


@pytest.mark.parametrize("length", ["9" * 5000, "99999999999999999999", " 4, 4", "-4", "\u0664"])
async def test_a_length_that_is_none_ends_nobody(length: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    async with server(answering(head + b"a 1\n")) as url:
        assert await fetch(url, 5) == "a 1\n"


@pytest.mark.parametrize("host", ["node..monitoring", "a" * 64 + ".example"])
async def test_a_host_that_no_resolver_can_be_asked_for_is_a_failure(host: str) -> None:
    with pytest.raises(ScrapeError, match="no resolver"):
        await fetch(f"http://{host}:1/metrics", 5)


async def test_a_head_that_comes_in_pieces_is_put_together() -> None:
    async with server(answering(b"HTTP/1.0 20", b"0 OK\r\nX: y\r", b"\n\r\nok")) as url:
        assert await fetch(url, PATIENCE_S) == "ok"


async def test_bytes_that_are_no_text_do_not_hurt() -> None:
    async with server(answering(b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe a 1\n")) as url:
        assert (await fetch(url, PATIENCE_S)).endswith("a 1\n")


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 Oops", b"204 No Content"])
async def test_every_other_status_is_a_failure_that_names_it(status: bytes) -> None:
    assert status[:3].decode() in await failure(answering(b"HTTP/1.0 " + status + b"\r\n\r\n"))


@pytest.mark.parametrize(
    "head", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.0\r\n\r\n", b"HTTP/1.0 abc\r\n\r\n", b"HTTP/1.0 200"]
)
async def test_what_is_no_http_answer_is_called_so(head: bytes) -> None:
    assert "not an HTTP answer" in await failure(answering(head))


async def test_a_silent_server_holds_nobody_longer_than_asked() -> None:
    assert "no answer within 0.2 s" in await failure(answering(hold=True), timeout_s=0.2)


async def test_a_server_that_stops_in_the_middle_holds_nobody_longer_than_asked() -> None:
    assert "no answer within 0.2 s" in await failure(
        answering(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\na 1\n", hold=True), timeout_s=0.2
    )


async def test_an_endless_body_is_not_kept() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    assert str(MAX_BODY) in await failure(serve)


async def test_an_endless_head_is_not_kept() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    assert "not an HTTP answer" in await failure(serve)


async def test_a_port_where_nobody_listens_is_named_as_such() -> None:
    async with server(answering(b"")) as url:
        pass
    with pytest.raises(ScrapeError, match=r"(?i)connect|refused"):
        await fetch(url, PATIENCE_S)
