"""How a program of the dev kit ends: also when it is told to, what its `with` blocks hold is tidied up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


def end_cleanly(*, with_children: bool = False) -> None:
    """SIGTERM, and the SIGHUP of a closed terminal, end us by SystemExit: folders are removed on the way out.

    Python itself would leave them: of a build also the pip configuration that was lent to it, with an index's password.
    with_children: they get SIGTERM too, for who waits for them in threads.
    """

    def end(signum: int, _: object) -> None:
        for child in _children() if with_children else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        sys.exit(128 + signum)

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, end)


def _children() -> Iterator[int]:
    """Of all our threads: each has those that it started."""
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            yield from map(int, file.read_text().split())
