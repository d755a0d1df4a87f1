"""The debug socket: one question in, one answer out, then the connection ends.

`DebugServer` promises: only our own user and root are heard, and no sibling worker (`ipc.peers.may_command`); what a
peer sends, fails to send, or does not read changes nothing but a counter and delays nobody; an answer that cannot be
made is a refusal and a line in the log, never the end of the worker; an answer always fits one frame and carries what
its typed message declares, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ipc.acceptor import Acceptor
from ipc.complaints import Complaint
from ipc.frames import FrameReader, frame
from ipc.messages import (
    MAX_FRAME,
    DebugRefusal,
    DebugReply,
    DebugRequest,
    DebugWhat,
    ProtocolError,
    decode,
    encode,
)
from ipc.peers import Peer, may_command, peer_of

log = logging.getLogger("ipc")

MAX_CONNECTIONS: Final = 8
MAX_PER_PROCESS: Final = 2
PATIENCE_S: Final = 5.0
"""For the question to arrive, and again for the answer to be taken."""
LONGEST_S: Final = 30.0
"""For an answer to be made."""
MAX_QUESTION: Final = 8 * 1024
"""Bytes of a question with its length: a text of at most 4 KiB and two short ones.  More is not even looked at."""

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
        self._complaint = Complaint(log, "debug_refused", "debug connection refused", passes=True)
        self._failing = Complaint(
            log, "debug_failed", "a debug question has no answer", level=logging.ERROR, passes=True
        )
        self.asking: Peer | None = None
        """Who asks what a handler is just being called for."""
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
        for conversation in tuple(self._conversations):
            conversation.end()

    # --- for conversations ---

    def admit(self, conversation: _Conversation, peer: Peer) -> bool:
        """Whether this connection may ask."""
        same = sum(other.pid == peer.pid for other in self._conversations.values())
        crowded = same >= MAX_PER_PROCESS or len(self._conversations) >= MAX_CONNECTIONS
        if crowded or not may_command(peer, os.getuid(), self._parent):
            self.refused_total += 1
            self._complaint.again("refused", uid=peer.uid, pid=peer.pid, connections=same)
            return False
        self._conversations[conversation] = peer
        return True

    def forget(self, conversation: _Conversation) -> None:
        self._conversations.pop(conversation, None)

    def broke_protocol(self, why: str) -> None:
        self.errors_total += 1
        self._complaint.again("bad", message="bad debug request", why=why)

    def asked(self, payload: bytes, peer: Peer | None = None) -> DebugReply | asyncio.Task[DebugReply]:
        """The answer, or who makes it.  Raises ProtocolError for what is no question."""
        request = decode(payload, DebugRequest)
        self.requests_total += 1
        handler = self._handlers.get(request.what)
        if handler is None:
            return DebugRefusal(f"this worker does not answer {request.what}")
        self.asking = peer
        try:
            reply = handler(request.argument)
        except CannotAnswer as why:
            return DebugRefusal(str(why))
        except Exception as error:  # noqa: BLE001  # a process boundary: who asks must not end who is asked
            return self._failed(request.what, error)
        finally:
            self.asking = None
        if not isinstance(reply, Awaitable):
            return reply
        return asyncio.get_running_loop().create_task(self._made(request.what, reply), name=f"debug-{request.what}")

    async def _made(self, what: DebugWhat, work: Awaitable[DebugReply]) -> DebugReply:
        try:
            return await work
        except CannotAnswer as why:
            return DebugRefusal(str(why))
        except Exception as error:  # noqa: BLE001  # the same boundary
            return self._failed(what, error)

    def framed(self, reply: DebugReply) -> bytes:
        """As it is sent; where it cannot be sent, a refusal that says so."""
        try:
            return frame(encode(reply))
        except ProtocolError as error:  # ours, not the peer's
            return frame(encode(self._failed(type(reply).__name__, error)))

    def _failed(self, what: str, error: Exception) -> DebugRefusal:
        self._failing.again(what, message=f"no answer to {what}", error=error)
        return DebugRefusal(f"a fault of this worker's ({type(error).__name__}); its log has more")


class _Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: DebugServer) -> None:
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[DebugReply] | None = None
        self._received = 0
        self._asked = False
        self._peer: Peer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = peer_of(transport.get_extra_info("socket"))
        if self._server.admit(self, self._peer):
            self._wait(PATIENCE_S)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            if self._asked or self._received > MAX_QUESTION:
                raise ProtocolError("one question a connection")  # noqa: TRY301
            payloads = self._reader.feed(data)
            if not payloads:
                return
            if len(frame(payloads[0])) != self._received:
                raise ProtocolError("one question a connection")  # noqa: TRY301
            self._asked = True
            reply = self._server.asked(payloads[0], self._peer)
        except ProtocolError as error:
            self._server.broke_protocol(str(error))
            self.end()
            return
        if isinstance(reply, asyncio.Task):
            self._wait(LONGEST_S)
            self._work = reply
            reply.add_done_callback(self._done)
        else:
            self._reply(reply)

    def eof_received(self) -> bool:
        """It will send no more, which is right once it has asked: the answer may still have to come."""
        if self._received and not self._asked:
            self._server.broke_protocol("the connection ended before a whole frame")
        return self._asked

    def _done(self, work: asyncio.Task[DebugReply]) -> None:
        self._work = None
        if not work.cancelled():
            self._reply(work.result())

    def _reply(self, message: DebugReply) -> None:
        """Send the answer and end."""
        if self._transport is None or self._transport.is_closing():
            return
        self._wait(PATIENCE_S)
        self._transport.write(self._server.framed(message))
        self._transport.close()

    def _wait(self, seconds: float) -> None:
        """Not longer for whatever comes next."""
        self._stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody listens any more: the work for an answer ends too, or it would pile up."""
        self._stop_waiting()
        if self._work is not None:
            self._work.cancel()
        self._server.forget(self)


def fitting(make: Callable[[tuple[Item, ...], int], DebugReply], items: tuple[Item, ...]) -> DebugReply:
    """The answer with as many of the last `items` as fit into a frame; `make` gets them and how many were cut.

    Its cost is bounded by the frame, not by the items: it is made in the loop of a worker that has other things to do.
    """
    room = MAX_FRAME - len(encode(make((), len(items))))
    kept = 0
    for item in reversed(items):
        try:
            room -= len(encode(item))  # with its own kind and protocol: more than it takes within the answer
        except ProtocolError:
            break
        if room < 0:
            break
        kept += 1
    return make(items[len(items) - kept :], len(items) - kept)
