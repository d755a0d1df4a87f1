"""One set of tests, two servers: the embedded API always, the real kube-apiserver with FORGE_TEST_K8S=1 or -m k8s."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from devkit.api import ADMIN, EmbeddedApi, SyncApiServer
from devkit.realapi.server import RealApi

from contract_api import SIDECAR, Api, Kubectl, client_context

REAL = os.environ.get("FORGE_TEST_K8S") == "1"
USERS = [SIDECAR, "pod-a", "pod-b"]

_numbers = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a server runs against each that is wanted."""
    if "api_server" not in metafunc.fixturenames:
        return
    real_only = any(metafunc.definition.iter_markers("k8s"))
    wanted = REAL or metafunc.config.option.markexpr == "k8s"
    servers = [] if real_only else [pytest.param("embedded")]
    if wanted:
        servers.append(pytest.param("real", marks=pytest.mark.k8s))
    elif real_only:
        servers.append(pytest.param("real", marks=pytest.mark.skip("needs the real server: FORGE_TEST_K8S=1")))
    metafunc.parametrize("api_server", servers, indirect=True, scope="session")


@pytest.fixture(scope="session")
def api_server(request: pytest.FixtureRequest) -> Iterator[SyncApiServer]:
    """The server under test."""
    server = (
        RealApi(users=USERS) if request.param == "real" else EmbeddedApi.threaded(users=USERS, tls=True, authorize=True)
    )
    with server:
        yield server


@pytest.fixture
def is_real(api_server: SyncApiServer) -> bool:
    return isinstance(api_server, RealApi)


@pytest.fixture
async def api(api_server: SyncApiServer) -> AsyncIterator[Api]:
    """The administrator in a namespace made for this test."""
    connector = aiohttp.TCPConnector(ssl=client_context(api_server))
    async with aiohttp.ClientSession(connector=connector) as session:
        made = Api(session, api_server, f"t{next(_numbers)}")
        answer = await made.post("/api/v1/namespaces", {"metadata": {"name": made.namespace}})
        assert answer.code == 201, answer.text
        yield made
    await _let_connections_close()


async def _let_connections_close() -> None:
    """A TLS connection that is cut in the midst of a watch takes some turns of the loop to be gone."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def kubectl(api: Api, tmp_path: Path, is_real: bool) -> Kubectl:
    """Runs kubectl as a user in the test's namespace; gives its standard output.  It must succeed."""
    program = shutil.which("kubectl")
    if program is None:
        assert not is_real, "a run against the real server must not go without kubectl"
        pytest.skip("no kubectl here")

    async def run(*arguments: str, user: str = ADMIN, stdin: str = "", fails: bool = False) -> str:
        config = tmp_path / f"kubeconfig-{user.replace(':', '-')}"
        api.server.write_kubeconfig(config, user)
        process = await asyncio.create_subprocess_exec(
            program,
            "--namespace",
            api.namespace,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(config)},
        )
        out, err = await process.communicate(stdin.encode())
        assert (process.returncode != 0) is fails, f"kubectl {arguments}: {out.decode()} {err.decode()}"
        return (err if fails else out).decode()

    return run
