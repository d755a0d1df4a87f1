"""Who may see what: a token for the page, TLS for the port, and files that are replaced while the gateway runs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import os
import socket
import ssl
from asyncio import sslproto
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from certificates import Mounted, Pair, pair
from test_gateway_http import PATIENCE_S, Pod, Stream

from config import Config, load
from gateway import guard, http
from gateway.guard import Guard
from gateway.rotating import Rotating, Unusable
from gateway.tls import make_context
from kernel import tcp
from kernel.cost import memory_bytes

TOKEN, OTHER = "a" * 20 + "-the-token-" + "b" * 20, "c" * 64
BEARER = {"Authorization": f"Bearer {TOKEN}"}
GUARDED = ("/", "/page.css", "/page.js", "/events", "/status", "/nowhere")
OPEN = ("/metrics", "/startup-status", "/health", "/ready")
PROBES = OPEN[1:]


def configured(mounted: Mounted, *, token: bool = True, tls: bool = False, protect: str = "page") -> Config:
    found = {"POD_NAME": "pod-0"}
    if token:
        found |= {"GATEWAY_TOKEN_FILE": str(mounted["token"]), "GATEWAY_PROTECT": protect}
    if tls:
        found |= {"GATEWAY_TLS_CERT_FILE": str(mounted["cert"]), "GATEWAY_TLS_KEY_FILE": str(mounted["key"])}
    return load(found)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Pod]:
    made = Pod(Guard(config))
    await made.listener.start(tcp.listen(0, "METRICS_PORT"))
    try:
        yield made
    finally:
        await made.listener.close()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "gateway", token=f"{TOKEN}\n".encode())


# --- the token ---


async def test_without_the_token_page_status_and_whatever_is_no_probe_answer_401_and_end_the_connection(
    mounted: Mounted,
) -> None:
    async with serving(configured(mounted)) as pod:
        for path in GUARDED:
            answer = await pod.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n".encode())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 ")
            assert b'WWW-Authenticate: Bearer realm="forge-manager"' in head
            assert (b"WWW-Authenticate: Basic " in head) is (path != "/events"), "a stream's reader gets no box"
            assert b"a token is needed" in body
            assert len(body) < 200
        assert pod.site.guard.refused == {"none": len(GUARDED)}
        assert pod.site.live.streams == 0


async def test_probes_and_metrics_need_no_token_and_tell_what_they_always_told(
    mounted: Mounted, client: ClientSession
) -> None:
    async with serving(configured(mounted)) as pod:
        for path in OPEN:
            async with client.get(pod.url + path) as answer:
                assert answer.status == 200
                text = await answer.text()
            if path == "/ready":
                assert text == '{"ready": true, "reasons": []}\n'
        assert not pod.site.guard.refused


async def test_with_the_token_as_bearer_or_as_any_users_password_everything_is_answered(
    mounted: Mounted, client: ClientSession
) -> None:
    async with serving(configured(mounted)) as pod:
        for headers in (BEARER, {"Authorization": basic("anybody", TOKEN)}):
            for path in ("/", "/page.js", "/status"):
                async with client.get(pod.url + path, headers=headers) as answer:
                    assert answer.status == 200
            async with client.get(pod.url + "/events", headers=headers) as answer:
                assert (await answer.content.readline()).startswith(b"retry: ")
        async with client.get(pod.url + "/nowhere", headers=BEARER) as answer:
            assert answer.status == 404
        assert not pod.site.guard.refused


async def test_of_two_authorization_headers_neither_counts(mounted: Mounted) -> None:
    async with serving(configured(mounted)) as pod:
        twice = f"Authorization: Bearer {TOKEN}\r\n" * 2
        answer = await pod.raw(f"GET /status HTTP/1.1\r\nHost: x\r\n{twice}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("target", ["/metrics/../status", "/%73tatus", "http://x/metrics/../status", "//metrics"])
async def test_no_way_to_write_a_path_leads_around_the_token(mounted: Mounted, target: str) -> None:
    async with serving(configured(mounted)) as pod:
        assert (await pod.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).startswith(b"HTTP/1.1 401 ")
        post = f"POST {target} HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: GET\r\n\r\n"
        assert (await pod.raw(post.encode())).startswith(b"HTTP/1.1 401 ")


async def test_protecting_all_metrics_need_the_token_and_a_stranger_hears_a_probes_verdict_only(
    mounted: Mounted, client: ClientSession
) -> None:
    async with serving(configured(mounted, protect="all")) as pod:
        async with client.get(pod.url + "/metrics") as answer:
            assert answer.status == 401
        async with client.get(pod.url + "/metrics", headers=BEARER) as answer:
            assert "cardano_forging_enabled" in await answer.text()
        for path, verdict in zip(PROBES, ({"ready": True}, {"alive": True}, {"ready": True}), strict=True):
            async with client.get(pod.url + path) as answer:
                assert (answer.status, await answer.json()) == (200, verdict)
            async with client.get(pod.url + path, headers=BEARER) as answer:
                assert (answer.status, (await answer.json()).keys() > verdict.keys()) == (200, True)


async def test_a_wrong_token_is_counted_wherever_it_could_be_tried_and_many_are_one_line(
    mounted: Mounted, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(configured(mounted, protect="all")) as pod:
        for n in range(20):
            async with client.get(
                pod.url + ("/status", "/ready")[n % 2], headers={"Authorization": f"Bearer {TOKEN[:-1]}{n % 10}"}
            ) as answer:
                assert answer.status == (401, 200)[n % 2]
                assert "reasons" not in await answer.text()
        assert pod.site.guard.refused == {"wrong": 20}
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.message == "a wrong token was shown (1 times since this was last said)"
    assert TOKEN[:10] not in caplog.text


async def test_a_rotated_token_is_taken_over_the_old_one_ends_and_its_streams_with_it(
    mounted: Mounted, client: ClientSession
) -> None:
    async with serving(configured(mounted)) as pod:
        async with client.get(pod.url + "/events", headers=BEARER) as stream:
            assert await stream.content.readline()
            pod.site.look_again()
            assert pod.site.live.streams == 1, "nothing has changed yet"
            mounted.swap(token=OTHER.encode())
            pod.site.look_again()
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(Exception):
                    while await stream.content.readany():
                        pass
        async with asyncio.timeout(PATIENCE_S):
            while pod.site.live.streams:  # its place is left with the next message
                pod.site.live.changed()
                await asyncio.sleep(0.01)
        for secret, status in ((TOKEN, 401), (OTHER, 200)):
            async with client.get(pod.url + "/status", headers={"Authorization": f"Bearer {secret}"}) as answer:
                assert answer.status == status


@pytest.mark.parametrize("content", [b"", b"short", b"two words" * 5, b"x" * 5000])
async def test_a_rotated_token_that_is_none_leaves_the_old_one_in_use_and_is_said_once(
    mounted: Mounted, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    made = Guard(configured(mounted))
    assert made.problems == {"token": ""}
    mounted.swap(token=content)
    for _ in range(3):
        assert not made.look()
    assert made.lets("/status", [f"Bearer {TOKEN}"])
    assert made.problems["token"].startswith("GATEWAY_TOKEN_FILE ")
    assert made.problems["token"].endswith("; the one before stays in use")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    mounted.swap(token=OTHER.encode())
    assert made.look()
    assert made.problems == {"token": ""}


async def test_without_a_usable_token_nobody_is_let_in_and_probes_are_answered(
    mounted: Mounted, client: ClientSession
) -> None:
    mounted.swap(token=b"")
    async with serving(configured(mounted)) as pod:
        for headers in (BEARER, {"Authorization": "Bearer "}, {"Authorization": basic("", "")}, {}):
            async with client.get(pod.url + "/status", headers=headers) as answer:
                assert answer.status == 401
        async with client.get(pod.url + "/health") as answer:
            assert answer.status == 200
        assert pod.site.guard.problems["token"].endswith("; there is none in use")


async def test_a_siege_of_strangers_without_the_token_costs_no_memory_and_keeps_no_probe_out(
    mounted: Mounted, client: ClientSession
) -> None:
    async with serving(configured(mounted)) as pod:

        async def ask(n: int) -> None:
            shown = f"Authorization: Bearer {n:08}{'x' * 3000}\r\n" if n % 2 else ""
            answer = await pod.raw(f"GET /events HTTP/1.1\r\nHost: x\r\n{shown}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 401 ") or not answer  # cut: too many at once

        async def wave(size: int) -> None:
            await asyncio.gather(*(ask(n) for n in range(size)))

        await wave(2 * http.MOST_CONNECTIONS)
        before = memory_bytes()
        for _ in range(20):
            await wave(2 * http.MOST_CONNECTIONS)
            async with client.get(pod.url + "/health") as answer:
                assert answer.status == 200
        assert memory_bytes() - before < 8 << 20
        assert pod.site.live.streams == 0


# --- TLS ---


@pytest.fixture(scope="module")
def first() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def second() -> Pair:
    return pair()


@pytest.fixture
def certified(tmp_path: Path, first: Pair) -> Mounted:
    return Mounted(tmp_path / "tls", cert=first.certificate, key=first.key)


def trusting(one: Pair) -> ClientSession:
    return ClientSession(connector=TCPConnector(ssl=one.trusting, force_close=True))


def encrypted(pod: Pod) -> str:
    return f"https://127.0.0.1:{pod.listener.port}"


async def test_with_a_certificate_every_path_is_served_by_tls(certified: Mounted, first: Pair) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod, trusting(first) as client:
        for path in ("/", "/status", *OPEN):
            async with client.get(encrypted(pod) + path) as answer:
                assert answer.status == 200
                assert answer.headers["Server"] == "forge-manager"


@pytest.mark.parametrize(
    ("version", "speaks"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)], ids=["1.1", "1.2", "1.3"]
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_it_speaks_tls_1_2_and_newer_only(certified: Mounted, first: Pair, version: str, speaks: bool) -> None:
    context = first.trusting
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion[version]
    async with serving(configured(certified, token=False, tls=True)) as pod:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", pod.listener.port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            assert not speaks
        else:
            assert speaks
            writer.transport.abort()


async def test_plain_http_to_a_port_of_tls_gets_nothing_and_is_said_once(
    certified: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod:
        for _ in range(3):
            assert b"200" not in await pod.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    (line,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert "`scheme: HTTPS`" in line


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01"], ids=["silent", "begun", "less"])
async def test_a_client_that_does_not_finish_its_handshake_is_cut_in_time(
    certified: Mounted, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(http, "FIRST_S", 0.1)
    async with serving(configured(certified, token=False, tls=True)) as pod:
        assert await pod.raw(data) == b""


async def test_so_is_one_that_drips_it_and_one_that_says_nothing_after_it(
    certified: Mounted, first: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_S", 0.3)
    async with serving(configured(certified, token=False, tls=True)) as pod:
        reader, writer = await pod.connect()

        async def drip() -> None:
            writer.write(b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb")
            while True:
                writer.write(b"\x03")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await pod.rest(reader) == b""
        dripping.cancel()
        writer.close()
        port = pod.listener.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=first.trusting)
        assert await pod.rest(reader) == b""
        writer.transport.abort()


async def test_a_crowd_that_begins_no_handshake_does_not_keep_a_probe_out(certified: Mounted, first: Pair) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod, trusting(first) as client:
        crowd = [await pod.connect() for _ in range(http.MOST_CONNECTIONS + 20)]
        async with client.get(encrypted(pod) + "/health") as answer:
            assert answer.status == 200
        for reader, _ in crowd[:20]:
            assert await pod.rest(reader) == b""
        for _, writer in crowd:
            writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while pod.listener.connections:
                await asyncio.sleep(0.01)


async def test_who_begins_handshakes_in_masses_takes_the_places_of_its_own_address_only(
    certified: Mounted, first: Pair
) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod:
        early = await pod.connect()
        crowd = [await pod.connect("127.0.0.2") for _ in range(2 * http.MOST_CONNECTIONS)]
        reader, writer = early
        await writer.start_tls(first.trusting, server_hostname="pod-0")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"/ready\n")
        for _, each in (early, *crowd):
            each.close()


async def test_a_siege_of_handshakes_leaves_nothing_behind_and_no_fault(
    certified: Mounted, first: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
    begun = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03" + b"x" * 3000
    async with serving(configured(certified, token=False, tls=True)) as pod:

        async def shake(n: int) -> None:
            with contextlib.suppress(OSError):
                _, writer = await pod.connect()
                writer.write((b"", begun, os.urandom(3000), b"GET / HTTP/1.1\r\n\r\n")[n % 4])
                await asyncio.sleep(0.01 * (n % 3))
                writer.transport.abort()

        gc.disable()
        try:
            for _ in range(10):
                await asyncio.gather(*(shake(n) for n in range(http.MOST_CONNECTIONS // 2)))
            async with asyncio.timeout(PATIENCE_S):
                while pod.listener.connections:
                    await asyncio.sleep(0.01)
                while [known for known in gc.get_objects() if isinstance(known, sslproto.SSLProtocol)]:
                    await asyncio.sleep(0.01)  # each holds buffers that the collector does not see
        finally:
            gc.enable()
        async with trusting(first) as client, client.get(encrypted(pod) + "/health") as answer:
            assert answer.status == 200
    assert not faults
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_who_asks_hundreds_of_times_and_leaves_does_not_fill_the_log(
    certified: Mounted, first: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio takes the answers that are left for it, and would say of each that it cannot be sent."""
    trusted = first.trusting

    def asked(port: int) -> ssl.SSLSocket:
        sock = trusted.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        sock.recv(1)
        sock.shutdown(socket.SHUT_WR)
        return sock

    async with serving(configured(certified, token=False, tls=True)) as pod:
        with await asyncio.to_thread(asked, pod.listener.port):
            async with asyncio.timeout(PATIENCE_S):
                while pod.listener.connections:
                    await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_does_not_read_costs_no_more_than_without_tls(certified: Mounted, first: Pair) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod:
        before, trusted, crowd = memory_bytes(), first.trusting, []
        for _ in range(http.MOST_CONNECTIONS):
            _, writer = await asyncio.open_connection("127.0.0.1", pod.listener.port, ssl=trusted, limit=1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            crowd.append(writer)
        for _ in range(500):
            await asyncio.sleep(0)
        assert memory_bytes() - before < http.MOST_CONNECTIONS * (512 << 10)
        manager = pod.listener._runner.server
        assert manager is not None
        limits = {client.transport.get_write_buffer_limits()[1] for client in manager.connections if client.transport}  # type: ignore[attr-defined]
        assert limits == {http.MOST_UNSENT}
        for writer in crowd:
            writer.transport.abort()


async def test_a_renewed_certificate_is_shown_to_new_connections_and_no_stream_ends(
    certified: Mounted, first: Pair, second: Pair
) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod:
        async with trusting(first) as client, client.get(encrypted(pod) + "/events") as stream:
            assert await stream.content.readline()
            certified.swap(cert=second.certificate, key=second.key)
            pod.site.look_again()
            async with trusting(second) as other, other.get(encrypted(pod) + "/health") as answer:
                assert answer.status == 200
            pod.site.live.changed()
            async with asyncio.timeout(PATIENCE_S):
                while not (await stream.content.readline()).startswith(b"data: "):
                    pass
        assert pod.site.guard.problems == {"certificate": ""}


async def test_a_pair_that_cannot_be_used_leaves_the_old_one_in_use_and_is_said_once(
    certified: Mounted, first: Pair, second: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(configured(certified, token=False, tls=True)) as pod, trusting(first) as client:
        certified.swap(cert=second.certificate, key=first.key)
        for _ in range(3):
            pod.site.look_again()
        async with client.get(encrypted(pod) + "/health") as answer:
            assert answer.status == 200
        problem = "GATEWAY_TLS_KEY_FILE is not the key of the certificate in GATEWAY_TLS_CERT_FILE"
        assert pod.site.guard.problems["certificate"].startswith(problem)
        assert pod.site.guard.problems["certificate"].endswith("; the one before stays in use")
        errors = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(errors) == 1
        certified.swap(cert=second.certificate, key=second.key)
        pod.site.look_again()
        async with trusting(second) as other, other.get(encrypted(pod) + "/health") as answer:
            assert answer.status == 200


def test_what_is_read_in_the_middle_of_a_rotation_is_read_again_and_no_mistake(
    certified: Mounted, first: Pair, second: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    paths = (certified["cert"], certified["key"])

    def make() -> str:
        if paths[0].read_bytes() == first.certificate:
            certified.swap(cert=second.certificate, key=second.key)
            raise Unusable("GATEWAY_TLS_KEY_FILE", "is not the key of the certificate")
        return "the second pair"

    files = Rotating("the certificate", paths, make)
    assert not files.look()
    assert files.problem == ""
    assert files.look()
    assert files.value == "the second pair"
    assert not caplog.records


async def test_without_any_usable_pair_nobody_is_served_not_even_without_tls(
    certified: Mounted, first: Pair, second: Pair
) -> None:
    certified.swap(cert=first.certificate, key=second.key)
    async with serving(configured(certified, token=False, tls=True)) as pod:
        assert await pod.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        certified.swap(cert=first.certificate, key=first.key)
        pod.site.look_again()
        async with trusting(first) as client, client.get(encrypted(pod) + "/health") as answer:
            assert answer.status == 200


# --- what is wrong with a file, in words ---


def told(cert: Path, key: Path) -> str:
    with pytest.raises(Unusable) as caught:
        make_context(cert, key)
    return str(caught.value)


def test_each_way_to_get_a_pair_wrong_is_named_with_its_variable_and_a_remedy(
    tmp_path: Path, first: Pair, second: Pair
) -> None:
    files = {
        "cert": first.certificate,
        "key": first.key,
        "other": second.key,
        "locked": pair(password=b"secret").key,
        "noise": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        "empty": b"",
        "long": first.certificate * 200,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    for cert, key, begins in (
        ("cert", "other", "GATEWAY_TLS_KEY_FILE is not the key of the certificate in GATEWAY_TLS_CERT_FILE"),
        ("cert", "locked", "GATEWAY_TLS_KEY_FILE is encrypted; give it without a password"),
        ("cert", "noise", "GATEWAY_TLS_KEY_FILE has no private key that can be read"),
        ("cert", "empty", "GATEWAY_TLS_KEY_FILE has no private key that can be read"),
        ("key", "cert", "GATEWAY_TLS_CERT_FILE has no certificate that can be read"),
        ("noise", "key", "GATEWAY_TLS_CERT_FILE has no certificate that can be read"),
        ("long", "key", "GATEWAY_TLS_CERT_FILE has more than 65536 bytes"),
        ("pipe", "key", "GATEWAY_TLS_CERT_FILE is not a file"),
        ("cert", "nowhere", "GATEWAY_TLS_KEY_FILE cannot be read: No such file or directory; check the secret"),
    ):
        said = told(tmp_path / cert, tmp_path / key)
        assert said.startswith(begins), said
        assert "c2Vjc" not in said
        assert str(tmp_path) not in said


def test_what_a_start_would_stumble_over_is_a_list_of_mistakes_that_shows_neither_path_nor_content(
    tmp_path: Path, first: Pair, second: Pair
) -> None:
    both = Mounted(tmp_path / "both", token=b"guess me", cert=first.certificate, key=second.key)
    config = configured(both, tls=True)
    found = {mistake.name: mistake for mistake in guard.mistakes(config)}
    assert found.keys() == {"GATEWAY_TOKEN_FILE", "GATEWAY_TLS_KEY_FILE"}
    for mistake in found.values():
        assert mistake.value == "(not shown)"
        assert "guess me" not in str(mistake)
    both.swap(token=TOKEN.encode(), cert=first.certificate, key=first.key)
    assert guard.mistakes(config) == ()


async def test_without_any_of_these_variables_everybody_sees_everything(
    client: ClientSession, mounted: Mounted
) -> None:
    async with serving(load({"POD_NAME": "pod-0"})) as pod, Stream(pod) as stream:
        assert await stream.message()
        for path in ("/", "/status", *OPEN):
            async with client.get(pod.url + path) as answer:
                assert answer.status == 200
        assert pod.site.guard.problems == {}
