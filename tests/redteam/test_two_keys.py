"""One worker gone bad does not make its node forge: neither elector nor arbiter, whatever it says and writes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from redteam_scenarios import ARBITERS, ELECTORS, SCENARIOS, Lanes, NotApplicable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Outcomes = dict[str, Future[None]]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Every scenario, under way."""
    lanes = Lanes()
    try:
        yield {name: lanes.submit(name) for name in SCENARIOS}
    finally:
        lanes.close()


def _came_of(outcomes: Outcomes, name: str) -> None:
    try:
        outcomes[name].result(280)
    except NotApplicable as why:
        pytest.skip(str(why))


def test_with_both_keys_a_node_does_forge(outcomes: Outcomes) -> None:
    """The tests below can fail: what they forge is taken for true."""
    _came_of(outcomes, "both keys")


@pytest.mark.parametrize("worker", ["elector", "arbiter"])
def test_a_grant_that_one_worker_makes_up_makes_no_node_forge(outcomes: Outcomes, worker: str) -> None:
    _came_of(outcomes, f"{worker} makes up a grant")


@pytest.mark.parametrize(
    ("worker", "how"), [*(("elector", how) for how in ELECTORS), *(("arbiter", how) for how in ARBITERS)]
)
def test_a_lease_that_one_worker_takes_from_a_living_leader_makes_no_second_forger(
    outcomes: Outcomes, worker: str, how: str
) -> None:
    _came_of(outcomes, f"{worker} takes the Lease {how}")


def test_a_release_that_is_not_the_leaders_own_makes_no_second_forger(outcomes: Outcomes) -> None:
    _came_of(outcomes, "elector writes a release that is not its own")


@pytest.mark.parametrize("worker", ["elector", "arbiter"])
def test_a_leaders_worker_that_grants_on_after_the_lease_is_lost_makes_no_second_forger(
    outcomes: Outcomes, worker: str
) -> None:
    _came_of(outcomes, f"{worker} of a leader grants on")


@pytest.mark.parametrize("how", ["releases", "asks for the key"])
def test_a_leaders_elector_that_releases_and_grants_on_makes_no_second_forger(outcomes: Outcomes, how: str) -> None:
    """Its arbiter keeps half of the key until the node is fenced and cannot be armed in this term again."""
    _came_of(outcomes, f"elector of a leader {how} and grants on")


def test_a_release_that_is_written_over_the_leader_does_not_deceive_a_pod_that_starts(outcomes: Outcomes) -> None:
    """It has not seen the leader's seal, so it believes none."""
    _came_of(outcomes, "elector of a leader writes a release of its own making while another pod starts")


def test_a_term_that_its_own_arbiter_gives_back_to_a_former_leader_makes_no_second_forger(outcomes: Outcomes) -> None:
    _came_of(outcomes, "arbiter gives its pod a term back")
