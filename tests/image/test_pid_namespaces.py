"""The sidecar as process 1, among others' processes, and where it cannot see the node at all."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from devkit.podman.engine import EngineError, run
from devkit.podman.pods import NODE, Cluster
from devkit.realapi.server import RealApi

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

COMMAND = "print(open('/proc/1/cmdline').read().split(chr(0))[1:2])"


def test_as_process_1_it_forges_stops_in_order_and_leaves_no_zombie(api: RealApi, built: str, base: str) -> None:
    with Cluster(api, built, base, pods=1, shared_by_sidecar=True) as cluster:
        pod, _ = cluster.start_nodes().wait_healthy()
        assert pod.exec("python3", "-c", COMMAND).stdout.strip() == "['/opt/forge-manager/bin/forge-manager']"
        # An orphan is handed to process 1, which has to take it.
        orphan = "import os, time\nif os.fork() == 0:\n os._exit(0) if os.fork() else time.sleep(0.2)\nelse: os.wait()"
        pod.exec("python3", "-c", orphan)
        zombies = "import glob; print(sum(' Z ' in open(p).read() for p in glob.glob('/proc/[0-9]*/stat')))"
        cluster.wait_for(lambda: pod.exec("python3", "-c", zombies).stdout.strip() == "0", 20, "no zombie is left")
        since = time.monotonic_ns()
        pod.stop()
        assert pod.inspect()["State"]["ExitCode"] == 0
        pod.last("off", since)


def test_in_a_shared_namespace_it_is_not_process_1(api: RealApi, built: str, base: str) -> None:
    with Cluster(api, built, base, pods=1) as cluster:
        pod, _ = cluster.start_nodes().wait_healthy()
        assert "forge-manager" not in pod.exec("python3", "-c", COMMAND).stdout
        assert pod.exec("forgectl", "audit").returncode == 0


def test_without_a_shared_namespace_no_node_starts_and_the_sidecar_says_what_is_missing(
    api: RealApi, built: str, base: str
) -> None:
    """The files that it offers are links through its own process, which lead nowhere in another namespace."""
    with Cluster(api, built, base, pods=1, share_pids=False) as cluster:
        (pod,) = cluster.start_nodes().pods
        cluster.wait_for(lambda: not pod.running(NODE), 60, "the node finds no credentials")
        code, body = pod.get("/ready")
        assert code == 503
        assert "no node process" in body
        doctor = pod.exec("forgectl", "doctor")
        assert doctor.returncode == 1
        assert "set shareProcessNamespace: true in the pod" in doctor.stdout
        assert cluster.forgers() == []


def test_a_node_that_serves_its_socket_from_another_namespace_is_never_armed(
    api: RealApi, built: str, base: str
) -> None:
    """With plain files such a node does start."""
    with Cluster(api, built, base, pods=1, share_pids=False, extra={"CREDENTIAL_MODE": "file"}) as cluster:
        (pod,) = cluster.start_nodes().pods
        said = "NODE_SOCKET answers, but its process is not visible: set shareProcessNamespace: true in the pod"
        cluster.wait_for(lambda: said in pod.get("/ready")[1], 60, "it sees that somebody answers")
        assert pod.exec("forgectl", "doctor").returncode == 1
        assert cluster.forgers() == []


def test_without_a_folder_to_run_in_it_refuses_and_names_the_mount(built: str) -> None:
    words = ["run", "--rm", "--read-only", "--read-only-tmpfs=false", "--network", "none"]
    with pytest.raises(EngineError, match=r"exit code 2(.|\n)*RUN_DIR=.*mount a memory-backed emptyDir"):
        run("podman", *words, built)


@pytest.mark.parametrize("call", ["pidfd_open", "pidfd_send_signal", "timer_create"])
def test_under_a_seccomp_profile_that_refuses_what_the_fence_needs_it_refuses_and_says_which(
    call: str, built: str, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    words = ["run", "--rm", "--network", "none", "--security-opt", f"seccomp={profile}", "--env", "POD_NAME=pod"]
    with pytest.raises(EngineError, match=r"exit code 1(.|\n)*Operation not permitted; use the container engine's"):
        run("podman", *words, built)


def test_a_health_check_of_a_container_in_which_nobody_speaks_fails(built: str) -> None:
    words = ["run", "--rm", "--read-only", "--network", "none", "--entrypoint", "forgectl"]
    with pytest.raises(EngineError, match=r"exit code 1(.|\n)*there is no sidecar here"):
        run("podman", *words, built, "alive")
