"""CardanoLeader and CardanoForgeCluster: schema, defaults, status subresource, generation."""

from __future__ import annotations

from typing import Any

import pytest

from kube.forge_clusters import parse_spec

from contract_api import JSON_PATCH, STRATEGIC, Api, cluster, leader


def generation(body: dict[str, Any]) -> int:
    found: int = body["metadata"]["generation"]
    return found


async def test_defaults_are_filled_in(api: Api) -> None:
    created = await api.create_cluster("c", healthCheck={}, override={}, application={})
    spec = created.spec
    assert (spec["forgeState"], spec["priority"]) == ("Priority-based", 100)
    assert spec["healthCheck"] == {"enabled": False, "interval": "30s", "timeout": "10s", "failureThreshold": 3}
    assert spec["override"] == {"enabled": False}
    assert spec["application"] == {"type": "block-producer", "environment": "production"}


async def test_everything_the_field_writes_is_kept(api: Api) -> None:
    spec = {
        "network": {"name": "preprod", "magic": 1, "era": "conway"},
        "pool": {
            "id": "pool1abcd1234567890abcd1234567890abcd1234567890abcd1234",
            "idHex": "0" * 56,
            "name": "Mochi",
            "ticker": "MYPOOL",
            "description": "a pool",
        },
        "application": {"type": "block-producer", "version": "10.1.4", "environment": "production"},
        "region": "us-east-1",
        "forgeState": "Enabled",
        "priority": 1,
        "healthCheck": {
            "enabled": True,
            "endpoint": "https://monitoring.example.com/health/us-east-1",
            "interval": "1m30s",
            "timeout": "1.5s",
            "failureThreshold": 5,
            "headers": {"X-Token": "none"},
        },
        "override": {
            "enabled": True,
            "reason": "maintenance",
            "expiresAt": "2026-01-01T04:00:00+00:00",
            "forcePriority": 5,
            "forceState": "Disabled",
        },
    }
    status = {
        "effectiveState": "Disabled",
        "effectivePriority": 1000,
        "networkStatus": {
            "network": "preprod",
            "magic": 1,
            "syncStatus": "synced",
            "tipSlot": 2**40,
            "tipHash": "ab",
            "epochNo": 5,
        },
        "poolStatus": {"registered": True, "opcertCounter": 7},
        "activeLeader": "pod-0",
        "forgingEnabled": False,
        "lastTransition": "2026-01-01T00:00:00Z",
        "reason": "Override",
        "message": "maintenance",
        "healthStatus": {
            "healthy": True,
            "lastProbeTime": "2026-01-01T00:00:00Z",
            "consecutiveFailures": 0,
            "message": "ok",
            "responseTime": "35ms",
        },
        "conditions": [{"type": "Forging", "status": "False", "reason": "Override", "message": "m"}],
        "observedGeneration": 1,
    }
    created = await api.create_cluster("c", **spec)
    assert (created.spec, created.warnings) == (spec, [])
    changed = await api.patch(api.clusters("c") + "/status", {"status": status})
    assert (changed.body["status"], changed.warnings) == (status, [])


async def test_a_leader_status_is_kept(api: Api) -> None:
    status = {
        "leaderPod": "pod-0",
        "forgingEnabled": True,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Elected",
        "message": "m",
        "conditions": [
            {
                "type": "LeaderElected",
                "status": "True",
                "reason": "Elected",
                "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": 1,
            }
        ],
        "observedGeneration": 1,
    }
    spec = {"namespace": "cardano-mainnet", "description": "who forges"}
    created = await api.post(api.leaders(), {**leader("cardano-leader"), "spec": spec})
    assert (created.code, created.spec) == (201, spec)
    changed = await api.patch(api.leaders("cardano-leader") + "/status", {"status": status})
    assert (changed.body["status"], changed.warnings) == (status, [])
    nobody = await api.patch(api.leaders("cardano-leader") + "/status", {"status": {"leaderPod": ""}})
    assert nobody.body["status"]["leaderPod"] == ""


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"priority": 0}, "spec.priority"),
        ({"priority": 1000}, "spec.priority"),
        ({"priority": "5"}, "spec.priority"),
        ({"priority": True}, "spec.priority"),
        ({"forgeState": "enabled"}, "spec.forgeState"),
        ({"forgeState": ""}, "spec.forgeState"),
        ({"network": {"name": "testnet"}}, "spec.network.name"),
        ({"network": {}}, "spec.network.name"),
        ({"network": None}, "spec.network"),
        ({"network": {"name": "custom", "magic": -1}}, "spec.network.magic"),
        ({"network": {"name": "custom", "magic": 2**32}}, "spec.network.magic"),
        ({"region": ""}, "spec.region"),
        ({"region": "r" * 64}, "spec.region"),
        ({"pool": {"id": "stake1abc"}}, "spec.pool.id"),
        ({"pool": {"idHex": "abc"}}, "spec.pool.idHex"),
        ({"healthCheck": {"interval": "30"}}, "spec.healthCheck.interval"),
        ({"healthCheck": {"failureThreshold": 0}}, "spec.healthCheck.failureThreshold"),
        ({"healthCheck": {"interval": "1s" * 17}}, "spec.healthCheck.interval"),
        ({"healthCheck": {"timeout": "1s" * 17}}, "spec.healthCheck.timeout"),
        ({"healthCheck": {"headers": {"a": 1}}}, "spec.healthCheck.headers.a"),
        ({"healthCheck": {"headers": {"a": "\u00e9"}}}, "spec.healthCheck.headers.a"),
        ({"healthCheck": {"headers": {"a": "1" * 4097}}}, "spec.healthCheck.headers.a"),
        ({"healthCheck": {"headers": {"a" * 65: ""}}}, "spec.healthCheck.headers"),
        ({"healthCheck": {"headers": {f"h{n}": "" for n in range(17)}}}, "spec.healthCheck.headers"),
        ({"healthCheck": {"headers": {f"h{n}": "1" * 257 for n in range(3)}}}, "spec.healthCheck.headers"),
        ({"override": {"expiresAt": "tomorrow"}}, "spec.override.expiresAt"),
        ({"override": {"expiresAt": ""}}, "spec.override.expiresAt"),
        ({"override": {"forceState": "Priority-based"}}, "spec.override.forceState"),
        ({"override": {"forcePriority": 0}}, "spec.override.forcePriority"),
        ({"override": "x"}, "spec.override"),
    ],
)
async def test_a_spec_outside_the_schema_is_invalid(api: Api, spec: dict[str, Any], field: str) -> None:
    answer = await api.post(api.clusters(), cluster("c", **spec))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert answer.fields == {field}
    told = answer.body["message"].replace("is invalid: [", "is invalid: ")
    assert told.startswith(f'CardanoForgeCluster.cardano.io "c" is invalid: {field}: ')


async def test_the_most_that_the_schema_takes_of_a_health_check_a_sidecar_reads(api: Api) -> None:
    headers = {f"{number:02}" + "\U0001f642" * 62: "1" * (4096 if number < 2 else 256) for number in range(16)}
    most = {"interval": "1s" * 16, "timeout": "1h" * 16, "headers": headers}
    read = parse_spec((await api.create_cluster("c", healthCheck=most)).spec)
    assert (read.health.interval_s, len(read.health.headers)) == (16, 16)


async def test_a_refusal_names_every_field_at_once(api: Api) -> None:
    answer = await api.post(api.clusters(), cluster("c", priority=0, forgeState="x", region=""))
    assert answer.fields == {"spec.priority", "spec.forgeState", "spec.region"}


@pytest.mark.parametrize(
    ("cause", "spec"),
    [
        ("Invalid value: 0: spec.priority in body should be greater than or equal to 1", {"priority": 0}),
        ("Invalid value: 1000: spec.priority in body should be less than or equal to 999", {"priority": 1000}),
        (
            'Unsupported value: "x": supported values: "Enabled", "Disabled", "Priority-based"',
            {"forgeState": "x"},
        ),
        ('Invalid value: "string": spec.priority in body must be of type integer: "string"', {"priority": "1"}),
        ("Required value", {"network": {}}),
        ('Invalid value: "": spec.region in body should be at least 1 chars long', {"region": ""}),
    ],
)
async def test_a_refusal_says_what_would_be_right(api: Api, cause: str, spec: dict[str, Any]) -> None:
    answer = await api.post(api.clusters(), cluster("c", **spec))
    assert answer.findings == [cause]


@pytest.mark.parametrize("priority", [1, 999])
async def test_the_bounds_of_priority_belong_to_it(api: Api, priority: int) -> None:
    assert (await api.create_cluster("c", priority=priority)).spec["priority"] == priority


async def test_a_spec_is_required_of_a_cluster_but_not_of_a_leader(api: Api) -> None:
    bare = {name: value for name, value in cluster("c").items() if name != "spec"}
    answer = await api.post(api.clusters(), bare)
    assert (answer.code, answer.fields) == (422, {"spec"})
    bare = {name: value for name, value in leader("l").items() if name != "spec"}
    assert (await api.post(api.leaders(), bare)).code == 201


async def test_an_unknown_field_is_pruned_with_a_warning(api: Api) -> None:
    answer = await api.post(api.clusters(), cluster("c", network={"name": "mainnet", "typo": 1}))
    assert answer.code == 201
    assert answer.spec["network"] == {"name": "mainnet"}
    assert answer.warnings == ['299 - "unknown field \\"spec.network.typo\\""']


async def test_pool_status_may_hold_anything(api: Api) -> None:
    await api.create_cluster("c")
    answer = await api.patch(api.clusters("c") + "/status", {"status": {"poolStatus": {"a": {"b": [1]}}}})
    assert answer.body["status"]["poolStatus"] == {"a": {"b": [1]}}


async def test_a_null_that_may_not_be_is_removed_and_one_that_may_is_kept(api: Api) -> None:
    created = await api.create_cluster("c", priority=None, override={"reason": None, "expiresAt": None})
    assert created.spec["priority"] == 100
    assert created.spec["override"] == {"enabled": False, "expiresAt": None}


async def test_kind_and_version_must_be_in_the_body(api: Api) -> None:
    for wrong in ({"kind": ""}, {"apiVersion": ""}, {"apiVersion": "cardano.io/v2"}):
        assert (await api.post(api.clusters(), {**cluster("c"), **wrong})).code == 400
    answer = await api.post(api.clusters(), {**cluster("c"), "kind": "CardanoLeader"})
    assert (answer.code, answer.fields) == (422, {"kind"})


async def test_a_create_does_not_set_status(api: Api) -> None:
    answer = await api.post(api.clusters(), {**cluster("c"), "status": {"activeLeader": "x"}})
    assert answer.code == 201
    assert "status" not in answer.body


async def test_a_write_of_the_object_does_not_touch_its_status(api: Api) -> None:
    await api.create_cluster("c")
    await api.patch(api.clusters("c") + "/status", {"status": {"activeLeader": "pod-0"}})
    patched = await api.patch(api.clusters("c"), {"spec": {"priority": 2}, "status": {"activeLeader": "x"}})
    assert patched.body["status"] == {"activeLeader": "pod-0"}
    without = {name: value for name, value in patched.body.items() if name != "status"}
    put = await api.put(api.clusters("c"), without)
    assert put.body["status"] == {"activeLeader": "pod-0"}


async def test_a_write_of_the_status_touches_nothing_else(api: Api) -> None:
    created = await api.create_cluster("c")
    change = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"priority": 2},
        "status": {"activeLeader": "pod-0"},
    }
    patched = await api.patch(api.clusters("c") + "/status", change)
    assert patched.body["status"] == {"activeLeader": "pod-0"}
    assert patched.spec == created.spec
    assert "labels" not in patched.body["metadata"]
    body = {**patched.body, "spec": cluster("c", priority=3)["spec"], "status": {"activeLeader": "pod-1"}}
    put = await api.put(api.clusters("c") + "/status", body)
    assert put.body["status"] == {"activeLeader": "pod-1"}
    assert put.spec == created.spec


async def test_a_status_write_with_an_outdated_version_is_a_conflict(api: Api) -> None:
    created = await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    await api.patch(path, {"status": {"activeLeader": "a"}})
    late = {"metadata": {"resourceVersion": created.version}, "status": {"activeLeader": "b"}}
    assert (await api.patch(path, late)).code == 409
    assert (await api.put(path, {**created.body, "status": {"activeLeader": "b"}})).code == 409
    assert (await api.put(path, {**cluster("c"), "status": {}})).fields == {"metadata.resourceVersion"}


async def test_a_status_outside_the_schema_is_invalid(api: Api) -> None:
    await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    for status, field in (
        ({"effectiveState": "x"}, "status.effectiveState"),
        ({"effectivePriority": 0}, "status.effectivePriority"),
        ({"healthStatus": {"healthy": "yes"}}, "status.healthStatus.healthy"),
        ({"conditions": [{"type": "A", "status": "Maybe"}]}, "status.conditions[0].status"),
        ({"conditions": [{"status": "True"}]}, "status.conditions[0].type"),
    ):
        answer = await api.patch(path, {"status": status})
        assert (answer.code, answer.fields) == (422, {field})
    twice = [{"type": "A", "status": "True"}, {"type": "A", "status": "False"}]
    answer = await api.patch(path, {"status": {"conditions": twice}})
    assert answer.code == 422
    assert answer.body["details"]["causes"][0]["reason"] == "FieldValueDuplicate"


async def test_the_status_of_what_is_not_there_is_not_found(api: Api) -> None:
    assert (await api.patch(api.clusters("c") + "/status", {"status": {}})).code == 404
    await api.create_lease("l")
    assert (await api.patch(api.leases("l") + "/status", {"status": {}})).code == 404


async def test_generation_rises_with_the_spec_alone(api: Api) -> None:
    created = await api.create_cluster("c")
    assert generation(created.body) == 1
    labelled = await api.patch(api.clusters("c"), {"metadata": {"labels": {"a": "b"}}})
    assert generation(labelled.body) == 1
    told = await api.patch(api.clusters("c") + "/status", {"status": {"activeLeader": "pod-0"}})
    assert generation(told.body) == 1
    changed = await api.patch(api.clusters("c"), {"spec": {"priority": 2}})
    assert generation(changed.body) == 2
    same = await api.patch(api.clusters("c"), {"spec": {"priority": 2}})
    assert (generation(same.body), same.version) == (2, changed.version)


async def test_generation_cannot_be_written(api: Api) -> None:
    created = await api.post(api.clusters(), {**cluster("c"), "metadata": {"name": "c", "generation": 7}})
    assert generation(created.body) == 1
    changed = await api.patch(api.clusters("c"), {"metadata": {"generation": 9, "labels": {"a": "b"}}})
    assert generation(changed.body) == 1


async def test_null_in_a_merge_patch_deletes_and_defaults_come_back(api: Api) -> None:
    await api.create_cluster("c", priority=7, pool={"ticker": "A", "name": "B"}, override={"reason": "r"})
    answer = await api.patch(
        api.clusters("c"), {"spec": {"priority": None, "pool": {"ticker": None}, "override": None}}
    )
    assert answer.spec["priority"] == 100
    assert answer.spec["pool"] == {"name": "B"}
    assert "override" not in answer.spec


async def test_a_merge_patch_replaces_lists_whole(api: Api) -> None:
    await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    await api.patch(path, {"status": {"conditions": [{"type": "A", "status": "True"}]}})
    answer = await api.patch(path, {"status": {"conditions": [{"type": "B", "status": "True"}]}})
    assert [found["type"] for found in answer.body["status"]["conditions"]] == ["B"]


async def test_a_patch_outside_the_schema_leaves_the_object_alone(api: Api) -> None:
    created = await api.create_cluster("c")
    answer = await api.patch(api.clusters("c"), {"spec": {"priority": 0}})
    assert (answer.code, answer.fields) == (422, {"spec.priority"})
    answer = await api.patch(api.clusters("c"), {"spec": None})
    assert (answer.code, answer.fields) == (422, {"spec"})
    assert (await api.get(api.clusters("c"))).version == created.version


async def test_a_custom_object_takes_no_strategic_merge_patch(api: Api) -> None:
    await api.create_cluster("c")
    answer = await api.patch(api.clusters("c"), {"spec": {"priority": 2}}, STRATEGIC)
    assert (answer.code, answer.reason) == (415, "UnsupportedMediaType")


async def test_a_json_patch_changes_a_custom_object(api: Api) -> None:
    await api.create_cluster("c")
    operations = [
        {"op": "replace", "path": "/spec/priority", "value": 3},
        {"op": "add", "path": "/spec/pool", "value": {"ticker": "A"}},
    ]
    answer = await api.patch(api.clusters("c"), operations, JSON_PATCH)
    assert (answer.spec["priority"], answer.spec["pool"]) == (3, {"ticker": "A"})
    assert generation(answer.body) == 2


async def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_away(api: Api) -> None:
    await api.create_cluster("c")
    await api.patch(api.clusters("c"), {"metadata": {"finalizers": ["cardano.io/fence"]}})
    deleted = await api.delete(api.clusters("c"))
    assert deleted.body["metadata"]["deletionTimestamp"]
    assert (await api.get(api.clusters("c"))).code == 200
    await api.patch(api.clusters("c"), {"metadata": {"finalizers": None}})
    assert (await api.get(api.clusters("c"))).code == 404


async def test_objects_are_listed_by_name_with_the_version_of_the_list(api: Api) -> None:
    await api.create_cluster("b")
    last = await api.create_cluster("a")
    answer = await api.get(api.clusters())
    assert answer.body["kind"] == "CardanoForgeClusterList"
    assert [item["metadata"]["name"] for item in answer.body["items"]] == ["a", "b"]
    assert {item["kind"] for item in answer.body["items"]} == {"CardanoForgeCluster"}
    assert int(answer.body["metadata"]["resourceVersion"]) >= int(last.version)


async def test_items_of_a_built_in_list_do_not_say_their_kind(api: Api) -> None:
    await api.create_lease("l")
    (item,) = (await api.get(api.leases())).body["items"]
    assert set(item) == {"metadata", "spec"}


async def test_a_list_is_selected_by_label_and_name(api: Api) -> None:
    for name, tier in (("a", "x"), ("b", "y"), ("c", "")):
        await api.create_lease(name)
        if tier:
            await api.patch(api.leases(name), {"metadata": {"labels": {"tier": tier}}})

    async def names(**query: str) -> list[str]:
        answer = await api.get(api.leases(), **query)
        assert answer.code == 200, answer.text
        return [item["metadata"]["name"] for item in answer.body["items"]]

    assert await names(labelSelector="tier=x") == ["a"]
    assert await names(labelSelector="tier!=x") == ["b", "c"]
    assert await names(labelSelector="tier in (x, y)") == ["a", "b"]
    assert await names(labelSelector="!tier") == ["c"]
    assert await names(labelSelector="tier") == ["a", "b"]
    assert await names(fieldSelector="metadata.name=b") == ["b"]
    assert await names(fieldSelector=f"metadata.name!=b,metadata.namespace={api.namespace}") == ["a", "c"]
    assert (await api.get(api.leases(), fieldSelector="spec.holderIdentity=a")).code == 400
    assert (await api.get(api.leases(), labelSelector="a===b")).code == 400


async def test_a_list_from_the_future_is_refused_for_now(api: Api) -> None:
    answer = await api.get(api.leases(), resourceVersion="999999999")
    assert (answer.code, answer.reason) == (504, "Timeout")
    assert (await api.get(api.leases(), resourceVersion="abc")).code == 400


async def test_what_is_not_served_is_not_found(api: Api) -> None:
    for path in (
        "/apis/cardano.io/v1/nonsense",
        "/apis/cardano.io/v2/cardanoleaders",
        "/apis/nonsense.io/v1/things",
        "/apis/cardano.io/v1/cardanoleaders/l",
        "/nonsense",
    ):
        assert (await api.get(path)).code == 404
    assert (await api.put(api.leases(), {})).code == 405
    assert (await api.post(api.leases("l"), {})).code == 405
