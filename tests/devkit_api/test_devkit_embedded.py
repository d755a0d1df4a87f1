"""The embedded server where it differs from the real one by design: how it is started, kept and bounded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devkit.api import ANONYMOUS, EmbeddedApi
from devkit.api.crd import DEFAULT_FOLDER, load_manifests

Json = dict[str, Any]
PATIENCE_S = 30.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEADERS = "/apis/cardano.io/v1/namespaces/default/cardanoleaders"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEADER = {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": "l"}}
MERGE = {"Content-Type": "application/merge-patch+json"}


async def call(
    api: EmbeddedApi | str,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Json]:
    url = api if isinstance(api, str) else api.url
    data = None if body is None else json.dumps(body)
    given = {"Content-Type": "application/json", **(headers or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, data=data, headers=given) as response,
    ):
        return response.status, json.loads(await response.text())


async def watch(api: EmbeddedApi, path: str, events: int) -> list[Json]:
    async with aiohttp.ClientSession() as session, session.get(api.url + path) as response:
        found = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < events and (line := await response.content.readline()):
                found.append(json.loads(line))
        return found


async def test_without_users_everybody_is_let_in_and_counted_as_one() -> None:
    async with EmbeddedApi() as api:
        assert api.token_for("admin") is None
        assert api.ca_file is None
        assert (await call(api, "GET", LEASES))[0] == 200
        assert api.counts() == {ANONYMOUS: {"list": 1}}


async def test_with_users_a_token_is_asked_for_and_counts_are_theirs() -> None:
    async with EmbeddedApi(users=["pod-a"], tokens={"pod-b": "b-token"}) as api:
        assert (await call(api, "GET", LEASES))[0] == 403
        for user in ("admin", "pod-a", "pod-b"):
            headers = {"Authorization": f"Bearer {api.token_for(user)}"}
            assert (await call(api, "GET", LEASES, headers=headers))[0] == 200
        assert api.token_for("pod-b") == "b-token"
        assert api.counts() == {user: {"list": 1} for user in ("admin", "pod-a", "pod-b")}


async def test_a_watch_goes_back_no_further_than_the_history() -> None:
    async with EmbeddedApi(history=3) as api:
        _, made = await call(api, "POST", LEASES, {"metadata": {"name": "l"}})
        first = int(made["metadata"]["resourceVersion"])
        for number in range(4):
            await call(api, "PATCH", f"{LEASES}/l", {"spec": {"leaseTransitions": number}}, MERGE)
        (event,) = await watch(api, f"{LEASES}?watch=1&resourceVersion={first}", 1)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        kept = await watch(api, f"{LEASES}?watch=1&resourceVersion={first + 1}", 3)
        assert [found["object"]["spec"]["leaseTransitions"] for found in kept] == [1, 2, 3]


async def test_bookmarks_come_at_intervals_to_those_who_ask() -> None:
    async with EmbeddedApi(bookmark_interval_s=0.01) as api:
        _, listed = await call(api, "GET", LEASES)
        version = listed["metadata"]["resourceVersion"]
        await call(
            api, "POST", LEADERS, {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": "l"}}
        )
        path = f"{LEASES}?watch=1&resourceVersion={version}&allowWatchBookmarks=true"
        for event in await watch(api, path, 2):
            assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "Lease")
            assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)
        silent = await watch(api, f"{LEASES}?watch=1&resourceVersion={version}&timeoutSeconds=1", 1)
        assert silent == []


async def test_objects_and_versions_go_on_in_the_database(tmp_path: Path) -> None:
    db = tmp_path / "api.db"
    async with EmbeddedApi(db=db) as api:
        _, kept = await call(api, "POST", LEASES, {"metadata": {"name": "kept"}, "spec": {"holderIdentity": "a"}})
        await call(api, "POST", LEASES, {"metadata": {"name": "gone"}})
        await call(api, "DELETE", f"{LEASES}/gone")
        _, listed = await call(api, "GET", LEASES)
        version = int(listed["metadata"]["resourceVersion"])
    async with EmbeddedApi(db=db) as again:
        assert (await call(again, "GET", f"{LEASES}/kept"))[1] == kept
        assert (await call(again, "GET", f"{LEASES}/gone"))[0] == 404
        _, listed = await call(again, "GET", LEASES)
        assert int(listed["metadata"]["resourceVersion"]) == version
        _, made = await call(again, "POST", LEASES, {"metadata": {"name": "new"}})
        assert int(made["metadata"]["resourceVersion"]) == version + 1
        (event,) = await watch(again, f"{LEASES}?watch=1&resourceVersion={version - 1}", 1)
        assert event["object"]["code"] == 410


async def test_a_restart_reads_the_database_anew(tmp_path: Path) -> None:
    async with EmbeddedApi(db=tmp_path / "api.db") as api:
        _, kept = await call(api, "POST", LEASES, {"metadata": {"name": "kept"}})
        await api.restart()
        assert (await call(api, "GET", f"{LEASES}/kept"))[1] == kept


async def test_a_server_without_a_database_forgets_when_stopped() -> None:
    api = EmbeddedApi()
    await api.start()
    await call(api, "POST", LEASES, {"metadata": {"name": "l"}})
    await api.stop()
    await api.stop()
    with pytest.raises(RuntimeError):
        _ = api.url
    await api.start()
    assert (await call(api, "GET", f"{LEASES}/l"))[0] == 404
    await api.stop()


async def test_a_killed_server_keeps_its_port_from_others() -> None:
    async with EmbeddedApi() as api:
        port = int(api.url.rpartition(":")[2])
        await api.kill()
        with pytest.raises(aiohttp.ClientConnectorError):
            await call(api, "GET", "/readyz")
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
        await api.restart()
        assert (await call(api, "GET", LEASES))[0] == 200


async def test_a_wished_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="Address already in use"):
            await EmbeddedApi(port=taken.getsockname()[1]).start()


async def test_a_client_that_leaves_its_watch_leaves_nothing_behind() -> None:
    async with EmbeddedApi() as api:
        assert api._store is not None
        await watch(
            api, f"{LEASES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", 1
        )
        async with asyncio.timeout(PATIENCE_S):
            while api._store._watchers:
                await asyncio.sleep(0.01)


async def test_a_stop_ends_watches_with_a_whole_answer() -> None:
    async with (
        EmbeddedApi() as api,
        aiohttp.ClientSession() as session,
        session.get(f"{api.url}{LEASES}?watch=1") as response,
    ):
        await api.stop()
        assert await response.content.read() == b""


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    async with EmbeddedApi() as api:
        port = int(api.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(f"GET {LEASES}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        big = {"metadata": {"name": "l", "annotations": {"a": "x" * 200_000}}}
        assert (await call(api, "POST", LEASES, big))[0] == 201
        async with asyncio.timeout(PATIENCE_S):
            for number in range(50):
                assert (await call(api, "PATCH", f"{LEASES}/l", {"spec": {"leaseTransitions": number}}, MERGE))[
                    0
                ] == 200
        writer.transport.abort()


async def test_a_server_in_a_thread_serves_a_caller_without_a_loop() -> None:
    def use() -> int:
        with EmbeddedApi.start_thread() as api:
            api.restart_sync()
            api.kill_sync()
            api.restart_sync()
            with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2]))) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return int(connection.recv(100).split()[1])

    assert await asyncio.to_thread(use) == 200


async def test_without_definitions_their_kinds_are_unknown_until_one_is_made() -> None:
    async with EmbeddedApi(crds=()) as api:
        assert await status_of(api, LEADERS) == 404
        for document in load_manifests(DEFAULT_FOLDER):
            assert (await call(api, "POST", CRDS, document))[0] == 201
        assert await status_of(api, LEADERS) == 200
        assert (await call(api, "POST", LEADERS, LEADER))[0] == 201
        assert (await call(api, "DELETE", f"{CRDS}/cardanoleaders.cardano.io"))[0] == 200
        assert await status_of(api, LEADERS) == 404


async def test_a_definition_without_names_is_refused() -> None:
    async with EmbeddedApi() as api:
        broken = {"metadata": {"name": "things.example.org"}, "spec": {"group": "example.org", "versions": []}}
        assert (await call(api, "POST", CRDS, broken))[0] == 422


async def status_of(api: EmbeddedApi, path: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(api.url + path) as response:
        return response.status


async def test_a_deleted_namespace_takes_its_objects_along() -> None:
    async with EmbeddedApi(namespaces=["mine"]) as api:
        mine = LEASES.replace("default", "mine")
        assert (await call(api, "POST", mine, {"metadata": {"name": "l"}}))[0] == 201
        assert (await call(api, "DELETE", "/api/v1/namespaces/mine"))[0] == 200
        assert (await call(api, "GET", f"{mine}/l"))[0] == 404
        assert (await call(api, "POST", mine, {"metadata": {"name": "l"}}))[0] == 404


async def test_a_custom_kind_is_not_taken_in_protobuf() -> None:
    async with EmbeddedApi() as api:
        headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        assert (await call(api, "POST", LEADERS, {}, headers))[0] == 415


async def run_process(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devkit.api",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": ""},
    )


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


async def end(processes: Iterable[asyncio.subprocess.Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_server_process_prints_its_address_and_outlives_its_own_end_in_its_database(tmp_path: Path) -> None:
    config, db, tokens = tmp_path / "kubeconfig", tmp_path / "api.db", tmp_path / "tokens.csv"
    tokens.write_text("secret-a,admin\nsecret-b,pod-b\n")
    options = ["--kubeconfig", str(config), "--db", str(db), "--tokens", str(tokens), "--namespace", "mine"]
    mine = LEASES.replace("default", "mine")
    headers = {"Authorization": "Bearer secret-b"}
    processes = [await run_process(*options)]
    try:
        url = await line_of(processes[0])
        assert json.loads(config.read_text())["clusters"][0]["cluster"]["server"] == url
        assert json.loads(config.read_text())["users"][0]["user"]["token"] == "secret-a"
        assert (await call(url, "POST", mine, {"metadata": {"name": "l"}}, headers))[0] == 201
        processes[0].kill()
        await processes[0].communicate()
        processes.append(await run_process(*options, "--port", url.rpartition(":")[2]))
        assert await line_of(processes[1]) == url
        assert (await call(url, "GET", f"{mine}/l", headers=headers))[0] == 200
        processes[1].send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            _, said = await processes[1].communicate()
        assert (processes[1].returncode, said) == (0, b"")
    finally:
        await end(processes)


async def test_a_server_process_whose_port_is_taken_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await run_process("--port", str(taken.getsockname()[1]))
        try:
            async with asyncio.timeout(PATIENCE_S):
                _, said = await process.communicate()
        finally:
            await end([process])
    assert process.returncode == 1
    assert said.startswith(b"error: ")
    assert b"Address already in use" in said
