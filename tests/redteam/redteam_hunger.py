"""Takes of everything that the kernel counts per user as much as it gets."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable

from redteam_tools import call

MOST = 200_000
HELD: list[object] = []


def use_up(argument: object) -> str:
    """What ended each of them."""
    return ", ".join(f"{do.__name__}: {_until_refused(do)}" for do in (_timer, _epoll_watch, _pipe_memory, _descriptor))


def _until_refused(do: Callable[[], None]) -> str:
    for had in range(MOST):
        try:
            do()
        except OSError as error:
            return f"{errno.errorcode[error.errno or 0]} after {had}"
    return f"{MOST} and more"


def _timer() -> None:
    """Each has a signal queued in advance (RLIMIT_SIGPENDING, getrlimit(2))."""
    timer = ctypes.c_int()
    call("timer_create", 1, None, ctypes.byref(timer))


_epoll = select.epoll()
_sockets: list[int] = []


def _epoll_watch() -> None:
    if len(_sockets) >= 500:
        raise OSError(errno.ENOSPC, "enough")
    fd = os.dup(0)
    _sockets.append(fd)
    _epoll.register(socket.socketpair()[0].detach(), select.EPOLLIN)


def _pipe_memory() -> None:
    reader, writer = os.pipe()
    HELD.append((reader, writer))
    fcntl.fcntl(writer, 1031, 1 << 20)  # F_SETPIPE_SZ


def _descriptor() -> None:
    HELD.append(os.dup(0))
