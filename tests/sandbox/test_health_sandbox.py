"""The prober's closed sandbox lets it ask its health endpoint, with TLS and by name where it must, and nothing more."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from locked_up import alone

from config import Config, load
from devkit.api.certificates import write_certificate
from devkit.privileges import DECLARED
from health import reach
from health.endpoint import Checker
from ipc.frames import FrameReader
from ipc.messages import HealthCheck, ProberState, State, Worker, decode_state
from sandbox import close as closing
from sandbox import landlock
from sandbox.close import addresses, close
from sandbox.privileges import Place, Port
from sandbox.syscalls import Architecture

PROBER = next(declaration for declaration in DECLARED if declaration.worker is Worker.PROBER)
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
CLUSTERS = {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcd1234567890", "CLUSTER_REGION": "eu-1"}

needs_landlock = pytest.mark.skipif(
    landlock.abi() == 0 or Architecture.of(platform.machine()) is None, reason="no sandbox here"
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pod() -> Iterator[dict[str, str]]:
    """The environment of a pod whose files are there."""
    with tempfile.TemporaryDirectory(prefix="health-", dir="/tmp") as name:
        root = Path(name).resolve()
        for folder in ("secrets", "ipc", *(f"run/{worker}" for worker in Worker)):
            (root / folder).mkdir(parents=True)
        yield {
            "SOURCE_KES_KEY": f"{root}/secrets/kes.skey",
            "SOURCE_VRF_KEY": f"{root}/secrets/vrf.skey",
            "SOURCE_OP_CERT": f"{root}/secrets/node.cert",
            "TARGET_KES_KEY": f"{root}/ipc/kes.skey",
            "TARGET_VRF_KEY": f"{root}/ipc/vrf.skey",
            "TARGET_OP_CERT": f"{root}/ipc/node.cert",
            "NODE_SOCKET": f"{root}/ipc/node.socket",
            "RUN_DIR": f"{root}/run",
        }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the sandbox leaves nothing open but what SSL_CERT_FILE names."""
    return write_certificate(tmp_path_factory.mktemp("trust"))


class Endpoint:
    """A server in a thread: it goes on while the test waits for its child."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                if self._stopping(connection):
                    return
                try:
                    self._answer(connection)
                except OSError:
                    continue  # a client that does not trust us, or goes away

    def _stopping(self, connection: socket.socket) -> bool:
        return connection.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL) == b"stop"

    def _answer(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection:
            if connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def stop(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def plain() -> Iterator[Endpoint]:
    made = Endpoint(None)
    yield made
    made.stop()


@pytest.fixture
def safe(certificate: tuple[Path, Path]) -> Iterator[Endpoint]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    made = Endpoint(context)
    yield made
    made.stop()


def asked(environment: dict[str, str], *urls: str, anywhere: bool = False) -> list[str]:
    """What comes of asking them within the sandbox of a prober with this environment.

    anywhere: the checker itself refuses no port, so the kernel has to.
    """
    os.environ.update(environment)
    config = load(environment)
    close(PROBER, config, None)
    found = reach.of(config, os.environ)
    checker = Checker(None if anywhere else found.ports if found is not None else ())

    async def ask() -> list[str]:
        return [(await checker.ask(HealthCheck(url, 60, PATIENCE_S))).message for url in urls]

    return asyncio.run(ask())


@needs_landlock
def test_tls_to_an_address_that_is_a_number_works_and_neither_other_ports_nor_names_do(
    pod: dict[str, str], certificate: tuple[Path, Path], safe: Endpoint, plain: Endpoint
) -> None:
    url = f"https://127.0.0.1:{safe.port}/"
    environment = pod | {"HEALTH_CHECK_ENDPOINT": url, "SSL_CERT_FILE": str(certificate[0]), "SSL_CERT_DIR": "/none"}
    there, other, named = alone(
        lambda: asked(
            environment, url, f"http://127.0.0.1:{plain.port}/", f"http://localhost:{safe.port}/", anywhere=True
        )
    )
    assert there == f"127.0.0.1:{safe.port}: answered 200"
    if landlock.abi() >= landlock.NET_ABI:
        assert other == f"127.0.0.1:{plain.port}: no connection: Permission denied"
    assert "names are looked up only where HEALTH_CHECK_ENDPOINT or NOTIFY_URL has one" in named


@needs_landlock
def test_a_server_that_the_system_does_not_trust_is_not_trusted_in_the_sandbox_either(
    pod: dict[str, str], safe: Endpoint
) -> None:
    url = f"https://127.0.0.1:{safe.port}/"
    (said,) = alone(asked, pod | {"HEALTH_CHECK_ENDPOINT": url}, url)
    assert "no TLS connection: self-signed certificate" in said


@needs_landlock
def test_an_address_with_a_name_is_looked_up(pod: dict[str, str], plain: Endpoint) -> None:
    url = f"http://localhost:{plain.port}/"
    assert alone(asked, pod | {"HEALTH_CHECK_ENDPOINT": url}, url) == [f"localhost:{plain.port}: answered 200"]


@needs_landlock
def test_with_cluster_management_names_are_looked_up_and_a_port_that_nobody_named_is_refused_with_the_remedy(
    pod: dict[str, str], plain: Endpoint
) -> None:
    named, number = f"http://localhost:{plain.port}/", f"http://127.0.0.1:{plain.port}/"
    for said in alone(asked, pod | CLUSTERS, named, number):
        assert f"port {plain.port} is not open to the prober: set HEALTH_CHECK_ENDPOINT" in said
    own = pod | CLUSTERS | {"HEALTH_CHECK_ENDPOINT": number}
    assert alone(asked, own, named) == [f"localhost:{plain.port}: answered 200"]


# --- what is open ---


def planned(config: Config) -> Any:
    return closing._plan(PROBER, config, None)


def test_without_a_health_check_neither_ports_nor_trust_nor_names_are_open() -> None:
    config = load({})
    assert Port.HEALTH not in addresses(config, None)
    made = planned(config)
    assert made.ports == (12798,)
    assert {rule.place for rule in made.rules}.isdisjoint({Place.TRUST, Place.NAMES})
    assert made.datagrams == ()


@pytest.mark.parametrize(
    ("variables", "proxies", "ports", "names"),
    [
        ({"HEALTH_CHECK_ENDPOINT": "https://10.0.0.1/"}, {}, (443,), False),
        ({"HEALTH_CHECK_ENDPOINT": "http://[fd00::1]:8080/x"}, {}, (8080,), False),
        ({"HEALTH_CHECK_ENDPOINT": "http://health.example/"}, {}, (80,), True),
        (
            {"HEALTH_CHECK_ENDPOINT": "https://10.0.0.1/"},
            {"HTTPS_PROXY": "http://u:p@10.0.0.2:3128"},
            (443, 3128),
            False,
        ),
        ({"HEALTH_CHECK_ENDPOINT": "https://10.0.0.1/"}, {"https_proxy": "proxy:3128"}, (443, 3128), True),
        (CLUSTERS, {}, (80, 443), True),
        (CLUSTERS | {"HEALTH_CHECK_ENDPOINT": "https://10.0.0.1:8443/"}, {}, (80, 443, 8443), True),
        (CLUSTERS, {"HTTP_PROXY": "http://10.0.0.2:3128", "HTTPS_PROXY": "http://[10.0.0.3"}, (80, 443, 3128), True),
    ],
)
def test_open_are_the_endpoints_port_and_the_proxies_and_with_cluster_management_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    proxies: dict[str, str],
    ports: tuple[int, ...],
    names: bool,
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    made = planned(load(variables))
    assert made.ports == tuple(sorted({*ports, 12798, *((53,) if names else ())}))
    assert {rule.place for rule in made.rules} >= {Place.TRUST}
    assert (Place.NAMES in {rule.place for rule in made.rules}) is names
    assert ("clone" in {permit.call for permit in made.permits}) is names


def test_nobody_else_may_connect_there() -> None:
    assert [declaration.worker for declaration in DECLARED if Port.HEALTH in declaration.connects] == [Worker.PROBER]


# --- a real one ---


def states(path: Path, process: subprocess.Popen[bytes]) -> Iterator[State]:
    """What the prober says, as it comes."""
    while not path.is_socket():
        assert process.poll() is None, "it ended"
        os.sched_yield()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        while sock.connect_ex(str(path)) != 0:
            assert process.poll() is None, "it ended"
        reader = FrameReader()
        while data := sock.recv(65536):
            for payload in reader.feed(data):
                yield decode_state(payload, Worker.PROBER)


@needs_landlock
def test_a_prober_asks_from_within_its_closed_sandbox_and_says_what_came_of_it(
    pod: dict[str, str], certificate: tuple[Path, Path], safe: Endpoint
) -> None:
    url = f"https://127.0.0.1:{safe.port}/?token=x"
    more = {"HEALTH_CHECK_ENDPOINT": url, "SSL_CERT_FILE": str(certificate[0]), "POD_NAME": "pod-0"}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **pod, **more}
    with subprocess.Popen([sys.executable, "-m", "workers.prober"], env=environment, stderr=subprocess.PIPE) as process:
        try:
            for state in states(Path(pod["RUN_DIR"]) / "prober" / "state.sock", process):
                assert state.sandbox.closed
                assert isinstance(state.body, ProberState)
                if state.body.health is not None and state.body.health.checked_at:
                    break
        finally:
            process.terminate()
    assert isinstance(state.body, ProberState)
    assert state.body.health is not None
    assert state.body.health.healthy
    assert state.body.health.message == f"127.0.0.1:{safe.port}: answered 200"
    assert not state.body.fit  # there is no node: that is another question
