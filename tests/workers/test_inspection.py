"""What a worker tells over its debug socket, asked over a real one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import typing
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest

from ipc.debug import DebugServer
from ipc.frames import FrameReader, frame
from ipc.messages import (
    DEBUG_REPLIES,
    ArbiterState,
    DebugCounters,
    DebugDecisions,
    DebugLogLevel,
    DebugRefusal,
    DebugReply,
    DebugRequest,
    DebugSubscriptions,
    DebugTasks,
    DebugWhat,
    State,
    SubscriberView,
    Worker,
    decode_debug_reply,
    encode,
)
from ipc.pubsub import StatePublisher, Subscription, listen
from workers import inspection, logs
from workers.inspection import LEVELS, MOST_TASKS, Inspection

PATIENCE_S = 60
US = frozenset({os.getuid()})
BODY = ArbiterState(None, "why", cluster_management=False)
T = TypeVar("T")
log = logging.getLogger("worker")


@pytest.fixture
def recent() -> Iterator[logs.Recent]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.setLevel("INFO")
    yield logs.keep_recent()
    root.handlers[:] = before
    root.setLevel(level)


class Inspected:
    """A worker's sockets and their inspection, without the worker."""

    def __init__(self, folder: Path, recent: logs.Recent) -> None:
        self.folder = folder
        self.publisher = StatePublisher(Worker.ARBITER, folder / "state", allowed_uids=US)
        self.server = DebugServer(listen(folder / "debug"), parent=None)
        self.subscriptions: list[Subscription] = []
        Inspection(Worker.ARBITER, self.publisher, self.subscriptions, recent, self.server)

    async def start(self) -> None:
        await self.publisher.start()
        self.server.start()

    async def payload(self, what: DebugWhat, argument: str = "") -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.folder / "debug")
        writer.write(frame(encode(DebugRequest(what, argument))))
        async with asyncio.timeout(PATIENCE_S):
            (found,) = FrameReader().feed(await reader.read())
        writer.close()
        return found

    async def ask(self, what: DebugWhat, argument: str = "") -> DebugReply:
        return decode_debug_reply(await self.payload(what, argument), what)

    async def told(self, kind: type[T], argument: str = "") -> T:
        (what,) = (what for what, reply in DEBUG_REPLIES.items() if reply is kind)
        reply = await self.ask(what, argument)
        assert isinstance(reply, kind)
        return reply


@pytest.fixture
async def inspected(tmp_path: Path, recent: logs.Recent) -> AsyncIterator[Inspected]:
    made = Inspected(tmp_path, recent)
    await made.start()
    yield made
    for each in made.subscriptions:
        await each.close()
    made.publisher.close()
    made.server.close()
    await asyncio.sleep(0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


# --- state ---


async def test_the_state_is_the_one_that_subscribers_have(inspected: Inspected) -> None:
    inspected.publisher.publish(BODY)
    state = await inspected.told(State)
    assert (state.body, state.worker, state.pid) == (BODY, Worker.ARBITER, os.getpid())


async def test_a_worker_without_a_state_yet_says_so(inspected: Inspected) -> None:
    assert await inspected.ask(DebugWhat.STATE) == DebugRefusal("the arbiter has no state yet; ask again in a moment")


async def test_asking_changes_no_state(inspected: Inspected) -> None:
    inspected.publisher.publish(BODY)
    before = inspected.publisher.latest
    for what in (what for what in DebugWhat if what is not DebugWhat.AUDIT):
        assert not isinstance(await inspected.ask(what), DebugRefusal)
        await inspected.ask(what, "nonsense \x1b")
    await inspected.told(DebugLogLevel, "ERROR")
    assert inspected.publisher.body is BODY
    if inspected.publisher.latest != before:  # a heartbeat meanwhile: the same but for sequence and times
        assert (await inspected.told(State)).body == BODY


# --- decisions ---


async def test_decisions_are_what_was_logged_with_its_event_oldest_first(inspected: Inspected) -> None:
    log.info("took the lease", extra={"event": "role_changed", "token": 7})
    log.warning("no answer of %s", "x", extra={"event": "api_failed"})
    log.info("no event, no decision")
    log.debug("not worth it", extra={"event": "detail"})
    told = (await inspected.told(DebugDecisions)).decisions
    assert [(each.level, each.event, each.message, each.fields) for each in told] == [
        ("INFO", "role_changed", "took the lease", {"token": "7"}),
        ("WARNING", "api_failed", "no answer of x", {}),
    ]
    assert told[0].at <= told[1].at


async def test_decisions_are_kept_that_the_log_does_not_show(inspected: Inspected) -> None:
    await inspected.told(DebugLogLevel, "ERROR")
    log.info("quiet", extra={"event": "quiet"})
    assert (await inspected.told(DebugDecisions)).decisions[-1].event == "quiet"


async def test_fields_of_a_record_are_cut_in_length_and_number(inspected: Inspected) -> None:
    fields = {f"field{n}": "ü" * 10_000 for n in range(40)}
    log.info("m" * 10_000, extra={"event": "e" * 10_000, "f" * 10_000: "long name", **fields})
    (told,) = (await inspected.told(DebugDecisions)).decisions
    assert len(told.fields) == logs.FIELDS
    texts = [told.event, told.message, *told.fields, *told.fields.values()]
    assert max(len(text.encode()) for text in texts) <= logs.TEXT


async def test_as_many_decisions_as_are_kept_and_fit_are_told_whatever_they_hold(inspected: Inspected) -> None:
    for number in range(3 * logs.KEPT):
        wide = {f"field{n}": "x" * 10_000 for n in range(logs.FIELDS)}
        log.info("%d", number, extra={"event": "e", **wide})
    told = await inspected.told(DebugDecisions)
    assert told.decisions[-1].message == str(3 * logs.KEPT - 1)
    assert told.cut > 0
    assert len(told.decisions) + told.cut == logs.KEPT


class Unprintable:
    def __str__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize(
    "record",
    [
        {"msg": "%(wanted)s", "args": ({"given": 1},)},
        {"msg": "%d", "args": ("no number",)},
        {"msg": "of %s", "args": (Unprintable(),)},
        {"msg": "of a field", "field": Unprintable()},
    ],
    ids=["an argument that is missing", "of another type", "without a text", "a field without a text"],
)
def test_a_record_that_cannot_be_shown_is_kept_as_such_and_ends_nobody(
    recent: logs.Recent, record: dict[str, Any]
) -> None:
    recent.handle(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "event": "e", **record}))
    (kept,) = recent.decisions
    assert kept.message.startswith("unprintable record: ")
    assert kept.fields == {}


async def test_decisions_are_read_while_no_other_thread_writes_them(recent: logs.Recent) -> None:
    recent.acquire()
    try:
        reading = asyncio.create_task(asyncio.to_thread(lambda: recent.decisions))
        done, _ = await asyncio.wait([reading], timeout=0.1)
        assert not done
    finally:
        recent.release()
    assert await asyncio.wait_for(reading, PATIENCE_S) == ()


# --- no bytes ---


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_of_bytes_that_somebody_logged_only_their_number_is_kept(recent: logs.Recent, kind: type) -> None:
    secret = kind(b"a key's own bytes")
    told = {"levelno": logging.INFO, "levelname": "INFO", "msg": "read", "event": "read", "content": secret}
    recent.handle(logging.makeLogRecord(told))
    (kept,) = recent.decisions
    assert kept.fields == {"content": "17 bytes"}


async def test_no_answer_carries_bytes_even_if_somebody_logged_some(inspected: Inspected) -> None:
    inspected.publisher.publish(BODY)
    secret = b"\x58\x20 a key's own bytes"
    log.info("read %s", "a key", extra={"event": "read", "content": "x", "size": len(secret)})
    for what in (what for what in DebugWhat if what is not DebugWhat.AUDIT):
        payload = await inspected.payload(what)
        msgpack.unpackb(payload, max_bin_len=0, max_ext_len=0)  # raises where there is a bin
        assert secret not in payload


def test_no_kind_of_answer_has_a_place_for_bytes() -> None:
    def leaves(hint: Any) -> set[Any]:
        inner = typing.get_args(hint)
        if inner:
            return {leaf for each in inner for leaf in leaves(each)}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return {leaf for each in typing.get_type_hints(hint).values() for leaf in leaves(each)}
        return {hint}

    found = {leaf for kind in (*DEBUG_REPLIES.values(), DebugRefusal) for leaf in leaves(kind)}
    assert not found & {bytes, bytearray, memoryview, object, Any}
    plain = {leaf for leaf in found if leaf is not ... and leaf.__module__ == "builtins"}
    assert plain <= {str, int, float, bool, type(None)}


# --- subscriptions ---


async def test_whom_it_follows_and_who_follows_it_is_told(inspected: Inspected, tmp_path: Path) -> None:
    other = StatePublisher(Worker.GATEWAY, tmp_path / "other", allowed_uids=US)
    await other.start()
    for worker, path in ((Worker.ARBITER, "state"), (Worker.PROBER, "nobody")):
        inspected.subscriptions.append(Subscription(worker, tmp_path / path, lambda: None, allowed_uids=US))
        inspected.subscriptions[-1].start()
    inspected.publisher.publish(BODY)
    await until(lambda: inspected.subscriptions[0].connected)
    told = await inspected.told(DebugSubscriptions)
    assert [(each.worker, each.connected, each.errors_total) for each in told.subscriptions] == [
        (Worker.ARBITER, True, 0),
        (Worker.PROBER, False, 0),
    ]
    assert told.subscriptions[0].age_ns >= 0
    assert told.subscriptions[1].age_ns == -1
    assert told.subscribers == (SubscriberView(os.getpid(), os.getuid()),)
    other.close()


# --- counters ---


async def test_what_is_counted_is_told(inspected: Inspected) -> None:
    inspected.publisher.publish(BODY)
    with socket.socket(socket.AF_UNIX) as follower:
        follower.setblocking(False)
        await asyncio.get_running_loop().sock_connect(follower, str(inspected.folder / "state"))
        await until(lambda: inspected.publisher.sent_total)
        await asyncio.get_running_loop().sock_sendall(follower, b"?")
        await until(lambda: inspected.publisher.errors_total)
    log.error("x")
    told = await inspected.told(DebugCounters)
    assert told.frames_sent >= 1
    assert told.protocol_errors == 1
    assert told.debug_requests == 1
    assert told.log_lines["ERROR"] == 1


# --- tasks ---


async def test_each_task_is_told_with_where_it_waits_and_nothing_of_what_it_holds(inspected: Inspected) -> None:
    async def innermost(secret: str) -> None:
        await asyncio.get_running_loop().create_future()

    async def outer() -> None:
        await innermost("hidden value")

    task = asyncio.create_task(outer(), name="example")
    await asyncio.sleep(0)
    told = await inspected.told(DebugTasks)
    (view,) = (view for view in told.tasks if view.name == "example")
    assert [place.rpartition(":")[2] for place in view.stack] == ["outer", "innermost"]
    assert "hidden value" not in str(told)
    task.cancel()


async def test_a_place_is_told_by_its_package_not_by_where_it_is_installed(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(inspection.__file__).parent.parent)
    monkeypatch.setattr(inspection.sys, "path", [p for p in inspection.sys.path if p not in ("", root)])
    inspection._shown.cache_clear()
    other = Subscription(Worker.PROBER, inspected.folder / "none", lambda: None, allowed_uids=US)
    inspected.subscriptions.append(other)
    other.start()
    await asyncio.sleep(0)
    told = await inspected.told(DebugTasks)
    (view,) = (view for view in told.tasks if view.name == "subscribe-prober")
    assert any(place.startswith("ipc/pubsub.py:") for place in view.stack), view.stack
    assert any(place.startswith("asyncio/") for place in view.stack)


async def test_more_tasks_than_fit_are_counted(inspected: Inspected) -> None:
    waiting = [asyncio.create_task(asyncio.Event().wait(), name=f"t{n:04}") for n in range(2 * MOST_TASKS)]
    await asyncio.sleep(0)
    told = await inspected.told(DebugTasks)
    assert len(told.tasks) <= MOST_TASKS
    assert len(told.tasks) + told.cut >= len(waiting)
    for task in waiting:
        task.cancel()


# --- log level ---


@pytest.fixture
def shown(recent: logs.Recent) -> logging.Handler:
    """A handler that writes, as `set_up` makes it."""
    handler = logs._Handler(logs.LineWriter(os.open(os.devnull, os.O_WRONLY), str))
    handler.setFormatter(logging.Formatter())
    logging.getLogger().addHandler(handler)
    return handler


async def test_the_log_level_is_told_and_set_and_the_change_is_a_decision(
    inspected: Inspected, shown: logging.Handler
) -> None:
    logs.set_level("INFO")
    assert await inspected.told(DebugLogLevel) == DebugLogLevel("INFO")
    for level in LEVELS:
        assert await inspected.told(DebugLogLevel, level) == DebugLogLevel(level)
        assert await inspected.told(DebugLogLevel) == DebugLogLevel(level)
        assert logs.level() == level
    changed = [each for each in (await inspected.told(DebugDecisions)).decisions if each.event == "log_level"]
    who = {"audit": "True", "uid": str(os.getuid()), "pid": str(os.getpid())}
    assert changed[0].fields == {**who, "old": "INFO", "new": "DEBUG"}


@pytest.mark.parametrize("level", ["debug", "CRITICAL", "NOTSET", "10", "INFO\n", "x" * 4000])
async def test_what_is_no_level_is_refused_and_changes_nothing(
    inspected: Inspected, shown: logging.Handler, level: str
) -> None:
    logs.set_level("WARNING")
    reply = await inspected.ask(DebugWhat.LOG_LEVEL, level)
    assert reply == DebugRefusal("no such level; one of DEBUG, INFO, WARNING, ERROR")
    assert logs.level() == "WARNING"
