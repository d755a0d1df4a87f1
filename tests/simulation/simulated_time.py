"""An event loop whose clock jumps to the next thing to do: minutes of a pool's life pass in milliseconds.

Nothing else differs from asyncio's loop, so what runs in it is the product's code as it is.
"""

from __future__ import annotations

import asyncio
import selectors

_START_S = 1000.0
"""Not zero: a pool that has just booted is a case of its own."""


class _Impatient(selectors.DefaultSelector):
    """Never waits; says how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits for somebody else")
            self.passed_s += max(timeout, 0)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`time` in seconds, as ever; `now` in ns, for what counts on CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return _START_S + self._impatient.passed_s

    def now(self) -> int:
        return int(self.time() * 1_000_000_000)
