"""deploy/kustomize is what the chart makes by itself, and kubectl builds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from config import ConfigError, load
from devkit.chart_doc import CHART
from devkit.helm import kustomize

from rendered import Json, Rendered, Run

pytestmark = pytest.mark.chart


def _key(document: Json) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _built(kubectl: Run, folder: Path) -> dict[tuple[str, str], Json]:
    return {_key(each): each for each in yaml.safe_load_all(kubectl("kustomize", folder).stdout)}


def test_every_generated_file_is_what_the_chart_makes_now() -> None:
    """Run `python -m devkit.helm.kustomize` when this fails."""
    made = kustomize.rendered()
    there = {file for folder in ("base", "components/monitoring") for file in (kustomize.FOLDER / folder).iterdir()}
    assert there == made.keys() | {file for file in there if file.name == "kustomization.yaml"}
    for path, text in made.items():
        assert path.read_text("utf-8") == text, path


def test_the_base_has_the_objects_of_the_charts_default_and_no_other(kubectl: Run) -> None:
    base = _built(kubectl, kustomize.FOLDER / "base")
    assert base == {_key(each): kustomize.without_helm(each) for each in Rendered().objects}


def test_the_definitions_are_those_of_deploy(kubectl: Run) -> None:
    wanted = [yaml.safe_load(file.read_text()) for file in (CHART.parent / "crds").iterdir()]
    assert _built(kubectl, kustomize.FOLDER / "crds") == {_key(each): each for each in wanted}


def test_an_overlay_changes_what_it_names_and_a_server_takes_it(kubectl: Run) -> None:
    folder = kustomize.FOLDER / "examples" / "preprod"
    built = _built(kubectl, folder)
    pod = built["StatefulSet", "cardano-producer"]["spec"]["template"]["spec"]
    variables = {each["name"]: each.get("value") for each in pod["initContainers"][0]["env"]}
    assert variables["CARDANO_NETWORK"] == "preprod"
    assert variables["NODE_SOCKET"] == "/ipc/node.socket"
    assert {each["metadata"]["namespace"] for each in built.values()} == {"cardano-preprod"}
    assert {"PodMonitor", "PrometheusRule", "ConfigMap"} <= {kind for kind, _ in built}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cardano-preprod"}}
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(namespace))
    done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", folder)
    assert len(done.stdout.splitlines()) == len(built)
    assert done.stderr == ""


@pytest.mark.parametrize("variable", ["POOL_ID", "LEASE_NAME"])
def test_a_pod_of_an_overlay_that_leads_to_another_lease_refuses_to_start(
    kubectl: Run, tmp_path: Path, variable: str
) -> None:
    """No server refuses the overlay, since the selector stays: old pods and new ones would forge side by side."""
    shutil.copytree(kustomize.FOLDER, tmp_path / "kustomize")
    variables = [{"name": variable, "value": "pool1abcd1234567890"}]
    container = {"name": "forge-manager", "env": variables}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "cardano-producer"},
        "spec": {"template": {"spec": {"initContainers": [container]}}},
    }
    overlay = tmp_path / "kustomize" / "overlay"
    overlay.mkdir()
    told = {"resources": ["../base"], "patches": [{"patch": yaml.safe_dump(patch)}]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(told))
    template = _built(kubectl, overlay)["StatefulSet", "cardano-producer"]["spec"]["template"]
    elsewhere = {
        "metadata.name": "cardano-producer-0",
        "metadata.namespace": "cardano-mainnet",
        **{f"metadata.labels['{name}']": value for name, value in template["metadata"]["labels"].items()},
    }
    environment = {
        each["name"]: each.get("value") or elsewhere[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in template["spec"]["initContainers"][0]["env"]
    }
    with pytest.raises(ConfigError, match="ELECTION_LABEL='e968e43a6d': is of another Lease than"):
        load(environment)
    assert load({name: value for name, value in environment.items() if name != variable})
