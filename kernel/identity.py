"""What this process may do by its identity: capabilities, no_new_privs, uid and gid (capabilities(7), credentials(7)).

Everything here takes away or looks; nothing gives back, except `acting_as`, which needs CAP_SETUID to begin with.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from kernel.libc import call
from kernel.process import prctl

CAP_DAC_OVERRIDE: Final = 1
CAP_KILL: Final = 5
CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_SETPCAP: Final = 8

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_VERSION_3: Final = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def no_new_privs() -> None:
    """From now on no exec gives us anything (PR_SET_NO_NEW_PRIVS(2const)).  Inherited."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def effective() -> int:
    """The effective capabilities of this thread, as a bit mask."""
    return _get()[0]


def has(capability: int) -> bool:
    """Whether a capability is effective now."""
    return bool(effective() >> capability & 1)


def keep_only(capabilities: Iterable[int] = ()) -> None:
    """Give up every capability but these, for this process and whatever it execs; also what could come back by exec.

    The bounding set can be emptied only by who has CAP_SETPCAP; without that, no_new_privs keeps it from mattering.
    Raises OSError.
    """
    kept = frozenset(capabilities)
    drop_bounding(kept)
    with contextlib.suppress(OSError):  # EINVAL before Linux 4.3: no ambient set
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    mask = sum(1 << capability for capability in kept)
    now, permitted = _get()
    _set(now & mask, permitted & mask)


def drop_bounding(kept: frozenset[int]) -> None:
    """No exec of ours can ever gain more than these.  Does nothing without CAP_SETPCAP.  Raises OSError."""
    if not has(CAP_SETPCAP):
        return
    for capability in range(64):
        if capability in kept:
            continue
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the kernel's last one
                return
            raise


def _get() -> tuple[int, int]:
    """Effective and permitted."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    call("capget", ctypes.byref(header), ctypes.byref(data))
    return (data[0].effective | data[1].effective << 32, data[0].permitted | data[1].permitted << 32)


def _set(new_effective: int, new_permitted: int) -> None:
    header = _Header(_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = (_Data * 2)(
        _Data(new_effective & low, new_permitted & low, 0), _Data(new_effective >> high, new_permitted >> high, 0)
    )
    call("capset", ctypes.byref(header), ctypes.byref(data))


def threads() -> int:
    """How many threads this process has: what is given up thread by thread must be given up while there is one."""
    return len(list(Path("/proc/self/task").iterdir()))


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Be this user for a moment (effective ids only), with no supplementary groups.  Single-threaded processes only.

    What is made meanwhile belongs to that user, and its processes can be signalled, without CAP_CHOWN or CAP_KILL.
    Raises OSError (EPERM without CAP_SETUID and CAP_SETGID).
    """
    us, ours, groups = os.geteuid(), os.getegid(), os.getgroups()
    if (uid, gid) == (us, ours):
        yield
        return
    try:
        os.setgroups([])
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(us)
        os.setegid(ours)
        os.setgroups(groups)


def become(uid: int, gid: int) -> None:
    """Be this user for good: real, effective and saved ids, no supplementary groups.  Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
