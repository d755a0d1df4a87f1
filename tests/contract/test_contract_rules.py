"""The rules of a CardanoForgeCluster that no schema alone can tell: what never changes, what belongs together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from contract_api import APPLY, JSON_PATCH, PATIENCE_S, Answer, Api, Json, Kubectl, cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

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


# --- what rules can say, in a definition of its own ---

PARTS: Json = {
    "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 10"}]},
    "secret": {
        "type": "string",
        "maxLength": 9,
        "x-kubernetes-validations": [{"rule": "self == ''", "message": "say nothing", "reason": "FieldValueForbidden"}],
    },
    "twin": {
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.a == self.b", "message": "a must be b"}],
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    },
    "items": {
        "type": "array",
        "maxItems": 9,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "maxLength": 9},
                "fixed": {
                    "type": "integer",
                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}],
                },
            },
        },
    },
    "free": {"type": "integer"},
}


def definition(group: str, parts: Json) -> Json:
    spec = {"type": "object", "properties": parts}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"},
            "versions": [version],
        },
    }


@pytest.fixture
async def things(api: Api) -> AsyncIterator[Things]:
    """A kind of its own whose rules come after its first object."""
    made = Things(api, f"{api.namespace}.example.org")
    await made.define({name: without_rules(part) for name, part in PARTS.items()})
    yield made
    await api.delete(made.definition)


@dataclass
class Things:
    api: Api
    group: str

    @property
    def definition(self) -> str:
        return f"{DEFINITIONS}/things.{self.group}"

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/v1/namespaces/{self.api.namespace}/things"

    async def define(self, parts: Json) -> None:
        """The definition, served: a real server takes a moment."""
        wanted = definition(self.group, parts)
        found = await self.api.get(self.definition)
        if found.code == 404:
            assert (await self.api.post(DEFINITIONS, wanted)).code == 201
        else:
            wanted["metadata"]["resourceVersion"] = found.version
            assert (await self.api.put(self.definition, wanted)).code == 200
        async with asyncio.timeout(PATIENCE_S):
            while not await self._is_served(strict="x-kubernetes-validations" in parts["size"]):
                await asyncio.sleep(0.1)

    async def _is_served(self, *, strict: bool) -> bool:
        trial = await self.api.post(self.path, self.thing("trial", size=99), dryRun="All")
        return trial.code == (422 if strict else 201)

    def thing(self, name: str, **spec: Any) -> Json:
        return {"apiVersion": f"{self.group}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}

    async def change(self, **spec: Any) -> Answer:
        return await self.api.patch(f"{self.path}/t", {"spec": spec})


def without_rules(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: without_rules(inner) for name, inner in part.items() if name != "x-kubernetes-validations"}
    return part


async def test_what_was_there_before_a_rule_keeps_working_until_it_is_changed(api: Api, things: Things) -> None:
    wrong = {"size": 99, "secret": "s", "twin": {"a": 1, "b": 2}, "items": [{"name": "n", "fixed": 1}]}
    assert (await api.post(things.path, things.thing("t", **wrong))).code == 201
    await things.define(PARTS)
    assert (await things.change(free=1)).code == 200
    size = await things.change(size=98)
    assert (size.fields, size.findings) == ({"spec.size"}, ["Invalid value: 98: failed rule: self < 10"])
    secret = await things.change(secret="t")
    assert (secret.fields, secret.findings) == ({"spec.secret"}, ["Forbidden: say nothing"])
    twin = await things.change(twin={"a": 3})
    assert (twin.fields, twin.findings) == ({"spec.twin"}, ["Invalid value: a must be b"])
    half = await things.change(twin={"a": None})
    assert (half.fields, half.findings) == (
        {"spec.twin"},
        ['Invalid value: "object": no such key: a evaluating rule: a must be b'],
    )
    item = await things.change(items=[{"name": "m", "fixed": 5}, {"name": "n", "fixed": 2}])
    assert (item.fields, item.findings) == ({"spec.items[1].fixed"}, ["Invalid value: 2: is fixed"])
    right = await things.change(size=9, secret="", twin={"a": 2}, items=[{"name": "m", "fixed": 5}])
    assert right.code == 200, right.text


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
