"""Whole pods audited while they forge, in each of the three ways to run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from devkit.api.server_protocol import SyncApiServer
from devkit.pod import UIDS, Pod
from devkit.pods import Cluster
from ipc.messages import Worker

from lanes import NAMESPACES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="gives processes other users: needs root"),
]
VIOLATIONS = "cardano_forge_manager_privilege_violations"
CLOSED = "cardano_forge_manager_sandbox_closed"


def audit(pod: Pod, *arguments: str, uid: int | None = None) -> tuple[int, dict[str, Any]]:
    """The exit code and what `forgectl audit --json` prints, to root or to this user."""
    code, told = pod.forgectl_json("audit", *arguments, uid=uid)
    return code, dict(told)


def metric(pod: Pod, name: str) -> dict[str, float]:
    lines = [line for line in pod.get("/metrics")[1].splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize(
    ("separation", "group"),
    [("single-uid", None), ("uids", None), ("containers", None), ("containers", UIDS["actuator"])],
    ids=["single-uid", "uids", "containers", "containers with a group for volumes"],
)
def test_a_pod_that_forges_is_green_and_goes_on_forging(api: SyncApiServer, separation: str, group: int | None) -> None:
    with Cluster(api, 1, namespace=NAMESPACES[0], separation=separation, volumes_group=group) as cluster:
        cluster.wait_healthy(90)
        leader = cluster.leader()
        cluster.wait_for(lambda: (leader.status().get("fence") or {}).get("state") == "armed", 30, "it is armed")
        pids, before = leader.worker_pids(), leader.status()
        code, shown = audit(leader)
        deviations = [
            (worker, row)
            for worker, each in shown["workers"].items()
            for row in each["rows"]
            if row["verdict"] not in ("ok", "excused")
        ]
        assert deviations == []
        assert (code, shown["green"]) == (0, True)
        for worker, each in shown["workers"].items():
            assert each["separation"] == separation
            assert each["pid"] == pids[worker]
            assert each["counts"]["ok"] > 300
            checks = {row["check"] for row in each["rows"]}
            assert {
                "trace the node",
                "execve",
                "read SOURCE_KES_KEY",
                "connect to an abstract socket outside",
            } <= checks
            siblings = {f"kill the {other}" for other in Worker if other != worker}
            assert siblings <= checks
            assert {row["said_by"] for row in each["rows"]} == {"kernel", "worker"}
        everybody = {str(worker) for worker in Worker}
        cluster.wait_for(lambda: metric(leader, VIOLATIONS).keys() == everybody, 30, "the states say so too")
        assert metric(leader, VIOLATIONS) == dict.fromkeys(everybody, 0)
        assert metric(leader, CLOSED) == dict.fromkeys(everybody, 1)
        after = leader.status()
        assert after["forging"]
        assert after["fence"]["state"] == before["fence"]["state"] == "armed"
        assert after["leader"]["token"] == before["leader"]["token"]
        assert leader.worker_pids() == pids


def test_in_a_container_of_its_own_a_worker_is_audited_by_its_user_and_the_others_are_said_to_be_out_of_reach(
    api: SyncApiServer,
) -> None:
    with Cluster(api, 1, namespace=NAMESPACES[0], separation="containers") as cluster:
        cluster.wait_healthy(90)
        pod = cluster.leader()
        code, shown = audit(pod, uid=UIDS["gateway"])
        assert code == 1
        found = shown["workers"]
        assert found.pop("gateway")["green"]
        for worker, each in found.items():
            assert not each["green"]
            assert f"in the {worker}'s" in each["problem"]
        code, shown = audit(pod, "--worker", "gateway", uid=UIDS["gateway"])
        assert (code, shown["green"]) == (0, True)


_REMOVING = """
import os, sys
from pathlib import Path

if "workers.elector" in sys.orig_argv:
    from sandbox.landlock import Access, Ruleset

    restrict = Ruleset.restrict

    def with_a_rule_too_many(self):
        assert self.allow(Path(os.environ["RUN_DIR"]), Access.WRITE_FILE)
        restrict(self)

    Ruleset.restrict = with_a_rule_too_many
"""


def test_a_rule_too_many_in_one_worker_of_a_running_pod_turns_it_red_in_audit_metric_and_status(
    api: SyncApiServer,
) -> None:
    with tempfile.TemporaryDirectory(prefix="fm-rule-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(_REMOVING)
        with Cluster(api, 1, namespace=NAMESPACES[0], environment={"PYTHONPATH": folder}) as cluster:
            cluster.wait_healthy(90)
            pod = cluster.leader()
            code, shown = audit(pod)
            assert (code, shown["green"]) == (1, False)
            beyond = {
                (worker, row["check"])
                for worker, each in shown["workers"].items()
                for row in each["rows"]
                if row["verdict"] not in ("ok", "excused")
            }
            folders = {f"the {worker}'s folder" for worker in Worker if worker is not Worker.ELECTOR}
            assert beyond == {("elector", f"write {what}") for what in {str(pod.run_dir), *folders}}
            cluster.wait_for(lambda: metric(pod, VIOLATIONS).get("elector") == 5, 30, "the metric says so")
            assert sum(metric(pod, VIOLATIONS).values()) == 5
            assert any("elector" in text and "actuator's folder" in text for text in pod.status()["warnings"])


def test_sandboxes_that_cannot_be_closed_are_said_everywhere_where_permissive_starts_all_the_same(
    api: SyncApiServer,
) -> None:
    """As where a container's seccomp profile refuses Landlock."""
    broken = "import sandbox.landlock as l\nl.abi = lambda: 0\n"
    with tempfile.TemporaryDirectory(prefix="fm-rule-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(broken)
        given = {"PYTHONPATH": folder, "SANDBOX": "permissive"}
        with Cluster(api, 1, namespace=NAMESPACES[0], environment=given) as cluster:
            cluster.wait_healthy(90)
            pod = cluster.leader()
            code, shown = audit(pod)
            assert (code, shown["green"]) == (1, False)
            for each in shown["workers"].values():
                assert each["permissive"]
                assert not each["green"]
            everybody = {str(worker) for worker in Worker}
            assert metric(pod, CLOSED) == dict.fromkeys(everybody, 0)
            assert sum("permissive" in text for text in pod.status()["warnings"]) == len(everybody)
