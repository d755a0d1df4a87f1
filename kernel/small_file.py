"""Small files that others put there: read whole, without waiting for whatever stands in their place; or why not."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_small(path: Path, most: int) -> bytes:
    """The content; where it is longer than `most` bytes, its first `most` + 1.

    Raises OSError, with EINVAL for what is no regular file: a pipe's writer (fifo(7)) is not waited for.
    """
    fd = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        found = b""
        while len(found) <= most and (piece := os.read(fd, most + 1 - len(found))):
            found += piece
        return found
    finally:
        os.close(fd)


def cannot_be_read(error: OSError) -> str:
    """What is wrong with a file that somebody else has to put right, and the remedy."""
    remedy = "check the secret and its mount"
    if error.errno == errno.EACCES:
        remedy = "give our user the right to (fsGroup or defaultMode; on a host its owner)"
    return f"cannot be read: {error.strerror}; {remedy}"
