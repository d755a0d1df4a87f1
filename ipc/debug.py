"""The debug socket: one question in, one answer out, then the connection ends.

`DebugServer` promises: only our own user and root are heard, and no sibling worker (`ipc.peers.may_command`); what a
peer sends, fails to send, or does not read changes nothing but a counter and delays nobody; an answer always fits one
frame and carries what its typed message declares, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ipc.acceptor import Acceptor
from ipc.frames import FrameReader, frame
from ipc.messages import (
    DebugRefusal,
    DebugReply,
    DebugRequest,
    DebugWhat,
    ProtocolError,
    decode,
    encode,
)
from ipc.peers import Peer, may_command, peer_of
from kernel.clock import boottime_ns
from policy import timing

log = logging.getLogger("ipc")

MAX_CONNECTIONS: Final = 8
MAX_PER_PROCESS: Final = 2
PATIENCE_S: Final = 5.0
"""For the question to arrive, and again for the answer to be taken."""
_COMPLAIN_EVERY: Final = 10 * timing.SECOND

Handler = Callable[[str], DebugReply | Awaitable[DebugReply]]
"""From a question's argument to its answer; raises CannotAnswer."""
Item = TypeVar("Item")


class CannotAnswer(Exception):  # noqa: N818  # said to whoever asked
    """Why there is no answer, in one line with the remedy."""


class DebugServer:
    """Serves one worker's debug socket."""

    def __init__(self, sock: socket.socket, *, parent: int | None) -> None:
        """sock: listening already.  parent: pid of the supervisor whose children are our siblings; None: none."""
        self._acceptor = Acceptor(sock, lambda: _Conversation(self))
        self._parent = parent
        self._handlers: dict[DebugWhat, Handler] = {}
        self._conversations: dict[_Conversation, Peer] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._complain_at = 0
        self.requests_total = self.refused_total = self.errors_total = 0

    def answer(self, what: DebugWhat, handler: Handler) -> None:
        """From now on `handler` answers `what`."""
        assert what not in self._handlers, f"{what} has an answer"
        self._handlers[what] = handler

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def close(self) -> None:
        """Stop serving.  The socket file stays, a successor replaces it."""
        self._acceptor.close()
        for task in tuple(self._working):
            task.cancel()
        for conversation in tuple(self._conversations):
            conversation.end()

    # --- for conversations ---

    def admit(self, conversation: _Conversation, peer: Peer) -> bool:
        """Whether this connection may ask."""
        same = sum(other.pid == peer.pid for other in self._conversations.values())
        crowded = same >= MAX_PER_PROCESS or len(self._conversations) >= MAX_CONNECTIONS
        if crowded or not may_command(peer, os.getuid(), self._parent):
            self.refused_total += 1
            self._complain("debug connection refused", uid=peer.uid, peer_pid=peer.pid, connections=same)
            return False
        self._conversations[conversation] = peer
        return True

    def forget(self, conversation: _Conversation) -> None:
        self._conversations.pop(conversation, None)

    def broke_protocol(self, why: str) -> None:
        self.errors_total += 1
        self._complain("bad debug request", why=why)

    def asked(self, conversation: _Conversation, payload: bytes) -> None:
        """Answer, now or when the handler is done.  Raises ProtocolError."""
        request = decode(payload, DebugRequest)
        self.requests_total += 1
        handler = self._handlers.get(request.what)
        if handler is None:
            conversation.reply(DebugRefusal(f"this worker does not answer {request.what}"))
            return
        try:
            reply = handler(request.argument)
        except CannotAnswer as why:
            reply = DebugRefusal(str(why))
        if not isinstance(reply, Awaitable):
            conversation.reply(reply)
            return
        task = asyncio.get_running_loop().create_task(_finish(conversation, reply), name=f"debug-{request.what}")
        self._working.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # to the loop's exception handler: a handler that fails is a fault of ours

    def _complain(self, what: str, **facts: object) -> None:
        """Say it, but not each time: a flood must not become one of lines."""
        now = boottime_ns()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAIN_EVERY
            log.warning(what, extra={"event": "debug_refused", **facts})


async def _finish(conversation: _Conversation, work: Awaitable[DebugReply]) -> None:
    try:
        conversation.reply(await work)
    except CannotAnswer as why:
        conversation.reply(DebugRefusal(str(why)))


class _Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: DebugServer) -> None:
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = self._partial = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._server.admit(self, peer_of(transport.get_extra_info("socket"))):
            self._wait()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            if self._asked:
                raise ProtocolError("one question a connection")  # noqa: TRY301
            payloads = self._reader.feed(data)
            self._partial = not payloads
            if len(payloads) > 1:
                raise ProtocolError("one question a connection")  # noqa: TRY301
            if payloads:
                self._asked = True
                self._stop_waiting()
                self._server.asked(self, payloads[0])
        except ProtocolError as error:
            self._server.broke_protocol(str(error))
            self.end()

    def eof_received(self) -> bool:
        """It will send no more, which is right once it has asked: the answer may still have to come."""
        if self._partial:
            self._server.broke_protocol("the connection ended before a whole frame")
        return self._asked

    def reply(self, message: DebugReply) -> None:
        """Send the answer and end."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(frame(encode(message)))
        self._transport.close()
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self.end)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._server.forget(self)


def fitting(make: Callable[[tuple[Item, ...], int], DebugReply], items: tuple[Item, ...]) -> DebugReply:
    """The answer with as many of the last `items` as fit into a frame; `make` gets them and how many were cut."""
    kept = items
    while True:
        reply = make(kept, len(items) - len(kept))
        try:
            encode(reply)
        except ProtocolError:
            if not kept:
                raise
            kept = kept[len(kept) // 8 + 1 :]
        else:
            return reply
