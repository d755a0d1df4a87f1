"""A pool without cluster management, from a laptop: who forges by CardanoLeader and Lease, and what is not known."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from test_across import Run, World, row, run, world

from cli.coordination import LockSeen
from cli.lone import Leader
from policy.lease import LeaseRecord
from policy.wall_time import rfc3339

__all__ = ["run", "world"]  # fixtures

LEADERS = "/apis/cardano.io/v1/namespaces/default/cardanoleaders"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


def lead(world: World, name: str = "cardano-leader", pod: str = "pod-1", *, forging: bool = True, on: int = 0) -> None:
    at = rfc3339(int(time.time()) - 3600)
    kind = {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": name}, "spec": {}}
    world.call(on, "POST", LEADERS, kind)
    forges = {"type": "Forging", "status": str(forging), "reason": "Forging", "message": f"{pod} forges"}
    status: dict[str, Any] = {"leaderPod": pod, "forgingEnabled": forging, "message": f"{pod} forges"}
    status |= {"lastTransitionTime": at, "conditions": [forges | {"lastTransitionTime": at}]}
    world.call(on, "PATCH", f"{LEADERS}/{name}/status", {"status": status})


def hold(
    world: World, holder: str, name: str = "cardano-node-leader", *, age_s: float = 0, paused: str = "", on: int = 0
) -> None:
    at = rfc3339(int(time.time() - age_s)).replace("Z", ".000000Z")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": at, "acquireTime": at}
    metadata = {"name": name, "annotations": {"cardano.io/paused": paused} if paused else {}}
    world.call(on, "POST", LEASES, {"metadata": metadata, "spec": spec | {"leaseTransitions": 3}})


def test_the_pod_that_has_the_lease_and_says_that_it_forges_does(world: World, run: Run) -> None:
    world.start(1)
    lead(world)
    hold(world, "pod-1_aa", paused="true new switches")
    for verb in ("status", "clusters"):
        ran = run(verb)
        assert (ran.code, ran.err) == (0, "")
        assert row(ran, "cardano-leader").split()[1:5] == ["pod-1", "yes", "cardano-node-leader", "pod-1_aa"]
        assert row(ran, "cardano-leader").endswith("pod-1 forges, for 60 min")
        assert row(ran, "clusters").endswith("in namespace default: without cluster management there is none")
        assert row(ran, "paused").endswith("cardano-node-leader, until resumed: new switches")
        assert "nobody" not in ran.out
    shown = run("clusters", "--json").json()
    assert shown["forging"] == ["pod-1"]
    assert (
        shown["leaders"][0] | {"name": "cardano-leader", "forging": True, "holder": "pod-1_aa"} == shown["leaders"][0]
    )


@pytest.mark.parametrize(
    ("holder", "age_s", "why"),
    [
        ("pod-1_aa", 700, "not any more: its Lease ran out; it said: pod-1 forges"),
        ("pod-2_bb", 0, "not any more: its Lease is held by pod-2_bb; it said: pod-1 forges"),
        ("", 0, "not any more: its Lease was released; it said: pod-1 forges"),
    ],
)
def test_what_a_leader_said_is_no_longer_so_without_its_lease(
    world: World, run: Run, holder: str, age_s: float, why: str
) -> None:
    world.start(1)
    lead(world)
    hold(world, holder, age_s=age_s)
    ran = run("status")
    assert ran.code == 1
    assert row(ran, "cardano-leader").split()[2] == "no"
    assert row(ran, "cardano-leader").endswith(why)
    assert run("status", "--json").json()["forging"] == []


def test_a_lease_that_cannot_be_read_proves_nothing_either_way() -> None:
    status = {"leaderPod": "pod-1", "forgingEnabled": True, "message": "pod-1 forges"}
    leader = Leader("own", "cardano-leader", status, "", None, "the server forbids it")
    assert leader.forging(0) is None
    assert leader.why(0) == "it said: pod-1 forges; its Lease is not known: the server forbids it"
    assert Leader("own", "cardano-leader", status, "", None).forging(0) is None
    held = LockSeen(LeaseRecord("1", "pod-1_aa", 15, 1), None, 100.0)
    assert Leader("own", "cardano-leader", status, "x", held).forging(114.9) is True


def test_each_pool_of_a_namespace_is_a_row_and_the_one_that_was_asked_for_alone(world: World, run: Run) -> None:
    world.start(1)
    for label, holder in (("preprod-pool1abcd1", "a-0_aa"), ("preprod-pool1zzzz1", "z-0_zz")):
        lead(world, f"cardano-leader-{label}", holder[:3], forging=holder[0] == "a")
        hold(world, holder, f"cardano-leader-{label}")
    both = run("status")
    assert both.code == 1
    assert row(both, "cardano-leader-preprod-pool1abcd1").split()[1:3] == ["a-0", "yes"]
    assert row(both, "cardano-leader-preprod-pool1zzzz1").split()[1:3] == ["z-0", "no"]
    one = run("status", "--pool", "pool1abcd1")
    assert one.code == 0
    assert "pool1zzzz1" not in one.out


def test_where_there_is_nothing_of_a_pool_nobody_is_said_not_to_forge(world: World, run: Run) -> None:
    world.start(1)
    ran = run("status")
    assert ran.code == 1
    assert row(ran, "forging").endswith(
        "unknown: no CardanoForgeCluster and no CardanoLeader is in namespace default (another by -n)"
    )
    assert "should forge" not in ran.out


def test_leaders_that_cannot_be_read_are_not_said_to_be_none(world: World, run: Run) -> None:
    world.start(1)
    world.call(0, "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/cardanoleaders.cardano.io")
    ran = run("status")
    assert ran.code == 1
    assert re.search(
        r"unknown: the CardanoLeaders could not be read: \S+: the CRD is not installed", row(ran, "forging")
    )
    assert "the CRD is not installed" in run("status", "--json").json()["members"][0]["problem"]
    assert "the CRD is not installed" in run("history").err


def test_its_history_is_what_leader_and_lease_say_of_their_last_changes(world: World, run: Run) -> None:
    world.start(1)
    lead(world)
    hold(world, "pod-1_aa")
    lines = run("history").out.splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["cardano-leader", "Forging=True"],
        ["cardano-node-leader", "taken"],
    ]


def test_a_verb_of_clusters_says_what_to_do_instead(world: World, run: Run) -> None:
    world.start(1)
    lead(world)
    ran = run("switchover", "pod-1")
    assert (ran.code, ran.out) == (2, "")
    assert "there is no CardanoForgeCluster in namespace default" in ran.err
    assert "`forgectl stand-down` in its container" in ran.err
