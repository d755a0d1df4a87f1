"""Spoilt frames on every Unix socket of a worker, served by the product's own code: nothing ends, grows or changes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fuzz_corpus import Honest, corpus, state
from fuzz_mutate import Fuzzer
from fuzz_run import ON_SOCKETS, PATIENCE_S, Memory, Run

from config import load
from ipc import pubsub
from ipc.acceptor import Acceptor
from ipc.debug import MAX_QUESTION, DebugServer
from ipc.frames import FrameReader, frame
from ipc.messages import (
    ArbiterState,
    DebugRequest,
    ProtocolError,
    StandDown,
    StandDownReply,
    State,
    Worker,
    decode,
    decode_debug_reply,
    decode_state,
    encode,
)
from ipc.pubsub import StatePublisher, Subscription, listen
from kernel.clock import boottime_ns
from kube.session import ApiSession
from policy import timing
from workers import elector as elector_module
from workers import logs
from workers.elector import MOST_STAND_DOWN_S, Elector
from workers.inspection import Inspection
from workers.runtime import Context

pytestmark = pytest.mark.timeout(60 + ON_SOCKETS // 50)
US = frozenset({os.getuid()})
BODY = ArbiterState(None, "the state that stands", cluster_management=False)
WARM = 0.3
"""Of a run: what is made once is made by then."""


class Shown(logging.Filter):
    """Shows each line as a worker would; lets none through to pytest, which would keep them all."""

    def __init__(self) -> None:
        super().__init__()
        self._forms = [logs.formatter("fuzzed", "json"), logs.formatter("fuzzed", "console")]

    def filter(self, record: logging.LogRecord) -> bool:
        assert record.levelno < logging.ERROR, record.getMessage()
        for form in self._forms:
            assert "\n" not in form.format(record)
        return False


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """The lines of the fuzzed, formatted: what strangers wrote is in some of them."""
    loggers, shown = [logging.getLogger(name) for name in ("ipc", "elector", "worker")], Shown()
    for logger in loggers:
        logger.addFilter(shown)
    yield
    for logger in loggers:
        logger.removeFilter(shown)


@pytest.fixture(autouse=True)
async def no_faults() -> AsyncIterator[None]:
    """What reaches the loop's exception handler would have ended the worker."""
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: faults.append(what))
    yield
    assert not faults


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fz-") as name:  # Unix sockets want short paths
        yield Path(name)


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    """What a test opened is closed, whatever came of it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
async def publisher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StatePublisher]:
    monkeypatch.setattr(pubsub.timing, "HEARTBEAT", 3600 * timing.SECOND)
    made = StatePublisher(Worker.ARBITER, folder / "state", allowed_uids=US)
    made.publish(BODY)
    await made.start()
    yield made
    made.close()
    await asyncio.sleep(0)


class Attack:
    """A run against one socket."""

    def __init__(self, run: Run, honest: list[Honest]) -> None:
        others = corpus(run.rng, 1)
        self.run = run
        self.fuzzer = Fuzzer(honest * (1 + 3 * len(others) // len(honest)) + others, run.rng)
        self._memory: Memory | None = None

    def streams(self) -> Iterator[bytes]:
        """One for each connection, until the run is over."""
        while self.run.done < self.run.frames:
            if self._memory is None and self.run.done > WARM * self.run.frames:
                self._memory = Memory()
            batch = [self.fuzzer.payload()[1] for _ in range(self.run.rng.choice((1, 1, 1, 2, 6)))]
            self.run.done += len(batch)
            yield self.fuzzer.stream(batch)

    def ends(self) -> None:
        assert self._memory is not None
        self.run.facts.append(self._memory.has_not_grown())

    async def upon(self, path: Path, stream: bytes) -> bytes:
        """Everything that is said to this stream until the connection ends, which it does by itself."""
        loop, heard = asyncio.get_running_loop(), bytearray()
        async with asyncio.timeout(PATIENCE_S):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, str(path))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for piece in self.fuzzer.pieces(stream):
                        await loop.sock_sendall(sock, piece)
                    sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while data := await loop.sock_recv(sock, 65536):
                        heard += data
        return bytes(heard)


def payloads(stream: bytes) -> list[bytes]:
    """As many as can be read from it, however it arrives."""
    reader, found = FrameReader(), []
    with contextlib.suppress(ProtocolError):
        for at in range(0, len(stream), 64):
            found += reader.feed(stream[at : at + 64])
    return found


def of_kind(kind: type, rng: random.Random) -> list[Honest]:
    return [each for each in corpus(rng, 12) if each.name == kind.__name__]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_nothing_a_subscriber_sends_changes_the_state_or_reaches_another_subscriber(
    folder: Path, publisher: StatePublisher, say: Callable[[str], None]
) -> None:
    latest, changes = publisher.latest, 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    witness = Subscription(Worker.ARBITER, folder / "state", changed, allowed_uids=US)
    witness.start()
    await until(lambda: witness.connected)
    with Run("state socket", ON_SOCKETS, say) as run:
        attack, sent = Attack(run, of_kind(StandDown, run.rng)), 0
        for stream in attack.streams():
            assert latest.startswith(await attack.upon(folder / "state", stream))
            sent += bool(stream)
            assert publisher.latest is latest
        attack.ends()
    assert publisher.errors_total == sent
    assert (publisher.refused_total, len(publisher.subscribers)) == (0, 1)
    assert (changes, witness.connected, witness.errors_total) == (1, True, 0)
    await witness.close()


def living(rng: random.Random, sequence: int, instance: str = "0badcafe") -> State:
    """A state that a subscriber takes now."""
    now = boottime_ns()
    times = {"sent_at": now, "valid_until": now + timing.STATE_VALIDITY}
    return dataclasses.replace(state(Worker.ACTUATOR, rng), instance=instance, sequence=sequence, **times)


def may_become(stream: bytes, before: State) -> list[State]:
    """The states that a subscriber may have after a stream: by the promises of `Subscription`, not its code."""
    allowed = [before]
    for payload in payloads(stream):
        try:
            new = decode_state(payload, Worker.ACTUATOR)
        except ProtocolError:
            break
        older = new.instance == allowed[-1].instance and new.sequence < allowed[-1].sequence
        if older or new.valid_until - new.sent_at > timing.STATE_VALIDITY or new.sent_at > boottime_ns():
            break
        allowed.append(new)
    return allowed


async def test_a_hostile_publisher_changes_a_state_by_whole_and_valid_frames_alone(
    folder: Path, closing: contextlib.ExitStack, say: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub, "_RETRY_FIRST_S", 0)
    monkeypatch.setattr(pubsub, "_RETRY_MOST_S", 0)
    loop, listener = asyncio.get_running_loop(), closing.enter_context(listen(folder / "state"))
    subscription = Subscription(Worker.ACTUATOR, folder / "state", lambda: None, allowed_uids=US)
    subscription.start()

    async def serve(pieces: Iterator[bytes]) -> None:
        """One connection of the subscriber's, from its beginning to its end."""
        async with asyncio.timeout(PATIENCE_S):
            peer, _ = await loop.sock_accept(listener)
            with peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in pieces:
                    await loop.sock_sendall(peer, piece)
                peer.shutdown(socket.SHUT_WR)
                await loop.sock_recv(peer, 1)  # until it has read all, or will not

    with Run("subscription", ON_SOCKETS, say) as run:
        first = living(run.rng, 3)
        await serve(iter([frame(encode(first))]))
        assert subscription.last() == first
        honest = [Honest("State", encode(living(run.rng, n, f"life {n % 4}")), ()) for n in range(1, 12)]
        attack, changes, kept = Attack(run, honest), 0, 0
        for stream in attack.streams():
            before = subscription.last()
            assert before is not None
            await serve(attack.fuzzer.pieces(stream))
            allowed, after = may_become(stream, before), subscription.last()
            assert after is before or after in allowed[1:], stream.hex()
            changes += after is not before
            if len(allowed) == 1:
                kept += 1
                assert subscription.current(before.valid_until - 1) is before
                assert subscription.current(before.valid_until) is None
        run.facts.append(f"{changes} valid ones taken, {subscription.errors_total} refused")
        attack.ends()
        assert changes
        assert kept > changes
        assert subscription.errors_total > 0
        last = living(run.rng, 1, "a new life")
        await serve(iter([frame(encode(last))]))
        assert subscription.last() == last
    await subscription.close()


async def test_nothing_a_debugger_sends_changes_a_worker_and_each_answer_is_to_a_question(
    folder: Path, publisher: StatePublisher, closing: contextlib.ExitStack, say: Callable[[str], None]
) -> None:
    server = DebugServer(listen(folder / "debug"), parent=None)
    Inspection(Worker.ARBITER, publisher, [], logs.Recent(), server)
    server.start()
    closing.callback(server.close)
    latest, level = publisher.latest, logs.level()
    with Run("debug socket", ON_SOCKETS, say) as run:
        attack, answered = Attack(run, of_kind(DebugRequest, run.rng)), 0
        for stream in attack.streams():
            answers = payloads(await attack.upon(folder / "debug", stream))
            asked = [ask for ask in (_question(each) for each in payloads(stream)[:1]) if ask is not None]
            assert len(answers) <= len(asked), stream.hex()
            for ask, answer in zip(asked, answers, strict=False):
                decode_debug_reply(answer, ask.what)
                answered += 1
            if asked and len(stream) <= MAX_QUESTION and stream == frame(payloads(stream)[0]):
                assert answers, stream.hex()
            assert (publisher.latest, logs.level()) == (latest, level)
        run.facts.append(f"{answered} answered, {server.errors_total} refused")
        attack.ends()
    assert answered
    assert server.errors_total
    assert server.refused_total == 0
    assert not server._conversations


def _question(payload: bytes) -> DebugRequest | None:
    try:
        return decode(payload, DebugRequest)
    except ProtocolError:
        return None


@pytest.fixture
async def elector(folder: Path) -> AsyncIterator[Elector]:
    """One that takes commands, on a socket of its own making; nothing else of it runs."""
    for worker in Worker:
        (folder / worker).mkdir()
    config = load({"RUN_DIR": str(folder), "POD_NAME": "pod-0"})
    config.instance_file.write_text("0badcafe\n")
    root = logging.getLogger()
    handlers = list(root.handlers)
    context = Context(elector_module.PRIVILEGES, config)
    made = Elector(context, ApiSession(None, user_agent="fuzzed"))
    assert context.command is not None
    commands = Acceptor(context.command, lambda: elector_module._command_protocol(made))
    commands.start()
    yield made
    commands.close()
    await context.close()
    root.handlers[:] = handlers  # the context keeps what is logged


async def test_nothing_but_a_whole_valid_command_makes_an_elector_stand_down(
    folder: Path, elector: Elector, say: Callable[[str], None]
) -> None:
    path, election = folder / "elector" / "command.sock", elector._election
    with Run("command socket", ON_SOCKETS, say) as run:
        attack, accepted, unmoved = Attack(run, of_kind(StandDown, run.rng)), 0, 0
        for stream in attack.streams():
            before = (election.standing_down_until, election.drained)
            answers = payloads(await attack.upon(path, stream))
            replies = [decode(each, StandDownReply) for each in answers]
            command = _command(stream)
            assert len(replies) <= (command is not None), stream.hex()
            obeyed = bool(replies) and replies[0].accepted
            if command is None or (command.seconds is not None and not 0 <= command.seconds <= MOST_STAND_DOWN_S):
                assert not obeyed, stream.hex()
                assert (election.standing_down_until, election.drained) == before, stream.hex()
                unmoved += 1
            elif stream == frame(payloads(stream)[0]):
                assert obeyed, stream.hex()
            accepted += obeyed
        run.facts.append(f"{accepted} commands obeyed")
        attack.ends()
    assert accepted
    assert unmoved > accepted
    assert election.role == "observer"


def _command(stream: bytes) -> StandDown | None:
    try:
        return decode(payloads(stream)[0], StandDown)
    except (IndexError, ProtocolError):
        return None
