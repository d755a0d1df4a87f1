"""Listening TCP sockets on every address of the host."""

from __future__ import annotations

import logging
import socket
from typing import Final

log = logging.getLogger("tcp")

BACKLOG: Final = 1024
"""Connections that wait to be accepted.  Of more the kernel drops the first packet, and who sent it tries again after a
second: longer than a probe waits.  A flood's thousand are taken in a fraction of that."""


class PortTaken(Exception):  # noqa: N818  # a state of the world, said to the operator
    """A port cannot be had; the text says why and what to do."""


def listen(port: int, variable: str) -> list[socket.socket]:
    """0.0.0.0 and, where the host has IPv6, [::] on the same port; 0 means any free one.  Raises PortTaken.

    variable: which setting to change.
    """
    try:
        sockets = [_listening(socket.AF_INET, "0.0.0.0", port)]  # noqa: S104  # kubelet and Prometheus come from outside
    except OSError as error:
        raise PortTaken(f"{variable}={port} cannot be used: {error.strerror}; free it or set another") from None
    try:
        sockets.append(_listening(socket.AF_INET6, "::", sockets[0].getsockname()[1]))
    except OSError as error:
        log.info("IPv4 only", extra={"event": "no_ipv6", "why": error.strerror})
    return sockets


def _listening(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
