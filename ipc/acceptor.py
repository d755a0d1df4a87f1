"""Accepts connections on a socket that listens already.

asyncio's own servers call listen(2) once more, which a closed sandbox refuses to everybody (`sandbox.seccomp`).
`Acceptor` promises: each connection gets a protocol of its own; what a peer or the kernel does wrong with one
connection never ends the accepting of others.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from ipc.complaints import Complaint

log = logging.getLogger("ipc")

_PEERS_FAULT: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH})
"""accept(2): the connection ended before we took it, or a firewall refused it; the next one is waiting."""
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S: Final = 0.2
"""Where descriptors or memory have run out, asking again at once would spin."""
AT_ONCE: Final = 16
"""Connections taken in one turn of the loop, so that a flood of them delays nobody else's turn for long."""


class Acceptor:
    """Serves one listening socket; owns it."""

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._factory = factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = Complaint(log, "cannot_accept", "connections wait", level=logging.ERROR)
        self._pause: asyncio.TimerHandle | None = None
        self._making: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Accept from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._loop is not None
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _PEERS_FAULT:
                    continue
                if error.errno not in _FULL:
                    raise  # to the loop's exception handler: a socket that cannot accept is a fault of ours
                self._waiting.again(why=error.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(PAUSE_S, self.start)
                return
            self._waiting.over()
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection), name="accepted")
            self._making.add(task)
            task.add_done_callback(partial(self._made, connection))

    async def _serve(self, connection: socket.socket) -> None:
        assert self._loop is not None
        await self._loop.connect_accepted_socket(self._factory, connection)

    def _made(self, connection: socket.socket, task: asyncio.Task[object]) -> None:
        self._making.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None or task.cancelled():  # also before its first step, when nothing of it has run
            connection.close()
        if error is not None and not isinstance(error, ConnectionError):  # that: it has gone already
            raise error  # a protocol that cannot begin is a fault of ours

    def close(self) -> None:
        """Accept no more; connections that stand are their protocols' matter.  Harmless when done twice."""
        if self._pause is not None:
            self._pause.cancel()
        if self._loop is not None and self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        for task in tuple(self._making):
            task.cancel()
        self._sock.close()
