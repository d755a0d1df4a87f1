"""Starts one process of a pod as a container engine would: it dies with us, has this user and these capabilities, sees
what it shall see of the file system, and nothing else is prepared for it.

Run as a script by an interpreter without site packages:

    launch.py --parent PID [--uid N [--group N]] [--capabilities N,N] [--reach DIR:DIR] [--hide DIR:DIR] -- COMMAND...
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x20000
_MS_BIND_REC: Final = 0x5000
_MS_PRIVATE_REC: Final = 0x44000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--group", type=int, help="a supplementary one, as fsGroup gives it to each container")
    parser.add_argument("--capabilities", type=lambda text: [int(word) for word in text.split(",") if word])
    parser.add_argument("--reach", type=_folders, default=[])
    parser.add_argument("--hide", type=_folders, default=[])
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from kernel import identity, process

    see(reach=asked.reach, hide=asked.hide)
    if asked.capabilities is not None:
        identity.drop_bounding(frozenset(asked.capabilities))
    if asked.uid is not None and asked.group is None:
        identity.become(asked.uid, asked.uid)
    elif asked.uid is not None:
        os.setgroups([asked.group])
        os.setresgid(asked.uid, asked.uid, asked.uid)
        os.setresuid(asked.uid, asked.uid, asked.uid)
    if asked.capabilities is not None:
        identity.keep_only(asked.capabilities)
    process.die_with_parent(signal.SIGKILL, asked.parent)  # after the change of user, which would undo it
    os.execv(asked.command[0], asked.command)  # noqa: S606  # what we are for


def _folders(text: str) -> list[Path]:
    return [Path(part) for part in text.split(os.pathsep) if part]


def see(*, reach: Iterable[Path] = (), hide: Iterable[Path] = ()) -> None:
    """In a mount namespace of our own: make `reach` passable for every user, and empty what is in `hide`.

    An installation may lie in /root, which others may not enter.  Needs CAP_SYS_ADMIN, unless there is nothing to do.
    Raises OSError.
    """
    blocked = {path: closed[0] for path in reach if (closed := _closed_ancestors(path))}
    hidden = list(hide)
    if not blocked and not hidden:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.unshare(_CLONE_NEWNS))
    _must(libc.mount(b"none", b"/", None, _MS_PRIVATE_REC, None))
    fds = {path: os.open(path, os.O_PATH) for path in sorted(blocked)}
    for shut in set(blocked.values()):
        _must(libc.mount(b"none", os.fsencode(shut), b"tmpfs", 0, b"mode=755"))
    for path, fd in fds.items():
        path.mkdir(parents=True, mode=0o755, exist_ok=True)
        _must(libc.mount(f"/proc/self/fd/{fd}".encode(), os.fsencode(path), None, _MS_BIND_REC, None))
        os.close(fd)
    for folder in hidden:
        _must(libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"mode=755"))


def _closed_ancestors(path: Path) -> list[Path]:
    """Folders above `path` through which another user may not pass."""
    return [p for p in reversed(path.parents) if not p.stat().st_mode & 0o001]


def _must(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
