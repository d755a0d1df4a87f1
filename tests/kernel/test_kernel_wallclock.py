"""A clock that was set is noticed; a clock that only runs is not."""

from __future__ import annotations

import asyncio
import time

import pytest

from kernel.wallclock import WallClockWatch

pytestmark = pytest.mark.alone


def set_the_clock_to_what_it_says() -> None:
    """A jump of some microseconds: as good as any other to the kernel."""
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME) + 1)
    except PermissionError:
        pytest.skip("needs CAP_SYS_TIME")


def test_a_clock_that_only_runs_has_not_jumped() -> None:
    watch = WallClockWatch()
    assert not watch.jumped()
    assert not watch.jumped()
    watch.close()


@pytest.mark.root
def test_a_clock_that_was_set_has_jumped_once_and_is_watched_on() -> None:
    watch = WallClockWatch()
    for _ in range(3):
        set_the_clock_to_what_it_says()
        assert watch.jumped()
        assert not watch.jumped()
    watch.close()


@pytest.mark.root
async def test_an_event_loop_is_woken_by_the_jump() -> None:
    watch, woken = WallClockWatch(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watch.fileno(), woken.set)
    set_the_clock_to_what_it_says()
    async with asyncio.timeout(30):
        await woken.wait()
    assert watch.jumped()
    loop.remove_reader(watch.fileno())
    watch.close()
