"""A worker's own audit: its state says what came of it, its loop goes on, and it fails without doing harm."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from config import Config, load
from ipc.debug import DebugServer
from ipc.messages import DebugLogLevel, DebugWhat, Sandbox, Worker, decode_debug_reply, encode
from ipc.pubsub import StatePublisher, listen
from kernel.clock import boottime_ns
from sandbox import audit, landlock
from sandbox import close as closing
from sandbox.audit import NotAView
from sandbox.close import Closed
from sandbox.privileges import Socket
from workers import self_audit
from workers.prober import PRIVILEGES
from workers.self_audit import SelfAudit

PATIENCE_S = 60.0


@pytest.fixture
def config() -> Iterator[Config]:
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:  # Unix sockets want short paths
        for worker in Worker:
            (Path(folder) / worker).mkdir()
        yield load({"RUN_DIR": folder, "POD_NAME": "pod-0", "SOURCE_KES_KEY": f"{folder}/key"})


@pytest.fixture
async def publisher(config: Config) -> AsyncIterator[StatePublisher]:
    made = StatePublisher(Worker.PROBER, config.state_socket("prober"), allowed_uids=frozenset())
    made.sandbox = Sandbox(closed=True, separation="single-uid", missing=("nothing much",))
    yield made
    made.close()


@pytest.fixture
def itself(config: Config, publisher: StatePublisher) -> SelfAudit:
    """Of a process without a sandbox: this one."""
    plan = closing._plan(PRIVILEGES, config, None)
    closed = Closed(plan, None, "single-uid", landlock.SCOPE_ABI)
    return SelfAudit(PRIVILEGES, config, closed, publisher, [], parent=None)


async def test_the_state_says_what_could_be_done_beyond_the_declaration(
    itself: SelfAudit, publisher: StatePublisher
) -> None:
    before = boottime_ns()
    found = await itself.audit(knock=False)
    told = publisher.sandbox
    assert "execve: done (EFAULT)" in [*told.violations, *audit.violations(found.calls)]
    assert len(told.violations) == self_audit.MOST_TOLD
    assert before < told.audited_at <= boottime_ns()
    assert (told.closed, told.separation, told.missing) == (True, "single-uid", ("nothing much",))


async def test_violations_are_logged_when_they_come_and_when_they_go_but_not_each_time(
    itself: SelfAudit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "audit")
    for violations in ((), ("execve: done",), ("execve: done",), (), ()):
        itself._tell(violations)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "execve" in caplog.records[0].getMessage()


async def test_the_loop_turns_while_an_audit_is_made(itself: SelfAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_audit, "SLICE_NS", 0)  # a fast machine may have done in two slices
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    found = await itself.audit(knock=False)
    turning.cancel()
    assert turns > 100
    assert 0 < found.longest_ns < found.took_ns


async def test_the_answer_fits_a_frame_and_is_decoded_as_it_was(itself: SelfAudit) -> None:
    reply = await itself._asked("")
    assert decode_debug_reply(encode(reply), DebugWhat.AUDIT) == reply
    assert len(audit.rows_of(reply)) > 200


async def test_an_answer_too_large_for_a_frame_keeps_what_deviates(itself: SelfAudit) -> None:
    found = await itself.audit(knock=False)
    mounts = tuple("/mount/" + "x" * 400 for _ in range(200))
    large = self_audit._fitting(audit_with(found, mounts))
    encode(large)
    assert large.calls == audit.deviations(found.calls)[: self_audit.MOST_TOLD]


def audit_with(found: Any, mounts: tuple[str, ...]) -> Any:
    import dataclasses

    return dataclasses.replace(found, view=dataclasses.replace(found.view, mounts=mounts))


async def test_an_audit_that_cannot_be_made_is_logged_and_tried_again_and_ends_nothing(
    itself: SelfAudit,
    publisher: StatePublisher,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = asyncio.Event()
    errors = iter((OSError(errno.EMFILE, "too many"), NotAView("no /proc")))
    real = self_audit.view_of_ourselves

    def view() -> object:
        for error in errors:
            raise error
        made.set()
        return real()

    monkeypatch.setattr(self_audit, "view_of_ourselves", view)
    monkeypatch.setattr(self_audit, "FIRST_S", 0)
    monkeypatch.setattr(self_audit, "EVERY_S", 0)
    server = DebugServer(listen(config.debug_socket("prober")), parent=None)
    itself.start(server)
    async with asyncio.timeout(PATIENCE_S):
        await made.wait()
        while not any(vars(record).get("event") == "ended" for record in caplog.records):
            await asyncio.sleep(0.01)
    itself.close()
    server.close()
    told = {vars(record)["event"]: vars(record) for record in caplog.records if record.name == "audit"}
    first, end = told["audit_failed"], told["ended"]
    assert (first["event"], first["why"]) == ("audit_failed", "[Errno 24] too many")
    assert (end["event"], end["count"]) == ("ended", 2)


# --- siblings' sockets ---


@pytest.mark.parametrize(("parent", "expected"), [(None, 0), (os.getppid(), errno.EACCES)])
async def test_a_debug_socket_that_lets_us_in_is_told_from_one_that_does_not(
    config: Config, parent: int | None, expected: int
) -> None:
    server = DebugServer(listen(config.debug_socket("elector")), parent=parent)
    server.answer(DebugWhat.LOG_LEVEL, lambda _: DebugLogLevel("INFO"))
    server.start()
    assert await self_audit._knock_at(config.debug_socket("elector"), Socket.DEBUG) == expected
    server.close()


async def test_a_socket_that_nobody_serves_or_that_is_not_there_is_absent(config: Config) -> None:
    path = config.debug_socket("elector")
    assert await self_audit._knock_at(path, Socket.DEBUG) == errno.ENOENT
    listen(path).close()
    assert await self_audit._knock_at(path, Socket.DEBUG) == errno.ENOENT


async def test_a_debug_socket_that_keeps_silent_is_unclear_and_an_open_command_socket_is_open(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_audit, "KNOCK_S", 0.05)
    with listen(config.debug_socket("elector")):
        assert await self_audit._knock_at(config.debug_socket("elector"), Socket.DEBUG) == errno.EAGAIN
        assert await self_audit._knock_at(config.debug_socket("elector"), Socket.COMMAND) == 0


# --- ourselves ---


def test_open_sockets_are_told_with_family_type_and_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        listening = f"socket inet stream listening 127.0.0.1:{server.getsockname()[1]}"
        assert self_audit._socket_text(server.fileno()) == listening
        ends = (client.getsockname()[1], client.getpeername()[1])
        assert self_audit._socket_text(client.fileno()) == "socket inet stream 127.0.0.1:{} 127.0.0.1:{}".format(*ends)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(f"\0audit-{os.getpid()}")
        assert self_audit._socket_text(abstract.fileno()) == f"socket unix datagram @audit-{os.getpid()}"


def test_looking_at_our_sockets_leaves_them_as_they_are() -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        self_audit._open_files()
        assert not os.get_blocking(sock.fileno())


def test_the_view_of_ourselves_is_the_kernels() -> None:
    seen = self_audit.view_of_ourselves()
    assert (seen.pid, seen.uids[0], seen.dumpable) == (os.getpid(), os.getuid(), 1)
    assert seen.files
