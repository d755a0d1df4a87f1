"""From the field's older manager to ours and back, pod by pod: never two that believe, each by its own record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from devkit import record
from devkit.fleet import Fleet

from fleets import LEASE_S, SLACK, settle, started
from older_manager import DESCRIPTION, OlderManager

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(300)]
REGION = "us-east-1"


class Mixed:
    """Our pods and some of the older manager's around one Lease."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.admin = fleet.admins[REGION]
        self.older: list[OlderManager] = []
        self.since = time.monotonic_ns()
        self.transitions = self.lease()["spec"]["leaseTransitions"]

    @property
    def leader_name(self) -> str:
        return f"cardano-leader-{self.fleet.network}-{self.fleet.pool_id[:10]}"

    def leader_path(self) -> str:
        return f"/apis/cardano.io/v1/namespaces/{self.fleet.namespace}/cardanoleaders/{self.leader_name}"

    def lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.fleet.namespace}/leases/{self.leader_name}"

    def lease(self) -> dict[str, Any]:
        return self.admin.request("GET", self.lease_path()).body

    def holder(self) -> str:
        return str(self.lease()["spec"].get("holderIdentity") or "")

    def start_older(self, pod: str) -> OlderManager:
        made = OlderManager(self.admin, self.fleet.namespace, self.leader_name, self.leader_name, pod)
        self.older.append(made)
        return made

    def stop_ours(self) -> None:
        forging = self.fleet.forgers()
        for pod in sorted(self.fleet.pods, key=lambda pod: pod in forging):  # the standbys first
            pod.terminate()
            self.fleet.wait_for(lambda pod=pod: not pod.sidecar_running(), 30, "it has ended")  # type: ignore[misc]

    def start_ours(self) -> None:
        for pod in self.fleet.pods:
            pod.revive()
        self.fleet.wait_for(lambda: all(pod.healthy() for pod in self.fleet.pods), 60, "our standbys are ready")

    def rises(self) -> int:
        """The Lease's transitions; they rose since we looked last."""
        before, self.transitions = self.transitions, self.lease()["spec"]["leaseTransitions"]
        assert self.transitions > before
        return int(self.transitions)

    def check(self) -> None:
        now = time.monotonic_ns()
        nodes = self.fleet.nodes(now) | {each.pod: each.intervals(now) for each in self.older}
        overlap = record.overlap_s(nodes, self.since, now)
        beliefs = {each.pod: each.intervals(now) for each in self.older}
        assert overlap == 0, f"{beliefs}\n{self.fleet.describe(self.since)}"


@pytest.fixture(scope="module")
def one_fleet() -> Iterator[Fleet]:
    with started(regions=(REGION,), pods_each=2) as fleet:
        yield fleet


@pytest.fixture
def mixed(one_fleet: Fleet) -> Iterator[Mixed]:
    settle(one_fleet)
    both = Mixed(one_fleet)
    yield both
    for each in both.older:
        each.stop()


def test_a_rolling_upgrade_waits_for_the_older_leaders_lease_and_keeps_what_a_person_set(mixed: Mixed) -> None:
    fleet = mixed.fleet
    older = mixed.start_older("older-0")
    mixed.stop_ours()
    fleet.wait_for(lambda: older.believes, 30, "an older pod leads")
    mixed.admin.request("DELETE", mixed.leader_path())  # ours; it makes its own at its next renewal
    spec = _as_the_older_manager_has_it(mixed)
    mixed.start_ours()
    mixed.rises()
    since, seen = time.monotonic(), len(older.renewals)
    fleet.wait_for(lambda: time.monotonic() > since + LEASE_S and len(older.renewals) > seen + 2, 40, "it renews")
    assert mixed.lease()["spec"]["leaseDurationSeconds"] == 1, "as our release left it; ours go by their own"
    _erase_the_holder(mixed, older)
    assert not fleet.forgers()
    older.stop()
    last = older.renewals[-1]
    forger = fleet.wait_for_one_forger(LEASE_S + 10)
    begun = max(interval.begin for interval in forger.intervals(time.monotonic_ns()))
    assert LEASE_S <= (begun - last) / record.NS <= LEASE_S + 2 + SLACK
    mixed.rises()
    fleet.wait_for(lambda: fleet.cluster(REGION).get("status", {}).get("forgingEnabled") is True, 20, "it says so")
    ours = fleet.cluster(REGION)
    kept = ("priority", "forgeState", "override", "healthCheck")
    assert {name: ours["spec"].get(name) for name in kept} == {name: spec.get(name) for name in kept}
    assert ours["metadata"]["labels"]["cardano.io/pool"] == f"{fleet.network}-{fleet.pool_id[:10]}"
    assert ours["status"]["activeLeader"] == forger.name
    assert {condition["type"] for condition in ours["status"]["conditions"]} >= {"Ready", "Forging"}

    def told() -> bool:
        status = mixed.admin.request("GET", mixed.leader_path()).body["status"]
        return bool(status["leaderPod"] == forger.name and status["forgingEnabled"])

    fleet.wait_for(told, 20, "the CardanoLeader names ours")
    leader = mixed.admin.request("GET", mixed.leader_path()).body
    assert leader["spec"]["description"] == DESCRIPTION
    mixed.check()


def test_an_older_standby_beside_ours_does_not_disturb_them(mixed: Mixed) -> None:
    older = mixed.start_older("older-0")
    mixed.fleet.wait_for(lambda: older.looks > 2, 30, "it has looked often")
    assert not older.believes
    assert mixed.fleet.leader()
    mixed.check()


def test_a_rollback_as_the_page_has_it_and_the_next_upgrade_back_to_ours(mixed: Mixed) -> None:
    fleet = mixed.fleet
    mixed.stop_ours()
    mixed.admin.request("DELETE", mixed.lease_path())  # else its duration of a second would have them take turns
    older = [mixed.start_older(name) for name in ("older-0", "older-1")]
    fleet.wait_for(lambda: any(each.believes for each in older), 30, "an older one leads")
    mixed.transitions = 0
    mixed.start_ours()
    mixed.check()
    for each in sorted(older, key=lambda one: one.believes):
        each.stop(clears=each.believes)
    fleet.wait_for_one_forger(LEASE_S + 10)
    mixed.rises()
    mixed.check()


def test_an_older_standby_takes_over_from_a_frozen_pod_of_ours_only_after_it_is_off(mixed: Mixed) -> None:
    fleet = mixed.fleet
    older, forger = mixed.start_older("older-0"), fleet.leader()
    for pod in fleet.standbys():
        pod.terminate()
    fleet.wait_for(lambda: older.looks > 0, 10, "it has looked")
    frozen = forger.freeze_sidecar()
    try:
        fleet.wait_for(lambda: older.believes, LEASE_S + 15, "the older one leads")
    finally:
        forger.thaw(frozen)
    mixed.rises()
    mixed.check()


def _erase_the_holder(mixed: Mixed, older: OlderManager) -> None:
    """As `kubectl edit` does it: the older one believes on until it looks again, and has the Lease then."""
    seen = len(older.renewals)
    mixed.fleet.wait_for(lambda: len(older.renewals) > seen, 10, "it renews")
    mixed.admin.merge(mixed.lease_path(), {"spec": {"holderIdentity": None}})
    mixed.fleet.wait_for(lambda: len(older.renewals) > seen + 1, 10, "it has it again")
    assert mixed.holder() == older.pod


def _as_the_older_manager_has_it(mixed: Mixed) -> dict[str, Any]:
    """Its CardanoForgeCluster, with what a person set there; the spec."""
    fleet = mixed.fleet
    folder = f"/apis/cardano.io/v1/namespaces/{fleet.namespace}/cardanoforgeclusters"
    name = fleet.object_name(REGION)
    mixed.admin.request("DELETE", f"{folder}/{name}")
    body = {
        "apiVersion": "cardano.io/v1",
        "kind": "CardanoForgeCluster",
        "metadata": {"name": name},
        "spec": {
            "network": {"name": fleet.network, "magic": 764824073, "era": "conway"},
            "pool": {"id": fleet.pool_id, "ticker": "POOL", "name": "A pool", "description": "by hand"},
            "application": {"type": "block-producer", "environment": "production"},
            "region": REGION,
            "forgeState": "Enabled",
            "priority": 17,
            "healthCheck": {"enabled": False, "interval": "45s", "timeout": "9s", "failureThreshold": 5},
            "override": {
                "enabled": True,
                "reason": "by a person",
                "expiresAt": "2099-01-01T00:00:00Z",
                "forcePriority": 5,
            },
        },
    }
    made = mixed.admin.request("POST", folder, body)
    assert made.code == 201, made.text
    status = {"effectiveState": "Enabled", "effectivePriority": 5, "activeLeader": "older-0", "forgingEnabled": True}
    kind = "application/merge-patch+json"
    told = mixed.admin.request("PATCH", f"{folder}/{name}/status", {"status": status}, content_type=kind)
    assert told.code == 200, told.text
    return dict(made.body["spec"])
