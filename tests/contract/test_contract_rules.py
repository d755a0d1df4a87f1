"""The rules of a CardanoForgeCluster that no schema alone can tell: what never changes, what belongs together."""

from __future__ import annotations

from typing import Any

import pytest

from contract_api import APPLY, JSON_PATCH, Answer, Api, Json, Kubectl, cluster

POOL = {"id": "pool1abc", "idHex": "a" * 56, "ticker": "A", "name": "N", "description": "D"}
UNTIL = "2026-01-01T12:00:00+00:00"
OTHER_NETWORK = "another network needs a CardanoForgeCluster of its own"
OTHER_POOL = "cannot change once set; another pool needs a CardanoForgeCluster of its own"
NEEDS_END = "an enabled override needs expiresAt; what shall last belongs in forgeState and priority"


async def change(api: Api, spec: Json) -> Answer:
    return await api.patch(api.clusters("c"), {"spec": spec})


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        ({"region": "x"}, ("spec.region", "cannot change; another region needs a CardanoForgeCluster of its own")),
        ({"network": {"name": "preview"}}, ("spec.network.name", f"cannot change; {OTHER_NETWORK}")),
        ({"network": {"magic": 1}}, ("spec.network.magic", f"cannot change once set; {OTHER_NETWORK}")),
        ({"network": {"magic": None}}, ("spec.network.magic", f"cannot change once set; {OTHER_NETWORK}")),
        ({"pool": {"id": "pool1x"}}, ("spec.pool.id", OTHER_POOL)),
        ({"pool": {"id": ""}}, ("spec.pool.id", OTHER_POOL)),
        ({"pool": {"id": None}}, ("spec.pool.id", OTHER_POOL)),
        ({"pool": {"idHex": "b" * 56}}, ("spec.pool.idHex", OTHER_POOL)),
        ({"pool": {"idHex": None}}, ("spec.pool.idHex", OTHER_POOL)),
        ({"override": {"enabled": True}}, ("spec.override.expiresAt", NEEDS_END)),
        ({"override": {"enabled": True, "expiresAt": None}}, ("spec.override.expiresAt", NEEDS_END)),
    ],
)
async def test_a_change_against_a_rule_is_refused_with_the_remedy(
    api: Api, spec: Json, finding: tuple[str, str]
) -> None:
    field, remedy = finding
    created = await api.create_cluster("c", pool=POOL)
    answer = await change(api, spec)
    assert (answer.code, answer.reason, answer.fields) == (422, "Invalid", {field})
    assert [said.endswith(remedy) for said in answer.findings] == [True]
    assert (await api.get(api.clusters("c"))).version == created.version


async def test_a_pool_cannot_be_taken_away(api: Api) -> None:
    await api.create_cluster("c", pool=POOL)
    assert (await change(api, {"pool": None})).fields == {"spec.pool.id", "spec.pool.idHex"}


@pytest.mark.parametrize(
    "spec",
    [
        {"pool": {"name": "M", "ticker": None, "description": "E"}},
        {"network": {"era": "conway"}},
        {"priority": 7, "forgeState": "Enabled"},
        {"override": {"enabled": False}},
        {"override": {"expiresAt": UNTIL, "reason": "r"}},
        {"override": {"enabled": True, "expiresAt": UNTIL}},
        {"network": {"name": "mainnet", "magic": 764824073}, "region": "us-east-1", "pool": POOL},
    ],
)
async def test_what_no_rule_forbids_is_allowed(api: Api, spec: Json) -> None:
    await api.create_cluster("c", pool=POOL)
    answer = await change(api, spec)
    assert answer.code == 200, answer.text


@pytest.mark.parametrize("pool", [None, {}, {"id": "", "idHex": ""}, {"ticker": "A"}])
async def test_what_was_never_set_may_be_set_later(api: Api, pool: Json | None) -> None:
    body = cluster("c", network={"name": "custom"}, **({} if pool is None else {"pool": pool}))
    assert (await api.post(api.clusters(), body)).code == 201
    answer = await change(api, {"pool": POOL, "network": {"magic": 42}})
    assert answer.code == 200, answer.text
    assert (await change(api, {"network": {"magic": 43}})).code == 422


async def test_an_override_without_an_end_is_refused_at_creation_too(api: Api) -> None:
    answer = await api.post(api.clusters(), cluster("c", override={"enabled": True, "reason": "r"}))
    assert (answer.code, answer.fields) == (422, {"spec.override.expiresAt"})
    assert answer.findings == [f"Invalid value: {NEEDS_END}"]


async def test_every_way_of_writing_is_held_to_the_rules(api: Api) -> None:
    created = await api.create_cluster("c")
    moved = created.body
    moved["spec"]["region"] = "x"
    replace = [{"op": "replace", "path": "/spec/region", "value": "x"}]
    for answer in (
        await api.put(api.clusters("c"), moved),
        await api.patch(api.clusters("c"), replace, JSON_PATCH),
        await api.patch(api.clusters("c"), cluster("c", region="x"), APPLY, fieldManager="m", force="true"),
    ):
        assert (answer.code, answer.fields) == (422, {"spec.region"})
        assert answer.findings == [
            'Invalid value: "x": cannot change; another region needs a CardanoForgeCluster of its own'
        ]


async def test_all_broken_rules_are_told_at_once(api: Api) -> None:
    await api.create_cluster("c")
    answer = await change(api, {"region": "x", "network": {"magic": 1}, "priority": 0})
    assert answer.fields == {"spec.region", "spec.network.magic", "spec.priority"}


async def test_rules_are_not_asked_about_what_has_not_its_form(api: Api) -> None:
    await api.create_cluster("c")
    answer = await change(api, {"region": "x", "forgeState": "Off"})
    assert answer.fields == {"spec.forgeState"}
    assert "some validation rules were not checked because the object was invalid" in answer.body["message"]


async def test_the_commands_of_the_runbook_pass(api: Api, kubectl: Kubectl) -> None:
    await api.create_cluster("c", pool=POOL)
    for patch in (
        '{"spec":{"forgeState":"Disabled","override":{"enabled":true,"reason":"Planned maintenance",'
        f'"expiresAt":"{UNTIL}"}}}}}}',
        '{"spec":{"forgeState":"Priority-based","override":{"enabled":false}}}',
        '{"spec":{"forgeState":"Disabled"}}',
    ):
        said = await kubectl("patch", "cfc", "c", "--type=merge", f"-p={patch}")
        assert said == "cardanoforgecluster.cardano.io/c patched\n"


async def test_the_status_tells_the_pool_wide_lock(api: Api) -> None:
    await api.create_cluster("c")
    path = api.clusters("c") + "/status"
    status: dict[str, Any] = {"fencingToken": 2**40, "poolLeader": "mainnet-pool1abc-us-east-1"}
    answer = await api.patch(path, {"status": status})
    assert (answer.body["status"], answer.warnings) == (status, [])
    nobody = await api.patch(path, [{"op": "add", "path": "/status/poolLeader", "value": None}], JSON_PATCH)
    assert nobody.body["status"]["poolLeader"] is None
    for wrong, field in (
        ({"fencingToken": -1}, "status.fencingToken"),
        ({"poolLeader": "x" * 254}, "status.poolLeader"),
    ):
        assert (await api.patch(path, {"status": wrong})).fields == {field}
