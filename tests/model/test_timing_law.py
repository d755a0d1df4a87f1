"""The one law of time that the models know follows from `policy.timing`, A2 and A3, for every lease duration."""

from __future__ import annotations

from fractions import Fraction

from config.variables import Config
from policy import pool_lock, timing

FASTEST = Fraction(101, 100)
"""A2: so many ns pass on one machine, at most, while one passes on another."""
SHORTEST_S, LONGEST_S = 6, 3600
"""Of LEASE_DURATION."""


def stopped_by(duration: int) -> int:
    """When the node of a right that counts from 0 has stopped, by the holder's clock (ns)."""
    return timing.grant_deadline(0, duration) + timing.FENCE_MARGIN


def test_a_lease_duration_counted_from_later_on_is_not_over_before_the_right_and_its_margin() -> None:
    for seconds in range(SHORTEST_S, LONGEST_S + 1):
        duration = seconds * timing.SECOND
        assert stopped_by(duration) * FASTEST < duration, seconds


def test_without_the_share_for_drift_it_would_be() -> None:
    duration = 15 * timing.SECOND
    assert (stopped_by(duration) + duration // timing.DRIFT_SHARE) * FASTEST > duration


def test_a_living_actuator_has_killed_a_node_that_does_not_confirm_by_then() -> None:
    assert timing.CONFIRM_HURRY_KILL < timing.FENCE_MARGIN + timing.SOFT_LEAD


def test_two_attempts_one_after_the_other_are_over_before_a_lease_duration_is() -> None:
    for seconds in range(SHORTEST_S, LONGEST_S + 1):
        duration = seconds * timing.SECOND
        attempt = pool_lock.round_lasts(duration)
        assert timing.grant_deadline(0, duration) > attempt
        assert duration > 2 * attempt * FASTEST


def test_the_lease_durations_are_those_that_may_be_configured() -> None:
    from config import load

    assert isinstance(load({"LEASE_DURATION": str(LONGEST_S)}, hostname=lambda: "pod-0"), Config)
    assert isinstance(
        load({"LEASE_DURATION": str(SHORTEST_S), "SLEEP_INTERVAL": "1"}, hostname=lambda: "pod-0"), Config
    )
