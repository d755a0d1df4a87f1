"""`forgectl doctor` in whole pods: nothing is wrong with one that forges, and what is done to it is found."""

from __future__ import annotations

import os
from typing import Any

import pytest

from devkit.api.embedded import EmbeddedApi
from devkit.api.server_protocol import SyncApiServer
from devkit.pod import NAMESPACE, UIDS, Pod
from devkit.pods import Cluster

from lanes import REAL

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:cardano-forge-crds"


def doctor(pod: Pod, uid: int | None = None) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the findings, as this user."""
    code, told = pod.forgectl_json("doctor", uid=uid)
    return code, list(told["findings"])


def errors(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {each["check"]: each["reason"] for each in findings if each["severity"] == "error"}


@pytest.mark.parametrize(
    "separation",
    ["single-uid", *(pytest.param(how, marks=pytest.mark.root) for how in ("uids", "containers"))],
)
def test_a_pod_that_forges_with_the_rights_of_its_role_alone_has_no_error(separation: str) -> None:
    if separation != "single-uid" and os.getuid() != 0:
        pytest.skip("gives processes other users: needs root")
    with (
        EmbeddedApi.threaded(users=[ACCOUNT], authorize=True) as api,
        Cluster(api, 1, separation=separation) as cluster,
    ):
        cluster.wait_healthy(90)
        code, found = doctor(cluster.pods[0])
        assert errors(found) == {}
        assert code == 0
        said = {each["check"]: each["reason"] for each in found}
        assert said["rights"] == "the account has all 8 that are needed"
        assert said["lease"].startswith("Lease cardano-node-leader is held by pod-0_")
        assert said["node-start"] == "started as a non-producing node"
        assert said["node-files"].startswith("these lead to the sidecar's: ")
        assert said["node-user"].endswith(", as the actuator")


def guarded_api() -> SyncApiServer:
    """An API server of the kind under test that holds the account to its Role."""
    if REAL:
        from devkit.realapi.server import RealApi

        return RealApi(users=[ACCOUNT])
    return EmbeddedApi.threaded(users=[ACCOUNT], authorize=True)


@pytest.mark.k8s
def test_a_right_that_is_taken_from_the_role_is_named_and_given_back_it_is_not() -> None:
    with guarded_api() as api, Cluster(api, 1) as cluster:
        cluster.wait_healthy(90)
        (pod,) = cluster.pods
        code, found = doctor(pod)
        assert (code, errors(found)) == (0, {})
        admin = cluster.admin
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/cardano-forge-manager"
        whole = admin.request("GET", path).body
        poorer = [rule for rule in whole["rules"] if rule["resources"] != ["cardanoleaders/status"]]
        assert len(poorer) == len(whole["rules"]) - 1
        whole["metadata"].pop("resourceVersion")
        assert admin.request("PUT", path, whole | {"rules": poorer}).code == 200
        cluster.wait_for(lambda: doctor(pod)[0] == 1, 30, "the server holds the account to the poorer Role")
        assert errors(doctor(pod)[1])["rights"] == "missing: patch cardanoleaders.cardano.io/cardano-leader (status)"
        assert admin.request("PUT", path, whole).code == 200
        cluster.wait_for(lambda: doctor(pod)[0] == 0, 30, "the right is back")


def test_a_pod_whose_node_is_gone_and_whose_workers_hang_is_told_so() -> None:
    with EmbeddedApi.threaded(users=[ACCOUNT], authorize=True) as api, Cluster(api, 1) as cluster:
        cluster.wait_healthy(90)
        (pod,) = cluster.pods
        pod.restart_node = False
        pod.kill_node()
        cluster.wait_for(lambda: pod.node_pid == 0, 30, "the node is gone")
        stopped = pod.freeze_sidecar()
        code, found = doctor(pod)
        pod.thaw(stopped)
        assert code == 1
        assert {"node-socket", "workers"} <= errors(found).keys()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="gives processes other users: needs root")
def test_in_a_container_of_one_worker_what_others_see_is_not_looked_at_and_no_error() -> None:
    with (
        EmbeddedApi.threaded(users=[ACCOUNT], authorize=True) as api,
        Cluster(api, 1, separation="containers") as cluster,
    ):
        cluster.wait_healthy(90)
        (pod,) = cluster.pods
        code, found = doctor(pod, UIDS["gateway"])
        assert (code, errors(found)) == (0, {})
        skipped = {each["check"] for each in found if each["severity"] == "not-looked-at"}
        assert {"node-socket", "targets", "api", "rights", "lease"} <= skipped
        assert not skipped & {"workers", "separation", "actuator", "keys", "landlock"}
