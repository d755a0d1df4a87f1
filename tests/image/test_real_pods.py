"""Two pods as deploy/examples/single-uid.yaml has them, in containers, with deploy/rbac, on a real API server.

What each node says in its own record decides: when it forged, and never two at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devkit.podman.pods import Cluster, Pod
from devkit.realapi.server import RealApi
from devkit.record import NS

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

LEASE_S = 15
SLACK_S = 5.0
"""For a loaded machine, on what is promised in seconds."""
OFF_S = 5.0
"""The kernel needs a millisecond; the rest is podman's own start, or the time until memory has run out."""
STOP_S = 2.0
"""Promised on a machine that has time."""
LIMIT = "300m"
"""Of the sidecar's memory; Kubernetes would have it from resources.limits."""


@pytest.fixture(scope="module")
def cluster(api: RealApi, built: str, base: str) -> Iterator[Cluster]:
    with Cluster(api, built, base, sidecar_options=("--memory", LIMIT)) as made:
        yield made.start_nodes()


@pytest.fixture
def pods(cluster: Cluster) -> Iterator[tuple[Pod, Pod]]:
    """The one that forges, and the other; afterwards, that never two forged."""
    try:
        yield cluster.wait_healthy()
        assert cluster.overlap_s(cluster.began) == 0, cluster.describe()
    except BaseException as error:
        error.add_note(cluster.describe())
        raise


def ends(cluster: Cluster, leader: Pod, other: Pod, end: Callable[[], object]) -> tuple[float, float]:
    """The leader's sidecar ends thus and is started again: until its node is off, and without a forger; s."""
    since = time.monotonic_ns()
    end()
    cluster.wait_for(lambda: leader not in cluster.forgers(), OFF_S, "its node is told by the kernel")
    assert cluster.wait_for_one_forger(LEASE_S + SLACK_S, other_than=leader) is other
    gap = cluster.gap_s(since)
    assert not leader.running()
    leader.start_again()
    cluster.wait_healthy()
    assert cluster.forgers() == [other], "who comes back takes nothing away"
    return (leader.last("off", since) - since) / NS, gap


def test_a_sidecar_s_container_that_is_killed_takes_its_node_s_right_along_and_the_other_takes_over(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, other = pods
    off, gap = ends(cluster, leader, other, leader.kill)
    note("podman kill -s KILL: until the node is off", off)
    note("podman kill -s KILL: without a forger", gap)


def test_a_sidecar_whose_memory_runs_out_takes_its_node_s_right_along_and_the_other_takes_over(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, other = pods
    off, gap = ends(cluster, leader, other, lambda: leader.run_out_of_memory(leader.pid()))
    note("out of memory, the container: without a forger", gap)
    assert off < OFF_S


def test_an_actuator_whose_memory_runs_out_is_replaced_and_the_same_pod_goes_on(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, _ = pods
    since = time.monotonic_ns()
    leader.run_out_of_memory(leader.worker_pid("actuator"))
    cluster.wait_for(lambda: leader in cluster.forgers(), SLACK_S, "it forges again")
    leader.last("off", since)
    note("out of memory, the actuator: without a forger", cluster.gap_s(since))
    assert leader.running()
    cluster.wait_healthy()


def test_a_stop_is_over_soon_with_the_node_off_and_the_other_forging(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, other = pods
    since = time.monotonic_ns()
    took = leader.stop()
    off = (leader.last("off", since) - since) / NS
    assert leader.inspect()["State"]["ExitCode"] == 0
    assert cluster.wait_for_one_forger(STOP_S, other_than=leader) is other
    gap = cluster.gap_s(since)
    ended = leader.ended_after("stop_requested")
    note("podman stop: until the container ended, from the signal on", ended)
    note("podman stop: took, as a command", took)
    note("podman stop: until the node is off", off)
    note("podman stop: without a forger", gap)
    assert ended < STOP_S + SLACK_S
    assert gap < STOP_S + SLACK_S
    leader.start_again()
    cluster.wait_healthy()


def test_a_container_that_is_restarted_comes_back_as_the_same_instance_and_could_take_over(
    cluster: Cluster, pods: tuple[Pod, Pod]
) -> None:
    leader, other = pods
    instance = (other.volumes["run"] / "elector" / "instance").read_text()
    other.stop()
    other.start_again()
    cluster.wait_healthy()
    assert cluster.forgers() == [leader]
    assert (other.volumes["run"] / "elector" / "instance").read_text() == instance


def test_every_worker_is_locked_up_as_it_declares(pods: tuple[Pod, Pod]) -> None:
    for pod in pods:
        told = pod.exec("forgectl", "audit")
        assert told.returncode == 0, told.stdout
        assert told.stdout.count("single-uid: ") == 5
        assert "green: every worker asked for holds what it declares" in told.stdout


def test_forgectl_tells_in_the_container_what_there_is_to_tell(pods: tuple[Pod, Pod]) -> None:
    leader, other = pods
    status = leader.exec("forgectl", "status")
    assert status.returncode == 0, status.stderr
    assert "forging          yes" in status.stdout
    assert "ready            yes" in status.stdout
    assert other.exec("forgectl", "why").stdout.startswith(f"{other.name} does not forge.")
    doctor = leader.exec("forgectl", "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "0 errors" in doctor.stdout


def test_the_kernel_sees_no_capability_no_way_to_more_and_a_filter(pods: tuple[Pod, Pod]) -> None:
    told = pods[0].exec("python3", "-c", "print(open('/proc/self/status').read())").stdout
    fields = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapBnd"] == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    for path in ("/", "/opt/forge-manager", "/etc", "/run", "/secrets"):
        refused = pods[0].exec("python3", "-c", f"open('{path}/x', 'w')").stderr
        assert "Read-only file system" in refused or "Permission denied" in refused, path


def test_the_engine_s_health_check_says_that_it_is_alive_also_on_a_standby(pods: tuple[Pod, Pod]) -> None:
    for pod in pods:
        told = pod.health_check()
        assert (told.returncode, told.stdout) == (0, "")
        assert pod.exec("forgectl", "alive").stdout == "alive: prober, elector, arbiter, actuator, gateway\n"


def test_a_log_has_no_secret_in_it(pods: tuple[Pod, Pod], cluster: Cluster) -> None:
    for pod in pods:
        text = pod.logs()
        assert "worker_started" in text
        assert cluster.account_files["token"].decode() not in text
        assert "cborHex" not in text
