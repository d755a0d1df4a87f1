"""A port of our own that stays ours while a server behind it is down.

A socket that is bound with SO_REUSEPORT and never listens keeps the number from everybody who does not set
SO_REUSEPORT too, and takes no connection: with the server gone a client is refused, as it should be.
"""

from __future__ import annotations

import socket


class PortReservation:
    """Holds a TCP port of 127.0.0.1 until closed."""

    def __init__(self, port: int = 0) -> None:
        self._socket = _reusable()
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def listener(self) -> socket.socket:
        """A second socket on the port, for a server in this process: bound, not yet listening."""
        other = _reusable()
        try:
            other.bind(("127.0.0.1", self.port))
        except OSError:
            other.close()
            raise
        return other

    def close(self) -> None:
        """Gives the number back."""
        self._socket.close()


def _reusable() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
