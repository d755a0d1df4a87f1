"""kubectl, with the commands operators have in their runbooks, word for word but for the names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract_api import PATIENCE_S, Api, Kubectl

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
NAME = "mainnet-pool1abc-us-east-1"
COLUMNS = (
    "NAME:.metadata.name,STATE:.status.effectiveState,PRIORITY:.status.effectivePriority,"
    "LEADER:.status.activeLeader,HEALTHY:.status.healthStatus.healthy"
)
STATUS = {
    "effectiveState": "Priority-based",
    "effectivePriority": 1,
    "activeLeader": "cardano-producer-0",
    "forgingEnabled": True,
    "healthStatus": {"healthy": True},
}


@pytest.fixture
async def cluster_here(api: Api) -> None:
    await api.create_cluster(NAME, priority=1, pool={"ticker": "MYPOOL"})
    answer = await api.patch(api.clusters(NAME) + "/status", {"status": STATUS})
    assert answer.code == 200, answer.text


def rows(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines()]


async def test_the_definitions_can_be_looked_up(kubectl: Kubectl) -> None:
    for name in ("cardanoleaders.cardano.io", "cardanoforgeclusters.cardano.io"):
        assert rows(await kubectl("get", "crd", name))[1][:3] == [name, "Namespaced", "v1(storage)"]


@pytest.mark.usefixtures("cluster_here")
async def test_a_cluster_is_disabled_for_maintenance_and_enabled_again(api: Api, kubectl: Kubectl) -> None:
    until = (datetime.now(UTC) + timedelta(hours=4)).isoformat(timespec="seconds")
    disable = {
        "spec": {
            "forgeState": "Disabled",
            "override": {"enabled": True, "reason": "Planned maintenance", "expiresAt": until},
        }
    }
    said = await kubectl("patch", "cardanoforgeCluster", NAME, "--type=merge", f"-p={json.dumps(disable)}")
    assert said == f"cardanoforgecluster.cardano.io/{NAME} patched\n"
    spec = (await api.get(api.clusters(NAME))).spec
    assert spec["forgeState"] == "Disabled"
    assert spec["override"] == {"enabled": True, "reason": "Planned maintenance", "expiresAt": until}
    enable = {"spec": {"forgeState": "Priority-based", "override": {"enabled": False}}}
    await kubectl("patch", "cardanoforgeCluster", NAME, "--type=merge", f"-p={json.dumps(enable)}")
    spec = (await api.get(api.clusters(NAME))).spec
    assert (spec["forgeState"], spec["override"]["enabled"]) == ("Priority-based", False)


@pytest.mark.usefixtures("cluster_here")
async def test_a_patch_with_a_wrong_state_is_refused_in_words(kubectl: Kubectl) -> None:
    patch = '-p={"spec":{"forgeState":"Off"}}'
    said = await kubectl("patch", "cardanoforgeCluster", NAME, "--type=merge", patch, fails=True)
    assert (
        'spec.forgeState: Unsupported value: "Off": supported values: "Enabled", "Disabled", "Priority-based"' in said
    )


@pytest.mark.usefixtures("cluster_here")
async def test_the_columns_of_the_runbook_are_filled(kubectl: Kubectl) -> None:
    printed = await kubectl("get", "cardanoforgeclusters", "-o", f"custom-columns={COLUMNS}")
    assert rows(printed) == [
        ["NAME", "STATE", "PRIORITY", "LEADER", "HEALTHY"],
        [NAME, "Priority-based", "1", "cardano-producer-0", "true"],
    ]


@pytest.mark.usefixtures("cluster_here")
@pytest.mark.parametrize("kind", ["cardanoforgeclusters", "cardanoforgecluster", "cfc", "CardanoForgeCluster"])
async def test_a_list_shows_the_printer_columns(kubectl: Kubectl, kind: str) -> None:
    printed = await kubectl("get", kind)
    assert printed.splitlines()[0].split("  ")[0] == "NAME"
    assert rows(printed)[0] == ["NAME", "NETWORK", "POOL", "STATE", "PRIORITY", "ACTIVE", "LEADER", "HEALTHY", "AGE"]
    expected = [NAME, "mainnet", "MYPOOL", "Priority-based", "1", "cardano-producer-0", "true"]
    assert rows(printed)[1][:-1] == expected


@pytest.mark.usefixtures("cluster_here")
async def test_a_wide_list_shows_more(kubectl: Kubectl) -> None:
    header, row = rows(await kubectl("get", "cardanoforgeclusters", "-o", "wide"))
    assert header[-3:] == ["REGION", "FORGING", "AGE"]
    assert row[-3:-1] == ["us-east-1", "true"]


@pytest.mark.usefixtures("cluster_here")
async def test_a_description_shows_spec_status_and_no_events(kubectl: Kubectl) -> None:
    printed = await kubectl("describe", "cardanoforgeCluster", NAME)
    for line in (
        ["Name:", NAME],
        ["Kind:", "CardanoForgeCluster"],
        ["Generation:", "1"],
        ["Active", "Leader:", "cardano-producer-0"],
        ["Healthy:", "true"],
    ):
        assert line in rows(printed)
    assert rows(printed)[-1] == ["Events:", "<none>"]


async def test_the_leader_is_shown(api: Api, kubectl: Kubectl) -> None:
    manifest = {
        "apiVersion": "cardano.io/v1",
        "kind": "CardanoLeader",
        "metadata": {"name": "cardano-leader"},
        "spec": {"namespace": api.namespace},
    }
    await kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    header, row = rows(await kubectl("get", "cardanoleader"))
    assert header == ["NAME", "LEADER", "POD", "FORGING", "LAST", "TRANSITION", "AGE"]
    assert row[0] == "cardano-leader"
    status = {"status": {"leaderPod": "pod-0", "forgingEnabled": True, "lastTransitionTime": "2020-01-01T00:00:00Z"}}
    await api.patch(api.leaders("cardano-leader") + "/status", status)
    row = rows(await kubectl("get", "cardanoleader", "cardano-leader"))[1]
    assert row[:3] == ["cardano-leader", "pod-0", "true"]
    assert re.fullmatch(r"\d+y(\d+d)?", row[3])
    shown = await kubectl("get", "cardanoleader", "cardano-leader", "-o", "yaml")
    assert "  leaderPod: pod-0\n" in shown
    assert rows(await kubectl("get", "leader"))[1][:2] == ["cardano-leader", "pod-0"]


@pytest.mark.usefixtures("cluster_here")
async def test_a_watch_prints_each_change(api: Api, kubectl: Kubectl, tmp_path: Path) -> None:
    await kubectl("get", "cardanoforgeclusters")  # writes the kubeconfig, and kubectl's own cache of discovery
    program = shutil.which("kubectl")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        "--namespace",
        api.namespace,
        "get",
        "cardanoforgeclusters",
        "-w",
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig-admin")},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            header = (await process.stdout.readline()).decode().split()
            first = (await process.stdout.readline()).decode().split()
            await api.patch(api.clusters(NAME) + "/status", {"status": {"activeLeader": "cardano-producer-1"}})
            second = (await process.stdout.readline()).decode().split()
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert header[:2] == ["NAME", "NETWORK"]
    assert (first[5], second[5]) == ("cardano-producer-0", "cardano-producer-1")


async def test_a_manifest_is_applied_changed_and_applied_again(api: Api, kubectl: Kubectl) -> None:
    manifest = (
        "apiVersion: cardano.io/v1\nkind: CardanoForgeCluster\nmetadata: {name: c}\n"
        "spec: {network: {name: mainnet}, region: r, priority: 5}\n"
    )
    what = "cardanoforgecluster.cardano.io/c"
    assert await kubectl("apply", "-f", "-", stdin=manifest) == f"{what} created\n"
    assert await kubectl("apply", "-f", "-", stdin=manifest) == f"{what} unchanged\n"
    changed = manifest.replace("priority: 5", "priority: 6")
    assert await kubectl("apply", "-f", "-", stdin=changed) == f"{what} configured\n"
    assert await kubectl("apply", "-f", "-", "--validate=false", stdin=manifest) == f"{what} configured\n"
    without = manifest.replace(", priority: 5", "")
    await kubectl("apply", "-f", "-", stdin=without)
    assert (await api.get(api.clusters("c"))).spec["priority"] == 100
    assert await kubectl("delete", "-f", "-", stdin=manifest) == 'cardanoforgecluster.cardano.io "c" deleted\n'


async def test_a_manifest_with_a_typo_is_refused(kubectl: Kubectl) -> None:
    manifest = "apiVersion: cardano.io/v1\nkind: CardanoLeader\nmetadata: {name: l}\nspec: {typo: 1}\n"
    for command in ("create", "apply"):
        said = await kubectl(command, "-f", "-", stdin=manifest, fails=True)
        assert 'strict decoding error: unknown field "spec.typo"' in said


async def test_a_lease_is_applied_patched_shown_and_deleted(api: Api, kubectl: Kubectl) -> None:
    manifest = (
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: cardano-node-leader}\n"
        "spec: {holderIdentity: a, leaseDurationSeconds: 15, renewTime: '2026-01-01T00:00:00.000000Z'}\n"
    )
    what = "lease.coordination.k8s.io/cardano-node-leader"
    assert await kubectl("apply", "-f", "-", stdin=manifest) == f"{what} created\n"
    assert await kubectl("apply", "-f", "-", stdin=manifest) == f"{what} unchanged\n"
    assert await kubectl("apply", "-f", "-", stdin=manifest.replace("15", "16")) == f"{what} configured\n"
    await kubectl("patch", "lease", "cardano-node-leader", "-p", '{"spec":{"holderIdentity":"by-hand"}}')
    assert rows(await kubectl("get", "lease"))[1][:2] == ["cardano-node-leader", "by-hand"]
    described = rows(await kubectl("describe", "lease", "cardano-node-leader"))
    assert ["Holder", "Identity:", "by-hand"] in described
    await kubectl("label", "lease", "cardano-node-leader", "a=b")
    await kubectl("annotate", "lease", "cardano-node-leader", "c=d")
    meta = (await api.get(api.leases("cardano-node-leader"))).body["metadata"]
    assert (meta["labels"], meta["annotations"]["c"]) == ({"a": "b"}, "d")
    said = await kubectl("delete", "lease", "cardano-node-leader")
    assert said == 'lease.coordination.k8s.io "cardano-node-leader" deleted\n'
    said = await kubectl("get", "lease", "cardano-node-leader", fails=True)
    assert said == 'Error from server (NotFound): leases.coordination.k8s.io "cardano-node-leader" not found\n'


@pytest.mark.usefixtures("cluster_here")
async def test_a_field_is_explained(kubectl: Kubectl) -> None:
    printed = await kubectl("explain", "cfc.spec.priority")
    assert "FIELD: priority <integer>" in printed
    assert "Lower wins." in printed


@pytest.mark.usefixtures("cluster_here")
async def test_both_kinds_are_in_one_category(kubectl: Kubectl) -> None:
    assert rows(await kubectl("get", "cardano", "-o", "name")) == [[f"cardanoforgecluster.cardano.io/{NAME}"]]


async def test_the_shipped_definitions_can_be_applied_over_themselves(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", str(CRDS))
    assert (await kubectl("apply", "-f", str(CRDS))).split("\n")[0].endswith(" unchanged")


async def test_a_namespace_is_made(api: Api, kubectl: Kubectl) -> None:
    name = f"{api.namespace}-more"
    assert await kubectl("create", "namespace", name) == f"namespace/{name} created\n"
    assert rows(await kubectl("get", "namespace", name))[1][:2] == [name, "Active"]
