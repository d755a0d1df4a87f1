"""The gateway against whatever arrives: bytes on its port, and states that only a worker gone bad would publish."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import pytest
from fuzz_corpus import state, value
from fuzz_run import MOST_RSS, ON_SOCKETS, PATIENCE_S, Memory, Run
from prometheus_client import CollectorRegistry, generate_latest

from config import load
from gateway import story, views
from gateway.chronicle import Chronicle
from gateway.exposition import Exposition
from gateway.http import MOST_CONNECTIONS, MOST_HEADER, MOST_UNREAD, Listener, Site
from gateway.metrics import PodCollector
from gateway.totals import MOST_LABELS, Totals
from gateway.views import Picture
from ipc.messages import ElectorState, Sandbox, State, Worker, decode_state, encode
from kernel import tcp

pytestmark = pytest.mark.timeout(60 + ON_SOCKETS // 20)

CONFIG: Final = load({"POD_NAME": "pod-0", "POOL_ID": "pool1abcd1234567890", "CARDANO_NETWORK": "preprod"})
NOW: Final = 10**12
PATHS: Final = ("/", "/metrics", "/startup-status", "/health", "/ready", "/status")


def look(states: dict[Worker, State]) -> Picture:
    return Picture(CONFIG, "3", NOW, NOW, states, dict.fromkeys(states, True))


# --- bytes on the port ---


def requests() -> list[bytes]:
    """Honest ones, and those that others have choked on."""
    plain = [
        f"{method} {path} HTTP/1.{minor}\r\nHost: pod\r\n\r\n"
        for method in ("GET", "HEAD")
        for path in PATHS
        for minor in (0, 1)
    ]
    head = "GET /health HTTP/1.1\r\nHost: pod\r\n"
    odd = [
        "POST /status HTTP/1.1\r\nHost: pod\r\nContent-Length: 5\r\n\r\nhello",
        "PUT /health HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        head + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nffffffffffffffffff\r\n",
        head + "Content-Length: -1\r\n\r\n",
        head + "Content-Length: 99999999999999999999999\r\n\r\n",
        head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        head + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        head + "Expect: wonders\r\n\r\n",
        head + "Expect: \xb0\r\n\r\n",
        head + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
        head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        head + "Accept-Encoding: gzip, deflate, br, zstd\r\nRange: bytes=0-\r\nIf-None-Match: *\r\n\r\n",
        head + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        head + "Cookie: " + "a=b; " * 300 + "\r\n\r\n",
        head + "X: " + "y" * (MOST_HEADER + 10) + "\r\n\r\n",
        head + "".join(f"X-{n}: {n}\r\n" for n in range(1500)) + "\r\n",
        head + "folded: a\r\n b\r\n\tc\r\n\r\n",
        head + "no colon\r\n: no name\r\na b: c\r\n\r\n",
        "GET " + "/a" * MOST_HEADER + " HTTP/1.1\r\nHost: pod\r\n\r\n",
        "GET http://elsewhere/status HTTP/1.1\r\nHost: pod\r\n\r\n",
        "GET //elsewhere:99999999/x HTTP/1.1\r\nHost: pod\r\n\r\n",
        "GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n",
        "GET /%00%ff%2e%2e/%c0%ae?a=%zz&b[]=1#f HTTP/1.1\r\nHost: pod\r\n\r\n",
        "GET /status;x=%s%n{0} HTTP/1.1\r\nHost: pod\r\n\r\n",
        "CONNECT pod:443 HTTP/1.1\r\nHost: pod\r\n\r\n",
        "CONNECT \nHost: pod\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: pod\r\n\r\n",
        "GET /health HTTP/9.9\r\nHost: pod\r\n\r\n",
        "GET /health\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "\r\n\r\n\r\n",
        plain[0] * 30,
    ]
    return [text.encode("latin-1") for text in plain * 2 + odd]


MOST_BLOCKS: Final = 5000
"""A few hundred timers that are cancelled and not yet due, and the libraries' caches of the latest addresses."""

ODD_BYTES: Final = (
    b"\x00",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"%",
    b"\x7f",
    b";",
    b"HTTP/1.1",
)


def spoilt(corpus: list[bytes], rng: random.Random) -> bytes:
    """A request, and what has become of it."""
    data = rng.choice(corpus)
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 5))):
        at, to = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        match rng.randrange(7):
            case 0:
                data = data[:at] + rng.choice(ODD_BYTES) + data[at:]
            case 1:
                data = data[:at] + rng.choice(ODD_BYTES) + data[at + 1 :]
            case 2:
                data = data[:at] + data[min(to, at + 20) :]
            case 3:
                data = data[:at] + rng.choice(corpus)[rng.randrange(20) :]
            case 4:
                data = data[:to] + data[at:]
            case 5 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case _:
                data = data[:at] + data[at : at + 10] * rng.choice((2, 50, 1000)) + data[at:]
    return data[: 2 * MOST_UNREAD]


TURNS: Final = 20
"""Of the loop that the server shares with its client: more than an answer takes.  What ends at once gets none."""


async def said(port: int, parts: list[bytes]) -> bytes:
    """All that the server answers to a client that says this and no more."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            writer.write_eof()
            while got := await reader.read(65536):
                answer += got
        except OSError:  # cut; or it has ended what we had not ended yet
            pass
        finally:
            writer.transport.abort()
        return answer


STATUS_LINE: Final = re.compile(rb"HTTP/\d\.\d (\d{3}) [A-Za-z ]+\r\n")


async def test_no_bytes_on_the_port_fail_it_change_it_or_stay(
    say: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
    rng = random.Random(1)
    states = {worker: state(worker, rng) for worker in Worker}
    totals = Totals()
    collector = PodCollector(lambda: look(states), totals, Chronicle())
    site = Site(
        lambda: look(states),
        Exposition(collector, time.monotonic_ns),
        lambda: story.page(look(states), Chronicle(), time.time()),
    )
    listener = Listener(site)
    await listener.start(tcp.listen(0, "METRICS_PORT"))
    honest = [
        f"GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode() for path in ("/status", "/metrics")
    ]

    async def body(request: bytes) -> bytes:
        return (await said(listener.port, [request])).partition(b"\r\n\r\n")[2]

    before = [await body(request) for request in honest]
    assert all(before)
    memory: Memory | None = None
    answered: dict[int, int] = {}
    try:
        with Run("HTTP port", ON_SOCKETS, say) as run:
            corpus = requests()
            while run.done < run.frames:
                data = spoilt(corpus, run.rng)
                run.done += 1
                at = run.rng.randrange(len(data) + 1)
                parts = [data] if run.rng.random() < 0.7 else [part for part in (data[:at], data[at:]) if part]
                answer = await said(listener.port, parts)
                first = STATUS_LINE.match(answer)
                assert first is not None or not answer, f"{data!r} -> {answer!r}"
                code = int(first[1]) if first is not None else 0
                answered[code] = answered.get(code, 0) + 1
                assert code < 500 or code == HTTPStatus.SERVICE_UNAVAILABLE, f"{data!r} -> {answer!r}"
                assert not re.search(rb"aiohttp|python|traceback", answer, re.IGNORECASE), f"{data!r} -> {answer!r}"
                assert not faults, f"{data!r} -> {faults}"
                if memory is None and run.done >= run.frames // 4:
                    caplog.clear()
                    memory = Memory()
            run.facts.append(" ".join(f"{code or 'cut'}:{count}" for code, count in sorted(answered.items())))
            assert {0, 200, 400, 404} <= answered.keys(), "the requests are all too good or too bad"
            assert [await body(request) for request in honest] == before
            assert site.requests.keys() <= {*PATHS, "other"}
            assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
            caplog.clear()
            assert memory is not None
            after = Memory()
            run.facts.append(f"{after.blocks - memory.blocks:+} objects, {(after.rss - memory.rss) // 1024:+} KiB")
            assert after.blocks - memory.blocks < MOST_BLOCKS
            assert after.rss - memory.rss < MOST_RSS
    finally:
        await listener.close()
    assert not faults


class Dribbler(asyncio.Protocol):
    """A client that ends nothing by itself."""

    def __init__(self, connected: set[Dribbler], changed: asyncio.Event) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._connected, self._changed = connected, changed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._connected.add(self)
        transport.write(b"GET / HTTP/1.1\r\nX-Slow: ")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.discard(self)
        self._changed.set()

    def say(self, byte: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(byte)


async def test_clients_that_dribble_are_never_more_than_the_port_admits(say: Callable[[str], None]) -> None:
    """Five times as many as may be connected, each beginning a request and going on in single bytes."""
    exposition = Exposition(PodCollector(lambda: look({}), Totals(), Chronicle()), time.monotonic_ns)
    site = Site(lambda: look({}), exposition, lambda: story.page(look({}), Chronicle(), time.time()))
    listener = Listener(site)
    await listener.start(tcp.listen(0, "METRICS_PORT"))
    connected: set[Dribbler] = set()
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        with Run("slow clients", 5 * MOST_CONNECTIONS, say) as run:
            while run.done < run.frames:
                run.done += 1
                await loop.create_connection(lambda: Dribbler(connected, changed), "127.0.0.1", listener.port)
                for each in run.rng.sample(list(connected), min(len(connected), 8)):
                    each.say(run.rng.choice((b"G", b"E", b"T")))
            answer = await said(listener.port, [b"GET /health HTTP/1.0\r\n\r\n"])
            assert answer.startswith(b"HTTP/1.")
            async with asyncio.timeout(PATIENCE_S):
                while len(connected) > MOST_CONNECTIONS:
                    changed.clear()
                    await changed.wait()
            run.facts.append(f"{len(connected)} still connected")
    finally:
        for each in connected:
            if each.transport is not None:
                each.transport.abort()
        await listener.close()


# --- states that only a worker gone bad would publish ---


def test_no_state_that_decodes_fails_a_probe_the_status_or_the_metrics(say: Callable[[str], None]) -> None:
    with Run("views", ON_SOCKETS // 2, say) as run:
        states: dict[Worker, State] = {}
        totals, chronicle = Totals(), Chronicle()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(PodCollector(lambda: look(states), totals, chronicle))
        memory: Memory | None = None
        while run.done < run.frames:
            run.done += 1
            worker = run.rng.choice(list(Worker))
            sent = state(worker, run.rng)
            states[worker] = decode_state(encode(sent), worker)
            totals.take(states[worker])
            picture = look(states)
            chronicle.note(picture)
            if run.done % 100 == 0:
                kept = json.loads(json.dumps({"totals": totals.kept(), "chronicle": chronicle.kept()}))
                Totals.resumed(kept["totals"])
                assert Chronicle.resumed(kept["chronicle"], this_boot=True).kept() == kept["chronicle"]
            for view in (views.startup, views.health, views.ready):
                answer = view(picture)
                assert answer.status in (200, 503)
                json.dumps(answer.body, allow_nan=False)
            json.dumps(story.page(picture, chronicle, 1.7e9), allow_nan=False)
            assert generate_latest(registry).endswith(b"\n")
            if memory is None and run.done >= run.frames // 4:
                memory = Memory()
        assert memory is not None
        run.facts.append(memory.has_not_grown())


def elector(rng: random.Random, instance: str, counts: dict[str, int]) -> State:
    body = ElectorState(
        **{
            **{name: getattr(value(ElectorState, rng), name) for name in ElectorState.__dataclass_fields__},
            "requests_total": counts,
        }
    )
    return State(Worker.ELECTOR, instance, 1, 1, 1, 1, 1, body, Sandbox())


@pytest.mark.parametrize("restarts", [False, True], ids=["in one life", "in many lives"])
def test_a_worker_that_counts_something_else_each_time_fills_no_memory(restarts: bool) -> None:
    totals, rng = Totals(), random.Random(2)
    for turn in range(100):
        counts = {f"verb-{turn}-{n}": 1 for n in range(200)}
        totals.take(elector(rng, f"{turn}" if restarts else "same", counts))
    assert len(totals.of("api_requests")) <= 2 * MOST_LABELS


def test_a_worker_that_counts_below_nothing_takes_nothing_from_a_total() -> None:
    totals, rng = Totals(), random.Random(3)
    totals.take(elector(rng, "first", {"get": 5}))
    for instance in ("second", "third", "fourth"):
        totals.take(elector(rng, instance, {"get": -(2**60)}))
    assert totals.of("api_requests") == {"get": 5}
