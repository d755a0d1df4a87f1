"""deploy/kustomize is what the chart makes by itself, and kubectl builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
