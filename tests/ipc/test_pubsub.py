"""State subscriptions: the latest state, always; and nobody but itself is harmed by whoever misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ipc import pubsub
from ipc.frames import FrameReader, frame
from ipc.messages import ArbiterState, GatewayState, State, Worker, decode_state, encode
from ipc.pubsub import StatePublisher, Subscription
from kernel.clock import boottime_ns
from policy import timing

US = frozenset({os.getuid()})
PATIENCE_S = 30
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="another user's process can be started by root only")


def body(reason: str) -> ArbiterState:
    return ArbiterState(None, reason, cluster_management=False)


def state(reason: str, *, instance: str = "abcd", sequence: int = 1, **more: object) -> State:
    now = boottime_ns()
    made = State(Worker.ARBITER, instance, 1, sequence, now, now, now + timing.STATE_VALIDITY, body(reason))
    return dataclasses.replace(made, **more)


class Follower:
    """A subscription, and a way to wait for what it sees."""

    def __init__(self, path: Path) -> None:
        self._changed = asyncio.Event()
        self.seen: list[str] = []
        self.subscription = Subscription(Worker.ARBITER, path, self._on_change, allowed_uids=US)
        self.subscription.start()

    def _on_change(self) -> None:
        if self.subscription.connected:
            self.seen.append(self.reason)
        self._changed.set()

    @property
    def reason(self) -> str:
        last = self.subscription.last()
        return last.body.reason if last is not None and isinstance(last.body, ArbiterState) else ""

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def sees(self, reason: str) -> None:
        await self.until(lambda: self.subscription.connected and self.reason == reason)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sock"


@pytest.fixture
async def publisher(path: Path) -> AsyncIterator[StatePublisher]:
    made = StatePublisher(Worker.ARBITER, path, allowed_uids=US)
    await made.start()
    yield made
    made.close()
    await asyncio.sleep(0)


@pytest.fixture
async def follow() -> AsyncIterator[Callable[[Path], Follower]]:
    followers: list[Follower] = []

    def begin(path: Path) -> Follower:
        followers.append(Follower(path))
        return followers[-1]

    yield begin
    for follower in followers:
        await follower.subscription.close()


class Scripted:
    """A peer in the publisher's place: gives each connection the next answer of its script, the last one for ever."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self.connections = 0

    async def start(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            writer.write(answer)
            if not self._answers or answer is self._answers[-1]:
                await reader.read()  # stays until the subscriber leaves
        writer.close()


@pytest.fixture
async def scripted(path: Path) -> AsyncIterator[Callable[..., object]]:
    servers: list[asyncio.Server] = []

    async def begin(*answers: bytes | None) -> Scripted:
        script = Scripted(*answers)
        servers.append(await script.start(path))
        return script

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def protocol_errors() -> Iterator[asyncio.Queue[str]]:
    """Why each refused frame was refused, as logged."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", "") == "protocol_error":
                queue.put_nowait(record.why)  # type: ignore[attr-defined]

    handler = Collect()
    pubsub.log.addHandler(handler)
    yield queue
    pubsub.log.removeHandler(handler)


async def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(path))
    return sock


async def receive(sock: socket.socket) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await asyncio.get_running_loop().sock_recv(sock, 65536)
        except ConnectionResetError:
            return b""


# --- the promise ---


async def test_a_subscriber_gets_the_present_state_at_once_and_then_each_change(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    publisher.publish(body("first"))
    follower = follow(path)
    await follower.sees("first")
    for reason in ("second", "third"):
        publisher.publish(body(reason))
        await follower.sees(reason)
    assert follower.seen == ["first", "second", "third"]


async def test_a_subscriber_that_comes_first_waits_for_the_worker(
    path: Path, follow: Callable[[Path], Follower]
) -> None:
    follower = follow(path)
    await asyncio.sleep(0)
    publisher = StatePublisher(Worker.ARBITER, path, allowed_uids=US)
    publisher.publish(body("early"))
    await publisher.start()
    await follower.sees("early")
    publisher.close()


async def test_an_unchanged_state_is_not_sent_again_but_repeated_before_it_would_age_out(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timing.HEARTBEAT * 2 < timing.STATE_VALIDITY
    monkeypatch.setattr(pubsub.timing, "HEARTBEAT", 20 * timing.MILLISECOND)
    publisher.publish(body("same"))
    sent = publisher.latest
    publisher.publish(body("same"))
    assert publisher.latest == sent
    follower = follow(path)
    await follower.until(lambda: len(follower.seen) >= 3)
    assert set(follower.seen) == {"same"}


async def test_a_state_counts_until_its_validity_ends_and_not_a_nanosecond_longer(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    publisher.publish(body("x"))
    follower = follow(path)
    await follower.sees("x")
    last = follower.subscription.last()
    assert last is not None
    assert follower.subscription.current(last.valid_until - 1) == last
    assert follower.subscription.current(last.valid_until) is None
    assert follower.subscription.last() == last


async def test_a_restarted_worker_is_followed_though_it_counts_from_one_again(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    for number in range(5):
        publisher.publish(body(f"old {number}"))
    follower = follow(path)
    await follower.sees("old 4")
    publisher.close()
    await follower.until(lambda: not follower.subscription.connected)
    assert follower.reason == "old 4"
    successor = StatePublisher(Worker.ARBITER, path, allowed_uids=US)
    successor.publish(body("new"))
    await successor.start()
    await follower.sees("new")
    assert follower.subscription.errors_total == 0
    successor.close()


async def test_reconnecting_to_the_same_worker_is_no_fault_though_the_state_is_the_same(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub.timing, "HEARTBEAT", 3600 * timing.SECOND)
    publisher.publish(body("x"))
    follower = follow(path)
    await follower.sees("x")
    for subscriber in tuple(publisher._subscribers):
        subscriber.close()
    await follower.until(lambda: not follower.subscription.connected)
    await follower.sees("x")
    assert follower.subscription.errors_total == 0


async def test_the_socket_is_for_its_owner_only_and_replaces_what_an_earlier_life_left(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    successor = StatePublisher(Worker.ARBITER, path, allowed_uids=US)
    await successor.start()
    successor.publish(body("successor"))
    publisher.publish(body("predecessor"))
    await follow(path).sees("successor")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    successor.close()


async def test_a_fault_in_what_a_subscriber_does_with_a_state_is_not_swallowed(
    path: Path, publisher: StatePublisher
) -> None:
    fault: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: fault.set_result(what["exception"]))

    def stumble() -> None:
        raise LookupError("stumbled")

    publisher.publish(body("x"))
    subscription = Subscription(Worker.ARBITER, path, stumble, allowed_uids=US)
    subscription.start()
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await fault, LookupError)


# --- misbehaviour ---


async def test_a_reader_that_does_not_read_delays_nobody_and_later_gets_the_last_state(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub.timing, "HEARTBEAT", 3600 * timing.SECOND)
    publisher.publish(body("first"))
    follower = follow(path)
    await follower.sees("first")
    with await connect(path) as slow:
        await asyncio.sleep(0)
        for number in range(1000):
            publisher.publish(body(f"{number} " + "x" * 4000))
            if number % 100 == 0:
                await asyncio.sleep(0)
        publisher.publish(body("last"))
        await follower.sees("last")
        reader, reasons = FrameReader(), []
        while not reasons or reasons[-1] != "last":
            data = await receive(slow)
            assert data, "closed before the last state came"
            reasons += [decode_state(payload, Worker.ARBITER).body.reason for payload in reader.feed(data)]  # type: ignore[union-attr]
        assert len(reasons) < 900, "all states were queued for it"


async def test_a_reader_that_never_reads_is_dropped(
    path: Path, publisher: StatePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub, "STUCK_AFTER_S", 0.01)
    publisher.publish(body("first"))
    with await connect(path) as stuck:
        assert await receive(stuck)
        for number in range(1000):
            publisher.publish(body(f"{number} " + "x" * 4000))
        while await receive(stuck):
            await asyncio.sleep(0.02)
        assert not publisher._subscribers


FLOOD = """
import socket, sys
held = []
for _ in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    held.append(s)
print("flooded", flush=True)
sys.stdin.read()
"""


async def run_python(script: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        script,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def test_a_flood_of_connections_takes_nobody_elses_place(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    publisher.publish(body("before"))
    follower = follow(path)
    await follower.sees("before")
    flood = await run_python(FLOOD, str(path))
    try:
        assert flood.stdout is not None
        assert await flood.stdout.readline() == b"flooded\n"
        publisher.publish(body("during"))
        await follower.sees("during")
        late = follow(path)
        await late.sees("during")
        assert follower.seen.count("before") == 1, "the first subscriber was thrown out"
        assert late.subscription.errors_total == 0
    finally:
        await flood.communicate(b"")


async def test_a_worker_that_sends_without_a_pause_takes_no_more_than_its_turn(
    path: Path, follow: Callable[[Path], Follower]
) -> None:
    """What is in the socket already is not taken all at once."""
    told = frame(encode(state("flood")))
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        number = writer.get_extra_info("socket").fileno()
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += os.write(number, (told * 50)[sent % len(told) :])
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        follower, before, most = follow(path), 0, 0
        async with asyncio.timeout(PATIENCE_S):
            while not sent or before < sent // len(told):
                await asyncio.sleep(0)
                before, most = len(follower.seen), max(most, len(follower.seen) - before)
    assert before > 300
    assert most <= pubsub.AT_ONCE // len(told) + 1


async def test_a_subscriber_that_sends_a_byte_is_cut_and_the_others_are_not(
    path: Path, publisher: StatePublisher, follow: Callable[[Path], Follower]
) -> None:
    publisher.publish(body("one"))
    follower = follow(path)
    await follower.sees("one")
    with await connect(path) as talker:
        assert await receive(talker)
        await asyncio.get_running_loop().sock_sendall(talker, b"x")
        while await receive(talker):
            pass
    publisher.publish(body("two"))
    await follower.sees("two")
    assert follower.seen == ["one", "two"]


async def test_a_peer_that_vanishes_in_the_middle_of_a_frame_leaves_the_last_state_and_is_sought_again(
    path: Path, scripted: Callable[..., object], follow: Callable[[Path], Follower]
) -> None:
    whole, next_one = frame(encode(state("whole"))), frame(encode(state("next", sequence=2)))
    script = await scripted(whole + next_one[:20], next_one)
    follower = follow(path)
    await follower.sees("next")
    assert follower.seen == ["whole", "next"]
    assert script.connections == 2
    assert follower.subscription.errors_total == 0


GOOD = "good"
REFUSED: dict[str, Callable[[], bytes]] = {
    "not msgpack": lambda: frame(b"\xc1"),
    "an impossible length": lambda: b"\xff\xff\xff\xff",
    "a message that is no state": lambda: frame(b"\x93\x01\xa5State\x80"),
    "another worker's state": lambda: frame(
        encode(state("x", worker=Worker.GATEWAY, body=GatewayState(1, {}), sequence=2))
    ),
    "an older state of the same process": lambda: frame(encode(state("old", sequence=0))),
    "a state that claims to be valid for longer than agreed": lambda: frame(
        encode(state("x", sequence=2, valid_until=boottime_ns() + 2 * timing.STATE_VALIDITY))
    ),
    "a state from the future": lambda: frame(
        encode(state("x", sequence=2, sent_at=boottime_ns() + 10**15, valid_until=boottime_ns() + 10**15))
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_refused_and_counted_while_the_last_good_state_stands(
    what: str,
    path: Path,
    scripted: Callable[..., object],
    follow: Callable[[Path], Follower],
    protocol_errors: asyncio.Queue[str],
) -> None:
    good = frame(encode(state(GOOD)))
    await scripted(good, REFUSED[what](), frame(encode(state("after", sequence=3))))
    follower = follow(path)
    async with asyncio.timeout(PATIENCE_S):
        assert await protocol_errors.get()
    assert follower.reason == GOOD
    await follower.sees("after")
    assert follower.seen == [GOOD, "after"]
    assert follower.subscription.errors_total == 1


async def test_a_worker_too_busy_to_accept_is_waited_for_and_not_taken_for_a_stranger(
    path: Path, follow: Callable[[Path], Follower], protocol_errors: asyncio.Queue[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as queued:
        busy.bind(str(path))
        busy.listen(0)
        queued.connect(str(path))
        follower = follow(path)
        await asyncio.sleep(0.1)
        accepted, _ = busy.accept()
        accepted.close()
        busy.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            ours, _ = await asyncio.get_running_loop().sock_accept(busy)
        with ours:
            ours.sendall(frame(encode(state("at last"))))
            await follower.sees("at last")
    assert protocol_errors.empty()


# --- other users ---


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may use."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


AS_NOBODY = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""

CONNECT = """
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
try:
    s.connect(sys.argv[1])
    print("connected")
    print(s.recv(100))
except (PermissionError, ConnectionError) as error:
    print(type(error).__name__)
"""


@needs_root
@pytest.mark.root
async def test_another_user_cannot_even_connect(public: Path) -> None:
    publisher = StatePublisher(Worker.ARBITER, public / "s", allowed_uids=US)
    await publisher.start()
    publisher.publish(body("ours"))
    stranger = await run_python(AS_NOBODY + CONNECT, str(public / "s"))
    output, _ = await stranger.communicate(b"")
    assert output == b"PermissionError\n"
    publisher.close()


@needs_root
@pytest.mark.root
async def test_another_user_gets_not_a_byte_even_where_the_files_mode_would_let_it_in(public: Path) -> None:
    publisher = StatePublisher(Worker.ARBITER, public / "s", allowed_uids=US)
    await publisher.start()
    (public / "s").chmod(0o666)
    publisher.publish(body("ours"))
    stranger = await run_python(AS_NOBODY + CONNECT, str(public / "s"))
    output, _ = await stranger.communicate(b"")
    assert output in (b"connected\nb''\n", b"connected\nConnectionResetError\n")
    publisher.close()


SERVE = """
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(5)
print("listening", flush=True)
s.settimeout(20)
c, _ = s.accept()
try:
    c.sendall(bytes.fromhex(sys.argv[2]))
except OSError:
    pass
sys.stdin.read()
"""


@needs_root
@pytest.mark.root
async def test_a_state_served_by_another_user_is_refused_unread(
    public: Path, follow: Callable[[Path], Follower], protocol_errors: asyncio.Queue[str]
) -> None:
    forged = frame(encode(state("forged"))).hex()
    impostor = await run_python(AS_NOBODY + SERVE, str(public / "s"), forged)
    try:
        assert impostor.stdout is not None
        assert await impostor.stdout.readline() == b"listening\n"
        follower = follow(public / "s")
        async with asyncio.timeout(PATIENCE_S):
            assert "another user" in await protocol_errors.get()
        assert follower.subscription.last() is None
    finally:
        await impostor.communicate(b"")
