"""What every command of forgectl needs to ask a worker: a connection to the right server, frames, an answer in time.

Everything that can go wrong is a `Failed`: one line for the operator that names the socket or the worker and, where
there is one, the remedy.  A server is believed only when the kernel says that it is the user that runs this worker.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from config import Config
from ipc.frames import FrameReader, frame
from ipc.messages import (
    DebugRefusal,
    DebugRequest,
    DebugWhat,
    ProtocolError,
    State,
    Worker,
    decode_debug_reply,
    encode,
)
from ipc.peers import Peer, peer_of
from ipc.shown import decode_shown_state
from kernel import identity
from kernel.clock import boottime_ns
from policy import timing

PATIENCE_S: Final = 3.0
"""For all answers together: a hung worker is named, not waited for."""

T = TypeVar("T")


class Failed(Exception):  # noqa: N818  # said to the operator, then the end
    """What could not be done, in one line."""

    code = 1
    """To exit with."""

    def __init__(self, why: str, *, told: bool = False) -> None:
        """told: what there is to say as JSON was printed."""
        super().__init__(why)
        self.told = told


class NotThere(Failed):
    """Nobody serves this socket."""


class NotAllowed(Failed):
    """The kernel keeps us from asking, or somebody else answers than we may believe."""


class Misused(Failed):
    """What was asked for makes no sense, or a setting is wrong."""

    code = 2


class NobodyAnswers(Failed):
    """No coordination API could be asked."""

    code = 3


def left(until: float) -> float:
    """Seconds until `until` (monotonic s), never 0: that would mean not to wait for anything at all."""
    return max(until - time.monotonic(), 0.001)


def elsewhere(config: Config) -> bool:
    """Whether this is no sidecar's container: nobody named RUN_DIR, and the usual one is not there."""
    return "RUN_DIR" not in config.explicit and not config.run_dir.exists()


def need_sidecar(config: Config) -> None:
    """Raises Failed, in one line for all workers, where none can be."""
    if elsewhere(config):
        raise Failed(is_it_here(config))


def is_it_here(config: Config) -> str:
    """What to do where no worker is: the end of a sentence."""
    if elsewhere(config):
        return "there is no sidecar here: run it in its container (kubectl exec POD -c forge-manager -- forgectl ...)"
    return "is the sidecar running here?"


def owner(config: Config, worker: Worker) -> int:
    """Who serves this worker's sockets: its uid of WORKER_UIDS, else ours; for root, who owns its folder.

    Raises Failed where there is no such folder.
    """
    if worker in config.worker_uids:
        return config.worker_uids[worker]
    if os.getuid() != 0:
        return os.getuid()
    folder = config.worker_dir(worker)
    try:
        return folder.stat().st_uid
    except OSError as error:
        raise NotThere(f"{folder}: {error.strerror or error}; {is_it_here(config)}") from None


def believed(config: Config, worker: Worker, path: Path, peer: Peer) -> None:
    """Raises Failed unless `peer`, which serves `path`, is whom we expect there."""
    expected = owner(config, worker)
    if peer.uid == expected:
        return
    remedy = "does WORKER_UIDS say here what it says to the sidecar?" if config.worker_uids else "run forgectl as it"
    raise NotAllowed(f"{path} is served by uid {peer.uid}, not {expected}; {remedy}")


def connect(config: Config, worker: Worker, path: Path, until: float) -> socket.socket:
    """A connection to a socket of this worker's, to be used until `until` (monotonic s).  Raises Failed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(left(until))
        sock.connect(str(path))
        believed(config, worker, path, peer_of(sock))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise NotThere(f"{path}: {error.strerror}; {is_it_here(config)}") from None
    except OSError as error:
        sock.close()
        if isinstance(error, PermissionError):
            weak = os.getuid() == 0 and not identity.has(identity.CAP_DAC_OVERRIDE)
            remedy = "root without CAP_DAC_OVERRIDE may not: ask as its user" if weak else who_may(config, worker)
            raise NotAllowed(f"{path}: {error.strerror or error}; {remedy}") from None
        raise Failed(f"{path}: {error.strerror or error}") from None
    except Failed:
        sock.close()
        raise
    return sock


def frames(sock: socket.socket, until: float | None) -> Iterator[bytes]:
    """Payloads as they come, until the peer closes.  Raises Failed when nothing comes until `until` (None: ever).

    Raises ConnectionError when the peer threw us out.
    """
    reader = FrameReader()
    try:
        while True:
            sock.settimeout(None if until is None else left(until))
            data = sock.recv(65536)
            if not data:
                return
            yield from reader.feed(data)
    except TimeoutError:
        raise Failed("no answer in time: the worker hangs") from None
    except ConnectionError:
        raise
    except (ProtocolError, OSError) as error:
        raise Failed(f"no answer: {error}") from None


def first(sock: socket.socket, until: float) -> bytes:
    """The first payload.  Raises Failed."""
    try:
        for payload in frames(sock, until):
            return payload
    except ConnectionError as error:
        raise Failed(f"no answer: {error}") from None
    raise Failed("the connection was closed without an answer")


def state_of(payload: bytes, worker: Worker) -> State:
    """The state in a payload, as it may be shown.  Raises Failed."""
    try:
        return decode_shown_state(payload, worker)
    except ProtocolError as error:
        raise Failed(f"the {worker} speaks another language: {error}") from None


# --- the debug socket ---


def ask(config: Config, worker: Worker, what: DebugWhat, until: float, argument: str = "") -> socket.socket:
    """A connection on which the question was sent.  Raises Failed."""
    path = config.debug_socket(worker)
    try:
        question = frame(encode(DebugRequest(what, argument)))
    except ProtocolError as error:
        raise Failed(f"not asked: {error}") from None
    sock = connect(config, worker, path, until)
    try:
        sock.sendall(question)
    except ConnectionError:
        sock.close()
        raise Failed(refused(config, worker)) from None
    except OSError as error:
        sock.close()
        raise Failed(f"{path}: {error.strerror or error}") from None
    return sock


def answer(config: Config, worker: Worker, what: DebugWhat, sock: socket.socket, until: float, kind: type[T]) -> T:
    """The answer to the question that was sent, which is a `kind`.  Raises Failed, also for a refusal."""
    try:
        for payload in frames(sock, until):
            reply = decode_debug_reply(payload, what)
            if isinstance(reply, kind):
                return reply
            raise Failed(reply.why if isinstance(reply, DebugRefusal) else f"the {worker} answered something else")
    except ConnectionError:
        raise Failed(refused(config, worker)) from None
    except ProtocolError as error:
        raise Failed(f"the {worker} speaks another language: {error}") from None
    raise Failed(refused(config, worker))


def told(config: Config, worker: Worker, what: DebugWhat, kind: type[T], argument: str = "") -> T:
    """Ask one worker one thing; in at most PATIENCE_S.  Raises Failed."""
    until = time.monotonic() + PATIENCE_S
    with ask(config, worker, what, until, argument) as sock:
        return answer(config, worker, what, sock, until, kind)


def refused(config: Config, worker: Worker) -> str:
    """Why a debug socket that is there ends the connection unasked."""
    return f"the {worker} does not let us ask: {who_may(config, worker)}"


def who_may(config: Config, worker: Worker) -> str:
    """Who may use its debug and command sockets, as the remedy."""
    if config.worker_uids:
        return (
            f"only root and uid {config.worker_uids[worker]} may ask; where each worker has a container, run forgectl "
            f"in the {worker}'s"
        )
    return "only the workers' own user and root may ask, and no sibling worker"


# --- telling ---


def printable(text: str) -> str:
    """What strangers wrote (a Lease's holder, a file's name) without what would speak to a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines in which the columns stand one below the other."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    return ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def timestamp(instant: int) -> str:
    """An instant of CLOCK_BOOTTIME (ns) as the wall clock (UTC) of now sees it, in the form of the logs."""
    wall = time.time() - (boottime_ns() - instant) / timing.SECOND
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall)) + f".{int(wall * 1000) % 1000:03d}Z"


def clock(instant: int) -> str:
    """Its time of day."""
    return timestamp(instant)[11:-1]
