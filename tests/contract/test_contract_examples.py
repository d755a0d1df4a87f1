"""deploy/examples before a real API server: known fields only, and the Pod Security level that each of them names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contract_api import Api

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
COLLECTION = {
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
}

pytestmark = pytest.mark.k8s


def _documents(name: str) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()) if d]


async def _insist_on(level: str, api: Api) -> None:
    answer = await api.patch(
        f"/api/v1/namespaces/{api.namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}},
    )
    assert answer.code == 200, answer.text


@pytest.mark.parametrize("name", ["single-uid", "uids", "containers"])
async def test_an_example_is_taken_with_every_field_known(api: Api, name: str) -> None:
    for document in _documents(name):
        answer = await api.post(
            COLLECTION[document["kind"]].format(api.namespace), document, fieldValidation="Strict", dryRun="All"
        )
        assert answer.code == 201, answer.text
        assert answer.warnings == []


@pytest.mark.parametrize(
    ("name", "level", "code"),
    [
        ("single-uid", "restricted", 201),
        ("containers", "restricted", 201),
        ("uids", "baseline", 201),
        ("uids", "restricted", 403),
    ],
)
async def test_a_pod_of_an_example_passes_the_pod_security_level_it_names(
    api: Api, name: str, level: str, code: int
) -> None:
    await _insist_on(level, api)
    (workload,) = [d for d in _documents(name) if d["kind"] == "StatefulSet"]
    spec = workload["spec"]["template"]["spec"]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}  # what the StatefulSet would add
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": spec | {"volumes": [*spec["volumes"], claim]},
    }
    answer = await api.post(f"/api/v1/namespaces/{api.namespace}/pods", pod, fieldValidation="Strict", dryRun="All")
    assert answer.code == code, answer.text
