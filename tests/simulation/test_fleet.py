"""Three clusters and four of one pool, in simulated time: what no schedule of faults may do across clusters.

Elector and arbiter are the product's own code; servers, sockets and nodes are models (docs/safety.md).  A seed that
fails is run again alone by its number; the story says what happened.
"""

from __future__ import annotations

import pytest

from fleet_schedules import HOLD_DOWN_S, one_by_one, one_upon_another, run
from simulated_fleet import Fleet


def none_of(fleet: Fleet) -> str:
    """Empty, or what went wrong and the story of it."""
    return "\n".join([*fleet.violations, *fleet.story]) if fleet.violations else ""


@pytest.mark.parametrize("seed", range(60))
def test_no_fault_in_a_fleet_makes_two_forge_and_each_costs_no_more_than_its_bound(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, one_by_one, hold_down_s=HOLD_DOWN_S))


@pytest.mark.parametrize("seed", range(60))
def test_faults_upon_faults_in_a_fleet_never_make_two_forge_and_in_the_end_one_does(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert not none_of(run(monkeypatch, seed, one_upon_another, hold_down_s=HOLD_DOWN_S, clocks=1.0))
