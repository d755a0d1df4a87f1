"""Who is at the other end of a Unix socket: SO_PEERCRED (unix(7)), asked of the kernel, never of the peer."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
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
