"""`forgectl await`: over as soon as it is so, and not before; a wait in vain says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_forgectl import Run, publish, run, run_dir

from devkit import states
from ipc.messages import Startup, Worker

__all__ = ["publish", "run", "run_dir"]  # fixtures

LONG = "10m"
"""Longer than the test's own patience."""


@pytest.mark.parametrize("startup", [Startup.OFFERED, Startup.READ, Startup.UP])
async def test_it_ends_at_once_where_the_node_may_be_started(run: Run, publish: Any, startup: Startup) -> None:
    await publish(Worker.ACTUATOR, states.actuator(startup=startup))
    ran = await run("await", "startup", "--for", LONG)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


async def test_it_waits_for_a_sidecar_that_is_not_there_yet_and_for_its_word(run: Run, publish: Any) -> None:
    waiting = asyncio.create_task(run("await", "startup", "--for", LONG))
    made = await publish(Worker.ACTUATOR, states.actuator(startup=Startup.PREPARING))
    while not made.sent_total:  # nobody has asked yet
        await asyncio.sleep(0.01)
    assert not waiting.done()
    made.publish(states.actuator(startup=Startup.OFFERED))
    assert (await waiting).code == 0


async def test_a_wait_in_vain_ends_in_time_and_says_why(run: Run, publish: Any) -> None:
    await publish(Worker.ACTUATOR, states.actuator(startup=Startup.PREPARING, startup_reason="a key is missing"))
    ran = await run("await", "startup", "--for", "0.1s")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "forgectl: not within 0.1 s: a key is missing\n"
    ran = await run("await", "ready", "--for", "0.1s")
    assert "the elector is silent" in ran.err


async def test_without_a_sidecar_it_says_so_when_its_time_is_over(run: Run) -> None:
    ran = await run("await", "ready", "--for", "0.1s")
    assert ran.code == 1
    assert ran.err.endswith("; is the sidecar running here?\n")
