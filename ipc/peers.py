"""Who is at the other end of a Unix socket: SO_PEERCRED (unix(7)), asked of the kernel, never of the peer."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    """0 when the peer lives in a pid namespace that we cannot see."""
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """Credentials of the process that connected (or called listen).  Raises OSError."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def may_command(peer: Peer, uid: int, parent: int | None) -> bool:
    """Whether this peer may ask something of a worker: root or our own user `uid`, but never a sibling worker.

    parent: our supervisor's pid; None where every worker has a uid of its own anyway.  Where all share one, its other
    children must not reach each other's debug and command sockets, and a peer that cannot be placed is one of them.
    They cannot make a process to ask for them: their sandbox has no fork.  Nor can they become root: a root that we
    are not is none of them, wherever it lives (another pid namespace, a /proc with hidepid).
    """
    if peer.uid not in (uid, 0):
        return False
    if parent is None or peer.uid != uid:
        return True
    theirs = parent_of(peer.pid)
    return theirs is not None and theirs != parent


def parent_of(pid: int) -> int | None:
    """The parent of a process as this pid namespace knows it (PPid in proc_pid_status(5)); 0: none in it.

    None: the process is gone, not ours to see, or in another namespace; or we have no descriptor left to look with.
    """
    if pid <= 0:
        return None
    try:
        text = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:  # all of them mean the same here: not known
        return None
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name == b"PPid" and value.strip().isdigit():
            return int(value)
    return None
