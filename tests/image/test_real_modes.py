"""The other two ways to run, as deploy/examples has them: a user for each worker, and a container for each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devkit.podman.pods import Cluster, Pod
from devkit.realapi.server import RealApi

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

WORKERS = ("actuator", "prober", "arbiter", "elector", "gateway")


@pytest.fixture(scope="module", params=["uids", "containers"])
def cluster(request: pytest.FixtureRequest, api: RealApi, built: str, base: str) -> Iterator[Cluster]:
    with Cluster(api, built, base, example=request.param) as made:
        yield made.start_nodes()


@pytest.fixture
def pods(cluster: Cluster) -> Iterator[tuple[Pod, Pod]]:
    try:
        yield cluster.wait_healthy()
        assert cluster.overlap_s(cluster.began) == 0
    except BaseException as error:
        error.add_note(cluster.describe())
        raise


def containers(pod: Pod) -> dict[str, list[str]]:
    """Container -> what to ask forgectl there."""
    if len(pod.sidecars) == 1:
        return {pod.sidecars[0]: []}
    return {worker: ["--worker", worker] for worker in pod.sidecars}


def test_every_worker_is_locked_up_as_it_declares(pods: tuple[Pod, Pod]) -> None:
    for container, words in containers(pods[0]).items():
        told = pods[0].exec("forgectl", "audit", *words, name=container)
        assert told.returncode == 0, told.stdout


def test_every_container_is_alive(pods: tuple[Pod, Pod]) -> None:
    for container in containers(pods[0]):
        told = pods[0].exec("forgectl", "alive", name=container)
        expected = container if container in WORKERS else "prober, elector, arbiter, actuator, gateway"
        assert told.stdout == f"alive: {expected}\n"


def test_sidecars_that_are_all_killed_take_the_node_s_right_along_and_the_other_pod_takes_over(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, other = pods
    since = time.monotonic_ns()
    for container in leader.sidecars:
        leader.kill(container)
    assert cluster.wait_for_one_forger(40, other_than=leader) is other
    note(f"{len(leader.sidecars)} containers killed: without a forger", cluster.gap_s(since))
    leader.last("off", since)
    for container in leader.sidecars:
        leader.start_again(container)
    cluster.wait_healthy()


def test_an_actuator_that_is_killed_alone_is_replaced_and_its_pod_goes_on(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    leader, _ = pods
    since = time.monotonic_ns()
    if "actuator" in leader.sidecars:
        leader.kill("actuator")
        leader.start_again("actuator")  # as the kubelet would
    else:
        os.kill(leader.worker_pid("actuator"), signal.SIGKILL)
    cluster.wait_for(lambda: leader in cluster.forgers() and cluster.gap_s(since) > 0, 20, "it forges again")
    note(f"the actuator killed ({len(leader.sidecars)} containers): without a forger", cluster.gap_s(since))
    leader.last("off", since)


def test_when_a_pods_end_begins_the_other_forges_while_the_first_ones_node_lives_on(
    cluster: Cluster, pods: tuple[Pod, Pod], note: Any
) -> None:
    """The kubelet ends a native sidecar after the node, which may take minutes; its hook comes at once."""
    leader, other = pods
    since = time.monotonic_ns()
    leader.begin_to_end()
    assert cluster.wait_for_one_forger(20, other_than=leader) is other
    note(f"the hook ({len(leader.sidecars)} containers): without a forger", cluster.gap_s(since))
    leader.last("off", since)
    assert all(leader.running(name) for name in (*leader.sidecars, "cardano-node"))
    cluster.wait_healthy()
    assert cluster.forgers() == [other], "who comes back takes nothing away"
