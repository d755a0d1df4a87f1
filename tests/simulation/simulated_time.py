"""An event loop whose clock jumps to the next thing to do: minutes of a pool's life pass in milliseconds.

Whoever runs in it sees no other difference from asyncio's loop, so what runs is the product's code as it is.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import heapq
from dataclasses import dataclass
from typing import Any

_START_S = 1000.0
"""Not zero: a pool that has just booted is a case of its own."""


_LEAST_SWEPT = 100
_TURN_S = 1e-7
"""A turn of the loop takes time, or whoever waits for less than a clock can tell would wait for ever."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`time` in seconds, as ever; `now` in ns, for what counts on CLOCK_BOOTTIME.

    It turns by itself, without a selector: nothing real is ever ready, there are no descriptors in a simulation but the
    loop's own.  Timers of one instant fire in the order in which they were set.
    """

    _ready: collections.deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self._time_s = _START_S
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._set = 0
        self._given_up = 0
        """Timers that were cancelled since the last sweep."""

    def time(self) -> float:
        return self._time_s

    def set_timer(self, timer: asyncio.TimerHandle) -> None:
        self._set += 1
        heapq.heappush(self._timers, (timer.when(), self._set, timer))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """As asyncio's loop: what waits in vain is swept away once it is more than half of all."""
        self._given_up += 1
        if self._given_up > max(len(self._timers) // 2, _LEAST_SWEPT):
            self._timers[:] = [each for each in self._timers if not each[2].cancelled()]
            heapq.heapify(self._timers)
            self._given_up = 0

    def call_at(  # type: ignore[no-untyped-def]
        self, when: float, callback, *args, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.set_timer(timer)
        return timer

    def _run_once(self) -> None:
        """One turn (asyncio/base_events.py has the real one)."""
        ready, timers = self._ready, self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if ready:
            self._time_s += _TURN_S
        elif timers:
            self._time_s = max(timers[0][0], self._time_s + _TURN_S)
        else:
            raise RuntimeError("everybody waits for somebody else")
        while timers and timers[0][0] <= self._time_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def now(self) -> int:
        return int(self._time_s * 1_000_000_000)


@dataclass(frozen=True)
class Clock:
    """One machine's: its rate against the others', and how far its wall clock is off (seconds)."""

    rate: float = 1.0
    skew_s: float = 0.0


clock: contextvars.ContextVar[Clock] = contextvars.ContextVar("clock", default=Clock())  # noqa: B039  # frozen
"""Of the machine on which the running task or callback runs."""


OUTSIDE = contextvars.Context()
"""Of callbacks that are nobody's in a pod: what happens at an API server, whoever asked for it."""


def loop_now() -> int:
    """ns by the running machine's CLOCK_BOOTTIME."""
    loop: Any = asyncio.get_running_loop()  # a SimulatedLoop; asked more often than all else
    return int(loop.now() * clock.get().rate)


def wall_s() -> float:
    """Seconds since 1970 by the running machine's wall clock."""
    return 1_800_000_000 + loop_now() / 1_000_000_000 + clock.get().skew_s
