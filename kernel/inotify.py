"""inotify(7): what happens in a folder, as events."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel.libc import call

IN_CLOSE_WRITE: Final = 0x8
IN_CLOSE_NOWRITE: Final = 0x10
IN_OPEN: Final = 0x20
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x1000000

_EVENT: Final = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Event:
    watch: int
    mask: int
    name: str


def parse_events(data: bytes) -> list[Event]:
    """The events in one read of the descriptor.  Raises ValueError if the kernel's layout is not as documented."""
    events, offset = [], 0
    while offset < len(data):
        if len(data) - offset < _EVENT.size:
            raise ValueError("inotify: truncated event")
        watch, mask, _cookie, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        if len(data) - offset < length:
            raise ValueError("inotify: truncated name")
        name = os.fsdecode(data[offset : offset + length].split(b"\0", 1)[0])
        events.append(Event(watch, mask, name))
        offset += length
    return events


class Inotify:
    """One inotify descriptor.  Non-blocking; `fileno()` is readable when there are events."""

    def __init__(self) -> None:
        self._fd = call("inotify_init1", ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: Path, mask: int) -> int:
        """Watch a path; the number that its events carry.  Raises OSError."""
        return call("inotify_add_watch", ctypes.c_int(self._fd), os.fsencode(path), ctypes.c_uint32(mask))

    def unwatch(self, watch: int) -> None:
        """Raises OSError (EINVAL when the watched file is gone already)."""
        call("inotify_rm_watch", ctypes.c_int(self._fd), ctypes.c_int(watch))

    def read(self) -> list[Event]:
        """All events that are there; empty when there are none."""
        try:
            return parse_events(os.read(self._fd, 65536))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._fd)
