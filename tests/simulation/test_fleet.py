"""Some clusters of one pool, in simulated time: what no schedule of faults may do across clusters.

Elector and arbiter are the product's own code; servers, sockets and nodes are models (docs/safety.md).  A seed that
fails is run again alone by its number; the story says what happened.  FORGE_FLEET_START and FORGE_FLEET_SEEDS: from
which seed on, and up to which (`make fleets`, `make soak`).
"""

from __future__ import annotations

import functools
import os

import pytest

from kube.errors import Failure

from fleet_schedules import (
    HOLD_DOWN_S,
    Schedule,
    a_command_upon_faults,
    a_holder_comes_back_to_a_backup_of_its_own_term,
    a_member_comes_back_from_a_backup_with_the_word_of_the_dead,
    a_paused_holder_dies_and_is_disabled,
    a_paused_holder_is_disabled_while_the_next_region_is_cut_off,
    a_paused_pool_is_commanded,
    a_region_is_enabled_that_the_holder_has_not_seen_for_long,
    every_watch_is_over_at_once,
    one_by_one,
    one_upon_another,
    run,
    the_best_region_comes_back_from_a_partition,
    the_best_region_is_cut_off_one_way_for_long,
    the_best_region_is_enabled_while_a_member_is_slow,
    the_best_region_may_read_the_lock_but_not_write_it,
    the_holders_arbiter_restarts_long_after_the_best_region_died,
    the_own_api_server_is_away_for_an_hour,
)
from simulated_fleet import Fleet

pytestmark = pytest.mark.timeout(1800)  # minutes of simulated time, on a machine that may be busy
START, SEEDS = int(os.environ.get("FORGE_FLEET_START", "0")), int(os.environ.get("FORGE_FLEET_SEEDS", "60"))
ALONE = range(START * 3 // 10, SEEDS * 3 // 10)
"""In these each fault is alone, and has to keep its bound."""
UPON = range(START * 7 // 10, SEEDS * 7 // 10)
"""In these they come one upon another."""
REGIONS = ("a-east", "b-west", "c-north", "d-south")
FLEETS = ((3, 3), (4, 4), (3, 1), (3, 2), (4, 3))
"""Regions, and how many of the API servers coordinate."""


def none_of(fleet: Fleet) -> str:
    """Empty, or what went wrong and the story of it."""
    return "\n".join([*fleet.violations, *fleet.story]) if fleet.violations else ""


@pytest.mark.parametrize("seed", ALONE)
def test_no_fault_in_a_fleet_makes_two_forge_and_each_costs_no_more_than_its_bound(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, one_by_one, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize("seed", UPON)
def test_faults_upon_faults_in_a_fleet_never_make_two_forge_and_in_the_end_one_does(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With clocks up to an hour apart whose rates differ by up to 0.5 % each way."""
    regions, members = FLEETS[seed % len(FLEETS)]
    how = {"regions": REGIONS[:regions], "members": members, "clocks": 1.0, "hold_down_s": HOLD_DOWN_S}
    assert not none_of(run(monkeypatch, seed, one_upon_another, **how))


@pytest.mark.parametrize("seed", range(12))
def test_a_holder_that_was_away_for_long_does_not_forge_by_a_backup_of_its_own_term(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    how = {"regions": REGIONS[:2], "members": 1, "pods_each": 1, "hold_down_s": HOLD_DOWN_S}
    assert not none_of(run(monkeypatch, seed, a_holder_comes_back_to_a_backup_of_its_own_term, **how))


@pytest.mark.parametrize("enabled", [False, True])
def test_a_region_that_is_cut_off_one_way_for_ten_minutes_costs_one_hand_over_enabled_or_not(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    """What it says on its own API server, where the others read it, is not to make them leave the lock to it."""
    schedule = functools.partial(the_best_region_is_cut_off_one_way_for_long, enabled=enabled)
    assert not none_of(run(monkeypatch, 0, schedule, pods_each=1, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize("enabled", [False, True])
def test_a_region_that_does_not_take_the_lock_is_left_it_more_and_more_rarely(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    schedule = functools.partial(the_best_region_may_read_the_lock_but_not_write_it, enabled=enabled)
    assert not none_of(run(monkeypatch, 0, schedule, pods_each=1, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize(
    "schedule",
    [
        a_paused_holder_is_disabled_while_the_next_region_is_cut_off,
        a_paused_holder_dies_and_is_disabled,
    ],
)
def test_who_is_disabled_in_a_pause_keeps_nobody_else_from_forging(
    monkeypatch: pytest.MonkeyPatch, schedule: Schedule
) -> None:
    assert not none_of(run(monkeypatch, 0, schedule, pods_each=1, hold_down_s=HOLD_DOWN_S))


def test_what_a_member_says_after_its_restore_is_not_taken_for_said_since(monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"pods_each": 1, "hold_down_s": HOLD_DOWN_S}
    assert not none_of(run(monkeypatch, 0, a_member_comes_back_from_a_backup_with_the_word_of_the_dead, **how))


def test_forging_goes_on_while_the_own_api_server_is_away_for_an_hour_and_is_taken_over_in_the_midst_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how = {"pods_each": 1, "hold_down_s": HOLD_DOWN_S}
    assert not none_of(run(monkeypatch, 0, the_own_api_server_is_away_for_an_hour, **how))


@pytest.mark.parametrize("seed", range(6))
def test_the_lock_is_left_to_a_region_that_comes_back_once_it_can_take_it_and_not_before(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    how = {"pods_each": 1, "hold_down_s": HOLD_DOWN_S}
    assert not none_of(run(monkeypatch, seed, the_best_region_comes_back_from_a_partition, **how))


@pytest.mark.parametrize("seed", range(START // 15, SEEDS // 15))
def test_once_faults_are_mended_the_lock_changes_hands_twice_at_most_and_stays_where_it_was_commanded(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Hold-downs of 0 and 10 s, one, three or four members, clocks up to an hour apart."""
    regions, members = ((3, 3), (3, 1), (4, 4), (4, 3))[seed % 4]
    how = {"regions": REGIONS[:regions], "members": members, "pods_each": 1 + seed % 2, "clocks": float(seed % 3 > 0)}
    assert not none_of(run(monkeypatch, seed, a_command_upon_faults, hold_down_s=HOLD_DOWN_S * (seed % 5 > 1), **how))


@pytest.mark.parametrize(
    "schedule",
    [
        the_best_region_is_enabled_while_a_member_is_slow,
        a_region_is_enabled_that_the_holder_has_not_seen_for_long,
        a_paused_pool_is_commanded,
    ],
)
def test_the_lock_changes_hands_as_often_as_it_was_commanded_to(
    monkeypatch: pytest.MonkeyPatch, schedule: Schedule
) -> None:
    assert not none_of(run(monkeypatch, 0, schedule, pods_each=1, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize("enabled", [False, True])
def test_an_arbiter_that_restarts_as_holder_does_not_leave_the_lock_to_a_region_that_died_before(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    schedule = functools.partial(the_holders_arbiter_restarts_long_after_the_best_region_died, enabled=enabled)
    assert not none_of(run(monkeypatch, 0, schedule, pods_each=1, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize("how", [Failure.UNREACHABLE, Failure.GONE])
def test_a_server_that_ends_every_watch_at_once_is_asked_at_most_three_times_a_second_by_each_follower(
    monkeypatch: pytest.MonkeyPatch, how: Failure
) -> None:
    schedule = functools.partial(every_watch_is_over_at_once, how=how)
    assert not none_of(run(monkeypatch, 0, schedule, regions=("a-east",)))


def test_a_seed_of_a_fleet_tells_the_same_story_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (run(monkeypatch, 3, one_upon_another, hold_down_s=HOLD_DOWN_S) for _ in range(2))
    assert first.story == second.story
