"""deploy/rbac/role.yaml gives the sidecar what it needs and nothing more.  Only the real server authorizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract_api import SIDECAR, SIDECAR_NAMESPACE, Api, Kubectl, leader, lease

pytestmark = pytest.mark.k8s

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
    return Api(api.session, api.server, SIDECAR_NAMESPACE, SIDECAR)


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


async def test_the_sidecar_may_do_nothing_else(sidecar: Api) -> None:
    await sidecar.post(sidecar.leases(), lease(LEASE))
    here = f"/api/v1/namespaces/{sidecar.namespace}"
    forbidden = [
        await sidecar.get(f"{here}/secrets"),
        await sidecar.get(f"{here}/secrets/forging-keys"),
        await sidecar.get(f"{here}/pods"),
        await sidecar.get(f"{here}/configmaps"),
        await sidecar.post(f"{here}/events", {"metadata": {"name": "e"}}),
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
