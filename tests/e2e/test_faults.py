"""Three pods, one pool, every fault: never two forgers, and nobody forging no longer than promised.

Measured from the records that the nodes keep themselves.  `SLACK` is for a loaded machine with two cores, on bounds
that are promises about time; a bound of zero has none.
"""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from devkit.api.server_protocol import SyncApiServer
from devkit.pods import Cluster
from devkit.record import NS

from faults import FAULTS, LEASE_S
from lanes import NAMESPACES, Outcome

SLACK = 1.5
MEASURING = 0.05
"""A bound of zero is zero; this much is left to the reading of a record that is being written."""

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_at_most_one_forges_and_soon_one_does_again_after(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    bound = FAULTS[name].bound
    print(f"{name}: {outcome.gap_s:.3f} s without a forger (bound {bound:g}), {outcome.overlap_s:.3f} s with two")
    assert outcome.overlap_s == 0, outcome.evidence
    assert outcome.gap_s <= (bound + SLACK if bound else MEASURING), outcome.evidence


def test_a_restart_of_the_api_server_costs_at_most_the_time_it_is_away(api: SyncApiServer) -> None:
    with Cluster(api, namespace=NAMESPACES[0]) as cluster:
        cluster.wait_healthy(90)
        since = time.monotonic_ns()
        began = time.monotonic()
        api.restart_sync()
        away = time.monotonic() - began
        cluster.wait_for_one_forger(30)
        time.sleep(6)
        cluster.wait_for_one_forger(30)
        gap, overlap = cluster.gap_s(since), cluster.overlap_s(since)
        print(f"away {away:.1f} s, {gap:.3f} s without a forger")
        assert overlap == 0
        assert gap <= (max(away - 6, 0) + 2 + SLACK if away > 6 else MEASURING)


def test_the_first_forger_of_a_pool_waits_a_whole_lease_duration(api: SyncApiServer) -> None:
    """Nobody has seen yet whether somebody forges whose Lease is gone."""
    with Cluster(api, 2, namespace=NAMESPACES[0]) as cluster:
        cluster.wait_for_one_forger(90)
        found = cluster.nodes(time.monotonic_ns()).values()
        waited = (min(interval.begin for of_node in found for interval in of_node) - cluster.began) / NS
        assert waited >= LEASE_S
        assert cluster.overlap_s(cluster.began) == 0
