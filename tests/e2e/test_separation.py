"""Whole pods whose workers have a user, or a container, for each."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from devkit.api.server_protocol import SyncApiServer
from devkit.pod import UIDS
from devkit.pods import Cluster

from lanes import NAMESPACES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="gives processes other users: needs root"),
]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _alive(pid: int) -> bool:
    try:
        return _status(pid)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("separation", "group"),
    [("uids", None), ("containers", None), ("containers", UIDS["actuator"])],
    ids=["uids", "containers", "containers whose volumes have a group, as the chart's have"],
)
def test_workers_with_users_of_their_own_hand_over_within_a_second(
    api: SyncApiServer, separation: str, group: int | None
) -> None:
    with Cluster(api, 2, namespace=NAMESPACES[0], separation=separation, volumes_group=group) as cluster:
        cluster.wait_healthy(90)
        leader, (standby,) = cluster.leader(), cluster.standbys()
        for worker, pid in leader.worker_pids().items():
            shown = _status(pid)
            assert shown["Uid"].split() == [str(UIDS[worker])] * 4
            assert shown["Gid"].split() == [str(UIDS[worker])] * 4
            assert shown["Groups"] == ("" if group is None else str(group))
            assert int(shown["CapEff"], 16) == int(shown["CapPrm"], 16) == 0
        since = time.monotonic_ns()
        leader.terminate()
        assert cluster.wait_for_one_forger(30, other_than=leader) is standby
        cluster.wait_for(lambda: not leader.sidecar_running(), 20, "every process of it has ended")
        assert cluster.overlap_s(since) == 0
        assert cluster.gap_s(since) <= 1


@pytest.mark.parametrize("worker", ["actuator", "elector", "arbiter", "prober"])
def test_a_container_that_is_killed_comes_back_and_never_makes_two_forge(api: SyncApiServer, worker: str) -> None:
    with Cluster(api, 2, namespace=NAMESPACES[0], separation="containers") as cluster:
        cluster.wait_healthy(90)
        since = time.monotonic_ns()
        leader = cluster.leader()
        old = leader.worker_pids()[worker]
        leader.kill_worker(worker)
        cluster.wait_for(lambda: leader.worker_pids().get(worker, old) != old, 30, "it is back")
        cluster.wait_healthy(60)
        assert cluster.overlap_s(since) == 0
        assert cluster.gap_s(since) <= (5 if worker == "actuator" else 0)


def test_a_supervisord_that_may_not_signal_its_workers_takes_them_along_when_it_is_killed(api: SyncApiServer) -> None:
    """It has no CAP_KILL, so a signal at the parent's death would be refused; the pipe to it is what they hang on."""
    with Cluster(api, 2, namespace=NAMESPACES[0], separation="uids") as cluster:
        cluster.wait_healthy(90)
        leader, (standby,) = cluster.leader(), cluster.standbys()
        since = time.monotonic_ns()
        pids = list(leader.worker_pids().values())
        leader.kill_supervisor()
        cluster.wait_for(lambda: not any(_alive(pid) for pid in pids), 5, "its workers are gone")
        assert cluster.wait_for_one_forger(30, other_than=leader) is standby
        assert cluster.overlap_s(since) == 0
