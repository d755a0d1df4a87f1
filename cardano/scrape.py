"""One GET of the node's metrics over plain HTTP, bounded in time and size.

HTTP/1.0 without keep-alive: the answer ends with the connection, so there is nothing to decode and no state to
keep.  No TLS: the metrics are the node's own, in the same pod.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

MAX_BODY: Final = 256 * 1024
"""Bytes.  A node's whole exposition is 10 to 40 KiB."""


class ScrapeError(Exception):
    """The node's metrics could not be had; the text says why."""


async def fetch(url: str, timeout_s: float) -> str:
    """The body of a 200 answer.  Raises ScrapeError for everything else, within `timeout_s` seconds."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_BODY)
            try:
                writer.write(f"GET {target} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: text/plain\r\n\r\n".encode())
                return await _answer(reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise ScrapeError(f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise ScrapeError(error.strerror or type(error).__name__) from None
    except UnicodeError:
        raise ScrapeError("no resolver can be asked for such a host") from None
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        raise ScrapeError("not an HTTP answer") from None


async def _answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        raise ScrapeError("not an HTTP answer")
    if status[1] != b"200":
        raise ScrapeError(f"answered {status[1].decode('ascii')}")
    body = bytearray()
    length = _content_length(head)
    while len(body) < length:
        data = await reader.read(65536)
        if not data:
            break
        body += data
        if len(body) > MAX_BODY:
            raise ScrapeError(f"answer larger than {MAX_BODY} bytes")
    return body.decode("utf-8", errors="replace")


def _content_length(head: bytes) -> int:
    """What the answer announces; without an announcement it ends with the connection."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        # Of more digits than this Python reads none, and nothing is as long.
        if name.strip().lower() == b"content-length" and value.strip().isdigit() and len(value.strip()) <= 18:
            return int(value)
    return MAX_BODY + 1
