"""State subscriptions: a worker serves its latest state, whoever needs it subscribes.

`StatePublisher` promises: a subscriber gets the current state at once and then each change (a slow one may
miss intermediate states, never the last); nothing a subscriber does or fails to do delays the worker or another
subscriber; nobody can send anything: a byte from a subscriber ends its connection.

`Subscription` promises: `current()` is the last state received while it is valid, else None; a malformed
frame ends the connection, keeps the state, and is counted; reconnecting never stops; a publisher that sends without a
pause keeps the subscriber from nothing else.  A state that came from a process of another user is refused before a
byte is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ipc.acceptor import Acceptor
from ipc.complaints import Complaint
from ipc.frames import FrameReader, frame
from ipc.messages import Body, Cost, ProtocolError, Sandbox, State, Worker, decode_state, encode, news
from ipc.peers import Peer, peer_of
from kernel.clock import boottime_ns
from policy import timing

log = logging.getLogger("ipc")

MAX_SUBSCRIBERS: Final = 32
MAX_PER_PROCESS: Final = 4
"""Connections from one process: whoever opens them in masses takes nobody else's place."""
STUCK_AFTER_S: Final = 10.0
"""A subscriber that read nothing for this long is dropped."""

AT_ONCE: Final = 8 * 1024
"""Bytes taken from a publisher in one turn of the loop: some states, so that a flood of them delays nothing long."""

UNHEARD: Final = timing.SECOND
"""A worker that cannot be reached for so long is worth a line: at a start, and after a death, it is back before."""
_RETRY_FIRST_S: Final = 0.02
_RETRY_MOST_S: Final = 0.5


def listen(path: Path, *, mode: int = 0o600) -> socket.socket:
    """A listening Unix socket at `path` in place of whatever socket an earlier life left there.

    mode: of the file; who may really speak is decided by SO_PEERCRED.  Raises OSError.
    Binding under a temporary name and renaming makes the path appear ready to accept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    for left in path.parent.glob(f".{path.name}.*"):  # by a life that ended between bind and rename
        left.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(str(temporary))
        temporary.chmod(mode)
        sock.listen(MAX_SUBSCRIBERS)
        temporary.rename(path)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class _Subscriber(asyncio.Protocol):
    """One connection to a publisher: writes the latest state, keeps no queue."""

    def __init__(self, publisher: StatePublisher) -> None:
        self._publisher = publisher
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._missed = False
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        if not self._publisher.admit(self, transport):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._publisher.errors_total += 1
        self._publisher.complain("sent data", "subscriber sent data; closed")
        self.close()

    def pause_writing(self) -> None:
        self._paused = True
        self._stuck = asyncio.get_running_loop().call_later(STUCK_AFTER_S, self.close)

    def resume_writing(self) -> None:
        self._paused = False
        if self._stuck is not None:
            self._stuck.cancel()
        if self._missed:
            self._missed = False
            self.send(self._publisher.latest)

    def send(self, data: bytes) -> None:
        """Send a frame, or remember that one is due as soon as the peer reads again."""
        if self._paused:
            self._missed = True
        elif self._transport is not None and data:
            self._publisher.sent_total += 1
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        self._publisher.forget(self)


class StatePublisher:
    """Serves one worker's latest state on a Unix socket, which it makes at once; `start` begins to accept."""

    def __init__(self, worker: Worker, path: Path, *, allowed_uids: frozenset[int], mode: int = 0o600) -> None:
        """Raises OSError when the socket cannot be made."""
        self._worker = worker
        self._acceptor = Acceptor(listen(path, mode=mode), lambda: _Subscriber(self))
        self._allowed = allowed_uids
        self._instance = secrets.token_hex(4)
        self._started = boottime_ns()
        self._sequence = 0
        self._body: Body | None = None
        self._subscribers: dict[_Subscriber, Peer] = {}
        self._beat: asyncio.TimerHandle | None = None
        self._complaint = Complaint(log, "subscriber_refused", "subscriber refused", passes=True)
        self.latest = b""
        """The present state as a frame; empty: none yet."""
        self.sandbox = Sandbox()
        self.cost = Cost()
        """Goes with the next state."""
        self.sent_total = self.refused_total = self.errors_total = 0
        """Frames to all subscribers; connections not let in; subscribers that broke the protocol."""

    async def start(self) -> None:
        """Begin to serve."""
        self._acceptor.start()

    def sealed(self, sandbox: Sandbox) -> None:
        """What every state says of our sandbox from now on."""
        if sandbox != self.sandbox:
            self.sandbox = sandbox
            self._send()

    def publish(self, body: Body) -> None:
        """Make `body` the state; tell every subscriber at once if it is news (`ipc.messages.news`)."""
        is_news, self._body = news(self._body, body), body
        if is_news:
            self._send()

    def _send(self) -> None:
        if self._body is None:
            return
        if self._beat is not None:
            self._beat.cancel()
        self._beat = asyncio.get_running_loop().call_later(timing.HEARTBEAT / timing.SECOND, self._send)
        now = boottime_ns()
        self._sequence += 1
        state = State(
            worker=self._worker,
            instance=self._instance,
            pid=os.getpid(),
            sequence=self._sequence,
            started_at=self._started,
            sent_at=now,
            valid_until=now + timing.STATE_VALIDITY,
            body=self._body,
            sandbox=self.sandbox,
            cost=self.cost,
        )
        self.latest = frame(encode(state))
        for subscriber in tuple(self._subscribers):
            subscriber.send(self.latest)

    def admit(self, subscriber: _Subscriber, transport: asyncio.Transport) -> bool:
        """Whether this connection may stay; sends it the current state if so."""
        peer = peer_of(transport.get_extra_info("socket"))
        same = sum(other.pid == peer.pid for other in self._subscribers.values())
        crowded = same >= MAX_PER_PROCESS or len(self._subscribers) >= MAX_SUBSCRIBERS
        if crowded or peer.uid not in self._allowed:
            self.refused_total += 1
            self.complain("refused", "subscriber refused", uid=peer.uid, peer_pid=peer.pid, connections=same)
            return False
        self._subscribers[subscriber] = peer
        subscriber.send(self.latest)
        return True

    @property
    def body(self) -> Body | None:
        """What the state says now; None: none yet."""
        return self._body

    @property
    def subscribers(self) -> tuple[Peer, ...]:
        """Who follows this worker now."""
        return tuple(self._subscribers.values())

    def complain(self, kind: str, what: str, **facts: Any) -> None:
        """Log a subscriber's misbehaviour, but not each time: a flood of connections must not become one of lines."""
        self._complaint.again(kind, message=what, **facts)

    def forget(self, subscriber: _Subscriber) -> None:
        self._subscribers.pop(subscriber, None)

    def close(self) -> None:
        """Stop serving.  The socket file stays: a successor replaces it; unlinking might hit a newer one."""
        if self._beat is not None:
            self._beat.cancel()
        self._acceptor.close()
        for subscriber in tuple(self._subscribers):
            subscriber.close()


class Subscription:
    """Follows one worker's state.  `on_change` is called for each frame and when the connection ends.

    An `on_change` that raises ends the subscription through the loop's exception handler: nobody goes on unaware.
    """

    def __init__(
        self,
        worker: Worker,
        path: Path,
        on_change: Callable[[], None],
        *,
        allowed_uids: frozenset[int],
    ) -> None:
        self.worker = worker
        self.connected = False
        self.errors_total = 0
        facts = {"peer": str(worker)}
        self._broken = Complaint(log, "protocol_error", "peer broke the protocol", facts=facts)
        self._unheard = Complaint(
            log,
            "peer_unheard",
            f"the {worker} cannot be heard",
            end=("peer_heard", f"the {worker} is heard again"),
            facts=facts,
        )
        self._lost_at = boottime_ns()
        """When it was last connected, or began to be sought."""
        self._path = path
        self._on_change = on_change
        self._allowed = allowed_uids
        self._state: State | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow(), name=f"subscribe-{self.worker}")
        self._task.add_done_callback(_raise_fault)

    def last(self) -> State | None:
        """The last state received, valid or not: for those whose meaning has a deadline of its own."""
        return self._state

    def current(self, now: int) -> State | None:
        """The last state received if it is still valid at `now`."""
        return self._state if self._state is not None and now < self._state.valid_until else None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        pause = _RETRY_FIRST_S
        while True:
            try:
                if await self._connection():
                    pause = _RETRY_FIRST_S
            except OSError as error:
                if boottime_ns() - self._lost_at >= UNHEARD:
                    self._unheard.again(why=error.strerror or type(error).__name__)
            except ProtocolError as error:
                self.errors_total += 1
                self._broken.again(why=str(error))
                pause = _RETRY_MOST_S
            if self.connected:
                self.connected = False
                self._lost_at = boottime_ns()
                self._on_change()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST_S)

    async def _connection(self) -> bool:
        """One connection from its beginning to its end; whether anything was received."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with sock:
            await loop.sock_connect(sock, str(self._path))
            peer = peer_of(sock)
            if peer.uid < 0:  # the backlog was full: connect(2) said EAGAIN, which is not "in progress" here
                raise BlockingIOError(errno.EAGAIN, "the worker does not accept connections")
            if peer.uid not in self._allowed:
                raise ProtocolError("the socket is served by another user")
            reader = FrameReader()
            received = False
            while data := await loop.sock_recv(sock, AT_ONCE):
                for payload in reader.feed(data):
                    self._take(decode_state(payload, self.worker))
                    received = True
                await asyncio.sleep(0)  # sock_recv does not wait where there is more
            return received

    def _take(self, state: State) -> None:
        """Accept a state, unless it is older than what we have from the same process (the same again is fine)."""
        old = self._state
        if old is not None and old.instance == state.instance and old.sequence > state.sequence:
            raise ProtocolError("sequence went backwards")
        if state.valid_until > state.sent_at + timing.STATE_VALIDITY:
            raise ProtocolError("validity beyond the agreed time")
        if state.sent_at > boottime_ns():
            raise ProtocolError("sent in the future")
        self._state = state
        self.connected = True
        self._on_change()
        self._broken.over()
        self._unheard.over()


def _raise_fault(task: asyncio.Task[None]) -> None:
    """A subscription never ends but by `close`; anything else goes to the loop's exception handler."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
