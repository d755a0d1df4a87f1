"""One notice to a receiver: signed, sent once, followed nowhere; what comes of it in few words and in time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from health_servers import PATIENCE_S, Serve, Server, Trust, answer, answering, make_trust, serving
from hypothesis import given
from hypothesis import strategies as st

from outgoing import reach
from outgoing.webhook import LEAST_KEY, MOST_KEY, NoKey, Webhook, read_key, signature
from policy.outbox import Failed, Letter, Refused, Result, Sent

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-5d0e"
KEY = f"{SECRET}-which-is-the-key-of-this-test".encode()
LETTER = Letter("0123456789abcdef-7", 1, '{"specversion":"1.0","data":{"why":"\\u00fc"}}')
NOW = 1_800_000_000.9
OK = answering(answer(200, b"fine"))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    return path


async def deliver(url: str, key: Path | None = None, timeout_s: float = PATIENCE_S) -> Result:
    """Whose words are for everybody: they have neither the path nor the key."""
    result = await Webhook(f"{url}/hook/{SECRET}", key).deliver(LETTER, NOW, timeout_s)
    if not isinstance(result, Sent):
        assert SECRET not in result.why
        assert len(result.why) < 300
    return result


async def after(serve: Serve, timeout_s: float = PATIENCE_S) -> tuple[Result, Server]:
    async with serving(serve) as server:
        return await deliver(server.url, timeout_s=timeout_s), server


class Reading:
    """Keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bodies.append(await reader.readexactly(len(LETTER.body)))
        writer.write(answer(204))
        await writer.drain()


# --- what is sent ---


async def test_it_is_a_post_of_a_structured_cloud_event_with_a_signature_that_holds(key_file: Path) -> None:
    receiver = Reading()
    async with serving(receiver) as server:
        assert await deliver(server.url, key_file) == Sent()
    (head,) = server.requests
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
    assert head.startswith(f"POST /hook/{SECRET} HTTP/1.1\r\n")
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (LETTER.id, "1800000000")
    assert receiver.bodies == [LETTER.body.encode()]
    signed = b"%s.%s.%s" % (LETTER.id.encode(), b"1800000000", receiver.bodies[0])
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


async def test_without_a_key_it_is_not_signed() -> None:
    _, server = await after(OK)
    assert "webhook-signature" not in server.requests[0]
    assert "webhook-id" in server.requests[0]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Key, id, time and payload of the example that its libraries are tested with, as they print it."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (
        signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


async def test_a_key_that_was_replaced_signs_the_next_notice(key_file: Path) -> None:
    async with serving(OK) as server:
        webhook = Webhook(server.url, key_file)
        await webhook.deliver(LETTER, NOW)
        key_file.write_bytes(b"another key, as long as it has to be")
        await webhook.deliver(LETTER, NOW)
    first, second = (re.findall("webhook-signature: (.*)\r", head)[0] for head in server.requests)
    assert first != second


async def test_where_the_key_cannot_be_read_nothing_is_sent_unsigned(tmp_path: Path) -> None:
    async with serving(OK) as server:
        result = await deliver(server.url, tmp_path / SECRET)
    assert result == Failed("NOTIFY_SECRET_FILE cannot be read: No such file or directory")
    assert server.requests == []


# --- what comes of it ---


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_taken_for_received(status: int) -> None:
    assert (await after(answering(answer(status))))[0] == Sent()


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 421, 425, 429, 500, 502, 503, 504, 599])
async def test_whoever_is_busy_broken_or_being_set_up_is_asked_again(status: int) -> None:
    result, server = await after(answering(answer(status, SECRET.encode())))
    assert result == Failed(f"127.0.0.1:{server.port}: answered {status}")


@pytest.mark.parametrize("status", [400, 402, 405, 406, 409, 410, 411, 413, 415, 422, 451])
async def test_whoever_refuses_the_notice_itself_is_not_asked_again(status: int) -> None:
    result, server = await after(answering(answer(status, SECRET.encode())))
    assert result == Refused(f"127.0.0.1:{server.port}: answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_not_repeated(status: int) -> None:
    async with serving(OK) as other:
        result, server = await after(answering(answer(status, Location=f"{other.url}/{SECRET}")))
    assert isinstance(result, Refused)
    assert result.why.startswith(f"127.0.0.1:{server.port}: answered {status}, a redirect, which is not followed")
    assert other.requests == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("17", 17.0),
        ("0", 0.0),
        ("9" * 40, 999999999.0),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 119.1),
        ("Fri, 15 Jan 2027 08:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 08:02:00", 119.1),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1e3", 0.0),
        ("", 0.0),
        ("Fri, 99 Jan 2027 08:02:00 GMT", 0.0),
    ],
)
async def test_a_receiver_may_say_when_to_come_back_in_seconds_or_by_the_clock(text: str, seconds: float) -> None:
    result, _ = await after(answering(answer(503, Retry_After=text)))
    assert isinstance(result, Failed)
    assert result.asked_s == pytest.approx(seconds)


async def test_one_that_fails_and_then_recovers_gets_the_same_notice_again() -> None:
    statuses = iter((500, 200))

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(next(statuses)))
        await writer.drain()

    async with serving(serve) as server:
        assert isinstance(await deliver(server.url), Failed)
        assert await deliver(server.url) == Sent()
    assert server.requests[0] == server.requests[1]


async def test_a_slow_receiver_holds_it_no_longer_than_asked() -> None:
    result, server = await after(answering(hold=True), timeout_s=0.05)
    assert result == Failed(f"127.0.0.1:{server.port}: no answer within 0.05 s")


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await after(answering(head, b"x" * 300_000, hold=True)))[0] == Sent()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"\x00\xff no HTTP\r\n\r\n"])
async def test_what_is_no_answer_is_sent_again_later_and_not_at_once(said: bytes) -> None:
    result, server = await after(answering(said))
    assert isinstance(result, Failed)
    assert len(server.requests) == 1


async def test_nobody_there_is_a_failure_with_its_reason() -> None:
    assert await deliver("http://127.0.0.1:1") == Failed("127.0.0.1:1: no connection: Connection refused")


async def test_a_certificate_that_the_system_does_not_trust_gets_nothing(trust: Trust) -> None:
    async with serving(OK, trust) as server:
        result = await deliver(server.url)
    assert result == Failed(f"127.0.0.1:{server.port}: no TLS connection: self-signed certificate")
    assert server.requests == []


async def test_a_certificate_that_the_system_trusts_is_trusted(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.certificate))
    async with serving(OK, trust) as server:
        assert await deliver(server.url) == Sent()


async def test_a_port_that_was_not_opened_is_not_tried() -> None:
    async with serving(OK) as server:
        result = await Webhook(server.url, None, (443,)).deliver(LETTER, NOW)
    assert isinstance(result, Failed)
    assert "is not open to the prober" in result.why
    assert server.requests == []


async def test_a_proxy_of_the_environment_is_used_and_its_password_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(answer(503))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{proxy.port}")
        result = await deliver("http://hook.example")
    assert result == Failed("hook.example: answered 503")
    assert proxy.requests[0].startswith("POST http://hook.example/hook/")


# --- the key ---


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (KEY, KEY),
        (KEY + b"\n", KEY),
        (KEY + b"\r\n\n", KEY),
        (b" " + KEY, b" " + KEY),
        (b"whsec_" + base64.b64encode(KEY) + b"\n", KEY),
    ],
)
def test_a_key_is_the_files_bytes_or_what_its_base64_stands_for(tmp_path: Path, content: bytes, key: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_key(tmp_path / "key") == key


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "less than 16 bytes"),
        (SECRET.encode() + b"\n\n\n\n\n\n\n", "less than 16 bytes"),
        (SECRET.encode() * 100, "more than 1024 bytes"),
        (b"whsec_" + SECRET.encode() + b"!", "no Base64"),
        (b"whsec_" + base64.b64encode(b"short"), "less than 16 bytes"),
    ],
)
def test_what_is_no_key_is_refused_without_a_byte_of_it(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(NoKey, match=why) as refused:
        read_key(tmp_path / "key")
    assert SECRET not in str(refused.value)


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="cannot be read"):
        read_key(tmp_path)


@given(st.binary(max_size=MOST_KEY + 2))
def test_any_file_is_a_key_or_refused(content: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            assert len(read_key(Path(file.name))) >= LEAST_KEY
        except NoKey as error:
            assert content[:6].decode("latin-1") not in str(error) or len(content) < 6


# --- how far it reaches, what is written about it ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hook.example/x", reach.Reach(("hook.example",), (443,))),
        ("http://10.0.0.1:8080/", reach.Reach(("10.0.0.1",), (8080,))),
    ],
)
def test_its_address_leads_to_one_host_and_port(url: str, expected: reach.Reach) -> None:
    assert reach.of([url], {}) == expected


async def test_the_receiver_of_the_documentation_verifies_what_is_sent(key_file: Path) -> None:
    text = (ROOT / "docs" / "notifications.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    receiver = Reading()
    async with serving(receiver) as server:
        await deliver(server.url, key_file)
    headers = dict(line.split(": ", 1) for line in server.requests[0].splitlines()[1:] if line)
    body, sent = receiver.bodies[0].decode(), 1800000000
    asked = [[headers, body, sent], [headers, body + " ", sent], [headers, body, sent + 301]]
    asked += [[{**headers, "webhook-id": "another"}, body, sent]]
    unsigned = {name: said for name, said in headers.items() if not name.startswith("webhook-")}
    asked += [
        [each, body, sent] for each in (unsigned, {**headers, "webhook-timestamp": "x", "webhook-signature": "\u00e9"})
    ]
    program = code + (
        "\nimport json, sys\n"
        f"print([is_genuine({KEY!r}, h, b.encode(), now) for h, b, now in json.loads(sys.stdin.read())])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[True, False, False, False, False, False]\n"
