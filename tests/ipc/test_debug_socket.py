"""The debug socket: one question, one answer; and whoever misbehaves on it harms nobody but itself."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc import debug
from ipc.debug import MAX_CONNECTIONS, MAX_PER_PROCESS, CannotAnswer, DebugServer, fitting
from ipc.frames import FrameReader, frame
from ipc.messages import (
    DEBUG_REPLIES,
    MAX_FRAME,
    DebugDecisions,
    DebugLogLevel,
    DebugRefusal,
    DebugReply,
    DebugRequest,
    DebugWhat,
    Decision,
    StandDown,
    decode_debug_reply,
    encode,
)
from ipc.pubsub import listen

PATIENCE_S = 60
SHORT_S = 0.05
LEVEL = DebugLogLevel("INFO")
QUESTION = frame(encode(DebugRequest(DebugWhat.LOG_LEVEL)))
LARGE = DebugDecisions(tuple(Decision(n, "INFO", "e", "x" * 300, {}) for n in range(150)), 0)


class World:
    """A server, what its handlers were asked, and clients of it."""

    def __init__(self, path: Path, parent: int | None = None) -> None:
        self.path = path
        self.asked: list[str] = []
        self.faults: list[dict[str, object]] = []
        self._listening = listen(path)
        self.server = DebugServer(self._listening, parent=parent)
        self.server.answer(DebugWhat.LOG_LEVEL, self._level)
        self.server.answer(DebugWhat.DECISIONS, lambda _: LARGE)
        self.server.start()
        self._clients: list[socket.socket] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.faults.append(what))

    def _level(self, argument: str) -> DebugReply:
        self.asked.append(argument)
        return LEVEL

    async def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        self._clients.append(client)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    client.connect(str(self.path))
                except BlockingIOError:  # the backlog is full, which sock_connect would take for "in progress"
                    await asyncio.sleep(0.001)
                else:
                    return client

    async def says(self, data: bytes, *, end: bool = False) -> socket.socket:
        client = await self.connect()
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client, data), PATIENCE_S)
        if end:
            client.shutdown(socket.SHUT_WR)
        return client

    async def heard_by(self, client: socket.socket) -> bytes:
        """Everything until the server ends the connection."""
        loop, found = asyncio.get_running_loop(), b""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while data := await loop.sock_recv(client, 65536):
                    found += data
        except ConnectionResetError:
            pass
        return found

    async def ask(self, what: DebugWhat = DebugWhat.LOG_LEVEL, argument: str = "") -> DebugReply:
        return reply(await self.heard_by(await self.says(frame(encode(DebugRequest(what, argument))))), what)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def still_serves(self) -> None:
        """Nothing that went before took a place, a turn or the worker."""
        await self.until(self._idle)
        assert await self.ask() == LEVEL
        assert self.faults == []

    def _idle(self) -> bool:
        """Every connection was accepted and has ended."""
        waiting, _, _ = select.select([self._listening], [], [], 0)
        return not waiting and not self.server._acceptor._making and not self.server._conversations

    def close(self) -> None:
        self.server.close()
        for client in self._clients:
            client.close()


def reply(data: bytes, what: DebugWhat = DebugWhat.LOG_LEVEL) -> DebugReply:
    (payload,) = FrameReader().feed(data)
    return decode_debug_reply(payload, what)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "d")
    yield made
    made.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# --- questions and answers ---


async def test_a_question_is_answered_and_the_connection_ends(world: World) -> None:
    assert await world.ask(argument="DEBUG") == LEVEL
    assert world.asked == ["DEBUG"]
    assert world.server.requests_total == 1


async def test_a_question_that_comes_byte_by_byte_is_one(world: World) -> None:
    client = await world.connect()
    for byte in QUESTION:
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert reply(await world.heard_by(client)) == LEVEL


async def test_who_sends_no_more_after_the_question_gets_the_answer(world: World) -> None:
    assert reply(await world.heard_by(await world.says(QUESTION, end=True))) == LEVEL


async def test_what_nobody_answers_is_refused_in_words(world: World) -> None:
    assert await world.ask(DebugWhat.TASKS) == DebugRefusal("this worker does not answer tasks")


async def test_an_answer_that_takes_its_time_keeps_nobody_else_waiting(world: World) -> None:
    ready = asyncio.Event()

    async def slow(_: str) -> DebugReply:
        await ready.wait()
        raise CannotAnswer("not today")

    world.server.answer(DebugWhat.TASKS, slow)
    waiting = asyncio.create_task(world.ask(DebugWhat.TASKS))
    await world.until(lambda: world.server.requests_total == 1)
    assert await world.ask() == LEVEL
    ready.set()
    assert await waiting == DebugRefusal("not today")


async def test_an_answer_larger_than_a_sockets_buffer_arrives_whole(world: World) -> None:
    assert await world.ask(DebugWhat.DECISIONS) == LARGE


# --- hostile peers ---

BROKEN = {
    "not msgpack": frame(b"\xc1"),
    "another message": frame(encode(StandDown(1.0, ""))),
    "an unknown question": frame(encode(DebugRequest(DebugWhat.STATE)).replace(b"state", b"stats")),
    "an old protocol": frame(b"\x93\x01" + encode(DebugRequest(DebugWhat.LOG_LEVEL))[2:]),
    "a length of zero": b"\0\0\0\0",
    "a length beyond the most": b"\xff\xff\xff\xff",
    "two questions at once": QUESTION + QUESTION,
    "a question and a half": QUESTION + QUESTION[:7],
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_peer_that_breaks_the_protocol_is_cut_counted_and_not_answered(world: World, what: str) -> None:
    assert await world.heard_by(await world.says(BROKEN[what])) == b""
    assert world.server.errors_total == 1
    await world.still_serves()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_next_one_is_served(tmp_path: Path, data: bytes) -> None:
    async def scene() -> None:
        world = World(tmp_path / "h")
        try:
            await world.heard_by(await world.says(data, end=True))
            await world.still_serves()
        finally:
            world.close()
            await asyncio.sleep(0)

    asyncio.run(scene())


@pytest.mark.parametrize("sent", [1, 3, 4, len(QUESTION) - 1])
async def test_half_a_frame_and_then_silence_ends_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    monkeypatch.setattr(debug, "PATIENCE_S", SHORT_S)
    assert await world.heard_by(await world.says(QUESTION[:sent])) == b""
    monkeypatch.setattr(debug, "PATIENCE_S", PATIENCE_S)
    await world.still_serves()


@pytest.mark.parametrize("sent", [1, 3, 4, len(QUESTION) - 1])
async def test_half_a_frame_and_then_the_end_is_counted(world: World, sent: int) -> None:
    assert await world.heard_by(await world.says(QUESTION[:sent], end=True)) == b""
    assert world.server.errors_total == 1
    await world.still_serves()


async def test_who_connects_and_says_nothing_is_sent_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "PATIENCE_S", SHORT_S)
    assert await world.heard_by(await world.connect()) == b""
    assert world.server.errors_total == 0


async def test_who_never_reads_its_answer_is_sent_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "PATIENCE_S", SHORT_S)
    made = socket.socket.setsockopt
    client = await world.connect()
    made(client, socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await asyncio.get_running_loop().sock_sendall(client, frame(encode(DebugRequest(DebugWhat.DECISIONS))))
    await world.until(lambda: world.server.requests_total == 1)
    await world.until(lambda: not world.server._conversations)
    monkeypatch.setattr(debug, "PATIENCE_S", PATIENCE_S)
    await world.still_serves()


async def test_who_vanishes_before_its_answer_is_forgotten(world: World) -> None:
    for _ in range(20):
        client = await world.says(frame(encode(DebugRequest(DebugWhat.DECISIONS))))
        client.close()
    await world.still_serves()


async def test_who_vanishes_while_its_answer_is_made_is_forgotten(world: World) -> None:
    ready = asyncio.Event()

    async def slow(_: str) -> DebugReply:
        await ready.wait()
        return LEVEL

    world.server.answer(DebugWhat.TASKS, slow)
    client = await world.says(frame(encode(DebugRequest(DebugWhat.TASKS))))
    await world.until(lambda: world.server.requests_total == 1)
    client.close()
    ready.set()
    await world.still_serves()


async def test_a_second_question_while_the_first_is_answered_gets_no_answer_at_all(world: World) -> None:
    ready = asyncio.Event()

    async def slow(_: str) -> DebugReply:
        await ready.wait()
        return LEVEL

    world.server.answer(DebugWhat.TASKS, slow)
    client = await world.says(frame(encode(DebugRequest(DebugWhat.TASKS))))
    await world.until(lambda: world.server.requests_total == 1)
    client.send(QUESTION)
    assert await world.heard_by(client) == b""
    assert world.server.errors_total == 1
    assert world.asked == []
    ready.set()
    await world.still_serves()


async def test_one_process_has_its_places_and_takes_nobody_elses(world: World) -> None:
    waiting = [await world.connect() for _ in range(MAX_PER_PROCESS)]
    await world.until(lambda: len(world.server._conversations) == MAX_PER_PROCESS)
    assert await world.heard_by(await world.connect()) == b""
    assert world.server.refused_total == 1
    ran = await other_process(world.path, ASK)
    assert reply(ran) == LEVEL
    for client in waiting:
        client.close()
    await world.still_serves()


async def test_a_flood_of_connections_is_turned_away_and_costs_no_line_each(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [await world.connect() for _ in range(200)]
    await world.until(lambda: world.server.refused_total == 200 - MAX_PER_PROCESS)
    assert len(world.server._conversations) <= MAX_CONNECTIONS
    assert len([record for record in caplog.records if getattr(record, "event", "") == "debug_refused"]) == 1
    for client in clients:
        client.close()
    await world.still_serves()


async def test_a_flood_of_questions_is_answered_one_by_one(world: World) -> None:
    for _ in range(300):
        assert await world.ask() == LEVEL
    assert world.server.requests_total == 300


# --- who may ask ---

ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    s.sendall(bytes.fromhex(sys.argv[2]))
    while data := s.recv(65536):
        sys.stdout.buffer.write(data)
except (ConnectionError, PermissionError):
    pass
"""
AS_NOBODY = "import os, socket, sys\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"


async def other_process(path: Path, script: str) -> bytes:
    """What a child of ours gets when it asks."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", script, str(path), QUESTION.hex()), stdout=subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    return output


async def test_a_sibling_worker_is_not_heard(tmp_path: Path) -> None:
    world = World(tmp_path / "s", parent=os.getpid())  # our children are its siblings
    assert await other_process(world.path, ASK) == b""
    assert (world.server.refused_total, world.asked) == (1, [])
    world.close()


async def test_who_is_no_sibling_is_heard_where_there_are_siblings(tmp_path: Path) -> None:
    world = World(tmp_path / "s", parent=os.getpid())
    assert await world.ask() == LEVEL  # we are the parent, not one of its children
    world.close()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="another user's process can be started by root only")
async def test_another_user_is_not_heard_even_where_the_files_mode_would_let_it_in() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        world = World(Path(folder) / "d")
        world.path.chmod(0o666)
        assert await other_process(world.path, AS_NOBODY + ASK) == b""
        assert (world.server.refused_total, world.asked) == (1, [])
        world.close()


# --- what an answer carries ---


async def test_closed_it_answers_nobody(world: World) -> None:
    client = await world.connect()
    await world.until(lambda: bool(world.server._conversations))
    world.server.close()
    assert await world.heard_by(client) == b""
    with pytest.raises(ConnectionRefusedError):
        await world.connect()


@given(st.lists(st.integers(0, 5000), max_size=60))
def test_an_answer_that_is_too_long_keeps_the_latest_and_says_how_many_are_cut(sizes: list[int]) -> None:
    items = tuple(Decision(n, "INFO", "e", "x" * min(size, 4000), {}) for n, size in enumerate(sizes))
    made = fitting(DebugDecisions, items)
    assert isinstance(made, DebugDecisions)
    assert len(encode(made)) <= MAX_FRAME
    assert len(made.decisions) + made.cut == len(items)
    assert made.decisions == items[made.cut :]


def test_as_much_as_a_frame_nearly_holds_is_kept() -> None:
    items = tuple(Decision(n, "INFO", "e", "x" * 1000, {}) for n in range(200))
    made = fitting(DebugDecisions, items)
    assert len(encode(made)) > MAX_FRAME * 3 // 4


def test_every_question_has_its_own_kind_of_answer() -> None:
    assert set(DEBUG_REPLIES) == set(DebugWhat)
    assert len(set(DEBUG_REPLIES.values())) == len(DEBUG_REPLIES)


# --- when the fault is ours ---


def broken(_: str) -> DebugReply:
    raise ZeroDivisionError("secret words")


async def broken_later(_: str) -> DebugReply:
    await asyncio.sleep(0)
    raise ZeroDivisionError("secret words")


def too_long(_: str) -> DebugReply:
    return DebugDecisions(LARGE.decisions * 9, 0)


@pytest.mark.parametrize("handler", [broken, broken_later, too_long])
async def test_an_answer_that_cannot_be_made_is_a_refusal_and_a_line_not_the_end_of_the_worker(
    world: World, handler: debug.Handler, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.answer(DebugWhat.TASKS, handler)
    refusal = await world.ask(DebugWhat.TASKS)
    assert isinstance(refusal, DebugRefusal)
    assert refusal.why.startswith("a fault of this worker's")
    assert "secret" not in refusal.why
    assert [record.event for record in caplog.records] == ["debug_failed"]  # type: ignore[attr-defined]
    assert world.server.errors_total == 0, "the peer did nothing wrong"
    await world.still_serves()


class Endless:
    """An answer that never comes; knows whether somebody still works on it."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def __call__(self, _: str) -> DebugReply:
        self.begun += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1
        return LEVEL


async def test_work_for_who_was_cut_off_ends_and_never_piles_up(world: World) -> None:
    endless = Endless()
    world.server.answer(DebugWhat.TASKS, endless)
    for number in range(1, 4 * MAX_CONNECTIONS):
        client = await world.says(frame(encode(DebugRequest(DebugWhat.TASKS))))
        await world.until(lambda number=number: endless.begun == number)  # type: ignore[misc]
        client.send(b"x")
        assert await world.heard_by(client) == b""
        await world.until(lambda number=number: endless.ended == number)  # type: ignore[misc]
    await world.still_serves()


async def test_an_answer_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "LONGEST_S", SHORT_S)
    endless = Endless()
    world.server.answer(DebugWhat.TASKS, endless)
    assert await world.heard_by(await world.says(frame(encode(DebugRequest(DebugWhat.TASKS))))) == b""
    await world.until(lambda: endless.ended == 1)
    await world.still_serves()


async def test_more_than_any_question_is_not_even_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = frame(encode(DebugRequest(DebugWhat.SUBSCRIPTIONS, "x" * 4096)))
    assert len(longest) <= debug.MAX_QUESTION
    assert isinstance(reply(await world.heard_by(await world.says(longest)), DebugWhat.SUBSCRIPTIONS), DebugRefusal)
    fed: list[int] = []
    real = FrameReader.feed
    monkeypatch.setattr(FrameReader, "feed", lambda self, data: fed.append(len(data)) or real(self, data))
    flood = (1 << 15).to_bytes(4, "big") + bytes(debug.MAX_QUESTION)  # less than it announces
    assert await world.heard_by(await world.says(flood)) == b""
    assert sum(fed) <= debug.MAX_QUESTION
    assert world.server.errors_total == 1
