"""The proxy before an API server: each way in which an API path fails, seen from a client's side."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devkit.api import EmbeddedApi, ThreadedApi
from devkit.proxy import FaultyProxy

NAMESPACES = "/api/v1/namespaces"
PATIENCE_S = 10.0
"""For what must happen."""
SILENCE_S = 0.3
"""For what must not happen."""


@pytest.fixture(scope="module")
def api() -> Iterator[ThreadedApi]:
    with EmbeddedApi.threaded(users=["pod"], tls=True) as server:
        yield server


@pytest.fixture
def proxy(api: ThreadedApi) -> Iterator[FaultyProxy]:
    made = FaultyProxy(api, "pod")
    yield made
    made.close()


def connect(proxy: FaultyProxy, timeout: float = PATIENCE_S) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)


def ask(proxy: FaultyProxy, method: str, path: str, body: Any = None, timeout: float = PATIENCE_S) -> tuple[int, Any]:
    connection = connect(proxy, timeout)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def new_namespace(proxy: FaultyProxy, name: str) -> int:
    status, _ = ask(proxy, "POST", NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return status


def names(proxy: FaultyProxy) -> set[str]:
    _, found = ask(proxy, "GET", NAMESPACES)
    return {item["metadata"]["name"] for item in found["items"]}


@contextlib.contextmanager
def watching(proxy: FaultyProxy) -> Iterator[tuple[socket.socket, http.client.HTTPResponse]]:
    """A watch that has delivered the objects that were there."""
    connection = connect(proxy)
    connection.request("GET", f"{NAMESPACES}?watch=true&timeoutSeconds=60")
    assert connection.sock is not None
    sock, answer = connection.sock, connection.getresponse()
    try:
        assert answer.status == 200
        events_until(answer, "kube-system")
        yield sock, answer
    finally:
        answer.close()
        connection.close()
        sock.close()


def rest_of(sock: socket.socket) -> bytes:
    """What still comes before the connection is cut."""
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


def events_until(answer: http.client.HTTPResponse, name: str) -> None:
    while json.loads(answer.readline())["object"]["metadata"]["name"] != name:
        pass


def test_a_plain_request_is_answered_by_the_server_behind_tls_and_token(proxy: FaultyProxy) -> None:
    assert "kube-system" in names(proxy)


def test_a_body_without_a_content_type_reaches_the_server_without_one(proxy: FaultyProxy) -> None:
    """As the Python client sends it, and a server takes it for JSON."""
    connection = connect(proxy)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "untyped"}}
    connection.request("POST", NAMESPACES, json.dumps(namespace))
    assert connection.getresponse().status == 201
    connection.close()


def test_requests_are_counted_by_method_and_watches_apart(proxy: FaultyProxy) -> None:
    names(proxy)
    new_namespace(proxy, "counted")
    with watching(proxy):
        assert dict(proxy.counts) == {"GET": 1, "POST": 1, "WATCH": 1}


def test_a_watch_streams_events_while_it_is_open(proxy: FaultyProxy) -> None:
    with watching(proxy) as (_, answer):
        assert new_namespace(proxy, "streamed") == 201
        events_until(answer, "streamed")


def test_a_hanging_path_accepts_and_never_answers(proxy: FaultyProxy) -> None:
    proxy.hang()
    with pytest.raises(TimeoutError):
        ask(proxy, "GET", NAMESPACES, timeout=SILENCE_S)
    proxy.let_pass()
    assert names(proxy)


def test_a_watch_on_a_hanging_path_freezes_and_is_cut_when_the_path_is_back(
    api: ThreadedApi, proxy: FaultyProxy
) -> None:
    with watching(proxy) as (sock, _):
        proxy.hang()
        other = FaultyProxy(api, "pod")
        assert new_namespace(other, "unseen") == 201
        other.close()
        sock.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(PATIENCE_S)
        proxy.let_pass()
        assert rest_of(sock) == b""


def test_a_refusing_path_has_no_listener_and_gets_its_port_back(proxy: FaultyProxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        names(proxy)
    proxy.let_pass()
    assert proxy.port == port
    assert names(proxy)


def test_a_refusing_path_cuts_the_watches_that_are_open(proxy: FaultyProxy) -> None:
    with watching(proxy) as (sock, _):
        proxy.refuse()
        assert rest_of(sock) == b""


def test_a_kept_connection_gets_nothing_from_a_refusing_path(proxy: FaultyProxy) -> None:
    connection = connect(proxy)
    connection.request("GET", NAMESPACES)
    connection.getresponse().read()
    assert connection.sock is not None
    proxy.refuse()
    with contextlib.suppress(OSError):
        connection.request("GET", NAMESPACES)
    assert rest_of(connection.sock) == b""
    connection.close()


@pytest.mark.parametrize("code", [409, 429, 500])
def test_a_failing_path_gives_every_request_its_status_and_headers(proxy: FaultyProxy, code: int) -> None:
    proxy.answer(code, {"Retry-After": "7"})
    connection = connect(proxy)
    connection.request("GET", NAMESPACES)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (code, "7")
    answer.read()
    connection.close()
    assert new_namespace(proxy, f"refused-{code}") == code
    proxy.let_pass()
    assert f"refused-{code}" not in names(proxy)


def test_a_write_whose_answer_is_lost_took_effect(proxy: FaultyProxy) -> None:
    proxy.lose_answers()
    with pytest.raises((OSError, http.client.HTTPException)):
        new_namespace(proxy, "lost")
    proxy.let_pass()
    assert "lost" in names(proxy)


def test_a_write_on_a_path_that_repeats_arrives_once_more_and_its_first_answer_counts(
    api: ThreadedApi, proxy: FaultyProxy
) -> None:
    def arrived(verb: str) -> int:
        return api.counts().get("pod", {}).get(verb, 0)

    proxy.repeat(0.01)
    before = arrived("create"), arrived("list")
    assert new_namespace(proxy, "repeated") == 201
    assert "repeated" in names(proxy)
    end = time.monotonic() + PATIENCE_S
    while arrived("create") < before[0] + 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert arrived("list") == before[1] + 1, "only writes are repeated"


def test_a_slow_path_answers_after_its_delay(proxy: FaultyProxy) -> None:
    proxy.slow(SILENCE_S)
    began = time.monotonic()
    assert names(proxy)
    assert time.monotonic() - began >= SILENCE_S


def test_a_server_that_is_gone_looks_like_a_cut_connection(api: ThreadedApi, proxy: FaultyProxy) -> None:
    assert names(proxy)
    api.kill_sync()
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            names(proxy)
    finally:
        api.restart_sync()
    assert names(proxy)


def test_closing_twice_is_harmless(api: ThreadedApi) -> None:
    made = FaultyProxy(api, "pod")
    made.close()
    made.close()
