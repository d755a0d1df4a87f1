"""What the page shows, pushed to whoever looks at it (server-sent events, HTML Living Standard, section 9.2).

Promises: a message is made once for all streams, at most every GAP_S, and only while somebody looks; a stream whose
reader is slow misses messages, never the last one; one that reads nothing for STUCK_S is ended.  So neither readers
nor their number cost memory or turns of the loop beyond MOST_STREAMS messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

MOST_STREAMS: Final = 16
GAP_S: Final = 0.25
"""Between two messages: what comes faster is one."""
REPEAT_S: Final = 2.5
"""A message is sent after this time even if nothing changed: the reader knows that it is still told."""
STUCK_S: Final = 10.0
LOOK_AGAIN_S: Final = 0.1

HEAD: Final = b"retry: 1000\n\n"
"""How long a browser waits before it connects anew, in ms."""


class TooMany(Exception):  # noqa: N818  # a state of the world
    """MOST_STREAMS look already."""


class Live:
    """All streams of one pod's page."""

    def __init__(self, render: Callable[[], bytes]) -> None:
        """render: what is to be told now, on one line."""
        self._render = render
        self._message = b""
        self._stale = True
        self._made_at = 0.0
        self._newer = asyncio.Event()
        """Set, and replaced, when there is a newer message."""
        self._timer: asyncio.TimerHandle | None = None
        self.streams = 0

    def changed(self) -> None:
        """Something is different from what was told last."""
        self._stale = True
        if self.streams and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._made_at + GAP_S, loop.time()), self._make)

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return self.streams >= MOST_STREAMS

    async def follow(self, write: Callable[[bytes], Awaitable[None]], unsent: Callable[[], int]) -> NoReturn:
        """Write to one reader.  Raises TooMany, TimeoutError when it is stuck, and what `write` raises when it is gone.

        unsent: bytes that still wait for the reader.
        """
        if self.full:
            raise TooMany
        self.streams += 1
        try:
            await _within(write(HEAD))
            if asyncio.get_running_loop().time() >= self._made_at + GAP_S:
                self._stale = True  # whoever comes hears how it is now, even if all who would tell of a change are dead
            while True:
                await _within(_has_read(unsent))
                if self._stale:
                    self._make()
                newer = self._newer
                await _within(write(self._message))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPEAT_S):
                        await newer.wait()
                if newer is self._newer:  # nothing came: say it again, as it is now
                    self._make()
        finally:
            self.streams -= 1

    def _make(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._stale = None, False
        self._message = b"data: " + self._render() + b"\n\n"
        self._made_at = asyncio.get_running_loop().time()
        told, self._newer = self._newer, asyncio.Event()
        told.set()


async def _has_read(unsent: Callable[[], int]) -> None:
    """The reader has taken all that was written."""
    while unsent():  # noqa: ASYNC110  # a transport does not tell when it has sent everything
        await asyncio.sleep(LOOK_AGAIN_S)


async def _within(work: Awaitable[None]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(STUCK_S):
        await work
