"""The C library through ctypes: calls that Python 3.11 does not offer.  64-bit Linux only, glibc and musl."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _function(name: str) -> Any:
    try:
        return getattr(LIBC, name)
    except AttributeError:  # glibc before 2.34 keeps the POSIX timers in a library of their own
        return getattr(ctypes.CDLL("librt.so.1", use_errno=True), name)


def call(name: str, *arguments: Any) -> int:
    """Call a C function that answers -1 on failure.  Raises OSError with errno and the call's name."""
    result = int(_function(name)(*arguments))
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


class Timespec(ctypes.Structure):
    """struct timespec (64-bit): seconds and nanoseconds."""

    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64))


class Itimerspec(ctypes.Structure):
    """struct itimerspec: interval, then value."""

    _fields_ = (("it_interval", Timespec), ("it_value", Timespec))


def once_at(instant_ns: int) -> Itimerspec:
    """A setting that fires once, at an absolute instant.  0 would disarm, so the least is 1 ns."""
    seconds, rest = divmod(max(instant_ns, 1), 1_000_000_000)
    return Itimerspec(Timespec(0, 0), Timespec(seconds, rest))
