"""How a worker's loop waits."""

from __future__ import annotations

import asyncio

import pytest

from workers.tasks import woken


async def test_who_waits_to_be_woken_is_woken_by_the_event() -> None:
    wake = asyncio.Event()
    waits = asyncio.create_task(woken(wake, 3600))
    await asyncio.sleep(0)
    wake.set()
    await asyncio.wait_for(waits, 60)


@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_when_the_time_is_over_it_counts_as_woken(seconds: float) -> None:
    wake = asyncio.Event()
    await asyncio.wait_for(woken(wake, seconds), 60)
    assert wake.is_set()


async def test_an_event_that_is_set_already_is_not_waited_for() -> None:
    wake = asyncio.Event()
    wake.set()
    waiting = woken(wake, 3600)
    with pytest.raises(StopIteration):  # without a turn of the loop
        waiting.send(None)


async def test_who_was_woken_early_or_was_ended_is_not_woken_by_that_wait_again() -> None:
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    early, ended = asyncio.create_task(woken(wake, 0.05)), asyncio.create_task(woken(wake, 0.05))
    await asyncio.sleep(0)
    ended.cancel()
    await asyncio.wait([ended])
    wake.set()
    await early
    wake.clear()
    passed = asyncio.Event()
    loop.call_later(0.05, passed.set)  # later than the other two, which would have been first
    await passed.wait()
    assert not wake.is_set()
