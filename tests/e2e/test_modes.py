"""Whole pods in the ways of running that are not the recommended one."""

from __future__ import annotations

import time

import pytest

from devkit.api.server_protocol import SyncApiServer
from devkit.pods import Cluster

from lanes import NAMESPACES

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(300)]


def test_plain_files_are_on_the_leader_only_and_a_hand_over_moves_them(api: SyncApiServer) -> None:
    with Cluster(api, 2, namespace=NAMESPACES[0], environment={"CREDENTIAL_MODE": "file"}) as cluster:
        cluster.wait_healthy(90)
        leader, (standby,) = cluster.leader(), cluster.standbys()
        assert "CREDENTIAL_MODE=file" in " ".join(leader.status()["warnings"])
        assert (leader.ipc / "kes.skey").is_file()
        assert not (leader.ipc / "kes.skey").is_symlink()
        assert not (standby.ipc / "kes.skey").exists()
        since = time.monotonic_ns()
        leader.terminate()
        assert cluster.wait_for_one_forger(30, other_than=leader) is standby
        time.sleep(1)
        assert cluster.overlap_s(since) == 0
        assert not (leader.ipc / "kes.skey").exists()
        assert (standby.ipc / "kes.skey").is_file()


def test_a_node_without_the_non_producing_flag_is_reported_loudly_and_told_to_stop(api: SyncApiServer) -> None:
    """It forges for a moment before it can be told: nothing promises otherwise, and docs/safety.md says so."""
    with Cluster(api, 2, namespace=NAMESPACES[0]) as cluster:
        cluster.wait_healthy(90)
        standby = cluster.standbys()[0]
        standby.non_producing = False
        pid = standby.node_pid
        standby.kill_node()
        cluster.wait_for(lambda: standby.node_pid not in (0, pid), 30, "its node is started again")
        cluster.wait_for(standby.healthy, 60, "its node is fenced, with proof")
        since = time.monotonic_ns()
        assert "--start-as-non-producing-node" in " ".join(standby.status()["warnings"])
        assert standby.status()["fence"]["proof"] == "flat"
        assert "cardano_forge_manager_node_started_producing 1.0" in standby.get("/metrics")[1]
        assert "producing" in standby.log.read_text()
        time.sleep(4)
        assert cluster.overlap_s(since) == 0
