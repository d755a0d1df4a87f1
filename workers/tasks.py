"""Tasks of a worker: one that fails ends the process, one that is not needed any more is gone when we say so.

And how a loop that is woken waits, which workers do many times a second.
"""

from __future__ import annotations

import asyncio
import contextlib


def fail_stop(task: asyncio.Task[None]) -> None:
    """For `add_done_callback`: its fault goes to the loop's exception handler, which ends the process."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel it and wait until it is gone."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def woken(wake: asyncio.Event, seconds: float) -> None:
    """Until it is set, or for so long; it is set then, too, so that whoever waits clears it before he looks.

    `asyncio.timeout` would cancel the waiter, which costs several times as much.
    """
    if wake.is_set():
        return
    alarm = asyncio.get_running_loop().call_later(seconds, wake.set)
    try:
        await wake.wait()
    finally:
        alarm.cancel()
