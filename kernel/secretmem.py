"""Memory for a key: never swapped or dumped where the kernel allows, zeroed when it is done with.

Python's bytes cannot be zeroed, and every copy of them stays in the heap until something else is written there.  A
`SecretBuffer` is a private mapping of its own instead: a file is read straight into it, it is handed to write(2) as a
view, and its pages are overwritten and unmapped at the end of the `with`, also after an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import mmap
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from kernel.libc import call

_MADV_WIPEONFORK: Final = 18
"""madvise(2), Linux 4.14: a child finds zeros."""

Content = bytes | memoryview
"""What may be written to a target; a view of a SecretBuffer where it matters."""


class SecretBuffer:
    """Room for `size` bytes, zeros at first: `with SecretBuffer(n) as secret: secret.fill(fd)`."""

    def __init__(self, size: int) -> None:
        """Raises OSError if there is no memory, ValueError for a size below 1."""
        if size < 1:
            raise ValueError("a secret has at least one byte")
        self._size = size
        # One byte more than the secret: whoever reads finds out whether the file is longer.
        self._length = -(-(size + 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pages = mmap.mmap(-1, self._length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self._view = memoryview(self._pages)
        self._secret = self._view[:size].toreadonly()
        self.locked = self._lock()
        """Whether the pages stay out of swap; False where RLIMIT_MEMLOCK forbids it (getrlimit(2))."""
        for advice in (mmap.MADV_DONTDUMP, _MADV_WIPEONFORK):
            with contextlib.suppress(OSError):  # an older kernel: core dumps and forks are ruled out elsewhere too
                self._pages.madvise(advice)

    def _lock(self) -> bool:
        try:
            call("mlock", ctypes.c_void_p(self._address), ctypes.c_size_t(self._length))
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SecretBuffer{' (closed)' if self.closed else ''}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Two owners of the same pages could not both unmap them; and pickled content would be out of our hands."""
        raise TypeError("a secret is neither copied nor pickled")

    @property
    def closed(self) -> bool:
        return self._address == 0

    @property
    def view(self) -> memoryview:
        """The secret, read-only.  Do not make bytes of it.  ValueError after `close`, here and in the view itself."""
        if self.closed:
            raise ValueError("the secret is gone")
        return self._secret

    def fill(self, fd: int) -> None:
        """Read the whole file from its present position; it must have exactly `size` bytes left.

        Raises OSError, also for a file that is shorter or longer; the buffer is all zeros then.
        """
        if self.closed:
            raise ValueError("the secret is gone")
        filled = False
        try:
            read = _read(fd, self._view[: self._size + 1])
            if read != self._size:
                raise OSError(errno.EIO, "it changed while it was read")
            filled = True
        finally:
            if not filled:
                self._wipe()

    def close(self) -> None:
        """Overwrite the pages with zeros and unmap them; may be repeated."""
        if self.closed:
            return
        self._wipe()
        self._address = 0
        for release in (self._secret.release, self._view.release, self._pages.close):
            with contextlib.suppress(BufferError):  # somebody holds a part of it: zeros, unmapped when it is let go
                release()

    def _wipe(self) -> None:
        ctypes.memset(self._address, 0, self._length)


def _read(fd: int, room: memoryview) -> int:
    """Bytes read until the end of the file or of the room; nothing of them is kept elsewhere."""
    done = 0
    with room, io.FileIO(fd, closefd=False) as file:
        while done < len(room):
            with room[done:] as rest:
                got = file.readinto(rest)
            if not got:
                break
            done += got
    return done


def read_secret(path: Path, most: int) -> SecretBuffer:
    """A buffer with the content of a file of 1 to `most` bytes, to be closed by the caller.

    Follows symbolic links (Kubernetes mounts a secret as links) and does not wait for a FIFO's writer.
    Raises OSError with the path; nothing of the content remains then.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            if not 0 < info.st_size <= most:
                raise OSError(errno.EFBIG, f"it has {info.st_size} bytes; a credential has 1 to {most}")
            secret = SecretBuffer(info.st_size)
            with contextlib.ExitStack() as undo:
                undo.enter_context(secret)
                secret.fill(fd)
                undo.pop_all()
            return secret
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
