"""The HTTP side: read-only, small, patient with nobody."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from gateway_pictures import CONFIG, NOW, picture

from gateway import http
from gateway.http import Listener, Site
from gateway.metrics import PodCollector, Totals
from gateway.views import Picture
from kernel import tcp
from kernel.tcp import PortTaken

PATHS = ("/", "/metrics", "/startup-status", "/health", "/ready", "/status")
PATIENCE_S = 30


class Pod:
    """A served picture that a test may change."""

    def __init__(self) -> None:
        self.picture = picture()
        self.site = Site(self.look, PodCollector(self.look, Totals()))
        self.listener = Listener(self.site)

    def look(self) -> Picture:
        return self.picture

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"

    async def raw(self, data: bytes) -> bytes:
        """Everything the server says to these bytes until it ends the connection."""
        reader, writer = await self.connect()
        writer.write(data)
        answer = await self.rest(reader)
        writer.close()
        return answer

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listener.port)

    @staticmethod
    async def rest(reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    await made.listener.start(tcp.listen(0, "METRICS_PORT"))
    yield made
    await made.listener.close()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_answers_a_get_without_naming_versions_or_being_kept(
    pod: Pod, client: ClientSession, path: str
) -> None:
    async with client.get(pod.url + path) as answer:
        assert answer.status == 200
        assert answer.headers["Server"] == "forge-manager"
        assert answer.headers["Cache-Control"] == "no-store"
        text = await answer.text()
    if path not in ("/", "/metrics"):
        assert answer.content_type == "application/json"
        assert json.loads(text)
    assert pod.site.requests == {path: 1}


async def test_metrics_come_in_prometheus_text_format(pod: Pod, client: ClientSession) -> None:
    async with client.get(pod.url + "/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "cardano_forging_enabled{" in await answer.text()


async def test_probes_answer_503_when_the_workers_are_silent(pod: Pod, client: ClientSession) -> None:
    pod.picture = Picture(config=CONFIG, version="1", now=NOW, started_at=0, states={}, connected={})
    for path in ("/startup-status", "/health", "/ready"):
        async with client.get(pod.url + path) as answer:
            assert answer.status == 503
            assert await answer.json()


async def test_an_unknown_path_is_404_and_another_method_405_in_json(pod: Pod, client: ClientSession) -> None:
    async with client.get(pod.url + "/etc/passwd") as answer:
        assert (answer.status, await answer.json()) == (404, {"error": "Not Found"})
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        async with client.request(method, pod.url + "/status") as answer:
            assert (answer.status, await answer.json()) == (405, {"error": "Method Not Allowed"})
            assert answer.headers["Allow"] == "GET,HEAD"
            assert answer.headers["Server"] == "forge-manager"


async def test_paths_that_do_not_exist_are_counted_together(pod: Pod, client: ClientSession) -> None:
    for number in range(20):
        async with client.get(f"{pod.url}/{number}"):
            pass
    assert pod.site.requests == {"other": 20}


async def test_a_request_with_a_body_is_refused_and_its_connection_ended(pod: Pod) -> None:
    for head in (b"Content-Length: 1\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"):
        answer = await pod.raw(b"GET /status HTTP/1.1\r\nHost: x\r\n" + head)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"requests here have no body" in answer


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\xff\xff", b"413"),
        (b"Expect: \xb0\r\n\r\n", b"417"),
        (b"Expect: wonders\r\n\r\n", b"417"),
    ],
    ids=["no gzip", "expects no text", "expects wonders"],
)
async def test_nothing_in_a_request_is_a_fault_of_ours_that_fills_the_log(
    pod: Pod, more: bytes, code: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (b"/status", b"/nowhere"):
        answer = await pod.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + more)
        assert answer.split(b" ")[1] == code
    assert not [r for r in caplog.records if r.levelno >= logging.INFO]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 8000 + b"\r\n\r\n",
        b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["TLS", "another version", "a long header", "a long path"],
)
async def test_what_is_no_proper_request_gets_a_400_that_names_no_versions(
    pod: Pod, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await pod.raw(request_bytes)
    assert answer.split(b" ")[1] == b"400"
    assert b"Server: forge-manager\r\n" in answer
    assert b"aiohttp" not in answer.lower()
    assert not [r for r in caplog.records if r.levelno >= logging.INFO], "strangers must not fill the log"


async def test_a_request_that_the_library_stumbles_over_ends_its_connection_and_not_the_gateway(
    pod: Pod, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
    for _ in range(3):
        await pod.raw(b"CONNECT \nHost: pod\r\n\r\n")
    gc.collect()  # a task whose exception nobody took says so when it goes
    assert not faults
    assert len(caplog.records) <= 1, "strangers must not fill the log"
    async with client.get(pod.url + "/status") as answer:
        assert answer.status == 200


async def test_headers_without_end_are_cut_off(pod: Pod) -> None:
    line = b"X-%d: " + b"x" * 1000 + b"\r\n"
    answer = await pod.raw(b"GET /status HTTP/1.1\r\nHost: x\r\n" + b"".join(line % n for n in range(40)) + b"\r\n")
    assert b"HTTP/1.1 200" not in answer


async def test_a_client_that_delivers_no_request_is_cut(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_S", 0.05)
    assert await pod.raw(b"") == b""
    assert await pod.raw(b"GET /status HTTP/1.1\r\nHost:") == b""


async def test_a_client_that_goes_on_sending_a_header_byte_by_byte_is_cut_all_the_same(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_S", 0.2)
    reader, writer = await pod.connect()
    writer.write(b"GET /status HTTP/1.1\r\nX: ")

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    assert await pod.rest(reader) == b""
    dripping.cancel()
    writer.close()


async def test_a_connection_is_kept_for_the_next_request_and_cut_when_none_comes(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "IDLE_S", 0.3)
    reader, writer = await pod.connect()
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"/ready\n")).startswith(b"HTTP/1.1 200 OK")
    assert await pod.rest(reader) == b""
    writer.close()


async def test_a_client_that_asks_and_does_not_read_is_cut(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    manager = pod.listener._runner.server
    assert manager is not None
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", pod.listener.port))
        before = -1
        while pod.site.requests["/metrics"] > before:  # until the server cannot get rid of its answers
            before = pod.site.requests["/metrics"]
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            for _ in range(200):
                await asyncio.sleep(0)
        assert before > 0
        async with asyncio.timeout(10):
            while manager.connections:
                await asyncio.sleep(0.02)


async def test_a_crowd_of_silent_clients_does_not_keep_a_probe_out(pod: Pod, client: ClientSession) -> None:
    async with client.get(pod.url + "/health") as answer:
        assert answer.status == 200
    crowd = [await pod.connect() for _ in range(http.MOST_CONNECTIONS + 20)]
    async with client.get(pod.url + "/health") as answer:
        assert answer.status == 200
    for reader, _ in crowd[:20]:
        assert await pod.rest(reader) == b""
    reader, writer = crowd[-1]
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"/ready\n")
    for _, writer in crowd:
        writer.close()


async def test_a_fault_of_ours_is_a_500_in_json_and_logged(
    pod: Pod, client: ClientSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble() -> Picture:
        raise LookupError("stumbled")

    monkeypatch.setattr(pod.site, "_look", stumble)
    async with client.get(pod.url + "/status") as answer:
        assert (answer.status, await answer.json()) == (500, {"error": "Internal Server Error"})
        assert answer.headers["Server"] == "forge-manager"
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == ["a request failed"]


async def test_the_port_is_the_same_on_ipv4_and_ipv6(pod: Pod, client: ClientSession) -> None:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    async with client.get(f"http://[::1]:{pod.listener.port}/health") as answer:
        assert answer.status == 200


async def test_a_port_in_use_is_said_in_one_line_with_the_remedy(pod: Pod) -> None:
    with pytest.raises(
        PortTaken, match=rf"^METRICS_PORT={pod.listener.port} cannot be used: .*; free it or set another$"
    ):
        tcp.listen(pod.listener.port, "METRICS_PORT")


async def test_closing_waits_for_no_client(pod: Pod) -> None:
    reader, writer = await pod.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"/ready\n")
    async with asyncio.timeout(PATIENCE_S):
        await pod.listener.close()
        assert await reader.read() == b""
    writer.close()
