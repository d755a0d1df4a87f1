"""docs/upgrading.md: what an early older manager left on an API server, and the page's way out of it."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.realapi.server import RealApi

from blocks import ROOT, Block, Shell, marked

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

PAGE = "upgrading.md"
CRD = "cardanoforgeclusters.cardano.io"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def api() -> Iterator[RealApi]:
    if os.environ.get("FORGE_TEST_K8S") != "1":
        pytest.skip("needs the real server: make test-k8s")
    with RealApi(users=[]) as api:
        yield api


def cluster_wide() -> dict[str, Any]:
    """The definition as early releases had it: one for the whole Kubernetes cluster."""
    (ours,) = yaml.safe_load_all((ROOT / "deploy" / "crds" / "cardanoforgeclusters.yaml").read_text())
    early: dict[str, Any] = copy.deepcopy(ours)
    early["spec"]["scope"] = "Cluster"
    return early


def test_a_definition_of_the_wrong_scope_is_seen_and_made_anew_by_the_pages_commands(
    api: RealApi, tmp_path: Path
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    api.write_kubeconfig(tmp_path / "kubeconfig")
    kubectl = shutil.which("kubectl")
    assert kubectl is not None, "kubectl is needed"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    look, anew = marked(PAGE, "older")
    with Shell(tmp_path, environment) as shell:
        shell.run(Block("", "sh", f"kubectl --cache-dir=elsewhere delete crd {CRD}", 0))
        made = api.admin().request("POST", CRDS, cluster_wide())
        assert made.code == 201, made.text
        shell.run(Block("", "sh", f"kubectl wait --for=condition=Established --timeout=60s crd/{CRD}", 0))
        shell.run(Block("", "sh", "timeout 60 sh -c 'until kubectl get cardanoforgeclusters; do :; done' 2>&1", 0))
        assert shell.run(look) == "Cluster\n"
        refused = shell.run(
            Block("", "sh", "kubectl apply --server-side --force-conflicts -f deploy/crds/ 2>&1 || true", 0)
        )
        assert "field is immutable" in refused, "why it has to be made anew"
        shell.run(anew)
        assert shell.run(look) == "Namespaced\n"
        shell.run(Block("", "sh", "kubectl --namespace default get cardanoforgeclusters", 0))
