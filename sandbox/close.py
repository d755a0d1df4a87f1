"""Closes the sandbox of this process: after that, nothing that was not declared.

The order matters.  no_new_privs first (Landlock and seccomp need it), then capabilities, then Landlock, then a look
whether it holds, and seccomp last, since it refuses the calls that the earlier steps are made of.  Everything happens
while there is one thread and before the first byte from outside has been read.

`close` promises: either the process is locked up as declared, as far as this kernel can, or `CannotClose`.  With
SANDBOX=permissive it closes what can be closed and says what could not.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import secrets as random_names
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from config import Config
from health import reach as health_reach
from kernel import identity
from kernel.libc import LIBC
from kernel.process import SUPERVISOR_PID, set_dumpable
from outgoing import reach as outgoing_reach
from sandbox import landlock, places, plan, seccomp
from sandbox.landlock import Access, Scope
from sandbox.places import Endpoint
from sandbox.plan import Plan
from sandbox.privileges import Peer, Place, Port, Privileges
from sandbox.syscalls import Architecture, number

_MOUNTED: Final = frozenset(
    {
        *(Place.SOURCES, Place.TARGETS, Place.OWN, Place.API_CREDENTIALS, Place.COORDINATION, Place.GATEWAY),
        Place.NOTIFY_KEY,
        Peer.NODE,
    }
)
"""What may come later than we; everything else is part of the image, or never comes."""
_TLS: Final = frozenset({Port.API, Port.HEALTH, Port.NOTIFY})
"""Who connects there needs to know whom to trust, as long as there is anything to connect to."""
UNUSED_PORT: Final = 1
"""tcpmux: nobody declares it, nobody listens there, on UDP neither."""


class CannotClose(Exception):  # noqa: N818  # a refusal, named as such
    """The sandbox cannot be closed as declared; the text says why, and what to do."""


@dataclass
class Closed:
    """What was closed, for the audit and for /status."""

    plan: Plan
    endpoint: Endpoint | None
    separation: str
    abi: int
    """Landlock's."""
    failures: list[str] = field(default_factory=list)
    """What should hold and does not (permissive only)."""
    missing: list[str] = field(default_factory=list)
    """What this kernel cannot do."""
    absent: list[str] = field(default_factory=list)
    """Declared folders that did not exist: nothing can be left open below them until the next start."""
    names: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """The files by which names are resolved: device and inode of each that was left open, None where there was none."""
    stranger: socket.socket | None = None
    """An abstract socket from outside the domain: connecting to it must fail."""


def separation(config: Config) -> str:
    """Which of the three ways to run this is."""
    if not config.worker_uids:
        return "single-uid"
    return "uids" if os.environ.get(SUPERVISOR_PID) else "containers"


def obstacles(config: Config) -> tuple[str, ...]:
    """Why no worker's sandbox can be closed on this machine, each with the remedy; empty: it can."""
    found = []
    if Architecture.of(platform.machine()) is None:
        found.append(f"no system call numbers for {platform.machine()}; known are x86_64 and aarch64")
    if not config.worker_uids and landlock.abi() == 0:
        found.append(
            "this kernel has no Landlock (5.13 and newer have it, unless it is left out of the boot parameter `lsm` or "
            "refused by a seccomp profile: the container's, or a unit's SystemCallFilter=), and all workers run as one "
            "user: give each its uid (WORKER_UIDS)"
        )
    return tuple(found)


def close(privileges: Privileges, config: Config, endpoint: Endpoint | None) -> Closed:
    """Lock this process up.  Raises CannotClose."""
    closed = Closed(_plan(privileges, config, endpoint), endpoint, separation(config), landlock.abi())
    closed.failures += obstacles(config)
    guarded = (*places.secrets(config), *places.exposed_keys(config))
    closed.failures += plan.exposed(closed.plan, privileges, guarded)
    if closed.failures and config.sandbox == "enforce":  # before anything irrevocable: the reason is worth a line
        raise CannotClose("; ".join(closed.failures))
    _step(closed, "no_new_privs", identity.no_new_privs)
    _step(closed, "capabilities", identity.keep_only)
    _step(closed, "dumpable", lambda: set_dumpable(privileges.dumpable))
    if identity.threads() != 1:
        closed.failures.append("there are threads already, which Landlock would not cover")
    closed.missing += landlock.missing(closed.abi, datagrams=bool(closed.plan.datagrams))
    if closed.abi:
        closed.stranger = _stranger(closed.abi)
        _step(closed, "Landlock", lambda: _landlock(closed))
        closed.failures += _what_landlock_lets_through(closed, privileges, config)
    closed.failures += _what_can_be_read_all_the_same(privileges, config)
    architecture = Architecture.of(platform.machine())
    if architecture is not None:
        code = seccomp.program(closed.plan.permits, architecture)
        _step(closed, "seccomp", lambda: seccomp.install(code, architecture))
        closed.failures += _what_seccomp_lets_through(architecture)
    if closed.failures and config.sandbox == "enforce":
        raise CannotClose("; ".join(closed.failures))
    return closed


def _plan(privileges: Privileges, config: Config, endpoint: Endpoint | None) -> Plan:
    known = addresses(config, endpoint)
    speaks_tls = not known.keys().isdisjoint(_TLS.intersection(privileges.connects))
    reach = {
        place: ()
        if place is Place.TRUST and not speaks_tls
        else places.paths(place, privileges.worker, config, endpoint)
        for place in places_of(privileges)
    }
    hosts = [host for port in privileges.connects if port in known for host in known[port][0]]
    return plan.make(
        privileges,
        installation=places.installation(),
        places=reach,
        ports=[number for port in privileges.connects if port in known for number in known[port][1]],
        names=any(_is_name(host) for host in hosts),
        plain_targets=config.credential_mode == "file",
        links=config.kes_agent,
        peers=places.sockets(privileges, config, containers=separation(config) == "containers"),
    )


def places_of(privileges: Privileges) -> frozenset[Place]:
    """Every place that it declares, to read or to write."""
    return privileges.reads | privileges.writes


def addresses(config: Config, endpoint: Endpoint | None) -> dict[Port, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Hosts and ports of what may be connected to, as far as it is known to this process."""
    node = urlsplit(config.node_metrics_url)
    found: dict[Port, tuple[tuple[str, ...], tuple[int, ...]]] = {}
    found[Port.NODE_METRICS] = ((node.hostname or "127.0.0.1",), (node.port or 80,))
    if endpoint is not None:
        found[Port.API] = (endpoint.hosts, endpoint.ports)
    health = health_reach.of(config, os.environ)
    if health is not None:
        found[Port.HEALTH] = (health.hosts, health.ports)
    notices = outgoing_reach.of_notices(config, os.environ)
    if notices is not None:
        found[Port.NOTIFY] = (notices.hosts, notices.ports)
    return found


def _is_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _step(closed: Closed, what: str, do: Callable[[], None]) -> None:
    try:
        do()
    except OSError as error:
        closed.failures.append(f"{what}: {error.strerror or error}")


def _landlock(closed: Closed) -> None:
    ruleset = landlock.Ruleset(closed.abi, scopes=closed.plan.scopes)
    absent: dict[str, None] = {}
    try:
        for rule in closed.plan.rules:
            if rule.place is Place.NAMES:
                closed.names[str(rule.path)] = file_identity(str(rule.path))  # before: one that comes now is noticed
            if not ruleset.allow(rule.path, rule.rights) and rule.place in _MOUNTED:
                absent[str(rule.path)] = None  # several rules may be for the same folder
        closed.absent = list(absent)
        ruleset.allow_connect(closed.plan.ports)
        ruleset.allow_datagrams(closed.plan.datagrams)
        ruleset.restrict()
    finally:
        ruleset.close()


def file_identity(path: str) -> tuple[int, int] | None:
    """Device and inode of what a path leads to, which a sandbox lets one see; None: it leads nowhere."""
    try:
        info = Path(path).stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _stranger(abi: int) -> socket.socket | None:
    """A listening abstract socket, made before the domain: whatever is in it counts as outside."""
    if abi < landlock.SCOPE_ABI:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    sock.bind("\0forge-" + random_names.token_hex(8))
    sock.listen(1)
    return sock


def _what_landlock_lets_through(closed: Closed, privileges: Privileges, config: Config) -> list[str]:
    """Each restriction is tried once: what a kernel says it does is not taken on trust."""
    found = []
    if errno_of(lambda: os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))) != errno.EACCES:
        found.append("Landlock: the root folder can still be read")
    if closed.abi >= landlock.NET_ABI and connects_to(UNUSED_PORT) != errno.EACCES:
        found.append("Landlock: any TCP port can still be connected to")
    if Scope.SIGNALS in closed.plan.scopes and closed.abi >= landlock.SCOPE_ABI:
        parent = os.getppid()
        if parent > 0 and errno_of(lambda: os.kill(parent, 0)) != errno.EPERM:
            found.append("Landlock: processes outside can still be signalled")
    if closed.stranger is not None and reaches(closed.stranger.getsockname()) != errno.EPERM:
        found.append("Landlock: abstract sockets outside can still be connected to")
    own = config.state_socket(privileges.worker)
    if closed.abi >= landlock.UNIX_ABI and not reachable(closed.plan, own) and reaches(str(own)) == 0:
        found.append("Landlock: Unix sockets outside can still be connected to by path")
    sends = closed.abi >= landlock.DATAGRAM_ABI and bool(closed.plan.datagrams)  # else seccomp lets it make no socket
    if sends and sends_to(UNUSED_PORT) != errno.EACCES:
        found.append("Landlock: datagrams can still be sent to any port")
    return found


def reachable(plan: Plan, path: Path) -> bool:
    """Whether the plan leaves connecting to the socket at this path."""
    real = Path(os.path.realpath(path))
    return any(
        Access.RESOLVE_UNIX in rule.rights and Path(os.path.realpath(rule.path)) in real.parents for rule in plan.rules
    )


def _what_can_be_read_all_the_same(privileges: Privileges, config: Config) -> list[str]:
    """Where Landlock is missing, owners and modes must keep us out; one look tells, and it tells of Landlock too."""
    undeclared = [secret for secret in places.secrets(config) if not plan.declared(privileges, secret)]
    found = [secret.name for secret in undeclared if _opens(secret.path)]
    if not found:
        return []
    return [
        f"undeclared, but it can be read: {', '.join(found)}; take it from this worker's user, or mount it elsewhere"
    ]


def _opens(path: Path) -> bool:
    return errno_of(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))) == 0


def _what_seccomp_lets_through(architecture: Architecture) -> list[str]:
    """execve with nothing to execute: EFAULT from the kernel, ENOSYS from the filter."""
    null = ctypes.c_void_p(None)
    answer = call_errno(number("execve", architecture) or 0, null, null, null)
    return [] if answer == errno.ENOSYS else ["seccomp: the filter does not refuse"]


def errno_of(action: Callable[[], object]) -> int:
    """0: it was done; else why not."""
    try:
        action()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def call_errno(nr: int, *arguments: object) -> int:
    """The errno of a system call by number; 0: it succeeded."""
    return 0 if int(LIBC.syscall(ctypes.c_long(nr), *arguments)) != -1 else ctypes.get_errno()


def connects_to(port: int) -> int:
    """The errno of connecting to a port of this very machine; Landlock judges ports, not hosts.  0: connected."""

    def connect() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", port))

    return errno_of(connect)


def sends_to(port: int) -> int:
    """The errno of aiming datagrams at a port of this very machine; none is sent.  0: they could be."""

    def aim() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(("127.0.0.1", port))

    return errno_of(aim)


def reaches(address: str | bytes) -> int:
    """The errno of connecting to a Unix socket by its address.  0: connected."""

    def connect() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.connect(address)

    return errno_of(connect)
