"""The gateways of real pods: what they count over restarts, what a take-over looks like, and under siege."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devkit.api.server_protocol import SyncApiServer
from devkit.pods import Cluster, Pod
from devkit.siege import Siege, peak_mib
from ipc.messages import Worker

from lanes import NAMESPACES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TAKEOVER = "cardano_forge_manager_takeover_seconds"
WITHOUT = "cardano_forge_manager_without_forger_seconds_total"


@pytest.fixture
def cluster(api: SyncApiServer) -> Iterator[Cluster]:
    with Cluster(api, 2, namespace=NAMESPACES[0]) as made:
        made.wait_healthy(90)
        yield made


def asked(pod: Pod, path: str) -> str:
    """What a 200 says; TimeoutError while the gateway is away."""
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            status, text = pod.get(path)
            if status == 200:
                return text
        if time.monotonic() > end:
            raise TimeoutError(f"{pod.name} does not answer {path}")
        time.sleep(0.05)


def is_ready(pod: Pod) -> bool:
    with contextlib.suppress(OSError):
        return pod.get("/ready")[0] == 200
    return False


def samples(pod: Pod) -> dict[str, float]:
    """Name and labels -> value; TimeoutError while the gateway is away."""
    text = asked(pod, "/metrics")
    return {
        " ".join([s.name, *(f"{k}={v}" for k, v in sorted(s.labels.items()))]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def counts(found: dict[str, float]) -> dict[str, float]:
    """Those that may never go down: counters, and the histogram, which is as good as one."""
    return {
        name: n for name, n in found.items() if name.split(" ")[0].endswith(("_total", "_bucket", "_count", "_sum"))
    }


def message(pod: Pod) -> Any:
    """What the page is told first."""
    with urllib.request.urlopen(f"{pod.address}/events", timeout=20) as stream:
        while not (line := stream.readline()).startswith(b"data: "):
            assert line
        return json.loads(line[6:])


def restarts(pod: Pod, workers: tuple[str, ...]) -> list[float]:
    found = samples(pod)
    return [found[f"cardano_forge_manager_worker_restarts_total worker={worker}"] for worker in workers]


def restarted(cluster: Cluster, pod: Pod, *workers: str) -> None:
    """Each of them once, seen by the gateway."""
    before = restarts(pod, workers)
    for worker in workers:
        pod.kill_worker(worker, signal.SIGKILL)

    def anew() -> bool:
        return restarts(pod, workers) == [count + 1 for count in before] and is_ready(pod)

    cluster.wait_for(anew, 40, f"{' and '.join(workers)} of {pod.name} are back")


def test_no_counter_goes_down_whichever_workers_are_killed_and_the_time_line_goes_on(cluster: Cluster) -> None:
    leader = cluster.leader()
    cluster.wait_for(lambda: bool(message(leader)["timeline"]), 10, "something happened")
    before, told = counts(samples(leader)), message(leader)["timeline"]
    for workers in (("gateway",), ("elector",), ("gateway", "elector"), ("gateway", "prober", "arbiter")):
        restarted(cluster, leader, *workers)
        after = counts(samples(leader))
        gone = {name: (count, after.get(name)) for name, count in before.items() if after.get(name, -1) < count}
        assert not gone, f"after {workers}: {gone}"
        before = after
    known = {(each["about"], each["new"], each["why"]) for each in message(leader)["timeline"]}
    assert {(each["about"], each["new"], each["why"]) for each in told} <= known
    assert cluster.overlap_s(cluster.began) == 0


def test_each_worker_says_what_it_costs(cluster: Cluster) -> None:
    pod = cluster.leader()
    memory = "cardano_forge_manager_worker_memory_bytes"
    cluster.wait_for(
        lambda: sum(name.startswith(memory) for name in samples(pod)) == len(Worker), 40, "all have measured themselves"
    )
    found = samples(pod)
    for worker in Worker:
        assert found[f"{memory} worker={worker}"] > 5 << 20
        assert found[f"cardano_forge_manager_worker_open_files worker={worker}"] >= 5
        assert found[f"cardano_forge_manager_worker_cpu_seconds_total worker={worker}"] > 0


def takeovers(pod: Pod) -> tuple[float, float]:
    """How many, and seconds of all together."""
    found = samples(pod)
    return found[f"{TAKEOVER}_count"], found[f"{TAKEOVER}_sum"]


def test_a_planned_takeover_is_counted_as_long_as_nobody_forged_by_the_nodes_own_records(cluster: Cluster) -> None:
    leader, (other,) = cluster.leader(), cluster.standbys()
    since = time.monotonic_ns()
    before = takeovers(other)
    assert leader.forgectl("stand-down", "--for", "60").returncode == 0
    cluster.wait_for_one_forger(30, other_than=leader)
    cluster.wait_for(lambda: takeovers(other)[0] == before[0] + 1, 10, "it counts the take-over")
    took = takeovers(other)[1] - before[1]
    assert 0 < took <= 10, "from the release to confirmed forging; the record's gap also has the fence in it"
    assert cluster.overlap_s(since) == 0


def test_after_a_crash_the_takeover_counts_from_the_last_renewal_and_the_seconds_without_a_forger_are_seen(
    cluster: Cluster,
) -> None:
    leader, (other,) = cluster.leader(), cluster.standbys()
    before, without = takeovers(other), samples(other)[WITHOUT]
    leader.kill_sidecar()
    cluster.wait_for_one_forger(60, other_than=leader)
    cluster.wait_for(lambda: takeovers(other)[0] == before[0] + 1, 10, "it counts the take-over")
    took = takeovers(other)[1] - before[1]
    assert 15 <= took <= 60, "a lease has to run out"
    assert samples(other)[WITHOUT] > without
    leader.revive()


# --- siege ---


def test_a_siege_of_every_gateway_costs_no_second_forger_and_bounded_memory(cluster: Cluster) -> None:
    """A thousand who scrape, look and dribble, while the leader hands over and then dies."""
    first, (second,) = cluster.leader(), cluster.standbys()
    since = time.monotonic_ns()
    with Siege(cluster.pods) as siege:
        cluster.wait_for(lambda: siege.answers > 0, 30, "some of them are answered")
        first.forgectl("stand-down", "--for", "5")
        cluster.wait_for_one_forger(30, other_than=first)
        cluster.wait_for(lambda: is_ready(first), 60, "it is ready again, and its probe is answered")
        second.kill_node()
        cluster.wait_for_one_forger(30, other_than=second)
        peaks = {pod.name: peak_mib(pod) for pod in cluster.pods}
    assert max(peaks.values()) < 90, peaks
    assert cluster.overlap_s(since) == 0
