"""deploy/rbac/role.yaml gives the sidecar what it needs and nothing more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from contract_api import PATIENCE_S, SIDECAR, SIDECAR_NAMESPACE, Api, Kubectl, leader, lease

ROLE = Path(__file__).resolve().parents[2] / "deploy" / "rbac" / "role.yaml"
"""pool.yaml's is held to its word by tests/e2e/test_tenants.py."""
LEASE = "cardano-node-leader"
LEADER = "cardano-leader"


@pytest.fixture
async def sidecar(api: Api, kubectl: Kubectl) -> Api:
    """The service account of the shipped binding, in its namespace, which is empty again."""
    admin = Api(api.session, api.server, SIDECAR_NAMESPACE)
    await admin.post("/api/v1/namespaces", {"metadata": {"name": SIDECAR_NAMESPACE}})
    await kubectl("apply", "-n", SIDECAR_NAMESPACE, "-f", str(ROLE))
    for path in (admin.leases(LEASE), admin.leaders(LEADER)):
        await admin.delete(path)
    found = Api(api.session, api.server, SIDECAR_NAMESPACE, SIDECAR)
    await _until_it_may(found, "create", "leases", group="coordination.k8s.io")
    return found


async def test_the_sidecar_looks_for_its_lease_and_follows_creates_and_renews_it(sidecar: Api) -> None:
    only = {"fieldSelector": f"metadata.name={LEASE}"}
    listed = await sidecar.get(sidecar.leases(), **only)
    assert (listed.code, listed.body["items"]) == (200, [])
    created = await sidecar.post(sidecar.leases(), lease(LEASE, holderIdentity="a", leaseDurationSeconds=15))
    assert created.code == 201, created.text
    renewed = await sidecar.put(sidecar.leases(LEASE), {**created.body, "spec": {"holderIdentity": "b"}})
    assert renewed.code == 200, renewed.text
    version = listed.body["metadata"]["resourceVersion"]
    async with sidecar.watch(sidecar.leases(), resourceVersion=version, **only) as stream:
        assert [(await stream.next())["object"]["spec"]["holderIdentity"] for _ in range(2)] == ["a", "b"]


async def test_the_sidecar_creates_and_tells_the_leader(sidecar: Api) -> None:
    assert (await sidecar.get(sidecar.leaders(LEADER))).code == 404
    assert (await sidecar.post(sidecar.leaders(), leader(LEADER))).code == 201
    status = {"status": {"leaderPod": "a"}}
    assert (await sidecar.patch(sidecar.leaders(LEADER) + "/status", status)).code == 200
    assert (await sidecar.get(sidecar.leaders(LEADER))).body["status"] == status["status"]


async def test_the_sidecar_tells_of_its_credentials_by_an_event_about_the_leader(sidecar: Api) -> None:
    made = await sidecar.post(sidecar.leaders(), leader(LEADER))
    about = {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "name": LEADER, "namespace": sidecar.namespace}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{LEADER}.1", "namespace": sidecar.namespace},
        "involvedObject": about | {"uid": made.body["metadata"]["uid"]},
        "reason": "CredentialsUnusable",
        "type": "Warning",
    }
    answer = await sidecar.post(sidecar.events(), event)
    assert answer.code == 201, answer.text


async def test_the_sidecar_may_do_nothing_else(sidecar: Api) -> None:
    await sidecar.post(sidecar.leases(), lease(LEASE))
    here = f"/api/v1/namespaces/{sidecar.namespace}"
    forbidden = [
        await sidecar.get(f"{here}/secrets"),
        await sidecar.get(f"{here}/secrets/forging-keys"),
        await sidecar.get(f"{here}/pods"),
        await sidecar.get(f"{here}/configmaps"),
        await sidecar.get(f"{here}/events"),
        await sidecar.delete(f"{here}/events/e"),
        await sidecar.get(sidecar.leases()),
        await sidecar.get(sidecar.leases(LEASE)),
        await sidecar.get(sidecar.leases("another")),
        await sidecar.get(sidecar.leaders()),
        await sidecar.get(sidecar.leaders(), fieldSelector=f"metadata.name={LEADER}"),
        await sidecar.get("/apis/coordination.k8s.io/v1/leases"),
        await sidecar.delete(sidecar.leases(LEASE)),
        await sidecar.delete(sidecar.leaders(LEADER)),
        await sidecar.put(sidecar.leases("another"), lease("another")),
        await sidecar.patch(sidecar.leases(LEASE), {"spec": {}}),
        await sidecar.patch(sidecar.leaders(LEADER), {"spec": {"description": "d"}}),
        await sidecar.put(sidecar.leaders(LEADER) + "/status", leader(LEADER)),
        await sidecar.get(sidecar.clusters()),
        await sidecar.get("/apis/coordination.k8s.io/v1/namespaces/default/leases/cardano-node-leader"),
        await sidecar.get("/apis/rbac.authorization.k8s.io/v1/roles"),
        await sidecar.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ]
    assert [answer.text for answer in forbidden if answer.code != 403] == []


async def test_another_service_account_may_not_even_look(api: Api, sidecar: Api) -> None:
    stranger = Api(api.session, api.server, SIDECAR_NAMESPACE, "pod-a")
    assert (await stranger.get(stranger.leases(LEASE))).code == 403
    assert (await stranger.post(stranger.leases(), lease(LEASE))).code == 403


# --- asking beforehand ---

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def _until_it_may(who: Api, verb: str, resource: str, *, group: str = "", name: str = "") -> None:
    """A real server's authorizer hears of a new binding by a watch: soon, and not at once."""
    async with asyncio.timeout(PATIENCE_S):
        while not await _may(who, verb, resource, group=group, name=name):
            await asyncio.sleep(0.02)


async def _may(who: Api, verb: str, resource: str, *, group: str = "", name: str = "", sub: str = "") -> bool:
    about = {"namespace": who.namespace, "verb": verb, "group": group, "resource": resource}
    about |= {"name": name, "subresource": sub}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = await who.post(REVIEWS, body | {"spec": {"resourceAttributes": about}})
    assert answer.code == 201, answer.text
    assert answer.body["kind"] == "SelfSubjectAccessReview"
    allowed = answer.body["status"]["allowed"]
    assert isinstance(allowed, bool)
    return allowed


async def test_whoever_asks_what_he_may_is_told_what_the_requests_would_be_told(sidecar: Api) -> None:
    leases, crds = "coordination.k8s.io", "cardano.io"
    assert await _may(sidecar, "create", "leases", group=leases)
    assert await _may(sidecar, "list", "leases", group=leases, name=LEASE)
    assert await _may(sidecar, "update", "leases", group=leases, name=LEASE)
    assert await _may(sidecar, "patch", "cardanoleaders", group=crds, name=LEADER, sub="status")
    assert not await _may(sidecar, "list", "leases", group=leases)
    assert not await _may(sidecar, "update", "leases", group=leases, name="another")
    assert not await _may(sidecar, "delete", "leases", group=leases, name=LEASE)
    assert not await _may(sidecar, "patch", "cardanoleaders", group=crds, name=LEADER)
    assert not await _may(sidecar, "get", "secrets", name="forging-keys")
    assert not await _may(sidecar, "get", "namespaces", name=sidecar.namespace)


async def test_an_administrator_may_everything_and_a_stranger_may_ask_at_least(api: Api, sidecar: Api) -> None:
    assert await _may(api, "delete", "namespaces", name=sidecar.namespace)
    stranger = Api(api.session, api.server, SIDECAR_NAMESPACE, "pod-a")
    assert not await _may(stranger, "get", "leases", group="coordination.k8s.io", name=LEASE)


async def test_a_cluster_wide_binding_to_a_group_counts_in_every_namespace(api: Api, sidecar: Api) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = f"look-{api.namespace}"
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    bound = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [
            {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Group",
                "name": f"system:serviceaccounts:{SIDECAR_NAMESPACE}",
            }
        ],
    }
    assert (await api.post(f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": rules})).code == 201
    try:
        assert (await api.post(f"{rbac}/clusterrolebindings", {"metadata": {"name": name}, **bound})).code == 201
        await _until_it_may(sidecar, "get", "namespaces", name=sidecar.namespace)
        assert (await sidecar.get(f"/api/v1/namespaces/{sidecar.namespace}")).code == 200
    finally:
        await api.delete(f"{rbac}/clusterrolebindings/{name}")
        await api.delete(f"{rbac}/clusterroles/{name}")


async def test_a_role_is_made_and_overwritten_by_a_put_that_names_no_version(api: Api) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{api.namespace}/roles/by-put"
    rules = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]
    role = {"metadata": {"name": "by-put"}, "rules": rules}
    assert (await api.put(path, role)).code == 201
    assert (await api.put(path, role | {"rules": []})).code == 200
    assert not (await api.get(path)).body.get("rules")


async def test_a_question_is_about_one_thing_and_nothing_of_it_is_kept(api: Api) -> None:
    for spec in ({}, {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/api", "verb": "get"}}):
        answer = await api.post(REVIEWS, {"spec": spec})
        assert (answer.code, answer.reason) == (422, "Invalid")
        assert len(answer.fields) == 1
    for answer in (await api.get(REVIEWS), await api.delete(f"{REVIEWS}/x"), await api.put(f"{REVIEWS}/x", {})):
        assert answer.code in (404, 405), answer.text
    told = (await api.get("/apis/authorization.k8s.io/v1")).body["resources"]
    (verbs,) = (each["verbs"] for each in told if each["name"] == "selfsubjectaccessreviews")
    assert verbs == ["create"]


async def test_nobody_without_a_token_may_even_ask(api: Api) -> None:
    nobody = Api(api.session, api.server, api.namespace, None)
    assert (await nobody.post(REVIEWS, {"spec": {"resourceAttributes": {"verb": "get"}}})).code == 403
