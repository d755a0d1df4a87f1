"""The HTTP side: read-only, small, patient with nobody."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_pictures import CONFIG, NOW, picture

from gateway import http, live, story
from gateway.chronicle import Chronicle
from gateway.exposition import Exposition
from gateway.guard import Guard
from gateway.http import Listener, Site
from gateway.metrics import PodCollector
from gateway.totals import Totals
from gateway.views import Picture
from ipc.messages import Fence, Worker
from kernel import tcp
from kernel.tcp import PortTaken

PATHS = ("/", "/page.css", "/page.js", "/metrics", "/startup-status", "/health", "/ready", "/status")
PATIENCE_S = 30


class Pod:
    """A served picture that a test may change."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.picture = picture()
        self.chronicle = Chronicle()
        exposition = Exposition(PodCollector(self.look, Totals(), self.chronicle), time.monotonic_ns)
        self.site = Site(self.look, exposition, lambda: story.page(self.picture, self.chronicle, 1.7e9), guard)
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

    async def connect(self, address: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listener.port, local_addr=(address, 0))

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
    if not path.startswith("/page.") and path not in ("/", "/metrics"):
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


# --- as an attacker would ask ---

SMUGGLED = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        b"1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nxxxxx\r\n0\r\n\r\n",
        b"1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"1.1\r\nHost: x\r\nContent-Length: 0, 5\r\n\r\n",
        b"1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        b"1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\n",
        b"1.1\r\nHost: x\r\nContent-Length: 00\r\n\r\n",
        b"1.1\nHost: x\n\n",
        b"1.1\r\nHost: x\rContent-Length: 5\r\n\r\n",
        b"1.1\r\nHost: x\r\nX: a\r\n Content-Length: 5\r\n\r\n",
        b"1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    ],
)
async def test_a_request_that_two_readers_could_end_in_two_places_is_refused_with_its_connection(
    pod: Pod, framing: bytes
) -> None:
    answer = await pod.raw(b"GET /status HTTP/" + framing + SMUGGLED)
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answer) in ([b"400"], [b"413"])
    assert not pod.site.requests["/ready"]


@pytest.mark.parametrize("first", [b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /health\r\n\r\n"])
async def test_other_versions_of_http_are_refused(pod: Pod, first: bytes) -> None:
    answer = await pod.raw(first + SMUGGLED)
    assert answer.split(b" ")[1] == b"400"
    assert b"alive" not in answer
    assert not pod.site.requests["/ready"]


@pytest.mark.parametrize("host", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n", b"Host: a/b\r\n", b"Host: [\r\n",
                                  b"Host: u@h\r\n", b"Host: a:b\r\n", b"Host: \xff\r\n"])  # fmt: skip
async def test_a_request_without_one_proper_host_is_refused(pod: Pod, host: bytes) -> None:
    assert (await pod.raw(b"GET /status HTTP/1.1\r\n" + host + b"\r\n")).split(b" ")[1] == b"400"


@pytest.mark.parametrize(
    "host", ["10.0.0.7:8000", "[fd00::7]:8000", "localhost", "pod-0.cardano", "a.b.svc:8000", "forge.example.com", ""]
)
async def test_under_whatever_name_the_pod_is_reached_it_answers(pod: Pod, host: str) -> None:
    asked = f"GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert (await pod.raw(asked.encode())).startswith(b"HTTP/1.1 200 ")


async def test_http_1_0_is_answered_without_a_host_and_its_connection_ends(pod: Pod) -> None:
    answer = await pod.raw(b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")


async def test_a_head_has_the_headers_and_no_body(pod: Pod) -> None:
    for path in ("/status", "/metrics", "/events", "/nowhere"):
        answer = await pod.raw(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1
    assert pod.site.live.streams == 0


@pytest.mark.parametrize(
    ("target", "status", "counted"),
    [
        ("http://elsewhere/status", 200, "/status"),
        ("http://elsewhere", 404, "other"),
        ("/%73tatus", 200, "/status"),
        ("/status?x=/metrics", 200, "/status"),
        ("/metrics/../status", 404, "other"),
        ("/metrics/%2e%2e/status", 404, "other"),
        ("/metrics;/status", 404, "other"),
        ("//status", 404, "other"),
        ("/status/", 404, "other"),
        ("/STATUS", 404, "other"),
    ],
)
async def test_a_path_is_what_it_is_routed_to_however_it_is_written(
    pod: Pod, target: str, status: int, counted: str
) -> None:
    answer = await pod.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert int(answer.split(b" ")[1]) == status
    assert pod.site.requests == {counted: 1}


async def test_requests_in_one_go_get_one_answer_each_in_their_order(pod: Pod) -> None:
    paths = ("/health", "/ready", "/status", "/nowhere")
    asked = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths]
    last = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await pod.raw("".join([*asked, last]).encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"200", b"404", b"200"]
    assert [answer.index(word) for word in (b"alive", b'"ready"', b'"fence"', b"Not Found")] == sorted(
        answer.index(word) for word in (b"alive", b'"ready"', b'"fence"', b"Not Found")
    )


async def test_what_a_client_takes_may_stand_in_several_headers(pod: Pod) -> None:
    takes = (
        "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\nAccept: text/html\r\nAccept: application/openmetrics-text\r\n"
    )
    answer = await pod.raw(f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{takes}\r\n".encode())
    assert b"Content-Encoding: gzip\r\n" in answer
    assert b"Content-Type: application/openmetrics-text" in answer


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
async def test_who_asks_for_another_protocol_is_answered_and_told_to_connect_anew(pod: Pod, path: str) -> None:
    """Some ask with each connection whether HTTP/2 is spoken, and send their next request over it."""
    asks = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    answer = await pod.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n{asks}\r\n".encode() + SMUGGLED)
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answer) == [b"200" if path == "/health" else b"404"]
    assert b"Connection: close\r\n" in answer


async def test_of_requests_in_one_go_no_two_are_answered_in_the_same_turn_of_the_loop(pod: Pod) -> None:
    """From Python 3.12 on aiohttp itself gives nobody else a turn between them."""
    loop = asyncio.get_running_loop()
    turn, seen = 0, list[int]()

    def tick() -> None:
        nonlocal turn, ticking
        turn += 1
        ticking = loop.call_soon(tick)

    ticking = loop.call_soon(tick)
    look = pod.look
    pod.site._look = lambda: (seen.append(turn), look())[1]
    asked = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 50 + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await pod.raw(asked.encode())).count(b"HTTP/1.1 200 ") == 51
    ticking.cancel()
    assert len(seen) == 50
    assert len(set(seen)) == 50


async def test_no_other_site_is_let_in_by_a_header(pod: Pod, client: ClientSession) -> None:
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        async with client.request(method, pod.url + "/status", headers=asking) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "cors", 403),
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),  # another port of this host
        ("cross-site", "navigate", 200),  # a link
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
async def test_a_page_of_another_site_gets_nothing_and_takes_no_stream(
    pod: Pod, client: ClientSession, site: str, mode: str, status: int
) -> None:
    for path in ("/status", "/metrics", "/page.js") if status == 200 else (*PATHS, "/events"):
        async with client.get(pod.url + path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}) as answer:
            assert answer.status == status
    assert pod.site.live.streams == 0


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


async def test_a_crowd_that_asks_all_the_time_does_not_have_a_newcomer_cut_before_it_asks(pod: Pod) -> None:
    asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    async def all_ask() -> None:
        for reader, writer in busy:
            writer.write(asked)
            assert b"200 OK" in await reader.readuntil(b"/ready\n")

    busy = [await pod.connect() for _ in range(http.MOST_CONNECTIONS - 1)]
    await all_ask()
    newcomer = await pod.connect()
    await all_ask()
    others = [await pod.connect() for _ in range(http.MOST_CONNECTIONS // 2 - 1)]
    reader, writer = newcomer
    writer.write(asked)
    assert b"200 OK" in await reader.readuntil(b"/ready\n")
    for _, writer in (*busy, newcomer, *others):
        writer.close()


async def test_who_opens_connections_in_masses_takes_the_places_of_its_own_address_only(pod: Pod) -> None:
    known, new = [await pod.connect() for _ in range(2)]
    asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    known[1].write(asked)
    await known[0].readuntil(b"/ready\n")
    crowd = [await pod.connect("127.0.0.2") for _ in range(2 * http.MOST_CONNECTIONS)]
    for reader, writer in (known, new):
        writer.write(asked)
        assert b"200 OK" in await reader.readuntil(b"/ready\n")
    assert pod.listener.connections == http.MOST_CONNECTIONS
    for _, writer in (known, new, *crowd):
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


# --- the page ---


async def test_a_browser_gets_the_page_and_curl_a_line_of_text(pod: Pod, client: ClientSession) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    async with client.get(pod.url + "/", headers=browser) as answer:
        assert answer.content_type == "text/html"
        assert answer.headers["Vary"] == "Accept"
        assert "<!doctype html>" in await answer.text()
    async with client.get(pod.url + "/") as answer:
        assert (answer.content_type, await answer.text()) == ("text/plain", http.INDEX)


async def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing_inline(pod: Pod, client: ClientSession) -> None:
    whole = ""
    for path in ("/", "/page.css", "/page.js"):
        async with client.get(pod.url + path, headers={"Accept": "text/html"}) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert policy.startswith("default-src 'none'; ")
            whole += await answer.text()
    assert len(whole) < 60 * 1024
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(|<style|style=| on\w+=|innerHTML", whole)


class Stream:
    """What /events says, one message after the other."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    async def __aenter__(self) -> Stream:
        self._reader, self.writer = await self._pod.connect()
        self.writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def message(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (line := await self._reader.readline()).startswith(b"data: "):
                assert line
            return json.loads(line[6:])


async def test_a_change_is_told_to_all_who_look(pod: Pod) -> None:
    async with Stream(pod) as one, Stream(pod) as other:
        assert "Content-Type: text/event-stream\r\n" in one.head
        for each in (one, other):
            assert (await each.message())["headline"]["title"] == "This pod forges"
        pod.picture = picture(actuator={"fence": Fence.FENCED, "deadline": 0})
        pod.site.live.changed()
        for each in (one, other):
            while (told := await each.message())["headline"]["standing"] == "forging":
                pass
            assert told["status"]["fence"]["state"] == "fenced"


async def test_many_changes_at_once_are_one_message_made_once(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    render = pod.site.live._render

    def counted() -> bytes:
        nonlocal made
        made += 1
        return render()

    monkeypatch.setattr(pod.site.live, "_render", counted)
    monkeypatch.setattr(live, "REPEAT_S", 60.0)
    async with Stream(pod) as one, Stream(pod) as other:
        await one.message(), await other.message()
        before = made
        for _ in range(1000):
            pod.site.live.changed()
        await one.message(), await other.message()
        assert made == before + 1


async def test_what_stays_as_it_is_is_told_again_so_that_a_reader_knows_that_it_is_told(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REPEAT_S", 0.05)
    async with Stream(pod) as stream:
        for _ in range(3):
            assert (await stream.message())["headline"]["standing"] == "forging"


async def test_who_comes_after_a_while_is_not_told_first_how_it_was_when_somebody_looked_last(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that all died meanwhile tell of no change."""
    monkeypatch.setattr(live, "GAP_S", 0.0)
    async with Stream(pod) as stream:
        assert (await stream.message())["headline"]["standing"] == "forging"
    async with asyncio.timeout(PATIENCE_S):
        while pod.site.live.streams:
            pod.site.live.changed()
            await asyncio.sleep(0.01)
    async with Stream(pod) as stream:
        await stream.message()
    pod.picture = picture(silent=(Worker.ACTUATOR, Worker.ELECTOR, Worker.ARBITER, Worker.PROBER))
    async with Stream(pod) as stream:
        assert (await stream.message())["headline"]["standing"] == "unknown"


async def test_more_readers_than_there_is_room_for_are_told_so_and_probes_are_answered(
    pod: Pod, client: ClientSession
) -> None:
    async with AsyncExitStack() as all_of_them:
        for _ in range(live.MOST_STREAMS):
            await (await all_of_them.enter_async_context(Stream(pod))).message()
        for _ in range(http.MOST_CONNECTIONS):
            async with client.get(pod.url + "/events") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert "error" in await answer.json()
        async with client.head(pod.url + "/events") as answer:  # by which the page learns why it is told nothing
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        async with client.get(pod.url + "/health") as answer:
            assert answer.status == 200
    async with asyncio.timeout(PATIENCE_S):
        while pod.site.live.streams:  # those who have gone leave their places
            pod.site.live.changed()
            await asyncio.sleep(0.01)
    async with Stream(pod) as stream:
        await stream.message()


async def test_a_reader_that_takes_nothing_is_cut_and_costs_one_message(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STUCK_S", 0.3)
    monkeypatch.setattr(live, "GAP_S", 0.0)
    monkeypatch.setattr(pod.site.live, "_render", lambda: b"x" * 4_000_000)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", pod.listener.port))
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            while not pod.site.live.streams:
                await asyncio.sleep(0.01)
            while pod.site.live.streams:
                pod.site.live.changed()
                await asyncio.sleep(0.01)


async def test_a_crowd_of_silent_clients_does_not_end_a_stream_that_is_read(pod: Pod) -> None:
    async with Stream(pod) as stream:
        await stream.message()
        crowd = []
        for _ in range(http.MOST_CONNECTIONS + 20):
            crowd.append(await pod.connect())
            pod.site.live.changed()
            if len(crowd) % 20 == 0:
                await stream.message()
        pod.site.live.changed()
        await stream.message()
        for _, writer in crowd:
            writer.close()


async def test_closing_ends_the_streams(pod: Pod) -> None:
    async with Stream(pod) as stream:
        await stream.message()
        async with asyncio.timeout(PATIENCE_S):
            await pod.listener.close()
