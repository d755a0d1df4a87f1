"""Server-side apply: who owns a field, who may change it, and what becomes of what nobody applies any more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract_api import APPLY, JSON_PATCH, MERGE, Api, Json, Kubectl, cluster, leader, lease

NOW = "2026-01-01T00:00:00.000000Z"
REQUIRED: Json = {"network": {"name": "mainnet", "magic": 764824073}, "region": "us-east-1"}
REQUIRED_FIELDS: Json = {"f:network": {"f:magic": {}, "f:name": {}}, "f:region": {}}


def condition(kind: str, status: str = "True", **more: str) -> Json:
    return {"type": kind, "status": status, **more}


def status_of(name: str, **status: Any) -> Json:
    return {"apiVersion": "cardano.io/v1", "kind": "CardanoForgeCluster", "metadata": {"name": name}, "status": status}


def types(status: Json) -> list[str]:
    return [found["type"] for found in status["conditions"]]


async def test_an_apply_creates_what_is_not_there(api: Api) -> None:
    answer = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    assert answer.code == 201
    assert (answer.spec["priority"], answer.spec["forgeState"]) == (3, "Priority-based")
    assert answer.body["metadata"]["generation"] == 1
    assert answer.managers == [
        {
            "manager": "ops",
            "operation": "Apply",
            "apiVersion": "cardano.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {**REQUIRED_FIELDS, "f:priority": {}}},
        }
    ]
    assert (await api.get(api.clusters("c"))).managers == answer.managers


async def test_an_apply_that_changes_nothing_leaves_the_version(api: Api) -> None:
    first = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    again = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    assert (again.code, again.body) == (200, first.body)


async def test_an_apply_takes_yaml(api: Api) -> None:
    text = """
        apiVersion: cardano.io/v1
        kind: CardanoForgeCluster
        metadata: {name: c}
        spec:
          network: {name: mainnet}
          region: us-east-1
          override: {enabled: true, expiresAt: 2026-01-01T12:00:00Z}
    """
    answer = await api.apply(api.clusters("c"), text, "ops")
    assert (answer.code, answer.spec["override"]["expiresAt"]) == (201, "2026-01-01T12:00:00Z")


async def test_another_value_for_anothers_field_is_a_conflict(api: Api) -> None:
    created = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    answer = await api.apply(api.clusters("c"), cluster("c", priority=4), "gitops")
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.body["message"] == 'Apply failed with 1 conflict: conflict with "ops": .spec.priority'
    assert answer.body["details"] == {
        "causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "ops"', "field": ".spec.priority"},
        ]
    }
    assert (await api.get(api.clusters("c"))).version == created.version


async def test_a_conflict_names_every_field(api: Api) -> None:
    await api.apply(api.clusters("c"), cluster("c", priority=3, forgeState="Enabled"), "ops")
    answer = await api.apply(api.clusters("c"), cluster("c", priority=4, forgeState="Disabled"), "gitops")
    assert answer.fields == {".spec.priority", ".spec.forgeState"}
    assert answer.body["message"] == (
        'Apply failed with 2 conflicts: conflicts with "ops":\n- .spec.forgeState\n- .spec.priority'
    )


async def test_what_was_changed_without_apply_is_in_conflict_too(api: Api) -> None:
    await api.create_cluster("c", priority=3)
    await api.patch(api.clusters("c"), {"spec": {"priority": 9}}, fieldManager="forgectl")
    answer = await api.apply(api.clusters("c"), cluster("c", priority=4), "gitops")
    assert answer.code == 409
    assert answer.findings == ['conflict with "forgectl" using cardano.io/v1']


async def test_the_same_value_is_owned_by_both(api: Api) -> None:
    await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    answer = await api.apply(api.clusters("c"), cluster("c", priority=3), "gitops")
    assert answer.code == 200
    assert answer.owned_by("ops") == answer.owned_by("gitops") == {"f:spec": {**REQUIRED_FIELDS, "f:priority": {}}}
    lone = await api.apply(api.clusters("c"), cluster("c"), "ops")
    assert lone.spec["priority"] == 3
    nobody = await api.apply(api.clusters("c"), cluster("c"), "gitops")
    assert nobody.spec["priority"] == 100


async def test_force_takes_a_field_over(api: Api) -> None:
    await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    answer = await api.apply(api.clusters("c"), cluster("c", priority=4), "gitops", force=True)
    assert (answer.code, answer.spec["priority"]) == (200, 4)
    assert answer.owned_by("ops") == {"f:spec": REQUIRED_FIELDS}
    assert answer.owned_by("gitops") == {"f:spec": {**REQUIRED_FIELDS, "f:priority": {}}}
    back = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    assert back.code == 409


async def test_what_is_left_out_is_removed_where_nobody_else_owns_it(api: Api) -> None:
    named = cluster("c", pool={"ticker": "A", "name": "B"}, healthCheck={"enabled": True})
    named["metadata"]["labels"] = {"a": "1", "b": "2"}
    await api.apply(api.clusters("c"), named, "ops")
    await api.patch(api.clusters("c"), {"spec": {"pool": {"description": "d"}}}, fieldManager="hand")
    left = cluster("c", pool={"ticker": "A"})
    left["metadata"]["labels"] = {"b": "2"}
    answer = await api.apply(api.clusters("c"), left, "ops")
    assert answer.spec["pool"] == {"ticker": "A", "description": "d"}
    assert "healthCheck" not in answer.spec
    assert answer.body["metadata"]["labels"] == {"b": "2"}
    bare = await api.apply(api.clusters("c"), cluster("c"), "ops")
    assert bare.spec["pool"] == {"description": "d"}
    assert "labels" not in bare.body["metadata"]
    assert bare.body["metadata"]["generation"] == 4


async def test_what_another_changed_meanwhile_is_not_removed(api: Api) -> None:
    await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    await api.patch(api.clusters("c"), {"spec": {"priority": 9}}, fieldManager="forgectl")
    answer = await api.apply(api.clusters("c"), cluster("c"), "ops")
    assert (answer.code, answer.spec["priority"]) == (200, 9)
    assert answer.owned_by("forgectl", "Update") == {"f:spec": {"f:priority": {}}}


async def test_conditions_are_merged_by_their_type(api: Api) -> None:
    await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    first = await api.apply(path, status_of("c", conditions=[condition("Ready"), condition("Synced")]), "node")
    assert first.code == 200, first.text
    second = await api.apply(path, status_of("c", conditions=[condition("Fenced", "False")]), "fence")
    assert types(second.body["status"]) == ["Ready", "Synced", "Fenced"]
    key = 'k:{"type":"Fenced"}'
    item = {key: {".": {}, "f:status": {}, "f:type": {}}}
    assert second.owned_by("fence", "Apply", "status") == {"f:status": {"f:conditions": item}}
    other = await api.apply(path, status_of("c", conditions=[condition("Ready", "False")]), "fence")
    assert other.code == 409
    assert other.fields == {'.status.conditions[type="Ready"].status'}
    assert other.findings == ['conflict with "node" with subresource "status"']
    less = await api.apply(path, status_of("c", conditions=[condition("Synced")]), "node")
    assert types(less.body["status"]) == ["Synced", "Fenced"]


async def test_a_condition_keeps_what_others_say_of_it(api: Api) -> None:
    await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    await api.apply(path, status_of("c", conditions=[condition("Ready", reason="R")]), "node")
    await api.apply(path, status_of("c", conditions=[condition("Ready", message="m")]), "fence")
    answer = await api.apply(path, status_of("c", conditions=[]), "node")
    assert answer.body["status"]["conditions"] == [condition("Ready", message="m")]


async def test_an_apply_of_the_status_touches_nothing_else(api: Api) -> None:
    created = await api.create_cluster("c", priority=3)
    config = {**status_of("c", activeLeader="pod-0", fencingToken=7), "spec": {**REQUIRED, "priority": 5}}
    answer = await api.apply(api.clusters("c") + "/status", config, "node")
    assert answer.code == 200, answer.text
    assert answer.spec == created.spec
    owned = answer.owned_by("node", "Apply", "status")
    assert owned == {"f:status": {"f:activeLeader": {}, "f:fencingToken": {}}}
    main = await api.apply(api.clusters("c"), {**cluster("c"), "status": {"activeLeader": "pod-1"}}, "ops")
    assert main.body["status"]["activeLeader"] == "pod-0"
    assert main.owned_by("ops") == {"f:spec": REQUIRED_FIELDS}


async def test_the_status_of_what_is_not_there_is_not_created(api: Api) -> None:
    answer = await api.apply(api.clusters("c") + "/status", status_of("c"), "node")
    assert (answer.code, answer.reason) == (404, "NotFound")


async def test_a_lease_is_applied(api: Api) -> None:
    made = await api.apply(api.leases("l"), lease("l", holderIdentity="a", renewTime=NOW), "a")
    assert (made.code, made.spec) == (201, {"holderIdentity": "a", "renewTime": NOW})
    assert made.owned_by("a") == {"f:spec": {"f:holderIdentity": {}, "f:renewTime": {}}}
    lost = await api.apply(api.leases("l"), lease("l", holderIdentity="b"), "b")
    assert (lost.code, lost.fields) == (409, {".spec.holderIdentity"})
    less = await api.apply(api.leases("l"), lease("l", renewTime=NOW), "a")
    assert less.spec == {"renewTime": NOW}
    wrong = await api.apply(api.leases("l"), lease("l", leaseDurationSeconds=0), "a")
    assert (wrong.code, wrong.fields) == (422, {"spec.leaseDurationSeconds"})


async def test_a_leader_is_applied(api: Api) -> None:
    made = await api.apply(api.leaders("l"), {**leader("l"), "spec": {"description": "d"}}, "ops")
    assert (made.code, made.owned_by("ops")) == (201, {"f:spec": {"f:description": {}}})


async def test_an_apply_names_its_manager(api: Api) -> None:
    answer = await api.patch(api.clusters("c"), cluster("c"), APPLY)
    assert (answer.code, answer.fields) == (422, {"fieldManager"})
    assert answer.findings == ["Required value: is required for apply patch"]
    long = await api.apply(api.clusters("c"), cluster("c"), "x" * 129)
    assert (long.code, long.fields) == (422, {"fieldManager"})


async def test_only_an_apply_can_be_forced(api: Api) -> None:
    await api.create_cluster("c")
    answer = await api.patch(api.clusters("c"), {}, MERGE, force="true")
    assert (answer.code, answer.fields) == (422, {"force"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "CardanoLeader"},
        {"apiVersion": "cardano.io/v2"},
        {"metadata": {"name": "other"}},
        {"metadata": {}},
        {"metadata": {"name": "c", "namespace": "default"}},
        {"metadata": {"name": "c", "managedFields": []}},
    ],
)
async def test_an_apply_of_something_else_is_refused(api: Api, wrong: Json) -> None:
    answer = await api.apply(api.clusters("c"), {**cluster("c"), **wrong}, "ops")
    assert (answer.code, answer.reason) == (400, "BadRequest")
    for broken in ("{", "[]", "text"):
        assert (await api.apply(api.clusters("c"), broken, "ops")).code == 400


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"typo": 1}, ".spec.typo: field not declared in schema"),
        ({"priority": "5"}, ".spec.priority: expected numeric (int or float), got string"),
    ],
)
async def test_an_apply_outside_the_kinds_form_is_refused(api: Api, spec: Json, fault: str) -> None:
    answer = await api.apply(api.clusters("c"), cluster("c", **spec), "ops")
    assert answer.code == 500
    assert answer.body["message"] == (
        f"failed to create typed patch object (/c; cardano.io/v1, Kind=CardanoForgeCluster): {fault}"
    )


async def test_an_apply_is_validated_like_every_write(api: Api) -> None:
    answer = await api.apply(api.clusters("c"), cluster("c", priority=0), "ops")
    assert (answer.code, answer.fields) == (422, {"spec.priority"})
    assert (await api.get(api.clusters("c"))).code == 404


async def test_an_applied_null_is_a_default_or_wrong(api: Api) -> None:
    answer = await api.apply(api.clusters("c"), cluster("c", priority=None, override={"expiresAt": None}), "ops")
    assert (answer.code, answer.spec["priority"]) == (201, 100)
    assert answer.spec["override"] == {"enabled": False, "expiresAt": None}
    wrong = await api.apply(api.clusters("c"), cluster("c", pool={"name": None}), "ops")
    assert (wrong.code, wrong.fields) == (422, {"spec.pool.name"})


async def test_an_apply_can_insist_on_a_version(api: Api) -> None:
    created = await api.create_cluster("c")
    config = cluster("c", priority=3)
    config["metadata"]["resourceVersion"] = created.version
    assert (await api.apply(api.clusters("c"), config, "ops", force=True)).code == 200
    config["spec"]["priority"] = 4
    late = await api.apply(api.clusters("c"), config, "ops")
    assert (late.code, late.reason) == (409, "Conflict")


async def test_a_trial_apply_changes_nothing(api: Api) -> None:
    answer = await api.patch(api.clusters("c"), cluster("c"), APPLY, fieldManager="ops", dryRun="All")
    assert answer.code == 201
    assert (await api.get(api.clusters("c"))).code == 404


async def test_kubectl_applies_on_the_servers_side(api: Api, kubectl: Kubectl) -> None:
    arguments = ("apply", "--server-side", "-f", "-")
    said = await kubectl(*arguments, stdin=json.dumps(cluster("c", priority=3)))
    assert said == "cardanoforgecluster.cardano.io/c serverside-applied\n"
    assert (await api.get(api.clusters("c"))).owned_by("kubectl")
    await kubectl("patch", "cfc", "c", "--type=merge", '-p={"spec":{"priority":9}}')
    patched = await api.get(api.clusters("c"))
    assert patched.owned_by("kubectl-patch", "Update") == {"f:spec": {"f:priority": {}}}
    assert "f:priority" not in patched.owned_by("kubectl")["f:spec"]
    refused = await kubectl(*arguments, stdin=json.dumps(cluster("c", priority=3)), fails=True)
    assert "Apply failed with 1 conflict" in refused
    assert '"kubectl-patch"' in refused
    await kubectl(*arguments, "--force-conflicts", stdin=json.dumps(cluster("c", priority=3)))
    assert (await api.get(api.clusters("c"))).spec["priority"] == 3


async def test_kubectl_shows_owners_when_asked(api: Api, kubectl: Kubectl) -> None:
    await api.apply(api.clusters("c"), cluster("c"), "ops")
    assert "managedFields" not in await kubectl("get", "cfc", "c", "-o", "yaml")
    assert "manager: ops" in await kubectl("get", "cfc", "c", "-o", "yaml", "--show-managed-fields")


async def test_what_kubectl_applied_on_its_own_side_it_may_apply_on_the_servers(api: Api, kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=json.dumps(cluster("c", priority=3)))
    await kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(cluster("c", priority=4)))
    answer = await api.get(api.clusters("c"))
    assert answer.spec["priority"] == 4
    annotation = answer.body["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert json.loads(annotation)["spec"]["priority"] == 4
    await kubectl("apply", "-f", "-", stdin=json.dumps(cluster("c", priority=5)))
    assert (await api.get(api.clusters("c"))).spec["priority"] == 5


# --- other writes ---


async def test_a_creation_is_its_agents(api: Api) -> None:
    api.headers["User-Agent"] = "forge-manager/3.0 (linux)"
    created = await api.create_lease("l", holderIdentity="a", renewTime=NOW)
    assert created.managers == [
        {
            "manager": "forge-manager",
            "operation": "Update",
            "apiVersion": "coordination.k8s.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:holderIdentity": {}, "f:renewTime": {}}},
        }
    ]


async def test_a_custom_objects_defaults_are_its_creators(api: Api) -> None:
    answer = await api.post(api.clusters(), cluster("c"), fieldManager="ops")
    network = {".": {}, **REQUIRED_FIELDS["f:network"]}
    fields = {".": {}, "f:forgeState": {}, "f:network": network, "f:priority": {}, "f:region": {}}
    assert answer.owned_by("ops", "Update") == {"f:spec": fields}


async def test_a_write_takes_what_it_changes(api: Api) -> None:
    made = await api.post(api.leases(), lease("l", holderIdentity="a", leaseTransitions=1), fieldManager="a")
    body = made.body
    body["spec"] |= {"holderIdentity": "b"}
    put = await api.put(api.leases("l"), body, fieldManager="b")
    assert put.owned_by("a", "Update") == {"f:spec": {"f:leaseTransitions": {}}}
    assert put.owned_by("b", "Update") == {"f:spec": {"f:holderIdentity": {}}}
    swap = [{"op": "replace", "path": "/spec/leaseTransitions", "value": 2}]
    patched = await api.patch(api.leases("l"), swap, JSON_PATCH, fieldManager="b")
    assert [entry["manager"] for entry in patched.managers] == ["b"]


async def test_a_write_without_owners_keeps_them(api: Api) -> None:
    made = await api.post(api.leases(), lease("l", holderIdentity="a"), fieldManager="a")
    body = made.body
    del body["metadata"]["managedFields"]
    body["spec"]["leaseTransitions"] = 1
    put = await api.put(api.leases("l"), body, fieldManager="b")
    assert [entry["manager"] for entry in put.managers] == ["a", "b"]


async def test_a_write_that_changes_nothing_owns_nothing(api: Api) -> None:
    made = await api.post(api.leases(), lease("l", holderIdentity="a"), fieldManager="a")
    again = await api.put(api.leases("l"), made.body, fieldManager="b")
    assert again.body == made.body


@pytest.mark.parametrize("reset", [[], [{}]])
async def test_owners_are_reset_by_an_empty_list(api: Api, reset: list[Json]) -> None:
    made = await api.post(api.leases(), lease("l", holderIdentity="a"), fieldManager="a")
    body = made.body
    body["metadata"]["managedFields"] = reset
    put = await api.put(api.leases("l"), body)
    assert put.managers == []
    later = await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}}, fieldManager="b")
    assert later.managers == []
    late = await api.apply(api.leases("l"), lease("l", holderIdentity="c"), "c")
    assert (late.code, late.findings) == (409, ['conflict with "before-first-apply" using coordination.k8s.io/v1'])


async def test_a_status_has_entries_of_its_own(api: Api) -> None:
    await api.post(api.clusters(), cluster("c"), fieldManager="ops")
    status = {"activeLeader": "a", "poolStatus": {"x": {"y": 1}}, "conditions": [condition("Ready")]}
    path = api.clusters("c") + "/status"
    answer = await api.patch(path, {"status": status}, fieldManager="ops")
    assert [(one["manager"], one.get("subresource", "")) for one in answer.managers] == [("ops", ""), ("ops", "status")]
    item = {'k:{"type":"Ready"}': {".": {}, "f:status": {}, "f:type": {}}}
    assert answer.owned_by("ops", "Update", "status") == {
        "f:status": {
            ".": {},
            "f:activeLeader": {},
            "f:conditions": {".": {}, **item},
            "f:poolStatus": {".": {}, "f:x": {".": {}, "f:y": {}}},
        }
    }
    cannot = await api.patch(path, {"metadata": {"managedFields": [{}]}, "status": {"activeLeader": "b"}})
    assert cannot.owned_by("ops", "Update")


async def test_labels_annotations_and_finalizers_are_owned_one_by_one(api: Api) -> None:
    await api.create_lease("l", holderIdentity="a")
    first = {"labels": {"a": "1"}, "annotations": {"x/y": "1"}, "finalizers": ["a.b/c", "a.b/d"]}
    await api.patch(api.leases("l"), {"metadata": first}, fieldManager="one")
    answer = await api.patch(api.leases("l"), {"metadata": {"labels": {"b": "2"}}}, fieldManager="two")
    assert answer.owned_by("one", "Update") == {
        "f:metadata": {
            "f:annotations": {".": {}, "f:x/y": {}},
            "f:finalizers": {".": {}, 'v:"a.b/c"': {}, 'v:"a.b/d"': {}},
            "f:labels": {".": {}, "f:a": {}},
        }
    }
    assert answer.owned_by("two", "Update") == {"f:metadata": {"f:labels": {"f:b": {}}}}
    gone = await api.patch(api.leases("l"), {"metadata": {"labels": None, "finalizers": None}}, fieldManager="three")
    assert gone.owned_by("one", "Update") == {"f:metadata": {"f:annotations": {".": {}, "f:x/y": {}}}}


async def test_a_watch_tells_the_owners(api: Api) -> None:
    made = await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases(), resourceVersion=made.version) as stream:
        await api.apply(api.leases("l"), lease("l", leaseTransitions=4), "b")
        event = await stream.next()
    assert event["object"]["metadata"]["managedFields"][0]["manager"] == "b"


async def test_of_many_managers_the_oldest_changes_become_one_entry(api: Api) -> None:
    await api.post(api.leases(), lease("l", holderIdentity="a"), fieldManager="m00")
    for number in range(1, 13):
        change = {"metadata": {"annotations": {f"a/{number}": "x"}}}
        answer = await api.patch(api.leases("l"), change, fieldManager=f"m{number:02}")
    assert len(answer.managers) == 10
    assert "ancient-changes" in [entry["manager"] for entry in answer.managers]


async def test_an_apply_upon_an_old_version_is_a_conflict_and_changes_nothing(api: Api) -> None:
    created = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    newer = await api.patch(api.clusters("c"), {"metadata": {"annotations": {"a": "2"}}})
    named = cluster("c", priority=4)
    named["metadata"] |= {"resourceVersion": created.version, "annotations": {"b": "1"}}
    answer = await api.apply(api.clusters("c"), named, "ops")
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert (await api.get(api.clusters("c"))).version == newer.version
    named["metadata"]["resourceVersion"] = newer.version
    answer = await api.apply(api.clusters("c"), named, "ops")
    assert (answer.code, answer.spec["priority"]) == (200, 4)


async def test_an_apply_that_names_the_uid_of_what_is_gone_makes_nothing(api: Api) -> None:
    created = await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    named = cluster("c", priority=4)
    named["metadata"]["uid"] = created.body["metadata"]["uid"]
    assert (await api.apply(api.clusters("c"), named, "ops")).code == 200
    await api.delete(api.clusters("c"))
    assert (await api.apply(api.clusters("c"), named, "ops")).code == 409
    assert (await api.get(api.clusters("c"))).code == 404
    await api.apply(api.clusters("c"), cluster("c", priority=3), "ops")
    answer = await api.apply(api.clusters("c"), named, "ops")
    assert answer.code == 422
    assert "field is immutable" in answer.body["message"]
