"""Listening sockets on every address, and what an operator reads when a port is taken."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernel import tcp
from kernel.tcp import PortTaken, listen


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = listen(0, "METRICS_PORT")
        for sock in sockets:
            stack.enter_context(sock)
        yield sockets


def test_any_free_port_is_one_that_accepts(opened: list[socket.socket]) -> None:
    port = opened[0].getsockname()[1]
    assert port > 0
    with socket.create_connection(("127.0.0.1", port), 30):
        opened[0].setblocking(True)
        opened[0].accept()[0].close()


@needs_ipv6
def test_both_families_share_the_port(opened: list[socket.socket]) -> None:
    four, six = opened
    assert (four.family, six.family) == (socket.AF_INET, socket.AF_INET6)
    assert four.getsockname()[1] == six.getsockname()[1]
    with socket.create_connection(("::1", six.getsockname()[1]), 30):
        six.setblocking(True)
        six.accept()[0].close()


def test_they_are_on_every_address_and_nobodys_children_have_them(opened: list[socket.socket]) -> None:
    assert [sock.getsockname()[0] for sock in opened] == ["0.0.0.0", "::"][: len(opened)]
    for sock in opened:
        assert not os.get_inheritable(sock.fileno())
        assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_a_taken_port_names_the_variable_the_port_and_the_remedy(opened: list[socket.socket]) -> None:
    port = opened[0].getsockname()[1]
    with pytest.raises(PortTaken, match=f"METRICS_PORT={port} cannot be used: Address already in use; free it"):
        listen(port, "METRICS_PORT")


def test_a_port_whose_last_connections_are_fading_can_be_had_again() -> None:
    first = listen(0, "METRICS_PORT")
    port = first[0].getsockname()[1]
    first[0].setblocking(True)
    client = socket.create_connection(("127.0.0.1", port), 30)
    first[0].accept()[0].close()  # our side ends first and stays in TIME_WAIT
    client.close()
    for sock in first:
        sock.close()
    for sock in listen(port, "METRICS_PORT"):
        sock.close()


def test_where_ipv6_cannot_be_had_ipv4_will_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = tcp._listening

    def only_four(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return made(family, address, port)

    monkeypatch.setattr(tcp, "_listening", only_four)
    with caplog.at_level("INFO"):
        (sock,) = listen(0, "METRICS_PORT")
    sock.close()
    assert caplog.records[0].event == "no_ipv6"  # type: ignore[attr-defined]


@pytest.mark.skipif(
    int(Path("/proc/sys/net/core/somaxconn").read_text()) < tcp.BACKLOG, reason="this kernel keeps fewer waiting"
)
def test_hundreds_of_connections_wait_to_be_accepted_and_none_has_to_try_again(opened: list[socket.socket]) -> None:
    port = opened[0].getsockname()[1]
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.9))
