"""The log's lines about what became otherwise: old, new, why, token, and how long the old state lasted."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from policy import timing
from workers.transitions import REASONS, Told

S = timing.SECOND
log = logging.getLogger("transitions")


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records]


def told() -> Told:
    return Told(log, "role_changed", 10 * S, old="observer", reason_event="role_reason")


def test_a_change_says_what_was_what_is_why_and_how_long_the_old_state_lasted(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    role.tell(12 * S, "standby", "the lease is held", 0, holder="pod-1")
    role.tell(72 * S + S // 2, "leader", "took the lease", 7, holder="pod-0")
    first, second = lines(caplog)
    wanted = {"event": "role_changed", "old": "observer", "new": "standby", "why": "the lease is held", "token": 0}
    assert {**wanted, "seconds": 2.0, "holder": "pod-1"}.items() <= first.items()
    wanted = {"event": "role_changed", "old": "standby", "new": "leader", "why": "took the lease", "token": 7}
    assert {**wanted, "seconds": 60.5, "holder": "pod-0"}.items() <= second.items()


def test_the_end_of_a_state_names_the_token_that_it_had(caplog: pytest.LogCaptureFixture) -> None:
    grant = told()
    grant.tell(11 * S, "granted", "", 7)
    grant.tell(12 * S, "granted", "", 8)
    grant.tell(13 * S, "nothing", "withdrawn", 0)
    grant.tell(14 * S, "other", "", 0)
    assert [line["token"] for line in lines(caplog)] == [7, 8, 0]


def test_a_change_for_the_worse_is_a_warning_and_the_way_back_is_none(caplog: pytest.LogCaptureFixture) -> None:
    fitness = Told(log, "fitness_changed", 10 * S, warns=("fit", "not fit"))
    for second, state in enumerate(("not fit", "fit", "not fit", "fit"), start=11):
        fitness.tell(second * S, state, "")
    assert [line["levelname"] for line in lines(caplog)] == ["INFO", "INFO", "WARNING", "INFO"]


def test_what_stays_as_it_is_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    for second in range(12, 100):
        role.tell(second * S, "standby", "the lease is held")
    assert len(lines(caplog)) == 1


def test_another_reason_for_the_same_state_is_another_event(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    role.tell(12 * S, "standby", "held by pod-1")
    role.tell(13 * S, "standby", "held by pod-2", 3)
    line = lines(caplog)[1]
    assert {"event": "role_reason", "state": "standby", "why": "held by pod-2", "token": 3}.items() <= line.items()


def test_a_reason_that_differs_by_a_measured_time_only_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    for second in range(12, 100):
        role.tell(second * S, "observer", f"the node's tip is {second} s behind the wall clock, allowed are 120 s")
    assert len(lines(caplog)) == 1


def test_reasons_that_come_in_masses_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    for number in range(1000):
        role.tell(12 * S, "observer", f"held by pod-{number}")
    assert len(lines(caplog)) == REASONS


async def test_that_no_more_reasons_came_is_no_end_of_anything(caplog: pytest.LogCaptureFixture) -> None:
    role = told()
    role._reason._repeats.period = S // 50
    role.tell(12 * S, "observer", "held by pod-1")
    role.tell(13 * S, "observer", "held by pod-2")
    async with asyncio.timeout(30):
        while role._reason.active:
            await asyncio.sleep(0.005)
    assert [line["event"] for line in lines(caplog)] == ["role_reason", "role_reason"]
