"""What the sidecar needs is what the shipped Roles grant, no more and no less; and what doctor asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import Config, load
from kube import rights
from kube.rights import Right

DEPLOY = Path(__file__).parents[2] / "deploy"
ALONE: dict[str, str] = {}
TENANT = {
    "CARDANO_NETWORK": "mainnet",
    "POOL_ID": "pool1abcd1234567890",
    "CLUSTER_REGION": "us-east-1",
    "ENABLE_CLUSTER_MANAGEMENT": "true",
}


def granted(path: str) -> frozenset[Right]:
    """By the Role in a manifest."""
    (role,) = (d for d in yaml.safe_load_all((DEPLOY / path).read_text()) if d["kind"] == "Role")
    return frozenset(
        Right(group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    )


def both(config: Config) -> frozenset[Right]:
    return rights.of_pod(config) | rights.of_coordination(config)


@pytest.mark.parametrize(
    ("path", "environment", "needed"),
    [
        ("rbac/role.yaml", ALONE, rights.of_pod),
        ("rbac/pool.yaml", TENANT, both),
        ("examples/coordination-account.yaml", TENANT, rights.of_coordination),
    ],
)
def test_a_shipped_role_grants_exactly_what_is_needed(path: str, environment: dict[str, str], needed) -> None:  # type: ignore[no-untyped-def]
    config = load(environment, hostname=lambda: "pod-0")
    assert sorted(granted(path)) == sorted(needed(config))


def test_names_that_cannot_be_made_without_pool_and_region_are_left_out() -> None:
    config = load({"CARDANO_NETWORK": "preprod"}, hostname=lambda: "pod-0")
    assert {right.name for right in rights.of_coordination(config)} == {""}


def test_other_names_and_groups_of_the_configuration_are_asked_for() -> None:
    given = {"LEASE_NAME": "l", "CRD_NAME": "c", "CRD_GROUP": "x.io", "CRD_PLURAL": "leaders"}
    found = rights.of_pod(load(given, hostname=lambda: "pod-0"))
    assert {Right(rights.LEASES, "leases", "update", "l"), Right("x.io", "leaders/status", "patch", "c")} <= found
    assert not any(right.group == "cardano.io" for right in found)


def test_a_question_names_the_subresource_and_the_object() -> None:
    asked = Right("cardano.io", "cardanoleaders/status", "patch", "cardano-leader").review("pools")
    assert asked["spec"] == {
        "resourceAttributes": {
            "namespace": "pools",
            "verb": "patch",
            "group": "cardano.io",
            "resource": "cardanoleaders",
            "subresource": "status",
            "name": "cardano-leader",
        }
    }


def test_a_namespace_is_asked_for_by_its_name_within_itself() -> None:
    asked = Right("", "namespaces", "get").review("pools")["spec"]["resourceAttributes"]
    assert asked == {"namespace": "pools", "verb": "get", "resource": "namespaces", "name": "pools"}


@given(st.builds(Right, st.text(), st.text(), st.text(), st.text()), st.text())
def test_no_right_has_words_that_cannot_be_made(right: Right, namespace: str) -> None:
    assert right.verb in str(right)
    assert right.review(namespace)["kind"] == "SelfSubjectAccessReview"
