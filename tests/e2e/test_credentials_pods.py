"""Whole pods and their credentials: what the pool's blocks have proven, what is told of a bad set, slots to come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cardano.slots import NETWORKS, slot_at
from devkit import keys
from devkit.api.server_protocol import SyncApiServer
from devkit.pod import LEASE, MemoryFolder, Pod
from devkit.pods import Cluster

from hands import put
from lanes import NAMESPACES

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(300)]

COUNTER = "cardano.io/opcert-counter"


@pytest.fixture
def schedule_file() -> Iterator[Path]:
    folder = MemoryFolder()
    yield folder.path / "schedule.json"
    folder.close()


@pytest.fixture
def cluster(api: SyncApiServer, schedule_file: Path) -> Iterator[Cluster]:
    environment = {"LEADERSHIP_SCHEDULE": str(schedule_file), "HANDOVER_GAP": "5"}
    with Cluster(api, 2, namespace=NAMESPACES[0], environment=environment) as made:
        made.wait_healthy(90)
        yield made


def object_at(cluster: Cluster, path: str) -> dict[str, Any]:
    answer = cluster.admin.request("GET", path)
    assert answer.code == 200, answer.text
    return answer.body


def lease_path(cluster: Cluster) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases/{LEASE}"


def leader_object(cluster: Cluster) -> dict[str, Any]:
    return object_at(cluster, f"/apis/cardano.io/v1/namespaces/{cluster.namespace}/cardanoleaders/cardano-leader")


def recorded(cluster: Cluster) -> str:
    return str(object_at(cluster, lease_path(cluster))["metadata"].get("annotations", {}).get(COUNTER, ""))


def told(cluster: Cluster) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = object_at(cluster, f"/api/v1/namespaces/{cluster.namespace}/events")["items"]
    return [each for each in events if each["reason"] == "CredentialsUnusable"]


def refuses_because(pod: Pod, word: str) -> bool:
    code, body = pod.get("/ready")
    return code == 503 and word in body


def write_schedule(path: Path, slots: tuple[int, ...]) -> None:
    far = (slot_now() + 100_000,)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([{"slotNumber": slot, "slotTime": "?"} for slot in (*slots, *far)]))
    fresh.chmod(0o644)
    fresh.replace(path)


def slot_now() -> int:
    slot = slot_at(NETWORKS["mainnet"], time.time())
    assert slot is not None
    return slot


def put_set(pod: Pod, folder: Path) -> None:
    for path in [path for path in pod.secrets.iterdir() if path.is_file() and not path.name.startswith(".")]:
        put(path, (folder / path.name).read_bytes())


def test_the_counter_of_a_block_that_was_made_is_written_down_and_held_against(cluster: Cluster) -> None:
    leader, (standby,) = cluster.leader(), cluster.standbys()
    made = [
        keys.generate(
            cluster.root / f"set-{counter}",
            kes_period=keys.current_kes_period("mainnet"),
            counter=counter,
            seed=b"the same pool's".ljust(32),
        )
        for counter in (4, 6, 5)
    ]
    before = recorded(cluster)
    for pod in cluster.pods:
        put_set(pod, made[0].folder)
    cluster.wait_for(
        lambda: json.loads(leader.node_control("state"))["counter"] == 4, 20, "the leader's node has the new set"
    )
    cluster.wait_for(lambda: leader.status()["node"]["metrics_answer"], 10, "the prober looked")
    time.sleep(3)  # a look of the prober's at the count before the block
    assert recorded(cluster) == before
    assert leader.node_control("adopt") == "ok"
    cluster.wait_for(lambda: recorded(cluster) == f"4@{made[0].pool_id}", 20, "the counter is in the Lease")
    cluster.wait_for(lambda: leader_object(cluster)["status"].get("opCertCounter") == 4, 20, "and in CardanoLeader")
    assert cluster.forgers() == [leader]

    put_set(standby, made[1].folder)
    cluster.wait_for(lambda: refuses_because(standby, "after 4 the ledger accepts 4 and 5 only"), 20, "6 skips one")
    remedies = [each["remedy"] for each in standby.status()["credentials"]["findings"] if each["check"] == "counter"]
    command = f"kubectl annotate --overwrite lease -n {cluster.namespace} {LEASE} {COUNTER}="
    assert command in remedies[0]
    cluster.wait_for(lambda: any("after 4 the ledger" in each["message"] for each in told(cluster)), 20, "an Event")
    (event,) = (each for each in told(cluster) if "after 4 the ledger" in each["message"])
    assert event["message"].startswith(f"{standby.name}: ")
    assert event["involvedObject"]["name"] == "cardano-leader"

    put_set(standby, made[2].folder)
    cluster.wait_for(standby.healthy, 30, "5 is the next one")
    since = time.monotonic_ns()
    cluster.admin.merge(lease_path(cluster), {"metadata": {"annotations": {COUNTER: "6"}}})
    cluster.wait_for(lambda: refuses_because(standby, "6 has been used"), 20, "what an operator writes down counts")
    time.sleep(7)  # a renewal, which finds the Lease edited
    assert (cluster.gap_s(since), cluster.overlap_s(since)) == (0, 0), "his edit of the Lease costs nothing"
    assert cluster.forgers() == [leader]


def test_a_drain_waits_until_the_pools_next_slots_are_over_and_a_stop_does_not(
    cluster: Cluster, schedule_file: Path
) -> None:
    leader, (standby,) = cluster.leader(), cluster.standbys()
    now = slot_now()
    crowded = tuple(range(now, now + 14, 2))
    write_schedule(schedule_file, crowded)
    cluster.wait_for(lambda: leader.status()["leadership"]["quiet_in_seconds"] > 0, 10, "the schedule is read")
    asked = leader.forgectl("stand-down", "--for", "5")
    assert "until then the pool has slots" in asked.stdout, asked
    cluster.wait_for(lambda: cluster.forgers() == [standby], 30, "then it hands over")
    assert slot_now() > crowded[-1]
    cluster.wait_for(leader.healthy, 30, "and comes back")

    now = slot_now()
    write_schedule(schedule_file, tuple(range(now, now + 300, 2)))
    cluster.wait_for(lambda: standby.status()["leadership"]["quiet_in_seconds"] > 0, 10, "the schedule is read")
    began = time.monotonic()
    standby.terminate()
    cluster.wait_for(lambda: cluster.forgers() == [leader], 30, "a pod that is stopped waits for no gap")
    assert slot_now() < now + 250, time.monotonic() - began
    done = leader.forgectl("stand-down", "--now", "--no-wait", "--for", "3")
    assert "until then" not in done.stdout
    cluster.wait_for(lambda: cluster.forgers() != [leader], 10, "--now waits for none either")
