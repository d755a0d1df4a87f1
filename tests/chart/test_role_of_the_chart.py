"""The chart's Roles are what the program asks for, and those of deploy/, with which the end-to-end tests run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.chart_doc import CHART
from devkit.fleet import _MANIFEST
from devkit.helm import chart
from devkit.pods import _RBAC
from kube import rights

from rendered import WITH_PODS, Json, Rendered, granted

pytestmark = pytest.mark.chart

DEPLOY = CHART.parent


def _role(file: Path) -> Json:
    (found,) = [each for each in yaml.safe_load_all(file.read_text()) if each["kind"] == "Role"]
    role: Json = found
    return role


def _own(rendered: Rendered, namespace: str = chart.NAMESPACE) -> frozenset[rights.Right]:
    """What the pods' account is given in a namespace."""
    account = {"kind": "ServiceAccount", "name": rendered.pod["serviceAccountName"], "namespace": chart.NAMESPACE}
    names = {
        binding["roleRef"]["name"]
        for binding in rendered.all("RoleBinding")
        if binding["metadata"]["namespace"] == namespace and account in binding["subjects"]
    }
    roles = [
        r
        for r in rendered.all("Role")
        if (r["metadata"]["namespace"], r["metadata"]["name"]) in {(namespace, n) for n in names}
    ]
    return frozenset[rights.Right]().union(*map(granted, roles))


@pytest.mark.parametrize("example", WITH_PODS)
@pytest.mark.parametrize("pool", ["", "pool1xyz1234567890"])
def test_the_role_has_exactly_what_the_program_asks_of_its_server(example: str, pool: str) -> None:
    if example == "three-regions" and not pool:
        return
    rendered = Rendered(example, {"pool": {"id": pool}} if pool else {})
    config = rendered.config
    needed = rights.of_pod(config)
    if config.enable_cluster_management:
        needed |= rights.of_coordination(config)
    assert _own(rendered) == needed


@pytest.mark.parametrize(
    "settings",
    [
        {"election": {"leaseName": "a-lease", "leaderName": "a-leader"}},
        {"election": {"leaseName": "a-lease"}, "pool": {"id": "pool1xyz1234567890"}},
        {"network": {"name": "preprod"}, "pool": {"id": "pool1xyz1234567890"}},
        {"crd": {"group": "forge.example", "plural": "leaders"}},
    ],
    ids=["names", "lease of a pool", "network", "group"],
)
def test_names_that_are_set_are_in_the_role_too(settings: dict[str, Any]) -> None:
    rendered = Rendered("", settings)
    assert _own(rendered) == rights.of_pod(rendered.config)


def test_a_server_that_does_not_count_gives_no_right_for_the_lock() -> None:
    elsewhere = {"clusters": {"coordination": {"servers": ["us-west-2", "eu-west-1", "third"]}}}
    rendered = Rendered("three-regions", elsewhere)
    assert _own(rendered) == rights.of_pod(rendered.config)


def test_another_namespace_for_coordination_has_a_role_of_its_own() -> None:
    rendered = Rendered("three-regions", {"clusters": {"coordination": {"namespace": "pool"}}})
    assert _own(rendered) == rights.of_pod(rendered.config)
    assert _own(rendered, "pool") == rights.of_coordination(rendered.config)


def test_releases_of_one_name_in_two_namespaces_have_roles_of_their_own_where_they_coordinate() -> None:
    """Helm would refuse the second; whoever applies what is rendered would have each take the other's rights."""

    def there(pool: str, region: str) -> set[str]:
        clusters = {"region": region, "coordination": {"namespace": "pool", "accounts": ["elsewhere"]}}
        objects = Rendered("three-regions", {"pool": {"id": pool}, "clusters": clusters}).objects
        names = [
            (each["kind"], each["metadata"]["name"])
            for each in objects
            if each["metadata"]["namespace"] == "pool" and each["kind"] in ("Role", "RoleBinding")
        ]
        assert len(names) == len(set(names)) == 4
        return {name for _, name in names if name.endswith(region)}

    one, two, other = (
        there(*each) for each in (("pool1abcd1234567", "a"), ("pool1abcd1234567", "b"), ("pool1xyz12345678", "a"))
    )
    assert len(one | two | other) == 3


def test_the_defaults_role_is_the_one_with_which_whole_pods_are_tested() -> None:
    assert _RBAC == DEPLOY / "rbac" / "role.yaml"
    assert granted(Rendered().one("Role")) == granted(_role(_RBAC))


def test_a_regions_role_is_the_one_with_which_fleets_are_tested() -> None:
    assert _MANIFEST == DEPLOY / "rbac" / "pool.yaml"
    assert _own(Rendered("three-regions")) == granted(_role(_MANIFEST))


@pytest.mark.parametrize("example", ["three-regions", "coordination-only"])
def test_an_account_for_another_region_is_that_of_the_example_manifest(example: str) -> None:
    text = (DEPLOY / "examples" / "coordination-account.yaml").read_text()
    rendered = Rendered(example)
    regions = {"three-regions": ["us-west-2", "eu-west-1"], "coordination-only": ["us-east-1", "us-west-2"]}[example]
    for region in regions:
        wanted = {each["kind"]: each for each in yaml.safe_load_all(text.replace("us-east-1", region))}
        for kind, document in wanted.items():
            (found,) = [each for each in rendered.all(kind) if each["metadata"]["name"] == document["metadata"]["name"]]
            assert found["metadata"].get("annotations") == document["metadata"].get("annotations")
            for name in ("type", "roleRef", "automountServiceAccountToken"):
                assert found.get(name) == document.get(name)
        (role,) = [
            each for each in rendered.all("Role") if each["metadata"]["name"] == wanted["Role"]["metadata"]["name"]
        ]
        assert granted(role) == granted(wanted["Role"])


def test_tokens_are_minted_by_hand_where_that_is_wished() -> None:
    assert Rendered("three-regions", {"clusters": {"coordination": {"createTokens": False}}}).all("Secret") == []
