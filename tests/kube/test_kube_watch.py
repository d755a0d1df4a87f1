"""A watch: every event once and in order, every end with its name."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from scripted_api import (
    STREAM_END,
    STREAM_HEAD,
    TIMEOUT_S,
    Answer,
    Json,
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
    stream,
    text,
)

from kube import session as session_module
from kube.errors import ApiFailure, Failure
from kube.leases import LeaseChange, LeaseClient
from kube.session import ApiSession

SLACK_S = 20.0


async def watched(leases: LeaseClient, version: str = "1", *, timeout_s: int = 30) -> list[LeaseChange]:
    """All changes until the watch ends."""
    return [change async for change in leases.watch(version, timeout_s=timeout_s)]


async def failure_of(session: ApiSession, *, timeout_s: int = 30) -> tuple[list[Json], ApiFailure]:
    """The events before the failure that the watch must end with, and the failure."""
    seen: list[Json] = []
    try:
        async for found in session.watch("/w", [], timeout_s=timeout_s):
            seen.append(found)  # noqa: PERF401  # what was seen before the failure counts
    except ApiFailure as failure:
        assert "SECRET" not in str(failure)
        return seen, failure
    pytest.fail(f"the watch ended in order after {seen}")


async def test_changes_come_in_order_until_the_server_ends_the_watch(tmp_path: Path) -> None:
    lines = (
        event("ADDED", lease("2", "a")),
        event("MODIFIED", lease("3", "b")),
        event("DELETED", lease("4", "b")),
        event("ADDED", lease("5", None)),
    )
    async with scripted(("GET", stream(*lines))) as api, session_with(api.url, tmp_path) as session:
        changes = await watched(LeaseClient(session, "n", "l"))
        assert session.requests_total == {"watch": 1}
        assert session.failures_total == 0
    seen = [(c.kind, c.record and (c.record.resource_version, c.record.holder)) for c in changes]
    assert seen == [("ADDED", ("2", "a")), ("MODIFIED", ("3", "b")), ("DELETED", None), ("ADDED", ("5", ""))]


async def test_the_watch_is_of_one_lease_from_one_version_for_a_time(tmp_path: Path) -> None:
    async with scripted(("GET", stream())) as api, session_with(api.url, tmp_path) as session:
        assert await watched(LeaseClient(session, "n", "l"), "17", timeout_s=240) == []
    assert api.requests[0].path == "/apis/coordination.k8s.io/v1/namespaces/n/leases"
    assert api.requests[0].query == {
        "fieldSelector": "metadata.name=l",
        "resourceVersion": "17",
        "watch": "true",
        "timeoutSeconds": "240",
    }


async def test_an_event_torn_into_many_pieces_is_one_event(tmp_path: Path) -> None:
    line = event("MODIFIED", lease("2"))
    pieces = [chunk(line[i : i + 40]) for i in range(0, len(line), 40)]
    torn = b"".join(pieces)
    answer = raw(STREAM_HEAD, torn[:7], torn[7:60], torn[60:], STREAM_END)
    async with scripted(("GET", answer)) as api, session_with(api.url, tmp_path) as session:
        changes = await watched(LeaseClient(session, "n", "l"))
    assert [change.kind for change in changes] == ["MODIFIED"]


async def test_two_events_in_one_piece_are_two_events(tmp_path: Path) -> None:
    both = event("MODIFIED", lease("2")) + event("MODIFIED", lease("3"))
    async with scripted(("GET", stream(both))) as api, session_with(api.url, tmp_path) as session:
        changes = await watched(LeaseClient(session, "n", "l"))
    assert [change.record and change.record.resource_version for change in changes] == ["2", "3"]


async def test_bookmarks_and_kinds_of_later_servers_are_passed_over(tmp_path: Path) -> None:
    lines = (event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}), event("NOVEL", {}))
    async with scripted(("GET", stream(*lines))) as api, session_with(api.url, tmp_path) as session:
        assert await watched(LeaseClient(session, "n", "l")) == []


@pytest.mark.parametrize(
    ("answer", "kind", "events_before"),
    [
        (refusal(403, "Forbidden"), Failure.FORBIDDEN, 0),
        (refusal(410, "Expired"), Failure.GONE, 0),
        (refusal(429, "TooManyRequests", Retry_After="3"), Failure.THROTTLED, 0),
        (text(502, b"<html>"), Failure.SERVER_ERROR, 0),
        (stream(event("ERROR", {"code": 410, "reason": "Expired", "message": "SECRET"})), Failure.GONE, 0),
        (stream(event("ERROR", {"code": 500, "reason": "InternalError"})), Failure.SERVER_ERROR, 0),
        (stream(event("ERROR", {"code": True})), Failure.SERVER_ERROR, 0),
        (stream(event("ADDED", lease("2")), b"SECRET\n"), Failure.MALFORMED, 1),
        (stream(b"\xff\n"), Failure.MALFORMED, 0),
        (stream(b"[]\n"), Failure.MALFORMED, 0),
        (stream(b'{"type":"ADDED"}\n'), Failure.MALFORMED, 0),
        (stream(b'{"type":"ADDED","object":null}\n'), Failure.MALFORMED, 0),
        (stream(b'{"a":' * 100_000 + b"\n"), Failure.MALFORMED, 0),
        (stream(event("ADDED", lease("2")), event("ADDED", lease("3"))[:50]), Failure.UNREACHABLE, 1),
        (cut(STREAM_HEAD + chunk(event("ADDED", lease("2")))), Failure.UNREACHABLE, 1),
        (cut(STREAM_HEAD + chunk(event("ADDED", lease("2"))) + b"40\r\n{"), Failure.UNREACHABLE, 1),
        (cut(), Failure.UNREACHABLE, 0),
    ],
)
async def test_every_bad_end_has_its_name(tmp_path: Path, answer: Answer, kind: Failure, events_before: int) -> None:
    async with scripted(("GET", answer)) as api, session_with(api.url, tmp_path) as session:
        seen, failure = await failure_of(session)
        assert session.failures_total == (kind is not Failure.GONE)
    assert (failure.kind, len(seen)) == (kind, events_before)


async def test_a_large_event_passes_and_an_endless_one_is_refused(tmp_path: Path) -> None:
    large = event("ADDED", lease("2", annotations={"a": "x" * 1_500_000}))

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(large))
        while True:
            writer.write(chunk(b"x" * 65536))
            await writer.drain()

    async with scripted(("GET", endless)) as api, session_with(api.url, tmp_path) as session:
        seen, failure = await failure_of(session)
    assert [json.dumps(found).encode() + b"\n" for found in seen] == [large]
    assert failure.kind is Failure.MALFORMED


async def test_a_watch_that_is_not_answered_ends_long_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "OPEN_WATCH_S", 1.0)
    began = time.monotonic()
    async with scripted(("GET", hang())) as api, session_with(api.url, tmp_path) as session:
        _, failure = await failure_of(session, timeout_s=3600)
    assert failure.kind is Failure.TIMEOUT
    assert time.monotonic() - began < SLACK_S


async def test_a_watch_whose_server_forgot_to_end_it_ends_shortly_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "WATCH_GRACE_S", 0.2)
    monkeypatch.setattr(session_module, "OPEN_WATCH_S", 3600.0)  # aiohttp's own limit shall not help
    stalled = hang(STREAM_HEAD + chunk(event("ADDED", lease("2"))))
    async with scripted(("GET", stalled), ("GET", obj({}))) as api, session_with(api.url, tmp_path) as session:
        seen, failure = await failure_of(session, timeout_s=1)
        assert (failure.kind, len(seen)) == (Failure.TIMEOUT, 1)
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert api.requests[1].connection == 1, "the stalled connection is not used again"


async def test_a_slow_reader_is_not_struck_by_the_end_of_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time runs out while the caller is busy with an event: the watch fails, the caller's own work does not."""
    monkeypatch.setattr(session_module, "WATCH_GRACE_S", 0.0)
    monkeypatch.setattr(session_module, "OPEN_WATCH_S", 3600.0)  # aiohttp's own limit shall not help
    stalled = hang(STREAM_HEAD + chunk(event("ADDED", lease("2"))))
    finished = False

    async def follow() -> None:
        nonlocal finished
        async for _ in session.watch("/w", [], timeout_s=1):
            await asyncio.sleep(1.2)
            finished = True

    async with scripted(("GET", stalled)) as api, session_with(api.url, tmp_path) as session:
        with pytest.raises(ApiFailure) as caught:
            await follow()
    assert finished
    assert caught.value.kind is Failure.TIMEOUT


async def test_a_cancelled_watch_closes_its_connection(tmp_path: Path) -> None:
    begun = raw(STREAM_HEAD + chunk(event("ADDED", lease("2"))))
    async with scripted(("GET", begun)) as api, session_with(api.url, tmp_path) as session:
        first = asyncio.Event()

        async def follow() -> None:
            async for _ in LeaseClient(session, "n", "l").watch("1", timeout_s=60):
                first.set()

        task = asyncio.create_task(follow())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await api.hung_up.wait()
        assert session.failures_total == 0
