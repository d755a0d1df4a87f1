"""Frames: four bytes of length (big endian), then that many bytes of msgpack.

`FrameReader` is fed whatever arrived and gives whole payloads.  A length of zero or above the cap is a
ProtocolError at once, before a byte of it is stored: a peer cannot make us hold more than one frame.
"""

from __future__ import annotations

import struct
from typing import Final

from ipc.messages import MAX_FRAME, ProtocolError

_LENGTH: Final = struct.Struct(">I")


def frame(payload: bytes) -> bytes:
    """The payload with its length before it.  Raises ProtocolError when it is empty or too large."""
    if not 0 < len(payload) <= MAX_FRAME:
        raise ProtocolError(f"a frame carries 1 to {MAX_FRAME} bytes")
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into payloads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """All payloads that are complete now.  Raises ProtocolError on an impossible length."""
        self._buffer += data
        payloads: list[bytes] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= MAX_FRAME:
                raise ProtocolError("impossible frame length")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            payloads.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return payloads
