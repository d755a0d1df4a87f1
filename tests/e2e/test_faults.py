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

from conftest import Outcome
from faults import FAULTS

SLACK = 1.5
MEASURING = 0.05
"""Between the last record read and the instant up to which is measured."""

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_at_most_one_forges_and_soon_one_does_again_after(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    bound = FAULTS[name].bound
    print(f"{name}: {outcome.gap_s:.3f} s without a forger (bound {bound:g}), {outcome.overlap_s:.3f} s with two")
    assert outcome.overlap_s == 0
    assert outcome.gap_s <= (bound + SLACK if bound else MEASURING)


def test_a_restart_of_the_api_server_costs_at_most_the_time_it_is_away(api: SyncApiServer) -> None:
    with Cluster(api) as cluster:
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


def test_without_a_lease_object_the_first_forger_waits_a_whole_lease_duration(api: SyncApiServer) -> None:
    with Cluster(api, 2, lease=False) as cluster:
        cluster.wait_for(lambda: all(p.status().get("fence", {}) for p in cluster.pods), 60, "pods are up")
        cluster.wait_for_one_forger(60)
        waited = (min(i.begin for found in cluster.nodes().values() for i in found) - cluster.began) / 1e9
        assert waited >= 15
        assert cluster.overlap_s(cluster.began) == 0
