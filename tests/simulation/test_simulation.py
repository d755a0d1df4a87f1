"""The product's elector and arbiter, three pods of them, in simulated time: what no schedule of faults may do.

The two workers are the product's own code; the API server, the state sockets and the node are models, with delays by
chance (docs/safety.md).  A seed that fails is run again alone by its number; the story says what happened.
"""

from __future__ import annotations

import pytest

from schedules import (
    Pool,
    a_clean_hand_over_after_each_storm,
    one_by_one,
    one_upon_another,
    rolling_updates,
    run,
    soon_after_each_other,
)

SEEDS = range(30)


def none_of(pool: Pool) -> str:
    """Empty, or what went wrong and the story of it."""
    return "\n".join([*pool.violations, *pool.story]) if pool.violations else ""


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fault_makes_two_forge_and_each_costs_no_more_than_its_bound(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, one_by_one))


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_soon_after_each_other_cost_no_more_than_one_alone(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    assert not none_of(run(monkeypatch, seed, soon_after_each_other, 12))


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_upon_faults_never_make_two_forge_and_in_the_end_one_does(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, one_upon_another, 12))


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_storm_of_faults_a_clean_hand_over_is_as_quick_as_ever(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, a_clean_hand_over_after_each_storm, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rolling_update_that_waits_for_each_pod_to_be_ready_costs_hand_overs_and_no_more(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, rolling_updates, 2))


def test_a_seed_tells_the_same_story_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (run(monkeypatch, 7, one_upon_another, 12) for _ in range(2))
    assert first.story == second.story
    assert len(first.story) > 12
