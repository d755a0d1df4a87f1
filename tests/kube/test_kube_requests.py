"""One request: what can come back, how long it may take, which connection carries it."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest
from scripted_api import (
    AGENT,
    STREAM_HEAD,
    TIMEOUT_S,
    Answer,
    chunk,
    cut,
    event,
    hang,
    lease,
    obj,
    raw,
    refusal,
    scripted,
    session_with,
    text,
)

from kube.errors import ApiFailure, Failure
from kube.session import MOST_BODY, ApiSession

SHORT_S = 1.0
"""For what is never answered; long enough for the request to arrive."""
SLACK_S = 20.0
"""A loaded machine may be late; a request without a limit would wait for ever."""


async def failure_of(session: ApiSession, *, timeout_s: float = TIMEOUT_S) -> ApiFailure:
    """What one GET fails with, which it must, in time."""
    began = time.monotonic()
    with pytest.raises(ApiFailure) as caught:
        await session.request("get", "/x", timeout_s=timeout_s)
    assert time.monotonic() - began < timeout_s + SLACK_S
    assert "SECRET" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind", "retry_after_s"),
    [
        (refusal(400, "BadRequest"), Failure.INVALID, None),
        (refusal(401, "Unauthorized"), Failure.UNAUTHORIZED, None),
        (refusal(403, "Forbidden"), Failure.FORBIDDEN, None),
        (refusal(404, "NotFound"), Failure.NOT_FOUND, None),
        (refusal(405, "MethodNotAllowed"), Failure.INVALID, None),
        (refusal(408, "Timeout"), Failure.TIMEOUT, None),
        (refusal(409, "Conflict"), Failure.CONFLICT, None),
        (refusal(409, "AlreadyExists"), Failure.ALREADY_EXISTS, None),
        (text(409, b"what a proxy says"), Failure.CONFLICT, None),
        (refusal(410, "Expired"), Failure.GONE, None),
        (refusal(422, "Invalid"), Failure.INVALID, None),
        (refusal(429, "TooManyRequests", Retry_After="7"), Failure.THROTTLED, 7.0),
        (refusal(429, "TooManyRequests"), Failure.THROTTLED, None),
        (refusal(429, "TooManyRequests", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), Failure.THROTTLED, None),
        (refusal(429, "TooManyRequests", Retry_After="9" * 400), Failure.THROTTLED, None),
        (refusal(500, "InternalError"), Failure.SERVER_ERROR, None),
        (text(502, b""), Failure.SERVER_ERROR, None),
        (refusal(503, "ServiceUnavailable", Retry_After="1"), Failure.SERVER_ERROR, 1.0),
        (refusal(504, "Timeout"), Failure.SERVER_ERROR, None),
        (refusal(500, "SECRET with blanks"), Failure.SERVER_ERROR, None),
        (text(500, b"[" * 100_000), Failure.SERVER_ERROR, None),
        (text(304, b""), Failure.MALFORMED, None),
        (text(200, b"<html>SECRET</html>"), Failure.MALFORMED, None),
        (text(200, b""), Failure.MALFORMED, None),
        (text(200, b"[1]"), Failure.MALFORMED, None),
        (text(200, b"\xff\xfe\x00"), Failure.MALFORMED, None),
        (text(200, b'{"a":' * 100_000), Failure.MALFORMED, None),
        (raw(b"SSH-2.0-SECRET\r\n\r\n"), Failure.MALFORMED, None),
        (cut(), Failure.UNREACHABLE, None),
        (cut(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":'), Failure.UNREACHABLE, None),
    ],
)
async def test_every_bad_answer_has_its_name(
    tmp_path: Path, answer: Answer, kind: Failure, retry_after_s: float | None
) -> None:
    async with scripted(("GET", answer)) as api, session_with(api.url, tmp_path, token="SECRET") as session:
        failure = await failure_of(session)
    assert (failure.kind, failure.retry_after_s) == (kind, retry_after_s)


@pytest.mark.parametrize(
    "answer",
    [
        hang(),
        hang(b"HTTP/1.1 200 OK\r\n"),
        hang(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":'),
        hang(b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\n{"),
    ],
    ids=["after accepting", "in the head", "in the body", "in the body of a refusal"],
)
async def test_a_server_that_stops_in_its_answer_holds_nobody_longer_than_asked(tmp_path: Path, answer: Answer) -> None:
    async with scripted(("GET", answer)) as api, session_with(api.url, tmp_path) as session:
        assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT


async def test_a_server_that_never_ends_its_answer_holds_nobody_longer_than_asked(tmp_path: Path) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(chunk(b" "))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with scripted(("GET", drip)) as api, session_with(api.url, tmp_path) as session:
        assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT


async def test_a_server_that_does_not_answer_the_tls_handshake_holds_nobody(tmp_path: Path) -> None:
    async with scripted() as api, session_with(api.url.replace("http:", "https:"), tmp_path) as session:
        assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT


async def test_a_name_server_that_does_not_answer_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    async with session_with("http://api.invalid", tmp_path) as session:
        assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT


async def test_a_full_accept_queue_is_a_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            async with session_with(f"http://127.0.0.1:{port}", tmp_path) as session:
                assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT


async def test_a_port_where_nobody_listens_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with session_with(f"http://127.0.0.1:{port}", tmp_path) as session:
        assert (await failure_of(session)).kind is Failure.UNREACHABLE


async def test_plain_http_on_a_tls_port_is_unreachable_and_says_tls(tmp_path: Path) -> None:
    async def not_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(not_tls, "127.0.0.1", 0)
    async with server, session_with(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", tmp_path) as session:
        failure = await failure_of(session)
    assert failure.kind is Failure.UNREACHABLE
    assert "TLS" in str(failure)


async def test_an_answer_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(chunk(b" " * 65536))
            await writer.drain()

    async with scripted(("GET", flood)) as api, session_with(api.url, tmp_path) as session:
        failure = await failure_of(session)
    assert failure.kind is Failure.MALFORMED
    assert str(MOST_BODY) in str(failure)


async def test_requests_are_counted_by_verb_and_refusals_of_a_healthy_server_are_no_failures(tmp_path: Path) -> None:
    script = [
        ("GET", obj({})),
        ("POST", refusal(409, "AlreadyExists")),
        ("PUT", refusal(409, "Conflict")),
        ("GET", refusal(404, "NotFound")),
        ("PATCH", refusal(500, "InternalError")),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
        for verb in ("create", "update", "get", "patch"):
            with pytest.raises(ApiFailure):
                await session.request(verb, "/x", body={}, timeout_s=TIMEOUT_S)
        assert session.requests_total == {"get": 2, "create": 1, "update": 1, "patch": 1}
        assert session.failures_total == 1


async def test_no_request_is_sent_twice_by_itself(tmp_path: Path) -> None:
    script = [("GET", refusal(429, "TooManyRequests", Retry_After="0")), ("GET", cut()), ("PUT", cut())]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        await failure_of(session)
        await failure_of(session)
        with pytest.raises(ApiFailure):
            await session.request("update", "/x", body={}, timeout_s=TIMEOUT_S)


async def test_the_token_and_the_program_are_named_in_each_request(tmp_path: Path) -> None:
    async with scripted(("GET", obj({}))) as api, session_with(api.url, tmp_path, token="t1") as session:
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert api.requests[0].headers["authorization"] == "Bearer t1"
    assert api.requests[0].headers["user-agent"] == AGENT


# --- connections ---


async def test_requests_one_after_another_share_a_connection(tmp_path: Path) -> None:
    async with scripted(*[("GET", obj({}))] * 3) as api, session_with(api.url, tmp_path) as session:
        for _ in range(3):
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert [request.connection for request in api.requests] == [0, 0, 0]


async def test_after_a_timeout_no_idle_connection_is_trusted(tmp_path: Path) -> None:
    """Two idle connections are dead; the second must not swallow the attempt after the first one's timeout."""
    both = asyncio.Barrier(2)

    async def together(writer: asyncio.StreamWriter) -> None:
        await both.wait()
        await obj({})(writer)

    script = [("GET", together), ("GET", together), ("GET", hang()), ("GET", obj({}))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        await asyncio.gather(*(session.request("get", "/x", timeout_s=TIMEOUT_S) for _ in range(2)))
        assert (await failure_of(session, timeout_s=SHORT_S)).kind is Failure.TIMEOUT
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert sorted(request.connection for request in api.requests[:2]) == [0, 1]
    assert api.requests[2].connection in (0, 1)
    assert api.requests[3].connection == 2


async def test_a_timeout_leaves_a_healthy_watch_and_a_healthy_request_alone(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def watched(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event("ADDED", lease("1"))))
        await go_on.wait()
        writer.write(chunk(event("MODIFIED", lease("2"))))

    async def slow(writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await obj({"slow": True})(writer)

    script = [("GET", watched), ("GET", slow), ("GET", hang())]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        events = session.watch("/w", [], timeout_s=60)
        assert (await anext(events))["type"] == "ADDED"
        under_way = asyncio.create_task(session.request("get", "/slow", timeout_s=TIMEOUT_S))
        while len(api.requests) < 2:
            await asyncio.sleep(0.005)
        await failure_of(session, timeout_s=SHORT_S)
        go_on.set()
        assert await under_way == {"slow": True}
        assert (await anext(events))["type"] == "MODIFIED"
        await events.aclose()


async def test_a_caller_that_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async with scripted(("GET", hang()), ("GET", obj({}))) as api, session_with(api.url, tmp_path) as session:
        task = asyncio.create_task(session.request("get", "/x", timeout_s=TIMEOUT_S))
        while not api.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
        assert session.failures_total == 0
    assert [request.connection for request in api.requests] == [0, 1]
