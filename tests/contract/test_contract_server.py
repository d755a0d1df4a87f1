"""The server as a process: users, counts, restarts; and the Python client that the product uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import aiohttp
import pytest
from kubernetes import aio

from devkit.api import ApiServer, SyncApiServer

from contract_api import PATIENCE_S, Api, client_context, lease


async def test_every_server_is_an_api_server(api_server: SyncApiServer) -> None:
    assert isinstance(api_server, ApiServer)
    assert isinstance(api_server, SyncApiServer)


async def test_an_unknown_token_is_unauthorized(api: Api) -> None:
    intruder = Api(api.session, api.server, api.namespace, None, {"Authorization": "Bearer guessed"})
    answer = await intruder.get(intruder.leases())
    assert (answer.code, answer.reason) == (401, "Unauthorized")


async def test_nobody_may_do_nothing_but_ask_whether_the_server_is_well(api: Api) -> None:
    nobody = Api(api.session, api.server, api.namespace, None)
    answer = await nobody.get(nobody.leases("l"))
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert answer.body["message"].startswith('leases.coordination.k8s.io "l" is forbidden: User "system:anonymous"')
    assert (await nobody.get("/apis")).code == 403
    for path in ("/readyz", "/healthz", "/livez"):
        assert (await nobody.get(path)).text == "ok"
    assert (await nobody.get("/version")).body["major"] == "1"


async def test_requests_are_counted_by_user_and_verb(api: Api) -> None:
    pod = Api(api.session, api.server, api.namespace, "pod-b")

    def counted() -> dict[str, int]:
        return dict(api.server.counts().get("pod-b", {}))

    before = counted()
    await pod.get("/version")
    await pod.get("/apis")
    await pod.get(pod.leases("l"))
    await pod.get(pod.leases())
    await pod.post(pod.leases(), lease("l"))
    await pod.put(pod.leases("l"), lease("l"))
    await pod.put(pod.leases("l"), lease("l"))
    await pod.patch(pod.leases("l"), {})
    await pod.delete(pod.leases("l"))
    async with pod.watch(pod.leases(), timeoutSeconds="1") as stream:
        await stream.to_the_end()
    expected = {"get": 1, "list": 1, "create": 1, "update": 2, "patch": 1, "delete": 1, "watch": 1}
    async with asyncio.timeout(PATIENCE_S):
        while {verb: number - before.get(verb, 0) for verb, number in counted().items()} != expected:
            await asyncio.sleep(0.05)  # the audit log is written after the answer


async def test_the_objects_survive_a_restart_under_the_same_address(api: Api) -> None:
    url = api.server.url
    held = await api.create_lease("l", holderIdentity="a")
    await api.server.restart()
    assert api.server.url == url
    assert (await api.get(api.leases("l"))).body == held.body
    changed = await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
    assert int(changed.version) > int(held.version)


async def test_a_restart_ends_running_watches(api: Api) -> None:
    await api.create_lease("l")
    async with api.watch(api.leases()) as stream:
        await stream.next()
        await api.server.restart()
        with contextlib.suppress(aiohttp.ClientError):  # the end may come without a goodbye
            assert await stream.next_or_end() is None


async def test_a_killed_server_refuses_connections_until_it_is_back(api: Api) -> None:
    held = await api.create_lease("l")
    async with api.watch(api.leases()) as stream:
        await stream.next()
        await api.server.kill()
        with contextlib.suppress(aiohttp.ClientError):
            assert await stream.next_or_end() is None
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.get(api.leases("l"))
    await api.server.restart()
    assert (await api.get(api.leases("l"))).body == held.body


async def test_a_kubeconfig_is_private_and_complete(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.touch(0o644)
    api.server.write_kubeconfig(path, "pod-a")
    assert path.stat().st_mode & 0o777 == 0o600
    config = json.loads(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == api.server.url
    assert config["users"][0]["user"]["token"] == api.server.token_for("pod-a")


async def test_an_unknown_user_has_no_token(api_server: SyncApiServer) -> None:
    with pytest.raises(KeyError):
        api_server.token_for("nobody-knows-him")


async def test_the_python_client_elects_with_leases(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    api.server.write_kubeconfig(path)
    configuration = aio.client.Configuration()
    await aio.config.load_kube_config(str(path), client_configuration=configuration)
    async with aio.client.ApiClient(configuration) as client:
        leases = aio.client.CoordinationV1Api(client)
        spec = aio.client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15)
        body = aio.client.V1Lease(metadata=aio.client.V1ObjectMeta(name="l"), spec=spec)
        made = await leases.create_namespaced_lease(api.namespace, body)
        made.spec.holder_identity = "b"
        changed = await leases.replace_namespaced_lease("l", api.namespace, made)
        assert changed.spec.holder_identity == "b"
        with pytest.raises(aio.client.ApiException) as refused:
            await leases.replace_namespaced_lease("l", api.namespace, made)
        assert refused.value.status == 409
        custom = aio.client.CustomObjectsApi(client)
        where = ("cardano.io", "v1", api.namespace, "cardanoleaders")
        await custom.create_namespaced_custom_object(
            *where, {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": "cardano-leader"}}
        )
        told = await custom.patch_namespaced_custom_object_status(
            *where, "cardano-leader", {"status": {"leaderPod": "a"}}, _content_type="application/merge-patch+json"
        )
        assert told["status"] == {"leaderPod": "a"}


async def test_a_client_that_trusts_nothing_cannot_speak_to_it(api: Api) -> None:
    assert client_context(api.server) is not True
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await Api(session, api.server, "default").get("/version")
