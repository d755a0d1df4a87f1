"""The stand-in actuator of `bench.electors` arms with both grants and never with one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bench.electors import Between
from devkit import states
from ipc.messages import ActuatorState, ArbiterState, Fence, Grant, Worker
from kernel.clock import boottime_ns
from policy import timing


def grant() -> Grant:
    now = boottime_ns()
    return Grant("pod-0_1", 1, now + 12 * timing.SECOND, now, exclusive=True)


def arbiter(given: Grant | None, giving_up: str = "") -> ArbiterState:
    return ArbiterState(grant=given, reason="", cluster_management=False, giving_up=giving_up)


async def said(between: Between) -> ActuatorState:
    await asyncio.sleep(0)  # it judges in the loop's next turn
    body = between.bodies[Worker.ACTUATOR]
    assert isinstance(body, ActuatorState)
    return body


@pytest.fixture
def between() -> Between:
    made = Between("p:0")
    for worker in Worker:
        made.subscribe(worker, lambda: None)
    return made


async def test_one_grant_alone_arms_nothing(between: Between) -> None:
    between.say(Worker.ELECTOR, states.elector(grant=grant()))
    assert (await said(between)).fence is Fence.FENCED
    between.say(Worker.ELECTOR, states.elector())
    between.say(Worker.ARBITER, arbiter(grant()))
    assert (await said(between)).fence is Fence.FENCED


async def test_both_arm_and_the_loss_of_either_fences_and_each_change_is_told(
    between: Between, capsys: pytest.CaptureFixture[str]
) -> None:
    between.say(Worker.ELECTOR, states.elector(grant=grant()))
    between.say(Worker.ARBITER, arbiter(grant()))
    assert (await said(between)).fence is Fence.ARMED
    between.say(Worker.ARBITER, arbiter(None))
    assert (await said(between)).fence is Fence.FENCED
    told: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["pod"], line["forges"]) for line in told] == [("p:0", True), ("p:0", False)]


async def test_what_the_arbiter_gives_up_is_repeated_to_it_while_it_grants_nothing(between: Between) -> None:
    between.say(Worker.ARBITER, arbiter(None, giving_up="half"))
    assert (await said(between)).heard_giving_up == "half"


async def test_a_subscriber_hears_of_what_is_news_and_of_nothing_else() -> None:
    heard: list[int] = []
    between = Between("p:0")
    between.subscribe(Worker.ELECTOR, lambda: heard.append(1))
    between.say(Worker.ELECTOR, states.elector())
    between.say(Worker.ELECTOR, states.elector())
    assert len(heard) == 1


async def test_a_pod_that_vanishes_while_armed_is_told_as_fenced(
    between: Between, capsys: pytest.CaptureFixture[str]
) -> None:
    between.say(Worker.ELECTOR, states.elector(grant=grant()))
    between.say(Worker.ARBITER, arbiter(grant()))
    await said(between)
    between.gone()
    assert [json.loads(line)["forges"] for line in capsys.readouterr().out.splitlines()] == [True, False]
