"""The commands in docs/chart.md, run as a reader would run them, against a real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from devkit.docs import ROOT
from devkit.helm.build import build
from devkit.realapi.server import RealApi
from kube.leases import LeaseClient
from kube.session import ApiSession

from rendered import Run, warm_up

pytestmark = pytest.mark.chart

NAMESPACE = "as-written"
"""In place of the page's, which other tests use."""
DOC = (ROOT / "docs" / "chart.md").read_text("utf-8").replace("cardano-mainnet", NAMESPACE)
POOL = "pool1abcd1234567890"
WEST = {
    "pool": {"id": POOL},
    "clusters": {
        "enabled": True,
        "region": "us-west-2",
        "coordination": {"servers": ["us-east-1", "own", "eu-west-1"], "accounts": ["us-east-1", "eu-west-1"]},
    },
}
KEYS = ("kes.skey", "vrf.skey", "node.cert")
CONFIGURATION = ("config.json", "topology.json")


def _blocks(section: str) -> list[str]:
    """What is to be typed in a section."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", DOC, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^( *)```sh\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    assert found
    return [textwrap.dedent(block) for _, block in found]


@pytest.fixture
def reader(real_api: RealApi, tmp_path: Path) -> Path:
    """A folder with what a reader has: the charts, his keys, his configuration, an administrator's kubeconfig."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "helm").symlink_to(build())
    for name in (*KEYS, *CONFIGURATION):
        (tmp_path / name).write_text("{}")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(WEST))
    real_api.write_kubeconfig(tmp_path / "kubeconfig")
    return tmp_path


def _type(folder: Path, block: str) -> str:
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    environment |= {"KUBECONFIG": str(folder / "kubeconfig")}
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def _as_the_token_controller(kubectl: Run, real_api: RealApi, account: str) -> None:
    """Fills the account's Secret: a server alone has no controllers."""
    token = kubectl("--namespace", NAMESPACE, "create", "token", account).stdout.strip()
    assert real_api.ca_file is not None
    data = {"token": token, "ca.crt": real_api.ca_file.read_text()}
    kubectl("--namespace", NAMESPACE, "patch", "secret", account, "-p", json.dumps({"stringData": data}))


async def test_a_pool_is_installed_joined_by_another_region_upgraded_and_uninstalled(
    reader: Path, kubectl: Run, real_api: RealApi
) -> None:
    (install,) = _blocks("One cluster")
    assert "NOTES:" in _type(reader, install)
    in_namespace = ("--namespace", NAMESPACE)
    secret = json.loads(kubectl(*in_namespace, "get", "secret", "cardano-forging-keys", "-o", "json").stdout)
    assert secret["data"].keys() == set(KEYS)
    upgrade, end_the_pods, _another_account = _blocks("Upgrade")
    with pytest.raises(AssertionError, match="field is immutable"):  # these values have a pool, and another Lease
        _type(reader, upgrade)
    _type(reader, end_the_pods.replace("=foreground", "=background"))  # no controller waits for pods here
    assert "REVISION: 3" in _type(reader, upgrade)

    _as_the_token_controller(kubectl, real_api, "cardano-forge-us-east-1")
    mint, carry = _blocks("Several clusters")
    _type(reader, mint)
    assert (reader / "us-west-2").stat().st_mode & 0o077 == 0
    assert not {"ca.crt", "token"} & {file.name for file in reader.iterdir()}
    async with ApiSession(reader / "us-west-2", user_agent="test") as session:
        lock = LeaseClient(session, NAMESPACE, "cardano-pool-mainnet-pool1abcd1")
        assert (await lock.look(timeout_s=30))[0] is None
        assert await lock.api_identity(timeout_s=30)
    comes = ("--kubeconfig", reader / "us-west-2", *in_namespace, "auth", "can-i")
    assert kubectl(*comes, "patch", "cardanoforgeclusters/mainnet-pool1abcd1-us-east-1").stdout == "yes\n"
    assert kubectl(*comes, "patch", "cardanoforgeclusters/mainnet-pool1abcd1-us-west-2", fails=True).stdout == "no\n"
    assert kubectl(*comes, "update", "leases/cardano-leader-mainnet-pool1abcd1", fails=True).stdout == "no\n"
    (reader / "eu-west-1").write_bytes((reader / "us-west-2").read_bytes())
    _type(reader, carry)
    assert not {"us-west-2", "eu-west-1"} & {file.name for file in reader.iterdir()}, "kubeconfigs are left lying about"

    (uninstall,) = _blocks("Uninstall")
    _type(reader, uninstall)
    assert kubectl(*in_namespace, "get", "statefulset,role", "-o", "name").stdout == ""
    _type(reader, "helm uninstall cardano-forge-crds --namespace cardano-system")
    warm_up(kubectl)
    (remove,) = re.findall(r"`(kubectl delete crd [^`]+)`", DOC)
    assert "cardanoleaders.cardano.io" in _type(reader, remove.replace("\n", " "))


def test_who_began_with_the_manifests_goes_on_with_the_chart(reader: Path, kubectl: Run) -> None:
    """Taken over as it is the StatefulSet would be refused, and removing what failed would end its pods."""
    in_namespace = ("--namespace", NAMESPACE)
    _type(reader, f"kubectl create namespace {NAMESPACE} --dry-run=client -o yaml | kubectl apply --server-side -f -")
    _type(reader, "kubectl apply -f deploy/crds/")
    role, example = "-f deploy/rbac/role.yaml", "-f deploy/examples/single-uid.yaml"
    _type(reader, f"kubectl {' '.join(in_namespace)} apply {role} {example}")
    (move,) = _blocks("From the manifests to the chart")
    definitions, *pods = move.splitlines(keepends=True)
    with pytest.raises(AssertionError, match="exists and cannot be imported"):
        _type(reader, definitions.replace(" --take-ownership", ""))
    with pytest.raises(AssertionError, match="field is immutable"):
        _type(reader, pods[-1].replace("--values", "--take-ownership --values"))
    _type(reader, f"helm uninstall cardano-producer {' '.join(in_namespace)}")
    assert kubectl(*in_namespace, "get", "statefulset", "-o", "name").stdout == "", "the page warns of it"
    _type(reader, f"kubectl {' '.join(in_namespace)} apply {role} {example}")
    assert "NOTES:" in _type(reader, move.replace("=foreground", "=background"))
    left = kubectl(*in_namespace, "get", "role,rolebinding", "-o", "name").stdout.split()
    assert len(left) == 2
    assert all("/cardano-producer-" in each for each in left)
    _type(reader, f"helm uninstall cardano-producer {' '.join(in_namespace)}")
    _type(reader, "helm uninstall cardano-forge-crds --namespace cardano-system")
    warm_up(kubectl)
    kubectl("delete", "crd", "cardanoleaders.cardano.io", "cardanoforgeclusters.cardano.io", "--timeout=60s")


def test_the_kustomizations_are_applied(reader: Path, kubectl: Run) -> None:
    _type(
        reader, "kubectl create namespace cardano-preprod --dry-run=client -o yaml | kubectl apply --server-side -f -"
    )
    (block,) = _blocks("Kustomize")
    assert "statefulset.apps/cardano-producer created" in _type(reader, block)
    warm_up(kubectl)
    for folder in ("examples/preprod", "crds"):
        kubectl("delete", "-k", reader / "deploy" / "kustomize" / folder)


def test_what_the_page_shows_of_a_refusal_is_what_helm_prints(reader: Path) -> None:
    (command, printed) = re.findall(r"```\n\$ (helm template .*?)\n(.*?)```", DOC, re.DOTALL)[0]
    done = subprocess.run(
        [reader / "bin" / "helm", *command.split()[1:]], cwd=reader, capture_output=True, text=True, check=False
    )
    # Helm tells what is wrong in any order.
    assert sorted(done.stderr.split("\n")) == sorted([*printed.split("\n"), ""])


@pytest.mark.parametrize("file", sorted((ROOT / "deploy" / "chart" / "examples").iterdir()), ids=lambda file: file.stem)
def test_the_page_names_every_example(file: Path) -> None:
    assert f"[{file.name}](../deploy/chart/examples/{file.name})" in DOC
