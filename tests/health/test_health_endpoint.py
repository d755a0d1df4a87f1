"""One check of an endpoint: 2xx is healthy, all else a failure in few words, in time and without anything secret."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from health_servers import PATIENCE_S, Serve, Trust, answer, answering, make_trust, serving

from health.endpoint import MOST_REDIRECTS, Checker
from ipc.messages import HealthCheck
from outgoing import client
from outgoing.client import MOST_BODY
from policy.health import Outcome

SECRET = "canary-2f9c"
OK = answering(answer(200, b"fine"))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def trusted(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Trust:
    """The system trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.certificate))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return trust


@pytest.fixture(autouse=True)
def no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


async def ask(url: str, timeout_s: float = PATIENCE_S, *, checker: Checker | None = None, **headers: str) -> Outcome:
    check = HealthCheck(url, 60, timeout_s, 3, {name.replace("_", "-"): value for name, value in headers.items()})
    outcome = await (checker or Checker()).ask(check)
    assert SECRET not in outcome.message
    assert len(outcome.message) < 300
    return outcome


async def failure(serve: Serve, timeout_s: float = PATIENCE_S, **headers: str) -> str:
    """The words with which a check of such a server fails."""
    async with serving(serve) as server:
        outcome = await ask(server.url, timeout_s, **headers)
    assert not outcome.healthy
    return outcome.message


def at(location: str, status: int = 302) -> Serve:
    return answering(answer(status, Location=location))


# --- what is healthy ---


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
async def test_every_2xx_is_healthy_and_its_time_is_known(status: int) -> None:
    async with serving(answering(answer(status))) as server:
        outcome = await ask(server.url)
    assert outcome.healthy
    assert outcome.message == f"127.0.0.1:{server.port}: answered {status}"
    assert outcome.response_s is not None
    assert 0 < outcome.response_s < PATIENCE_S


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 429, 500, 503])
async def test_every_other_status_is_a_failure_that_names_it(status: int) -> None:
    async with serving(answering(answer(status, b"" if status == 304 else SECRET.encode()))) as server:
        outcome = await ask(server.url)
    assert not outcome.healthy
    assert outcome.message == f"127.0.0.1:{server.port}: answered {status}"
    assert outcome.response_s is not None


async def test_it_asks_by_get_with_the_headers_and_the_query_and_keeps_no_connection() -> None:
    async with serving(OK) as server:
        await ask(f"{server.url}/ready?token={SECRET}", X_Token=SECRET)
    (head,) = server.requests
    assert head.startswith(f"GET /ready?token={SECRET} HTTP/1.1\r\n")
    assert f"X-Token: {SECRET}\r\n" in head
    assert "Connection: close\r\n" in head
    assert "Accept-Encoding" not in head
    assert "Cookie" not in head


async def test_https_with_a_certificate_that_the_system_trusts_is_healthy(trusted: Trust) -> None:
    async with serving(OK, trusted) as server:
        assert (await ask(server.url)).healthy


async def test_user_and_password_of_the_address_are_sent_and_not_shown() -> None:
    async with serving(OK) as server:
        outcome = await ask(server.url.replace("://", f"://user:{SECRET}@"))
    assert outcome.healthy
    assert "Authorization: Basic dXNlcjpjYW5hcnktMmY5Yw==" in server.requests[0]


async def test_a_host_given_as_header_replaces_the_addresss() -> None:
    async with serving(OK) as server:
        assert (await ask(server.url, Host="health.example")).healthy
    assert server.requests[0].count("Host: ") == 1
    assert "Host: health.example\r\n" in server.requests[0]


async def test_cookies_are_not_kept() -> None:
    checker = Checker()
    async with serving(answering(answer(200, Set_Cookie="a=b"))) as server:
        for _ in range(2):
            await ask(server.url, checker=checker)
    assert "ookie" not in "".join(server.requests)


async def test_no_netrc_is_read_and_no_thread_started_for_an_address_that_is_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread"))
    async with serving(OK) as server:
        assert (await ask(server.url)).healthy
    assert "Authorization" not in server.requests[0]


# --- names ---


async def test_a_host_name_is_looked_up() -> None:
    async with serving(OK) as server:
        outcome = await ask(f"http://localhost:{server.port}")
    assert outcome.healthy
    assert outcome.message == f"localhost:{server.port}: answered 200"


async def test_a_name_that_nobody_has_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(client, "_looked_up", nobody)
    outcome = await ask("http://nobody.example/")
    assert outcome.message == "nobody.example: its name cannot be looked up: Name or service not known"
    assert outcome.response_s is None


async def test_where_no_thread_can_be_had_the_message_says_when_names_are_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert "names are looked up only where" in (await ask("http://nobody.example/")).message


async def test_a_look_up_that_hangs_holds_nobody_and_the_next_one_begins_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, running, most = threading.Event(), [], []
    real = client._looked_up

    def slow(host: str, port: int, family: socket.AddressFamily) -> Any:
        running.append(host)
        most.append(len(running))
        go_on.wait(PATIENCE_S)
        running.remove(host)
        return real("127.0.0.1", port, family)

    monkeypatch.setattr(client, "_looked_up", slow)
    checker = Checker()
    async with serving(OK) as server:
        for name in ("a.example", "b.example"):
            outcome = await ask(f"http://{name}:{server.port}", 0.2, checker=checker)
            assert outcome.message == f"{name}:{server.port}: no answer within 0.2 s"
        go_on.set()
        assert (await ask(f"http://c.example:{server.port}", checker=checker)).healthy
    assert max(most) == 1


# --- how it fails ---


async def test_a_port_where_nobody_listens_is_named_as_such() -> None:
    async with serving(OK) as server:
        pass
    outcome = await ask(server.url)
    assert outcome.message == f"127.0.0.1:{server.port}: no connection: Connection refused"
    assert outcome.response_s is None


@pytest.mark.parametrize(
    "parts",
    [(), (b"HTTP/1.1 200 OK\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",)],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_server_that_falls_silent_holds_nobody_longer_than_asked(parts: tuple[bytes, ...]) -> None:
    assert "no answer within 0.3 s" in await failure(answering(*parts, hold=True), 0.3)


async def test_a_server_that_dribbles_holds_nobody_longer_than_asked() -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert "no answer within 0.3 s" in await failure(dribble, 0.3)


async def test_a_server_that_accepts_and_speaks_no_tls_holds_nobody_longer_than_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = await ask(f"https://127.0.0.1:{silent.getsockname()[1]}", 0.3)
    assert "no answer within 0.3 s" in outcome.message


async def test_redirects_share_one_timeout() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(answer(302, Location="/again"))
        await writer.drain()

    assert "no answer within 0.25 s" in await failure(slowly, 0.25)


async def test_an_endless_body_is_healthy_and_not_read_to_its_end() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(endless) as server:
        assert (await ask(server.url)).healthy
    assert sent < 1000 * MOST_BODY


@pytest.mark.parametrize("size", [10_000, 300_000])
async def test_a_huge_header_is_no_http(size: int) -> None:
    message = await failure(answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * size + b"\r\n\r\n"))
    assert message.endswith("what it answers is not HTTP")


@pytest.mark.parametrize("head", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.0 abc\r\n\r\n", b"\x00" * 64, b"<html>\r\n\r\n"])
async def test_what_is_no_http_is_called_so(head: bytes) -> None:
    assert (await failure(answering(head))).endswith("what it answers is not HTTP")


async def test_a_connection_that_ends_without_an_answer_is_not_asked_again() -> None:
    async with serving(answering()) as server:
        outcome = await ask(server.url)
    assert outcome.message == f"127.0.0.1:{server.port}: the connection broke before the answer ended"
    assert len(server.requests) == 1


async def test_a_connection_that_is_reset_is_a_failure_and_not_asked_again() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(reset) as server:
        outcome = await ask(server.url)
    assert "the connection broke" in outcome.message
    assert len(server.requests) == 1


async def test_a_body_that_breaks_off_is_a_failure() -> None:
    message = await failure(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    assert message.endswith("the answer broke off")


async def test_a_certificate_that_nobody_trusts_is_a_failure_that_says_why(trust: Trust) -> None:
    async with serving(OK, trust) as server:
        outcome = await ask(server.url, X=SECRET)
    assert not outcome.healthy
    assert "no TLS connection: self-signed certificate" in outcome.message
    assert server.requests == []


async def test_a_certificate_of_another_host_is_a_failure_that_says_so(trusted: Trust) -> None:
    async with serving(OK, trusted) as server:
        outcome = await ask(f"https://localhost:{server.port}", X=SECRET)
    assert "no TLS connection: Hostname mismatch" in outcome.message
    assert server.requests == []


async def test_a_server_without_tls_is_called_so(trusted: Trust) -> None:
    async def anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(anything, "127.0.0.1", 0)
    outcome = await ask(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    listening.close()
    assert "no TLS connection: " in outcome.message


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"{SECRET}",
        f"http:///{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://host:99999/{SECRET}",
        f"file:///{SECRET}",
        f"http://2130706433:1/{SECRET}",
        f"http://host:0/{SECRET}",
    ],
)
async def test_an_address_that_cannot_be_asked_is_a_failure_that_does_not_show_it(url: str) -> None:
    assert not (await ask(url)).healthy


async def test_a_port_that_is_not_open_is_named_with_the_remedy_and_not_tried() -> None:
    async with serving(OK) as server:
        outcome = await ask(server.url, checker=Checker((80, 443)))
    assert server.requests == []
    assert outcome.message == (
        f"127.0.0.1:{server.port}: port {server.port} is not open to the prober: set HEALTH_CHECK_ENDPOINT in the "
        "pod's environment to an address with that port"
    )


# --- redirects ---


async def test_redirects_are_followed_and_their_end_counts() -> None:
    async with serving(answering(answer(204))) as last, serving(at(f"{last.url}/health", 307)) as first:
        outcome = await ask(first.url)
    assert outcome.healthy
    assert outcome.message == f"127.0.0.1:{last.port}: answered 204"


async def test_five_redirects_are_followed_and_a_sixth_is_not() -> None:
    async with serving(at("/again")) as server:
        outcome = await ask(server.url)
    assert outcome.message == f"127.0.0.1:{server.port}: more than {MOST_REDIRECTS} redirects"
    assert len(server.requests) == MOST_REDIRECTS + 1


async def test_headers_go_along_within_the_origin_and_not_beyond_it() -> None:
    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = "/second" if len(first.requests) == 1 else other.url
        writer.write(answer(302, Location=where))
        await writer.drain()

    async with serving(OK) as other, serving(there) as first:
        url = first.url.replace("://", f"://user:{SECRET}@")
        assert (await ask(url, X_Token=SECRET, Host="health.example")).healthy
    assert [head.count(SECRET) for head in first.requests] == [1, 1]
    assert all("Authorization: Basic" in head for head in first.requests)
    (head,) = other.requests
    assert "X-Token" not in head
    assert "Authorization" not in head
    assert f"Host: 127.0.0.1:{other.port}\r\n" in head


async def test_headers_do_not_come_back_with_a_redirect_to_where_they_were_sent() -> None:
    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(302, Location=other.url) if len(first.requests) == 1 else answer(200))
        await writer.drain()

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(302, Location=first.url))
        await writer.drain()

    async with serving(back) as other, serving(there) as first:
        assert (await ask(first.url, X_Token=SECRET)).healthy
    assert ["X-Token" in head for head in first.requests] == [True, False]


async def test_a_redirect_from_https_to_http_is_refused(trusted: Trust) -> None:
    async with serving(OK) as plain, serving(at(plain.url), trusted) as server:
        outcome = await ask(server.url)
    assert plain.requests == []
    assert outcome.message.endswith("answered 302 with an address without TLS")


async def test_a_redirect_from_http_to_https_is_followed_without_the_headers(trusted: Trust) -> None:
    async with serving(OK, trusted) as safe, serving(at(safe.url)) as server:
        assert (await ask(server.url, X_Token=SECRET)).healthy
    assert "X-Token" not in safe.requests[0]


@pytest.mark.parametrize(
    "location", ["", "ftp://host/", "file:///etc/passwd", f"javascript:{SECRET}", f"http://[{SECRET}", "//", "http://"]
)
async def test_a_redirect_to_nowhere_is_a_failure_that_does_not_show_it(location: str) -> None:
    outcome = await failure(at(location))
    assert "answered 302 with" in outcome or "more than" in outcome


async def test_a_redirect_to_a_closed_port_is_refused() -> None:
    async with serving(OK) as other, serving(at(other.url)) as server:
        outcome = await ask(server.url, checker=Checker((server.port,)))
    assert other.requests == []
    assert f"port {other.port} is not open" in outcome.message


async def test_a_user_in_a_redirect_is_not_sent() -> None:
    async with serving(OK) as other, serving(at(other.url.replace("://", f"://user:{SECRET}@"))) as server:
        assert (await ask(server.url)).healthy
    assert "Authorization" not in other.requests[0]


# --- proxies ---


async def test_http_goes_through_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:{SECRET}@127.0.0.1:{proxy.port}")
        outcome = await ask("http://health.example:8080/ready", checker=Checker((proxy.port,)))
    assert outcome.healthy
    (head,) = proxy.requests
    assert head.startswith("GET http://health.example:8080/ready HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpjYW5hcnktMmY5Yw==" in head


async def test_https_goes_through_a_tunnel_and_the_certificate_is_the_endpoints(
    trusted: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(carry(reader, to), carry(there, writer))

    async with serving(OK, trusted) as server, serving(tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        outcome = await ask(server.url, X_Token=SECRET)
    assert outcome.healthy, outcome
    assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
    assert "X-Token" not in proxy.requests[0]
    assert f"X-Token: {SECRET}" in server.requests[0]


async def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(answer(407))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        outcome = await ask("https://health.example/")
    assert outcome.message == "health.example: the proxy answered 407"


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(OK) as proxy:
        pass
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", f"://user:{SECRET}@"))
    assert "the proxy cannot be reached" in (await ask("http://health.example/")).message


@pytest.mark.parametrize("excepted", ["127.0.0.1", "127.0.0.0/8"])
async def test_no_proxy_is_asked_for_what_no_proxy_names(monkeypatch: pytest.MonkeyPatch, excepted: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", excepted)
    async with serving(OK) as server:
        assert (await ask(server.url)).healthy


# --- headers ---


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("X-Token", f"{SECRET}\r\nX-Evil: 1", "its value has control characters"),
        ("X-Token", f"{SECRET}\n", "its value has control characters"),
        ("X-Token", f"{SECRET}\0", "its value has control characters"),
        ("X-Token", f"{SECRET}\x7f", "its value has control characters"),
        ("X Token", SECRET, "its name has characters"),
        ("X-Token:", SECRET, "its name has characters"),
        ("X\r\nY", SECRET, "its name has characters"),
        ("", SECRET, "its name has characters"),
        ("Connection", SECRET, "it is not the request's to have"),
        ("Transfer-encoding", SECRET, "it is not the request's to have"),
        ("content-length", SECRET, "it is not the request's to have"),
        ("Proxy-Authorization", SECRET, "it is not the request's to have"),
        ("Host", f"{SECRET}/x", "its value is not a host"),
    ],
)
async def test_a_header_that_cannot_be_sent_is_named_and_nothing_is_sent(name: str, value: str, why: str) -> None:
    async with serving(OK) as server:
        outcome = await Checker().ask(HealthCheck(server.url, 60, PATIENCE_S, 3, {name: value}))
    assert not outcome.healthy
    assert why in outcome.message
    assert ascii(name) in outcome.message
    assert SECRET not in outcome.message
    assert server.requests == []


async def test_a_header_given_twice_is_refused() -> None:
    async with serving(OK) as server:
        outcome = await Checker().ask(HealthCheck(server.url, 60, PATIENCE_S, 3, {"X": SECRET, "x": SECRET}))
    assert outcome.message.endswith("the header 'x' is given twice")
    assert server.requests == []


@pytest.mark.parametrize("timeout_s", [0.2, PATIENCE_S])
async def test_no_failure_shows_what_was_sent(timeout_s: float) -> None:
    for parts in ((answer(500, SECRET.encode()),), (SECRET.encode(),), (b"HTTP/1.1 200 " + SECRET.encode(),)):
        async with serving(answering(*parts)) as server:
            outcome = await ask(f"{server.url}/{SECRET}?{SECRET}", timeout_s, Authorization=SECRET)
        assert not outcome.healthy


async def test_a_check_that_is_cancelled_leaves_no_connection() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        left.set()

    async with serving(wait) as server:
        asking = asyncio.create_task(ask(server.url))
        async with asyncio.timeout(PATIENCE_S):
            await arrived.wait()
            asking.cancel()
            await left.wait()
