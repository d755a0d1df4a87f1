"""What a leading arbiter writes into its CardanoForgeCluster, and what it reads of others', whatever they write."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config import load
from ipc.messages import HealthReport, NodeSample
from workers.cluster_report import (
    CONFLICT,
    COORDINATED,
    READY,
    Condition,
    Report,
    condition_of,
    news,
    of_status,
    status,
)

from surroundings import OURS, report

Json = dict[str, Any]
CONFIG = load({}, hostname=lambda: "pod-a")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
hostile_condition = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([READY, "Ready", "True"]) | anything for name in ("type", "status", "message")}
)
hostile_statuses = st.fixed_dictionaries(
    {},
    optional={
        "conditions": st.lists(hostile_condition | anything, max_size=4) | anything,
        "healthStatus": st.fixed_dictionaries({}, optional={"consecutiveFailures": anything}) | anything,
        "activeLeader": anything,
        "lastTransition": anything,
    },
)


def written(what: Report, before: Json, now: str, **known: Any) -> Json:
    rest: Json = {"health": None, "sample": None, "tip_lag_s": None, "generation": 3} | known
    return status(what, before, config=CONFIG, now=now, **rest)


def times(of: Json) -> dict[str, str]:
    return {each["type"]: each["lastTransitionTime"] for each in of["conditions"]}


# --- the status ---


def test_a_first_status_says_everything_and_dates_it_now() -> None:
    first = written(report(), {}, "t1")
    assert times(first) == dict.fromkeys(OURS, "t1")
    assert first["lastTransition"] == first["healthStatus"]["lastProbeTime"] == "t1"
    assert (first["effectiveState"], first["effectivePriority"]) == ("Priority-based", 100)
    assert (first["activeLeader"], first["forgingEnabled"], first["fencingToken"]) == ("pod-a", True, 7)
    assert (first["poolLeader"], first["observedGeneration"]) == ("east", 3)


def test_a_heartbeat_changes_the_time_of_the_probe_and_nothing_else() -> None:
    first = written(report(), {}, "t1")
    second = written(report(), first, "t2")
    assert second["healthStatus"].pop("lastProbeTime") == "t2"
    del first["healthStatus"]["lastProbeTime"]
    assert second == first


@pytest.mark.parametrize("name", OURS)
def test_the_time_of_a_condition_changes_only_with_its_status(name: str) -> None:
    first = written(report(), {}, "t1")
    reworded = written(report(conditions={name: Condition(True, "Other", "words")}), first, "t2")
    assert times(reworded) == times(first)
    assert condition_of(reworded, name)["message"] == "words"
    turned = written(report(conditions={name: Condition(False, "Other", "words")}), reworded, "t3")
    assert times(turned) == times(first) | {name: "t3"}
    assert condition_of(turned, name)["status"] == "False"


def test_conditions_of_others_are_kept_as_they_are() -> None:
    theirs = {"type": "Backup", "status": "Unknown", "reason": "x", "odd": [1]}
    first = written(report(), {"conditions": [theirs]}, "t1")
    assert theirs in first["conditions"]
    assert written(report(), first, "t2")["conditions"] == first["conditions"]


@pytest.mark.parametrize("change", [{"forging": False}, {"leader": "pod-b"}, {"state": "Enabled"}])
def test_the_last_transition_is_of_the_state_the_leader_or_forging(change: dict[str, Any]) -> None:
    first = written(report(), {}, "t1")
    assert written(report(priority=3, token=9), first, "t2")["lastTransition"] == "t1"
    assert written(report(**change), first, "t2")["lastTransition"] == "t2"


def test_what_the_node_shows_is_said_and_nothing_is_said_of_what_it_does_not_show() -> None:
    silent = written(report(), {}, "t1")["networkStatus"]
    assert silent["syncStatus"] == "unknown"
    assert not {"tipSlot", "epochNo"} & set(silent)
    sample = NodeSample(1, 1, 1, True, 1, 1, slot=5, epoch=2, remaining_kes_periods=9)
    shown = written(report(), {}, "t1", sample=sample, tip_lag_s=0.0)["networkStatus"]
    assert (shown["syncStatus"], shown["tipSlot"], shown["epochNo"]) == ("synced", 5, 2)
    late = written(report(), {}, "t1", sample=sample, tip_lag_s=CONFIG.max_tip_lag + 1.0)["networkStatus"]
    assert late["syncStatus"] == "syncing"
    unknown = written(report(), {}, "t1", sample=sample)["networkStatus"]
    assert unknown["syncStatus"] == "unknown"


def test_the_time_of_a_health_answer_is_said_in_milliseconds_if_there_was_one() -> None:
    health = HealthReport("http://x", True, 0, checked_at=1, response_s=0.0421, message="")
    assert written(report(), {}, "t1", health=health)["healthStatus"]["responseTime"] == "42ms"
    none = dataclasses.replace(health, response_s=None)
    assert "responseTime" not in written(report(), {}, "t1", health=none)["healthStatus"]


@example({"conditions": [{"type": []}, {"type": READY, "status": "True", "lastTransitionTime": {}}]})
@given(hostile_statuses)
def test_whatever_stood_there_before_a_status_can_be_written(before: Json) -> None:
    kept = copy.deepcopy(before)
    found = written(report(), before, "t1")
    json.dumps(found)
    assert before == kept
    assert [each["type"] for each in found["conditions"][: len(OURS)]] == list(OURS)
    assert all(isinstance(each["lastTransitionTime"], str) for each in found["conditions"][: len(OURS)])
    assert isinstance(found["lastTransition"], str)


# --- news ---


def test_to_lead_is_the_first_news() -> None:
    assert news(None, report()) == [("Leading", "pod-a leads this cluster", False)]


def test_nothing_changed_is_no_news() -> None:
    assert news(report(), report()) == []
    assert news(report(), report(message="other words", token=8)) == []


@pytest.mark.parametrize(
    ("old", "new", "reason", "warning"),
    [
        ({"forging": False}, {}, "ForgingStarted", False),
        ({}, {"forging": False}, "ForgingStopped", False),
        ({}, {"state": "Disabled"}, "StateChanged", False),
        ({}, {"priority": 1}, "PriorityChanged", False),
        ({}, {"healthy": False}, "HealthFailed", True),
        ({"healthy": False}, {}, "HealthRecovered", False),
    ],
)
def test_each_transition_is_told_once(old: Json, new: Json, reason: str, warning: bool) -> None:
    assert [(told[0], told[2]) for told in news(report(**old), report(**new))] == [(reason, warning)]


@pytest.mark.parametrize(
    ("name", "now", "reason", "warning"),
    [
        (CONFLICT, True, "Conflict", True),
        (CONFLICT, False, "NotConflict", False),
        (COORDINATED, True, "Coordinated", False),
        (COORDINATED, False, "NotCoordinated", True),
        (READY, True, "Ready", False),
        (READY, False, "NotReady", True),
    ],
)
def test_a_condition_that_turns_is_told_and_is_a_warning_when_it_turned_bad(
    name: str, now: bool, reason: str, warning: bool
) -> None:
    before = report(conditions={name: Condition(not now, "X", "before")})
    after = report(conditions={name: Condition(now, "X", "why")})
    assert news(before, after) == [(reason, "why", warning)]


# --- another cluster's word ---


def test_another_cluster_is_read_as_it_was_written() -> None:
    theirs = written(report(failures=2), {}, "t1")
    found = of_status("west", "eu", theirs)
    assert (found.name, found.region, found.leader, found.failures) == ("west", "eu", "pod-a", 2)
    assert (found.ready, found.prefers_itself, found.spec, found.ours) == (True, True, None, False)


def test_a_cluster_that_is_not_ready_is_quoted() -> None:
    theirs = written(report(conditions={READY: Condition(False, "NotFit", "no node")}), {}, "t1")
    assert (of_status("w", "", theirs).ready, of_status("w", "", theirs).why_not) == (False, "no node")


def test_a_cluster_that_says_nothing_is_not_ready() -> None:
    found = of_status("west", "", {})
    assert (found.ready, found.prefers_itself, found.leader, found.failures) == (False, False, "", 0)
    assert found.why_not == "it does not say that it is ready"


@given(hostile_statuses)
def test_no_status_of_another_can_do_harm(theirs: Json) -> None:
    found = of_status("west", "eu", theirs)
    assert type(found.failures) is int
    assert 0 <= found.failures < 1_000_000
    assert isinstance(found.leader, str)
    assert isinstance(found.why_not, str)
    assert found.why_not
    assert type(found.ready) is bool
