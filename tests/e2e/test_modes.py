"""Whole pods in the ways of running that are not the recommended one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit import record
from devkit.api.server_protocol import SyncApiServer
from devkit.pod import MemoryFolder, Pod
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


def went_off(pod: Pod) -> bool:
    return any(event["event"] == "off" for event in record.read(pod.record_file))


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    folder = MemoryFolder()
    try:
        yield folder.path
    finally:
        folder.close()


@contextlib.contextmanager
def kes_agent(path: Path) -> Iterator[None]:
    """An agent that says something to whoever connects."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(8)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                connection, _ = sock.accept()
                with connection, contextlib.suppress(ConnectionError):  # whoever came has left again
                    connection.sendall(b"a key")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(path))
            thread.join()


def test_with_a_kes_agent_the_node_is_given_the_way_to_it_while_it_may_forge_and_no_key(api: SyncApiServer) -> None:
    with memory_folder() as folder, kes_agent(folder / "agent.socket"):
        environment = {"CREDENTIAL_MODE": "kes-agent", "SOURCE_KES_AGENT_SOCKET": str(folder / "agent.socket")}
        with Cluster(api, 2, namespace=NAMESPACES[0], environment=environment) as cluster:
            for pod in cluster.pods:
                (pod.secrets / "kes.skey").unlink()  # it is nowhere but with the agent
            cluster.wait_healthy(90)
            leader, (standby,) = cluster.leader(), cluster.standbys()
            link = leader.ipc / "kes-agent.socket"
            assert link.resolve() == folder / "agent.socket"
            assert json.loads(leader.node_control("state"))["key"]
            assert not (standby.ipc / "kes-agent.socket").exists()
            assert not (leader.ipc / "kes.skey").exists()
            since = time.monotonic_ns()
            leader.kill_worker("actuator")
            cluster.wait_for(lambda: went_off(leader), 10, "the kernel tells the node that nothing is there any more")
            cluster.wait_healthy(60)
            assert cluster.overlap_s(since) == 0
            assert leader.get("/ready")[0] == 200
            (folder / "agent.socket").rename(folder / "away")
            cluster.wait_for(lambda: standby.get("/ready")[0] == 503, 20, "a pod without an agent does not contend")
            assert "SOURCE_KES_AGENT_SOCKET" in standby.get("/ready")[1]
            assert len(cluster.forgers()) == 1, "who forges has its key"
            (folder / "away").rename(folder / "agent.socket")


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
