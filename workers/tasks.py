"""Tasks of a worker: one that fails ends the process, and one that is not needed any more is gone when we say so."""

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
