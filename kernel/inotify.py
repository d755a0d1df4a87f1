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
IN_MASK_ADD: Final = 0x20000000
"""To the mask of a watch that there is, not in its place."""

_EVENT: Final = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: in which watch, IN_* bits, to which entry of the folder ("": the watched thing itself)."""

    watch: int
    mask: int
    name: str

    @property
    def overflowed(self) -> bool:
        """Events were lost: look for yourself.  `watch` is -1 then."""
        return bool(self.mask & IN_Q_OVERFLOW)


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
        name, end, _ = data[offset : offset + length].partition(b"\0")
        if length and not end:
            raise ValueError("inotify: a name without its end")
        events.append(Event(watch, mask, os.fsdecode(name)))
        offset += length
    return events


class Inotify:
    """One inotify descriptor.  Non-blocking; `fileno()` is readable when there are events."""

    def __init__(self) -> None:
        """Raises OSError (EMFILE: the host's limit fs.inotify.max_user_instances is used up)."""
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
        """The next events, as many as fit 64 KiB; empty when there are none.  Never blocks.  Raises OSError."""
        try:
            return parse_events(os.read(self._fd, 65536))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._fd)
