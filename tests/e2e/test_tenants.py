"""Two pools of two networks in one cluster and one namespace: what befalls one is nothing to the other.

Who may write what is decided by deploy/rbac/pool.yaml, on the real server; the embedded one lets everybody in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import SyncApiServer
from devkit.fleet import Fleet
from devkit.pod import NAMESPACE, Pod
from devkit.realapi.client import AdminClient, Answer

from fleets import REAL, say, settle

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(300)]
REGION = "us-east-1"
ACCOUNTS = ("pool-a", "pool-b")
MERGE = "application/merge-patch+json"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
LEADERS = f"/apis/cardano.io/v1/namespaces/{NAMESPACE}/cardanoleaders"
CLUSTERS = f"/apis/cardano.io/v1/namespaces/{NAMESPACE}/cardanoforgeclusters"


def _user(account: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:{account}"


def _label(pool: Fleet) -> str:
    return f"{pool.network}-{pool.pool_id[:10]}"


@dataclass
class Tenants:
    """Two pools on one API server."""

    api: SyncApiServer
    one: Fleet
    other: Fleet

    def by(self, pool: Fleet) -> AdminClient:
        """What that pool's pods may."""
        return AdminClient(self.api.url, self.api.ca_file, self.api.token_for(_user(pool.account)))


@pytest.fixture(scope="module")
def all_tenants() -> Iterator[Tenants]:
    users = [_user(account) for account in ACCOUNTS]
    api: SyncApiServer
    if REAL:
        from devkit.realapi.server import RealApi

        api = RealApi(users=users)
    else:
        api = ThreadedApi(EmbeddedApi(users=users, tls=True))
    api.start_sync()
    with contextlib.ExitStack() as stack:
        stack.callback(api.stop_sync)
        pools = [
            stack.enter_context(Fleet({REGION: api}, network=network, account=account, prefix=f"{account}-"))
            for network, account in zip(("mainnet", "preprod"), ACCOUNTS, strict=True)
        ]
        yield Tenants(api, *pools)


@pytest.fixture
def tenants(all_tenants: Tenants) -> Iterator[Tenants]:
    for pool in (all_tenants.one, all_tenants.other):
        settle(pool)
    yield all_tenants
    listed = all_tenants.other.admins[REGION].request("GET", CLUSTERS).body["items"]
    for name in (item["metadata"]["name"] for item in listed):
        if "nonsense" in name:
            all_tenants.other.admins[REGION].request("DELETE", f"{CLUSTERS}/{name}")


class Undisturbed:
    """A pool of which nothing may change."""

    def __init__(self, pool: Fleet) -> None:
        self._pool, self._since = pool, time.monotonic_ns()
        self._before = self._facts()

    def check(self) -> None:
        """It forges without a gap, by the same pod, in the same terms, as the same operator says."""
        now = time.monotonic_ns()
        gap, overlap = self._pool.gap_s(self._since, now), self._pool.overlap_s(self._since, now)
        assert (gap, overlap) == (0, 0), self._pool.describe(self._since)
        assert self._facts() == self._before

    def _facts(self) -> tuple[Pod, list[Any], Any]:
        pool, admin = self._pool, self._pool.admins[REGION]
        names = (f"cardano-leader-{_label(pool)}", f"cardano-pool-{_label(pool)}")
        terms = [_term(admin.request("GET", f"{LEASES}/{name}").body) for name in names]
        return pool.leader(), terms, pool.cluster(REGION)["spec"]


def _term(lease: dict[str, Any]) -> tuple[str, int]:
    return lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]


def test_each_pool_has_a_forger_a_lease_a_lock_and_objects_of_its_own(tenants: Tenants) -> None:
    admin, pools = tenants.one.admins[REGION], (tenants.one, tenants.other)
    for pool in pools:
        forger, label = pool.leader(), _label(pool)
        holder, _ = _term(admin.request("GET", f"{LEASES}/cardano-leader-{label}").body)
        assert holder.startswith(forger.name)
        holder, _ = _term(admin.request("GET", f"{LEASES}/cardano-pool-{label}").body)
        assert holder.startswith(f"{pool.object_name(REGION)}/{forger.name}_")
        status = admin.request("GET", f"{LEADERS}/cardano-leader-{label}").body["status"]
        assert status["leaderPod"] == forger.name
        cluster = pool.cluster(REGION)
        assert cluster["spec"]["pool"]["id"] == pool.pool_id
        assert cluster["spec"]["network"]["name"] == pool.network
        assert {each["name"] for each in forger.status()["pool"]["clusters"]} == {pool.object_name(REGION)}


def test_the_death_of_all_pods_of_a_pool_is_nothing_to_the_other(tenants: Tenants) -> None:
    undisturbed = Undisturbed(tenants.other)
    for pod in tenants.one.pods:
        pod.kill_sidecar()
    tenants.one.wait_for(lambda: not tenants.one.forgers(), 10, "the kernel fences")
    for pod in tenants.one.pods:
        pod.revive()
    tenants.one.wait_for_one_forger(60)
    undisturbed.check()


def test_disabling_a_pool_disables_no_other(tenants: Tenants) -> None:
    undisturbed = Undisturbed(tenants.other)
    say(tenants.one, REGION, {"forgeState": "Disabled"})
    tenants.one.wait_for(lambda: not tenants.one.forgers(), 10, "it forges no more")
    undisturbed.check()
    say(tenants.one, REGION, {"forgeState": "Priority-based"})
    tenants.one.wait_for_one_forger(30)
    undisturbed.check()


def test_nonsense_in_a_pools_own_objects_is_nothing_to_the_other(tenants: Tenants) -> None:
    one, other = tenants.one, tenants.other
    undisturbed, writer, name = Undisturbed(other), tenants.by(one), one.object_name(REGION)
    fresh = other.cluster(REGION)["status"]
    lies = {
        "effectiveState": "Enabled",
        "effectivePriority": 1,
        "activeLeader": other.leader().name,
        "forgingEnabled": True,
        "poolLeader": other.object_name(REGION),
        "fencingToken": 2**62,
        "message": "\x1b[2J" + "x" * 4000,
        "poolStatus": {"id": other.pool_id, "huge": ["y" * 1000] * 900},
        "conditions": fresh["conditions"],
    }
    for _ in range(3):
        answer = writer.request("PATCH", f"{CLUSTERS}/{name}/status", {"status": lies}, content_type=MERGE)
        assert answer.code == 200, answer.text[:500]
    one.wait_for(lambda: one.cluster(REGION)["status"]["poolStatus"]["id"] == one.pool_id, 40, "it tells the truth")
    one.admins[REGION].request("DELETE", f"{CLUSTERS}/{name}")
    one.wait_for(lambda: bool(one.cluster(REGION).get("status")), 30, "it is made anew")
    one.wait_for_one_forger(30)
    undisturbed.check()


def test_objects_that_claim_to_be_of_a_pool_are_nothing_to_it(tenants: Tenants) -> None:
    """Whoever may create CardanoForgeClusters in a namespace may give them any name and any pool's label."""
    one, other = tenants.one, tenants.other
    undisturbed, writer = Undisturbed(other), tenants.by(one)
    for number in range(220):  # more than are looked at
        pool_id = one.pool_id if number % 2 else other.pool_id
        answer = _claim(writer, f"a-nonsense-{number}", _label(other), other.network, pool_id)
        assert answer.code == 201, answer.text
    other.pods[0].kill_worker("arbiter")
    other.pods[1].kill_worker("arbiter")
    since = time.monotonic()
    other.wait_for(lambda: time.monotonic() > since + 3 and _granted(other), 30, "its arbiters have seen them all")
    assert len(other.leader().status()["pool"]["clusters"]) > 1
    undisturbed.check()


def test_an_object_of_a_pool_that_carries_the_label_of_another_is_nothing_to_it(tenants: Tenants) -> None:
    """It says that it is ready and comes first.  An account of the first pool can write it, its name being its own."""
    one, other = tenants.one, tenants.other
    undisturbed, admin = Undisturbed(other), other.admins[REGION]
    tokens = [pod.status()["pool"]["token"] for pod in other.pods]
    name = f"{_label(one)}-nonsense"
    assert _claim(admin, name, _label(other), other.network, "").code == 201
    conditions = [{"type": kind, "status": "True", "reason": "Lie"} for kind in ("Ready", "Preferred")]
    for number in range(12):
        status = {"activeLeader": f"nobody-{number}", "fencingToken": 2**31 - 1, "conditions": conditions}
        answer = admin.request("PATCH", f"{CLUSTERS}/{name}/status", {"status": status}, content_type=MERGE)
        assert answer.code == 200, answer.text
        at = time.monotonic() + 0.5
        other.wait_for(lambda at=at: time.monotonic() > at, 5, "a while passes")  # type: ignore[misc]
    assert [pod.status()["pool"]["token"] for pod in other.pods] == tokens
    undisturbed.check()


def _granted(pool: Fleet) -> bool:
    """Whether the arbiters are up again and the forger's grants."""
    known = [pod.status() for pod in pool.pods]
    return all(each.get("pool") for each in known) and any(each.get("forging") for each in known)


def _claim(writer: AdminClient, name: str, label: str, network: str, pool_id: str) -> Answer:
    body = {
        "apiVersion": "cardano.io/v1",
        "kind": "CardanoForgeCluster",
        "metadata": {"name": name, "labels": {"cardano.io/pool": label}},
        "spec": {
            "network": {"name": network},
            "pool": {"id": pool_id},
            "region": name,
            "forgeState": "Enabled",
            "priority": 1,
        },
    }
    return writer.request("POST", CLUSTERS, body)


@pytest.mark.skipif(not REAL, reason="only the real server authorizes")
def test_a_pools_account_cannot_write_what_is_anothers(tenants: Tenants) -> None:
    one, other = tenants.one, tenants.other
    undisturbed, writer, label = Undisturbed(other), tenants.by(one), _label(other)
    admin = other.admins[REGION]
    lease = admin.request("GET", f"{LEASES}/cardano-leader-{label}").body
    lock = admin.request("GET", f"{LEASES}/cardano-pool-{label}").body
    cluster, leader = f"{CLUSTERS}/{other.object_name(REGION)}", f"{LEADERS}/cardano-leader-{label}"
    refused = [
        writer.request("PUT", f"{LEASES}/cardano-leader-{label}", lease),
        writer.request("PUT", f"{LEASES}/cardano-pool-{label}", lock),
        *(
            writer.request("PATCH", f"{LEASES}/{n}-{label}", {}, content_type=MERGE)
            for n in ("cardano-leader", "cardano-pool")
        ),
        *(writer.request("DELETE", f"{LEASES}/{n}-{label}") for n in ("cardano-leader", "cardano-pool")),
        *(writer.request("PATCH", path, {"spec": {}}, content_type=MERGE) for path in (cluster, leader)),
        *(writer.request("PATCH", f"{path}/status", {"status": {}}, content_type=MERGE) for path in (cluster, leader)),
        *(writer.request("DELETE", path) for path in (cluster, leader)),
    ]
    assert [answer.code for answer in refused] == [403] * len(refused)
    own = f"{CLUSTERS}/{one.object_name(REGION)}"
    assert writer.request("PATCH", own, {"spec": {"priority": 1}}, content_type=MERGE).code == 200
    undisturbed.check()
