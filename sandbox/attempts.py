"""What a worker tries from inside itself, to see whether it gets what it must not have.

Each attempt promises to change nothing, even where it succeeds: files are opened and closed without a byte read or
written, new ones have no name and end with their descriptor (O_TMPFILE), renaming goes from a name to itself, signals
are number 0, connections go where no packet can (the broadcast address), system calls get arguments with which they
cannot do anything (`sandbox.harmless`).  Files at the target paths are never opened: a look at them counts as the
node's (`workers.credentials`).

What is expected follows from the declaration and the configuration alone, never from what was closed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from config import Config
from ipc.messages import Worker
from kernel.libc import LIBC
from sandbox import landlock, places
from sandbox.audit import Expect, Way
from sandbox.close import UNUSED_PORT, addresses, call_errno, errno_of, reachable, reaches, sends_to
from sandbox.harmless import ALL, ARGUMENTS, VARIANTS, YOUNG, permitted
from sandbox.places import Endpoint
from sandbox.plan import Plan, declared
from sandbox.privileges import Place, Privileges
from sandbox.syscalls import Architecture, number

NODE: Final = "the node"
_LOOK: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LIST: Final = _LOOK | os.O_DIRECTORY
_ABROAD: Final = "255.255.255.255"
"""No TCP connection can be made to it (ENETUNREACH), but Landlock judges the port before that."""
_SHARED: Final = ("/", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # where others might leave or find something
_KERNEL: Final = ("/proc/self/mem", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern")
_MEMORY: Final = ("/proc/kcore", "/proc/kmsg", "/dev/mem")
_HTTPS, _API, _SSH, _DNS = 443, 6443, 22, 53


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing to try; `make` answers the errno, 0 if it could be done."""

    check: str
    way: Way
    expect: Expect
    make: Callable[[], int]
    abi: int = 0
    """Landlock's, from which on a kernel can refuse it; 0: each can."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the attempts of one worker follow from."""

    privileges: Privileges
    config: Config
    endpoint: Endpoint | None
    plan: Plan
    """As its declaration gives it."""
    separation: str
    stranger: socket.socket | None
    """An abstract socket outside the sandbox."""
    processes: Mapping[str, int]
    """Who else there is: name -> pid.  `NODE` is the node."""
    opened: frozenset[Path]
    """What the plan leaves open, links followed (`opened`)."""


def opened(plan: Plan) -> frozenset[Path]:
    """The files and folders of a plan's rules."""
    return frozenset(Path(os.path.realpath(rule.path)) for rule in plan.rules if rule.opens)


# --- files ---


def files(scene: Scene) -> Iterator[Attempt]:
    """Reading and writing where it must not, and where it must be able to."""
    yield from _secrets(scene)
    yield from _declared(scene)
    yield from _targets(scene)
    own = scene.privileges.worker
    for worker in Worker:
        if worker is not own:
            folder = scene.config.worker_dir(worker)
            yield _temporary(f"write the {worker}'s folder", folder, Expect.REFUSED)
    yield Attempt("list RUN_DIR", Way.FILE, Expect.REFUSED, _opening(scene.config.run_dir, _LIST), abi=1)
    yield Attempt("list /", Way.FILE, Expect.REFUSED, _opening("/", _LIST), abi=1)
    for name in (*_SHARED, str(scene.config.run_dir)):
        if not _left_open(scene, Path(name)):
            yield _temporary(f"write {name}", Path(name), Expect.REFUSED, abi=1)
    for name in _KERNEL:
        yield Attempt(f"open {name} for writing", Way.FILE, Expect.REFUSED, _opening(name, _WRITE), abi=1)
    for name in _MEMORY:
        yield Attempt(f"read {name}", Way.FILE, Expect.REFUSED, _opening(name, _LOOK))


def _secrets(scene: Scene) -> Iterator[Attempt]:
    privileges, config = scene.privileges, scene.config
    for secret in places.secrets(config):
        if secret.owner is privileges.worker:
            continue
        mine = declared(privileges, secret)
        expect = Expect.REFUSED if not mine else Expect.DONE if _left_open(scene, secret.path) else Expect.EITHER
        flags = _LIST if secret.owner is not None else _LOOK
        yield Attempt(f"read {secret.name}", Way.FILE, expect, _opening(secret.path, flags))
        if secret.owner is None:
            yield Attempt(f"write {secret.name}", Way.FILE, Expect.REFUSED, _opening(secret.path, _WRITE))
        if scene.separation == "containers" and secret.place is Place.SOURCES and not mine:
            yield Attempt(f"see {secret.name}", Way.FILE, Expect.REFUSED, _seeing(secret.path))


def _declared(scene: Scene) -> Iterator[Attempt]:
    """Its own folder; the files of its endpoint."""
    privileges, config = scene.privileges, scene.config
    folder = config.worker_dir(privileges.worker)
    may = Place.OWN in privileges.writes
    expect = Expect.DONE if may else Expect.REFUSED
    yield Attempt("list its own folder", Way.FILE, expect, _opening(folder, _LIST), abi=1)
    yield _temporary("write its own folder", folder, expect, abi=1)
    mine: list[Path] = []
    if scene.endpoint is not None:
        mine += scene.endpoint.files if Place.API_CREDENTIALS in privileges.reads else ()
        mine += scene.endpoint.coordination if Place.COORDINATION in privileges.reads else ()
    for path in mine:
        yield Attempt(f"read {path}", Way.FILE, Expect.DONE, _opening(path, _LOOK))


def _targets(scene: Scene) -> Iterator[Attempt]:
    privileges, config = scene.privileges, scene.config
    may = Place.TARGETS in privileges.writes
    plain = config.credential_mode == "file"
    for folder in places.targets(config):
        if not (may or plain) and _left_open(scene, folder):
            continue  # links are all that there is
        expect = Expect.DONE if may else Expect.REFUSED
        yield Attempt(f"list the target folder {folder}", Way.FILE, expect, _opening(folder, _LIST), abi=1)
        make = Expect.DONE if may and plain else Expect.REFUSED
        yield _temporary(f"make a file in {folder}", folder, make, abi=1)
    for variable, path in config.targets.values():
        expect = Expect.DONE if may else Expect.REFUSED
        yield Attempt(f"replace {variable}", Way.FILE, expect, _renaming(path), abi=1)


def _left_open(scene: Scene, path: Path) -> bool:
    """Whether the declaration leaves it open, as what it is or below another folder."""
    real = Path(os.path.realpath(path))
    return not scene.opened.isdisjoint((real, *real.parents))


def _opening(path: Path | str, flags: int) -> Callable[[], int]:
    return lambda: errno_of(lambda: os.close(os.open(path, flags)))


def _temporary(check: str, folder: Path, expect: Expect, *, abi: int = 0) -> Attempt:
    """A file without a name in `folder`, which ends with its descriptor."""
    flags = os.O_TMPFILE | _WRITE
    return Attempt(check, Way.FILE, expect, lambda: errno_of(lambda: os.close(os.open(folder, flags, 0o600))), abi=abi)


def _seeing(path: Path) -> Callable[[], int]:
    return lambda: errno_of(lambda: os.stat(path))  # noqa: PTH116


def _renaming(path: Path) -> Callable[[], int]:
    """To itself: Landlock is asked, then nothing is done, not even modes are looked at (vfs_rename, fs/namei.c)."""
    return lambda: errno_of(lambda: os.rename(path, path))  # noqa: PTH104


# --- other processes ---


def processes(scene: Scene) -> Iterator[Attempt]:
    """Signalling, tracing and looking into the node, siblings and the supervisor."""
    architecture = Architecture.of(platform.machine())
    for name, pid in scene.processes.items():
        if pid <= 0 or pid == os.getpid():
            continue
        if architecture is not None:
            yield from _reaching(scene, name, pid, architecture)
        abi = 1 if name == NODE else 0  # it has the actuator's user
        for what in ("environ", "mem"):
            opening = _opening(f"/proc/{pid}/{what}", _LOOK)
            yield Attempt(f"read {what} of {name}", Way.FILE, Expect.REFUSED, opening, abi=abi)
        for what in ("root", "cwd"):
            opening = _opening(f"/proc/{pid}/{what}/", _LIST)
            yield Attempt(f"enter {what} of {name}", Way.FILE, Expect.REFUSED, opening, abi=abi)


def _reaching(scene: Scene, name: str, pid: int, architecture: Architecture) -> Iterator[Attempt]:
    kill = number("kill", architecture) or 0
    ptrace = number("ptrace", architecture) or 0
    read = number("process_vm_readv", architecture) or 0
    yield Attempt(f"kill {name}", Way.CALL, Expect.REFUSED, partial(_call, kill, (pid, 0)))
    yield Attempt(f"trace {name}", Way.CALL, Expect.REFUSED, partial(_call, ptrace, (ALL, pid, 0, 0)))
    yield Attempt(f"read memory of {name}", Way.CALL, Expect.REFUSED, partial(_call, read, (pid, 0, 0, 0, 0, 0)))
    expect = Expect.REFUSED
    if scene.privileges.signals:
        expect = Expect.DONE if name == NODE else Expect.EITHER
    yield Attempt(f"signal {name}", Way.FILE, expect, partial(_signalling, pid))


def _signalling(pid: int) -> int:
    """Signal 0 by pidfd: permission is asked for, nothing is sent (pidfd_send_signal(2))."""

    def send() -> None:
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, 0)
        finally:
            os.close(fd)

    return errno_of(send)


# --- system calls ---


def calls(scene: Scene) -> Iterator[Attempt]:
    """Every call that is known by number, with arguments that do nothing."""
    architecture = Architecture.of(platform.machine())
    if architecture is None:
        return
    permits = {permit.call: permit for permit in scene.plan.permits}
    for name, arguments in ARGUMENTS.items():
        nr = number(name, architecture)
        if nr is not None:
            expect = _expected(permitted(permits, name, arguments), name)
            yield Attempt(name, Way.CALL, expect, partial(_call, nr, arguments))
    for variant in VARIANTS:
        nr = number(variant.call, architecture)
        if nr is not None:
            expect = _expected(permitted(permits, variant.call, variant.arguments), variant.call)
            run = _call_and_close if variant.gives_descriptor else _call
            yield Attempt(variant.name, Way.CALL, expect, partial(run, nr, variant.arguments))


def _expected(may: bool, name: str) -> Expect:
    if not may:
        return Expect.REFUSED
    return Expect.EITHER if name in YOUNG else Expect.DONE


def _call(nr: int, arguments: tuple[int, ...]) -> int:
    return call_errno(nr, *map(ctypes.c_long, arguments))


def _call_and_close(nr: int, arguments: tuple[int, ...]) -> int:
    result = int(LIBC.syscall(ctypes.c_long(nr), *map(ctypes.c_long, arguments)))
    if result == -1:
        return ctypes.get_errno()
    os.close(result)
    return 0


# --- the network ---


def network(scene: Scene) -> Iterator[Attempt]:
    """Ports, and Unix sockets."""
    allowed = set(scene.plan.ports)
    config = scene.config
    ports = {UNUSED_PORT, _SSH, _DNS, _HTTPS, _API, config.metrics_port, *allowed}
    ports |= {port for _, numbers in addresses(config, scene.endpoint).values() for port in numbers}
    for port in sorted(ports - {0}):
        expect = Expect.DONE if port in allowed else Expect.REFUSED
        abi = landlock.NET_ABI if scene.privileges.internet else 0
        yield Attempt(f"connect to TCP port {port}", Way.CONNECT, expect, _connecting(port), abi=abi)
    for port in sorted({UNUSED_PORT, _DNS, _HTTPS}):
        may = port in scene.plan.datagrams
        abi = landlock.DATAGRAM_ABI if scene.plan.datagrams and not may else 0
        expect = Expect.DONE if may else Expect.REFUSED
        yield Attempt(f"send to UDP port {port}", Way.CONNECT, expect, partial(sends_to, port), abi=abi)
    if scene.stranger is not None:
        outside = partial(reaches, scene.stranger.getsockname())
        check = "connect to an abstract socket outside"
        yield Attempt(check, Way.CONNECT, Expect.REFUSED, outside, abi=landlock.SCOPE_ABI)
    own = config.state_socket(scene.privileges.worker)  # made before the sandbox, so outside of it
    if not reachable(scene.plan, own):
        outside = partial(reaches, str(own))
        check = "connect to a Unix socket outside by its path"
        yield Attempt(check, Way.CONNECT, Expect.REFUSED, outside, abi=landlock.UNIX_ABI)


def _connecting(port: int) -> Callable[[], int]:
    def connect() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.connect((_ABROAD, port))

    return lambda: errno_of(connect)


# --- what it may hold open ---


def reach(privileges: Privileges, config: Config) -> tuple[Path, ...]:
    """Files and folders of which the worker may hold some open."""
    found = [*places.installation(), config.worker_dir(privileges.worker)]
    if Place.SOURCES in privileges.reads:
        found += [path.parent for _, path in config.sources.values()]
    if Place.TARGETS in privileges.writes:
        found += places.targets(config)
    return tuple(found)
