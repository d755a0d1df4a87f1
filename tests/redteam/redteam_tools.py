"""What attempts have in common.  This text is sent into the worker before the attempts' own: standard library, and the
numbers of system calls, only.

An attempt takes what the test knows (`Given`) and either does what it should not be able to do, and says what it had
of it, or raises the OSError with which it was refused.  What it did it undoes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.syscalls import NUMBERS

WORKERS = ("actuator", "prober", "elector", "arbiter", "gateway")
Given = dict[str, Any]
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
MORE: dict[str, tuple[int | None, int | None]] = {
    "mq_notify": (244, 184),
    "mq_unlink": (241, 181),
    "umount2": (166, 39),
    "fallocate": (285, 47),
    "swapon": (167, 224),
    "process_vm_readv": (310, 270),
    "lookup_dcookie": (212, 18),
    "uselib": (134, None),
    "ustat": (136, None),
    "get_mempolicy": (236, 236),
    "ioprio_get": (252, 31),
    "fsetxattr": (190, 7),
    "semtimedop": (220, 192),
    "signalfd4": (289, 74),
    "epoll_ctl_old": (214, None),
    "rt_sigsuspend": (130, 133),
    "prctl": (157, 167),
}
REFUSALS = (errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EXDEV)
"""seccomp's, Landlock's, owners' and modes', and Landlock's for a link or a rename across folders (landlock(7))."""


class HungUpError(OSError):
    """The peer hung up on us."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One thing that arbitrary code in a worker would try."""

    name: str
    do: Callable[[Given], object]
    allowed: tuple[str, ...] = ()
    """Workers that declare it, there it must succeed; `actuator@single-uid`: in that separation only."""
    workers: tuple[str, ...] = WORKERS
    """Where it makes sense."""
    also: tuple[int, ...] = ()
    """More answers that mean "refused"."""
    closed_by: int = 0
    """Landlock's version that refuses it to everybody; 0: none, or all of them.  Below, `allowed` says who must."""
    control: str = "uid"
    """Who can do it outside of a sandbox: `uid` (the pod's own), `root`, or why nobody can."""


ATTEMPTS: dict[str, Attempt] = {}


def attempt(name: str, **more: Any) -> Callable[[Callable[[Given], object]], Callable[[Given], object]]:
    """Adds a function to the list."""

    def add(do: Callable[[Given], object]) -> Callable[[Given], object]:
        assert name not in ATTEMPTS, name
        ATTEMPTS[name] = Attempt(name, do, **more)
        return do

    return add


def call(name: str, *arguments: Any) -> int:
    """A system call by name.  Raises OSError."""
    number = NUMBERS.get(name, MORE.get(name, (None, None)))[COLUMN]
    if number is None:
        raise OSError(errno.ENOSYS, f"this architecture has no {name}")
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result = int(LIBC.syscall(ctypes.c_long(number), *words))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def reaches_the_kernel(name: str, *arguments: Any) -> str:
    """A call with nothing to do: whatever the kernel itself answers, it was reached.  Raises OSError(ENOSYS)."""
    try:
        return f"answered {call(name, *arguments)}"
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise
        return f"the kernel answered {errno.errorcode.get(error.errno or 0)}"


def first(things: Iterable[Any], do: Callable[[Any], object]) -> object:
    """The first that succeeds; else the refusal, an unusual one before the others."""
    worst: OSError | None = None
    for thing in things:
        try:
            return f"{thing}: {do(thing)!r}"
        except OSError as error:
            if worst is None or (worst.errno in REFUSALS and error.errno not in REFUSALS):
                worst = error
    if worst is None:
        raise OSError(errno.EPERM, "there is nothing to try it on")
    raise worst


def siblings(given: Given) -> dict[str, int]:
    """The other workers and their pids."""
    return {name: pid for name, pid in given["pids"].items() if name != given["me"]}


def others(given: Given) -> list[int]:
    """Every process of the pod but us: siblings, supervisord, the node."""
    return [*siblings(given).values(), *given["supervisors"], given["node"]]


def read(path: str) -> str:
    """Some of a file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return f"{len(os.read(fd, 4096))} bytes"
    finally:
        os.close(fd)


def make(path: str, flags: int = 0) -> str:
    """Write a new file, and remove it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, 0o600))
    os.unlink(path)
    return f"wrote {path}"


def unix(path: str, said: bytes = b"") -> bytes:
    """Connect, say something, and take the answer.  Raises HungUpError when the peer hangs up instead."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(path)
        try:
            if said:
                sock.sendall(len(said).to_bytes(4, "big") + said)
            answer = sock.recv(1 << 16)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise HungUpError(errno.ECONNRESET, "hung up") from error
    if not answer:
        raise HungUpError(errno.ECONNRESET, "hung up")
    return answer


def connect(port: int, *, family: int = socket.AF_INET, protocol: int = 0, host: str = "127.0.0.1") -> str:
    """A TCP connection, of whatever protocol."""
    with socket.socket(family, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(1)
        sock.connect((host, port))
        return f"connected to {sock.getpeername()}"


def run(argument: dict[str, Any]) -> object:
    """One attempt by its name."""
    return ATTEMPTS[argument["name"]].do(argument["given"])


def declares_api(argument: object) -> bool:
    """Whether the worker that this runs in says that it needs the API's credentials."""
    return bool(sys.modules["__main__"].PRIVILEGES.api_token)
