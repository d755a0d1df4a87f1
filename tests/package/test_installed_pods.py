"""Whole pods that run from the wheel's installation, not from a checkout: what an operator has."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import NAMESPACE, SERVICE_ACCOUNT, WORKERS, Cluster

from distributions import Installation

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]


def test_a_pool_forges_from_the_wheel_and_survives_the_death_of_its_leader(installation: Installation) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
    with (
        ThreadedApi(EmbeddedApi(users=[user])) as api,
        Cluster(api, 2, forge_manager=installation.command("forge-manager")) as cluster,
    ):
        cluster.wait_healthy(90)
        leader, (standby,) = cluster.leader(), cluster.standbys()
        workers = leader.worker_pids()
        assert set(workers) == set(WORKERS)
        python = str(installation.command("python"))
        for pid in workers.values():
            assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] == python
        assert leader.get("/")[0] == 200
        for asset in ("/page.css", "/page.js"):
            assert leader.get(asset)[0] == 200
        forgectl = [str(installation.command("forgectl")), "--run-dir", str(leader.run_dir)]
        assert subprocess.run([*forgectl, "status"], capture_output=True, check=False, cwd="/").returncode == 0
        since = time.monotonic_ns()
        leader.kill_sidecar()
        assert cluster.wait_for_one_forger(60, other_than=leader) is standby
        assert cluster.overlap_s(since) == 0
