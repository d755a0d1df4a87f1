"""SIGTERM to the sidecar of a forging node: fenced, released, gone, quickly and with 0."""

from __future__ import annotations

import time

import pytest
from tree import alive, until

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import LEASE, NAMESPACE, Cluster

LOADED = 2.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_stop_of_the_leader_fences_releases_and_leaves_no_process_behind() -> None:
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        with Cluster(api, 1) as cluster:
            pod = cluster.wait_for_one_forger(90)
            until(pod.healthy, "ready")
            (process,) = pod._sidecars.values()
            pids = pod.sidecar_pids()
            assert len(pids) == 6
            began = time.monotonic()
            pod.terminate()
            until(lambda: not any(alive(pid) for pid in pids), "all ended")
            took = time.monotonic() - began
            until(lambda: process.returncode is not None, "reaped")
            print(f"{took:.2f} s")
            assert process.returncode == 0
            assert took < 2.0 + LOADED
            assert cluster.forgers() == []
            assert str((pod.ipc / "kes.skey").readlink()).startswith("/proc/")
            assert not (pod.ipc / "kes.skey").exists()
            path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}"
            answer = cluster.admin.request("GET", path)
            assert answer.code == 200
            assert not answer.body["spec"].get("holderIdentity")
    finally:
        api.stop_sync()
