"""Files that are replaced while we run: a mounted secret of which Kubernetes swaps the `..data` link.

`Rotating` promises: what it gives was usable when it was read; something new that is not leaves the old in use, is
said in the log once, and stays a `problem` until it is mended.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from kernel import small_file

log = logging.getLogger("gateway")

_Print = tuple[int, ...]
T = TypeVar("T")


class Unusable(Exception):  # noqa: N818  # a state of a file, said to the operator
    """What a variable names cannot be used.  `remedy` says why and what would be right: no path, nothing of content."""

    def __init__(self, variable: str, remedy: str) -> None:
        super().__init__(f"{variable} {remedy}")
        self.variable = variable
        self.remedy = remedy


def read_small(variable: str, path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes.  Never waits (for a pipe's writer).  Raises Unusable."""
    try:
        content = small_file.read_small(path, most)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Unusable(variable, "is not a file; name one") from None
        raise Unusable(variable, small_file.cannot_be_read(error)) from None
    if len(content) > most:
        raise Unusable(variable, f"has more than {most} bytes; is it the right file?")
    return content


class Rotating(Generic[T]):
    """What is made of some files, and made anew when one of them is another."""

    def __init__(self, what: str, paths: tuple[Path, ...], make: Callable[[], T]) -> None:
        """what: in words, for the log.  make: raises Unusable."""
        self._what = what
        self._paths = paths
        self._make = make
        self._prints: tuple[_Print, ...] = ()
        self.value: T | None = None
        """None: there was never anything usable."""
        self.problem = ""
        """Why what is there now is not what is in use."""

    def look(self) -> bool:
        """Read again what has changed.  Whether `value` is another one now."""
        prints = self._look_at()
        if prints == self._prints and not self.problem:
            return False
        self._prints = prints
        try:
            made = self._make()
        except Unusable as error:
            if self._look_at() == prints:
                self._complain(error)
            else:  # in the middle of a rotation
                self._prints = ()
            return False
        if self.problem:
            log.info("%s can be used again", self._what, extra={"event": "gateway_file_right"})
        self.problem = ""
        if self.value is not None and made == self.value:
            return False
        if self.value is not None:
            log.info("took over %s that is new", self._what, extra={"event": "gateway_file_rotated"})
        self.value = made
        return True

    def _look_at(self) -> tuple[_Print, ...]:
        return tuple(_print_of(path) for path in self._paths)

    def _complain(self, error: Unusable) -> None:
        kept = "the one before stays in use" if self.value is not None else "there is none in use"
        problem = f"{error}; {kept}"
        if problem != self.problem:
            log.error(problem, extra={"event": "gateway_file_unusable", "variable": error.variable})
        self.problem = problem


def _print_of(path: Path) -> _Print:
    """What tells a file from another, and from what it was before; of an error its number."""
    try:
        info = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
