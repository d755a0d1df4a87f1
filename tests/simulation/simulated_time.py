"""An event loop whose clock jumps to the next thing to do: minutes of a pool's life pass in milliseconds.

Nothing else differs from asyncio's loop, so what runs in it is the product's code as it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from dataclasses import dataclass

_START_S = 1000.0
"""Not zero: a pool that has just booted is a case of its own."""


_TURN_S = 1e-7
"""A turn of the loop takes time, or whoever waits for less than a clock can tell would wait for ever."""


class _Impatient(selectors.DefaultSelector):
    """Never waits; says how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing real is ever ready: there are no descriptors in a simulation but the loop's own."""
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.passed_s += max(timeout, _TURN_S)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`time` in seconds, as ever; `now` in ns, for what counts on CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return _START_S + self._impatient.passed_s

    def now(self) -> int:
        return int(self.time() * 1_000_000_000)


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
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return int(loop.now() * clock.get().rate)


def wall_s() -> float:
    """Seconds since 1970 by the running machine's wall clock."""
    return 1_800_000_000 + loop_now() / 1_000_000_000 + clock.get().skew_s
