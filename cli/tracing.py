"""`forgectl trace`: every state that the workers send each other, as it comes.

Shown is what changed since the same worker's last state: `field: old -> new`, instants as seconds from when that
state was sent.  A message that changes nothing (a heartbeat, sent so that the state stays valid) is left out unless
asked for.  A worker that goes away is sought until it is back, and both are said.  What crosses the other sockets is
not seen here: it is for the two ends only.  A stand-down shows in what the elector says next.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cli.asking import PATIENCE_S, Failed, believed, clock, need_sidecar, printable, timestamp
from config import Config
from ipc.frames import FrameReader
from ipc.messages import ProtocolError, State, Worker
from ipc.peers import peer_of
from ipc.shown import decode_shown_state
from kernel.clock import boottime_ns
from policy import timing

RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 0.5
INSTANTS: Final = frozenset(
    (
        *("since", "deadline", "renewed_at", "renew_after", "challenged_at", "void_before", "standing_down_until"),
        *("asked_at", "answered_at", "node_gone_at", "audited_at", "unsure_until", "checked_at", "quiet_at"),
        *("leads_at", "ours_until", "changed_at", "holder_until", "other_seen_at"),
    )
)
"""Fields in ns of CLOCK_BOOTTIME; 0: never."""
_FIRST: Final[dict[Worker, tuple[str, ...]]] = {
    Worker.PROBER: ("fit", "reasons", "tip_lag_s"),
    Worker.ELECTOR: ("role", "since", "reason", "holder", "grant"),
    Worker.ARBITER: ("grant", "willing", "reason"),
    Worker.ACTUATOR: ("fence", "since", "proof", "reason", "ready", "deadline"),
    Worker.GATEWAY: ("port",),
}
"""What is shown of the first state heard, which is no change."""


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Trace until interrupted, or as long as asked.  Raises Failed when no worker could be heard at all."""
    need_sidecar(config)
    workers = tuple(dict.fromkeys(map(Worker, arguments.worker or Worker)))
    trace = Trace(config, workers, as_json=arguments.json, heartbeats=arguments.heartbeats, most=arguments.count)
    asyncio.run(trace.run(arguments.seconds))


class Listener(Protocol):
    """Who wants to hear of workers."""

    @property
    def config(self) -> Config: ...

    def note(self, worker: Worker, event: str, text: str) -> None:
        """Something that no message says: gone, not there, restarted, back."""

    def state(self, last: State | None, state: State) -> None:
        """A message came; `last`: the one before it."""


class Trace:
    """Follows workers and prints."""

    def __init__(
        self, config: Config, workers: tuple[Worker, ...], *, as_json: bool, heartbeats: bool, most: int | None
    ) -> None:
        """most: messages to show; None: no limit."""
        self.config = config
        self._followed = [Followed(self, worker) for worker in workers]
        self._as_json, self._heartbeats = as_json, heartbeats
        self._left = most
        self._done = asyncio.Event()
        self._heard = asyncio.Event()

    async def run(self, seconds: float | None) -> None:
        """Raises Failed when no worker was heard in PATIENCE_S, or to the end."""
        working = [asyncio.create_task(each.follow()) for each in self._followed]
        working += [asyncio.create_task(self._finished()), asyncio.create_task(self._give_up())]
        try:
            ended, _ = await asyncio.wait(working, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        if not self._heard.is_set():
            raise self._nobody()

    async def _finished(self) -> None:
        await self._done.wait()

    async def _give_up(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._heard.wait()
        except TimeoutError:
            raise self._nobody() from None
        await asyncio.get_running_loop().create_future()  # somebody speaks: for ever

    def _nobody(self) -> Failed:
        reasons = [f"{each.worker}: {each.why or 'silent'}" for each in self._followed]
        return Failed("no worker can be heard: " + printable("; ".join(reasons)))

    # --- for those who are followed ---

    def note(self, worker: Worker, event: str, text: str) -> None:
        """Say something that no message says."""
        if self._as_json:
            self._print({"time": timestamp(boottime_ns()), "worker": worker, "event": event, "text": text})
        else:
            self._print(f"{clock(boottime_ns())} {worker:<8}    ({event}: {text})")

    def state(self, last: State | None, state: State) -> None:
        """Show a message unless it says nothing new."""
        self._heard.set()
        changed = tuple(changes(last, state)) if last is not None else ()
        if last is not None and not changed and not self._heartbeats:
            return
        if self._left == 0:
            return
        if self._as_json:
            self._print(_as_json(last, state, changed))
        else:
            self._print(line(last, state, changed))
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._done.set()

    def _print(self, what: str | dict[str, Any]) -> None:
        if self._left != 0:
            print(json.dumps(what) if isinstance(what, dict) else printable(what), flush=True)


class Followed:
    """One worker, as far as we heard of it."""

    def __init__(self, listener: Listener, worker: Worker) -> None:
        self.worker = worker
        self.connected = False
        self.why = ""
        """Why we do not hear it, or did not."""
        self._listener = listener
        self._last: State | None = None

    @property
    def tried(self) -> bool:
        """Whether it was heard, or is known not to be."""
        return self.connected or bool(self.why)

    async def follow(self) -> None:
        """For ever."""
        pause = RETRY_FIRST_S
        while True:
            heard = self._last
            try:
                await self._connection()
                why = "it ended the connection" if self.connected else "it does not let us listen"
            except ProtocolError as error:
                why = f"it speaks another language: {error}"
            except OSError as error:
                why = error.strerror or str(error)
            except Failed as error:
                why = str(error)
            if self.connected or not self.why:
                self._listener.note(self.worker, "gone" if self.connected else "not there", why)
            self.why, self.connected = why, False
            pause = RETRY_FIRST_S if self._last is not heard else min(pause * 2, RETRY_MOST_S)
            await asyncio.sleep(pause)

    async def _connection(self) -> None:
        loop = asyncio.get_running_loop()
        path = self._listener.config.state_socket(self.worker)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            await loop.sock_connect(sock, str(path))
            peer = peer_of(sock)
            if peer.uid < 0:  # its backlog is full: connect(2) said EAGAIN
                raise BlockingIOError(errno.EAGAIN, "it does not accept connections")
            believed(self._listener.config, self.worker, path, peer)
            reader = FrameReader()
            while data := await loop.sock_recv(sock, 65536):
                for payload in reader.feed(data):
                    self._take(decode_shown_state(payload, self.worker))

    def _take(self, state: State) -> None:
        last, self._last = self._last, state
        if not self.connected and last is not None:
            if last.instance != state.instance:
                self._listener.note(self.worker, "restarted", f"pid {last.pid} -> {state.pid}")
            else:
                self._listener.note(self.worker, "back", f"pid {state.pid}")
        self.connected = True
        self._listener.state(last, state)


# --- what changed ---


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs; `None` also stands for an entry of a map that is not there."""

    field: str
    old: Any
    new: Any


def changes(old: State, new: State) -> Iterator[Change]:
    """What the worker says now and did not say before: of its own state, and of its sandbox."""
    yield from _differences("", old.body, new.body)
    yield from _differences("sandbox", old.sandbox, new.sandbox)


def _differences(path: str, old: Any, new: Any) -> Iterator[Change]:
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        pairs = {f.name: (getattr(old, f.name), getattr(new, f.name)) for f in dataclasses.fields(old)}
    elif isinstance(old, dict) and isinstance(new, dict):
        pairs = {key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())}
    else:
        if old != new:
            yield Change(path, old, new)
        return
    for name, (before, after) in pairs.items():
        yield from _differences(f"{path}.{name}" if path else name, before, after)


# --- telling ---


def line(last: State | None, state: State, changed: tuple[Change, ...]) -> str:
    """The message for people.  Instants are seconds from when this state was sent."""
    if last is None:
        body = vars_of(state.body)
        told = ", ".join(f"{name} {text(name, body[name], state.sent_at)}" for name in _FIRST[state.worker])
        told = f"pid {state.pid}, up {(state.sent_at - state.started_at) / timing.SECOND:.0f} s: {told}"
    elif not changed:
        told = "still so"
    else:
        told = "; ".join(
            f"{each.field}: {text(each.field, each.old, state.sent_at)} -> {text(each.field, each.new, state.sent_at)}"
            for each in changed
        )
    return f"{clock(state.sent_at)} {state.worker:<8} #{state.sequence} {told}"


def vars_of(value: Any) -> dict[str, Any]:
    """The fields of a message."""
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def text(name: str, value: Any, now: int) -> str:
    """A value of the field `name` as people read it; `now`: when it was sent (ns)."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.rpartition(".")[2] in INSTANTS:
        return _instant(value, now)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        return "[" + ", ".join(text("", each, now) for each in value) + "]"
    if dataclasses.is_dataclass(value):
        value = vars_of(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {text(key, each, now)}" for key, each in value.items()) + "}"
    return str(value) or "nothing"


def _instant(value: int, now: int) -> str:
    if value == 0:
        return "never"
    seconds = (value - now) / timing.SECOND
    return f"in {seconds:.2f} s" if seconds >= 0 else f"{-seconds:.2f} s ago"


def _as_json(last: State | None, state: State, changed: tuple[Change, ...]) -> dict[str, Any]:
    return {
        "time": timestamp(state.sent_at),
        "worker": state.worker,
        "event": "first" if last is None else "changed" if changed else "heartbeat",
        "changes": [{"field": each.field, "old": _plain(each.old), "new": _plain(each.new)} for each in changed],
        "state": dataclasses.asdict(state),
    }


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
