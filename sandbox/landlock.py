"""Landlock: this process gives up access to files, TCP ports and other processes (landlock(7)).

Irrevocable, inherited by everything it starts, needs no privilege but no_new_privs.  The kernel's version of the
interface (ABI) says what can be given up; `missing` puts the rest into words.  What was opened before stays open.
Not covered by any version up to 10: chmod, chdir, looking (stat, readlink).

Structures and numbers: include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import struct
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from kernel.libc import LIBC

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_GET_VERSION: Final = 1
_RULE_PATH: Final = 1
_RULE_PORT: Final = 2
_LOG_SAME_EXEC_OFF: Final = 1
_LOG_ABI: Final = 7
NET_ABI: Final = 4
SCOPE_ABI: Final = 6
UNIX_ABI: Final = 9
DATAGRAM_ABI: Final = 10


class Access(enum.IntFlag):
    """Rights to a file or below a folder (LANDLOCK_ACCESS_FS_*)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15
    RESOLVE_UNIX = 1 << 16
    """Connecting and sending to Unix sockets by path, where they were made outside."""


class Scope(enum.IntFlag):
    """What may not leave this domain (LANDLOCK_SCOPE_*)."""

    ABSTRACT_SOCKETS = 1 << 0
    SIGNALS = 1 << 1


BIND_TCP: Final = 1 << 0
CONNECT_TCP: Final = 1 << 1
BIND_UDP: Final = 1 << 2
CONNECT_SEND_UDP: Final = 1 << 3
_ANY_FREE_PORT: Final = 0

_FILES: Final = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV | Access.RESOLVE_UNIX
)
"""Rights that a rule on a file, not a folder, may carry."""
_LAST_SINCE: Final = (
    (UNIX_ABI, Access.RESOLVE_UNIX),
    (5, Access.IOCTL_DEV),
    (3, Access.TRUNCATE),
    (2, Access.REFER),
    (1, Access.MAKE_SYM),
)
"""The version from which on a right is the last one known."""


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("handled_fs", ctypes.c_uint64), ("handled_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


_PATH_ATTR: Final = struct.Struct("=Qi")
"""struct landlock_path_beneath_attr, packed: rights, descriptor of the parent."""
_PORT_ATTR: Final = struct.Struct("=QQ")
"""struct landlock_net_port_attr: rights, port."""


def _syscall(number: int, *arguments: object) -> int:
    result = int(LIBC.syscall(ctypes.c_long(number), *arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result


def abi() -> int:
    """The kernel's version of the interface; 0: it has no Landlock, or it is switched off at boot."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_VERSION))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):  # EPERM: a container's seccomp profile
            return 0
        raise


def handled(version: int) -> Access:
    """All rights to files that this version of the interface can take away."""
    last = next((right for since, right in _LAST_SINCE if version >= since), Access(0))
    return Access((int(last) << 1) - 1) if last else last


def missing(version: int, *, datagrams: bool) -> tuple[str, ...]:
    """What this version cannot take away, in words.  datagrams: from one who may send some."""
    found = []
    if version < 1:
        found.append("no Landlock: files are guarded by their owners and modes alone")
    if version in (1, 2):
        found.append(f"Landlock ABI {version}: truncating files is not restricted (ABI 3, Linux 6.2)")
    if version < NET_ABI:
        found.append(f"Landlock ABI {version}: TCP ports are not restricted (ABI {NET_ABI}, Linux 6.7)")
    if version < SCOPE_ABI:
        found.append(
            f"Landlock ABI {version}: no scope for signals and abstract sockets (ABI {SCOPE_ABI}, Linux 6.12); "
            "seccomp alone refuses signals"
        )
    if version < UNIX_ABI:
        found.append(
            f"Landlock ABI {version}: connecting to Unix sockets by path is not restricted (ABI {UNIX_ABI}, Linux 7.1)"
        )
    if version < DATAGRAM_ABI and datagrams:
        found.append(
            f"Landlock ABI {version}: ports of datagrams are not restricted (ABI {DATAGRAM_ABI}, Linux 7.2); give the "
            "addresses as numbers, and no datagram can be sent"
        )
    return tuple(found)


class Ruleset:
    """Collects what stays allowed; `restrict` takes the rest away."""

    def __init__(self, version: int, *, scopes: Scope) -> None:
        """Raises OSError."""
        self._handled = handled(version)
        ports = BIND_TCP | CONNECT_TCP if version >= NET_ABI else 0
        ports |= BIND_UDP | CONNECT_SEND_UDP if version >= DATAGRAM_ABI else 0
        attr = _RulesetAttr(int(self._handled), ports, int(scopes) if version >= SCOPE_ABI else 0)
        size = 24 if version >= SCOPE_ABI else 16 if version >= NET_ABI else 8
        self._version = version
        self._fd = _syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), ctypes.c_uint32(0))

    def allow(self, path: Path, rights: Access) -> bool:
        """Leave these rights to a file, or to a folder and what lies below; False if it does not exist.

        What this version cannot take away needs no rule.  Raises OSError.
        """
        if not rights & self._handled:
            return True
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            if not os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
                rights &= _FILES
            if rights & self._handled:
                self._add(_RULE_PATH, _PATH_ATTR.pack(int(rights & self._handled), fd))
        finally:
            os.close(fd)
        return True

    def allow_connect(self, ports: Iterable[int]) -> None:
        """Leave connecting to these TCP ports, of whatever host.  Raises OSError."""
        if self._version >= NET_ABI:
            for port in ports:
                self._add(_RULE_PORT, _PORT_ATTR.pack(CONNECT_TCP, port))

    def allow_datagrams(self, ports: Collection[int]) -> None:
        """Leave sending to these UDP ports, of whatever host, from a port that the kernel chooses.  Raises OSError."""
        if self._version < DATAGRAM_ABI or not ports:
            return
        for port in ports:
            self._add(_RULE_PORT, _PORT_ATTR.pack(CONNECT_SEND_UDP, port))
        self._add(_RULE_PORT, _PORT_ATTR.pack(BIND_UDP, _ANY_FREE_PORT))

    def _add(self, kind: int, attr: bytes) -> None:
        _syscall(_ADD_RULE, ctypes.c_int(self._fd), ctypes.c_int(kind), ctypes.c_char_p(attr), ctypes.c_uint32(0))

    def restrict(self) -> None:
        """From now on only what was allowed.  Needs no_new_privs.  Raises OSError.

        Refusals are not written to the host's audit log: our own regular attempts would drown the others'.
        """
        flags = _LOG_SAME_EXEC_OFF if self._version >= _LOG_ABI else 0
        _syscall(_RESTRICT_SELF, ctypes.c_int(self._fd), ctypes.c_uint32(flags))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
