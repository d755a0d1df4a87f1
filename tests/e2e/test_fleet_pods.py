"""Three regions with two pods and an API server each: who forges is as operators say, and never two do.

Measured from the records that the nodes keep themselves.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devkit.fleet import Fleet

from fleets import (
    HAND_OVER_S,
    LEASE_S,
    REGIONS,
    SLACK,
    UNPLANNED_S,
    Kubectl,
    Watched,
    away,
    cut,
    leaders,
    mend,
    say,
    settle,
    started,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
COLUMNS = (
    "NAME:.metadata.name,STATE:.status.effectiveState,PRIORITY:.status.effectivePriority,"
    "LEADER:.status.activeLeader,HEALTHY:.status.healthStatus.healthy"
)
FIRST, SECOND, THIRD = REGIONS


@pytest.fixture(scope="module")
def one_fleet() -> Iterator[Fleet]:
    with started() as fleet:
        yield fleet


@pytest.fixture
def fleet(one_fleet: Fleet) -> Iterator[Fleet]:
    settle(one_fleet)
    yield one_fleet
    mend(one_fleet)


@pytest.fixture
def kubectl(fleet: Fleet, tmp_path: Path) -> Kubectl:
    return Kubectl(fleet, tmp_path)


@pytest.mark.k8s
def test_the_seeds_manual_failover_and_return_by_kubectl(fleet: Fleet, kubectl: Kubectl) -> None:
    name, watched = fleet.object_name(FIRST), Watched(fleet)
    until = (datetime.now(UTC) + timedelta(hours=4)).isoformat(timespec="seconds")
    override = {"enabled": True, "reason": "Planned maintenance", "expiresAt": until}
    patch = json.dumps({"spec": {"forgeState": "Disabled", "override": override}})
    kubectl("patch", "cardanoforgeCluster", name, "--type=merge", f"-p={patch}")
    fleet.wait_for_region(SECOND, 30)
    fleet.wait_for(lambda: fleet.cluster(FIRST)["status"]["effectiveState"] == "Disabled", 10, "the status says so")
    fleet.wait_for(lambda: fleet.cluster(SECOND)["status"]["forgingEnabled"] is True, 10, "the status says so")
    printed = kubectl("get", "cardanoforgeclusters", "-o", f"custom-columns={COLUMNS}")
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}
    assert rows[name][0] == "Disabled"
    assert rows[fleet.object_name(SECOND)][:2] == ["Priority-based", "2"]
    assert rows[fleet.object_name(SECOND)][2].startswith(SECOND)
    assert all(row[3] == "true" for row in rows.values())
    patch = json.dumps({"spec": {"forgeState": "Priority-based", "override": {"enabled": False}}})
    kubectl("patch", "cardanoforgeCluster", name, "--type=merge", f"-p={patch}")
    fleet.wait_for_region(FIRST, 30)
    watched.check("manual failover and return", 2 * HAND_OVER_S)
    fleet.wait_for(
        lambda: "ForgingStarted" in kubectl("describe", "cardanoforgeCluster", name), 15, "an Event tells of it"
    )


@pytest.mark.k8s
def test_a_hand_over_is_seen_by_kubectl_that_watches(fleet: Fleet, kubectl: Kubectl) -> None:
    with kubectl.watching("get", "cardanoforgeclusters", "-w", "-o", f"custom-columns={COLUMNS}") as printed:
        say(fleet, FIRST, {"forgeState": "Disabled"})
        fleet.wait_for_region(SECOND, 30)
        name = fleet.object_name(FIRST)
        fleet.wait_for(lambda: [name, "Disabled"] in [line.split()[:2] for line in printed()], 20, "kubectl shows it")


def test_priorities_that_change_a_hundred_times_at_random_never_make_two_forge(fleet: Fleet) -> None:
    watched, dice = Watched(fleet), random.Random(100)
    for _ in range(100):
        say(fleet, dice.choice(REGIONS), {"priority": dice.randrange(1, 1000)}, on=dice.choice(REGIONS))
        time.sleep(dice.choice([0.01, 0.1, 0.5]) * dice.random())

    def alike() -> bool:
        found = [[fleet.cluster(region, on=on)["spec"] for on in REGIONS] for region in REGIONS]
        return all(copy == copies[0] for copies in found for copy in copies)

    fleet.wait_for(alike, 20, "the copies agree: an edit upon an older one would be set aside")
    for number, region in enumerate(REGIONS):
        say(fleet, region, {"priority": number + 1})
    fleet.wait_for_region(FIRST, 60)
    watched.check("a hundred changes of priority", 10 * HAND_OVER_S)


@pytest.mark.k8s
def test_an_emergency_disable_fences_within_a_second(fleet: Fleet) -> None:
    watched, before = Watched(fleet), time.monotonic()
    forger = fleet.leader()
    say(fleet, FIRST, {"forgeState": "Disabled"})
    fleet.wait_for(lambda: forger not in fleet.forgers(), 10, "the node is off")
    took = time.monotonic() - before
    fleet.wait_for_region(SECOND, 30)
    print(f"fenced after {took:.3f} s")
    assert took < 1.0 + SLACK
    watched.check("emergency disable", HAND_OVER_S)


def test_every_pod_tells_prometheus_in_which_region_the_pools_lock_is(fleet: Fleet) -> None:
    def named(region: str) -> bool:
        pages = [pod.get("/metrics")[1] for pod in fleet.pods]
        lines = [line for page in pages for line in page.splitlines() if "_pool_lock_holder{" in line]
        return len(lines) == len(pages) and all(f'region="{region}"' in line for line in lines)

    say(fleet, FIRST, {"forgeState": "Priority-based"})
    fleet.wait_for_region(FIRST, 30)
    fleet.wait_for(lambda: named(FIRST), 20, "all pods name it")
    say(fleet, FIRST, {"forgeState": "Disabled"})
    fleet.wait_for(lambda: named(SECOND), 30, "all pods name the next one")


@pytest.mark.k8s
def test_a_change_on_any_coordination_api_is_carried_to_all(fleet: Fleet) -> None:
    for region in REGIONS:
        say(fleet, THIRD, {"priority": 700 + REGIONS.index(region)}, on=region)
        wanted = 700 + REGIONS.index(region)

        def everywhere(wanted: int = wanted) -> bool:
            return all(fleet.cluster(THIRD, on=on)["spec"]["priority"] == wanted for on in REGIONS)

        fleet.wait_for(everywhere, 20, "all have it")
    say(fleet, THIRD, {"priority": 3})


def test_an_override_forces_another_cluster_until_it_expires(fleet: Fleet) -> None:
    watched = Watched(fleet)
    until = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    override = {"enabled": True, "reason": "a drill", "expiresAt": until, "forceState": "Enabled"}
    say(fleet, THIRD, {"override": override})
    fleet.wait_for_region(THIRD, 20)
    fleet.wait_for_region(FIRST, 30)
    watched.check("an override, and its end", 2 * HAND_OVER_S)


def test_of_two_that_are_enabled_at_once_the_better_forges_and_both_say_so(fleet: Fleet) -> None:
    watched = Watched(fleet)
    say(fleet, THIRD, {"forgeState": "Enabled"}, on=FIRST)
    say(fleet, SECOND, {"forgeState": "Enabled"}, on=THIRD)
    fleet.wait_for_region(SECOND, 30)

    def in_conflict(region: str) -> bool:
        conditions = fleet.cluster(region)["status"]["conditions"]
        return any(c["type"] == "Conflict" and c["status"] == "True" for c in conditions)

    fleet.wait_for(lambda: in_conflict(SECOND) and in_conflict(THIRD), 15, "both carry the condition")
    watched.check("two enabled", 3 * HAND_OVER_S)


@pytest.mark.k8s
@pytest.mark.parametrize("region", REGIONS)
def test_no_api_server_is_missed_when_it_goes_for_longer_than_a_lease(fleet: Fleet, region: str) -> None:
    watched = Watched(fleet)
    with away(fleet, region):
        time.sleep(LEASE_S + 8)
        assert fleet.forging_region()
        watched.check(f"the API server of {region} away", HAND_OVER_S)
    fleet.wait_for_region(FIRST, 60)
    watched.check(f"the API server of {region} away and back", HAND_OVER_S)


@pytest.mark.k8s
def test_fail_over_works_while_an_api_server_is_away(fleet: Fleet) -> None:
    with away(fleet, THIRD):
        time.sleep(3)
        watched = Watched(fleet)
        for pod in fleet.regions[FIRST]:
            pod.kill_sidecar()
        fleet.wait_for_region(SECOND, 60)
        watched.check("a region's sidecars die while another's API server is away", UNPLANNED_S + SLACK)


@pytest.mark.parametrize(
    ("outwards", "inwards"), [pytest.param(True, True, marks=pytest.mark.k8s), (True, False), (False, True)]
)
def test_a_region_that_is_cut_off_from_the_others_never_makes_two_forge(
    fleet: Fleet, outwards: bool, inwards: bool
) -> None:
    watched = Watched(fleet)
    cut(fleet, FIRST, outwards=outwards, inwards=inwards)
    time.sleep(LEASE_S + 10)
    fleet.wait_for(lambda: bool(fleet.forging_region()), 30, "one region forges")
    assert fleet.forging_region() != FIRST or not outwards
    mend(fleet)
    fleet.wait_for_region(FIRST, 60)
    watched.check(f"cut off, outwards={outwards}, inwards={inwards}", UNPLANNED_S + HAND_OVER_S + SLACK)


@pytest.mark.k8s
def test_all_leaders_killed_at_once_cost_no_more_than_their_leases(fleet: Fleet) -> None:
    watched = Watched(fleet)
    forger, killed = fleet.leader(), leaders(fleet)
    assert forger in killed
    assert len(killed) == len(REGIONS)
    for pod in killed:
        pod.kill_sidecar()
    fleet.wait_for(lambda: forger not in fleet.forgers(), 5, "the kernel fences")
    fleet.wait_for(lambda: bool(fleet.forging_region()), 60, "one region forges")
    watched.check("all leaders die", UNPLANNED_S + 2 + SLACK)


def test_a_forger_that_is_asked_to_stop_is_followed_by_the_other_pod_of_its_region(fleet: Fleet) -> None:
    watched, forger = Watched(fleet), fleet.leader()
    forger.terminate()
    fleet.wait_for_one_forger(20, other_than=forger)
    assert fleet.forging_region() == FIRST
    watched.check("the forger stops", HAND_OVER_S)
    fleet.wait_for(lambda: not forger.sidecar_running(), 20, "it has ended, and can be started again")


def test_in_a_pause_the_lock_stays_in_its_cluster_until_it_is_resumed_or_somebody_commands_otherwise(
    fleet: Fleet,
) -> None:
    watched, pods = Watched(fleet), [pod for pods in fleet.regions.values() for pod in pods]
    by = fleet.regions[SECOND][0]

    def know(*, paused: bool) -> bool:
        return all(("a drill" in pod.status()["paused"]) is paused for pod in pods if pod.sidecar_running())

    told = by.forgectl("pause", "--reason", "a drill")
    assert told.returncode == 0, told.stderr
    assert f"It stays with cluster {fleet.object_name(FIRST)}" in told.stdout
    try:
        fleet.wait_for(lambda: know(paused=True), 20, "every pod knows")
        say(fleet, SECOND, {"forgeState": "Enabled"})
        fleet.wait_for_region(SECOND, 20)
        say(fleet, SECOND, {"forgeState": "Priority-based"})
        time.sleep(8)  # the fleet's PREEMPTION_DELAY, and more
        assert fleet.forging_region() == SECOND, "the better cluster does not come back by itself"
        for pod in fleet.regions[SECOND]:
            pod.terminate()
        time.sleep(LEASE_S + 5)
        assert not fleet.forgers()
    finally:
        resumed = fleet.regions[THIRD][0].forgectl("resume")
    assert resumed.returncode == 0, resumed.stderr
    fleet.wait_for_region(FIRST, 30)
    watched.check("a region stops in a pause, which ends", LEASE_S + 15 + SLACK)


def test_four_members_split_in_halves_forge_nowhere_and_one_forges_afterwards() -> None:
    regions = ("r-one", "r-two", "r-three", "r-four")
    with started(regions=regions, pods_each=1) as fleet:
        fleet.wait_for(lambda: bool(fleet.forging_region()), 120, "one region forges")
        since = time.monotonic_ns()
        for region in regions:
            for other in regions:
                if (region in regions[:2]) != (other in regions[:2]):
                    for pod in fleet.regions[region]:
                        fleet.path(pod, other).refuse()
        fleet.wait_for(lambda: not fleet.forgers(), LEASE_S + 5, "nobody forges")
        time.sleep(LEASE_S + 5)
        assert not fleet.forgers(), fleet.describe(since)
        mend(fleet)
        fleet.wait_for(lambda: bool(fleet.forging_region()), 60, "one region forges")
        assert fleet.overlap_s(since) == 0, fleet.describe(since)


@pytest.mark.k8s
def test_regions_that_all_have_the_settings_of_one_never_forge_twice() -> None:
    """In the other two one server counts double, and would be a majority by itself."""
    regions = ("r-one", "r-two", "r-three")
    with started(regions=regions, pods_each=1, settings=("own", *regions[1:])) as fleet:
        fleet.wait_for(lambda: bool(fleet.forging_region()), 120, "one region forges")
        assert fleet.forging_region() == regions[0]
        since = time.monotonic_ns()
        for pod in fleet.regions[regions[0]]:
            pod.kill_sidecar()
        fleet.wait_for(lambda: not fleet.forgers(), 5, "the kernel fences")
        others = [pod for region in regions[1:] for pod in fleet.regions[region]]
        fleet.wait_for(lambda: all("the same API" in pod.status()["pool"]["objection"] for pod in others), 30, "why")
        time.sleep(LEASE_S + 5)
        assert not fleet.forgers(), fleet.describe(since)
        assert fleet.overlap_s(fleet.began) == 0, fleet.describe()
