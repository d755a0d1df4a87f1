"""A small record that outlives its process, in a file that was mapped before the sandbox closed.

Promises: a reader finds the last record that was written whole, or none; whoever is killed while writing leaves the
one before.  The file has its final size from the start and no descriptor of it stays open: a process that was taken
over by a stranger can spoil what is in it, and make it no larger.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Final

from kernel.libc import LIBC, call

MOST: Final = 64 * 1024 - 32
"""Bytes of a record."""

_HEAD: Final = struct.Struct("<4sQII")
"""Mark, sequence number, length, CRC-32 of all that and the record."""
_MARK: Final = b"led1"
_PLACE: Final = 64 * 1024
"""Bytes of each of the two places, which are written in turn."""
_FAR: Final = 1 << 63
"""No honest sequence number comes near it."""

_mmap: Final = LIBC["mmap"]  # Python's own keeps a descriptor of the file (before 3.13 it must)
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_FAILED: Final = ctypes.c_void_p(-1).value


class Ledger:
    """The record in one file."""

    def __init__(self, path: Path) -> None:
        """Makes the file, if there is none (mode 0600), and has its place on the disk set aside.  Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "not a regular file", str(path))
            os.posix_fallocate(fd, 0, 2 * _PLACE)
            os.ftruncate(fd, 2 * _PLACE)
            self._address = _mmap(None, 2 * _PLACE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
            if self._address == _FAILED:
                errno = ctypes.get_errno()
                raise OSError(errno, os.strerror(errno), str(path))
        finally:
            os.close(fd)
        self._sequence = 0

    def read(self) -> bytes:
        """The last whole record; empty: there is none."""
        found, last = b"", 0
        for place in (0, 1):
            raw = ctypes.string_at(self._address + place * _PLACE, _PLACE)
            mark, sequence, length, check = _HEAD.unpack_from(raw)
            record = raw[_HEAD.size : _HEAD.size + length]
            whole = mark == _MARK and len(record) == length and check == _check(sequence, record)
            if whole and last < sequence < _FAR:
                last, found = sequence, record
        self._sequence = last
        return found

    def write(self, record: bytes) -> None:
        """Make it the last one.  Raises ValueError for more than MOST bytes."""
        if len(record) > MOST:
            raise ValueError(f"a record of {len(record)} bytes exceeds {MOST}")
        self._sequence += 1
        written = _HEAD.pack(_MARK, self._sequence, len(record), _check(self._sequence, record)) + record
        ctypes.memmove(self._address + self._sequence % 2 * _PLACE, written, len(written))

    def close(self) -> None:
        """Let the file go; nothing may be read or written afterwards."""
        call("munmap", ctypes.c_void_p(self._address), ctypes.c_size_t(2 * _PLACE))


def _check(sequence: int, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(struct.pack("<4sQI", _MARK, sequence, len(record))))
