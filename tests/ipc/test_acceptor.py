"""Accepting: whatever goes wrong with one connection, the others are accepted."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ipc import acceptor
from ipc.acceptor import AT_ONCE, Acceptor

PATIENCE_S = 30
SHORT_S = 0.01


class Greeting(asyncio.Protocol):
    """Says who it is, and remains."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")


class Scripted(socket.socket):
    """accept(2) answers these errors first."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        return super().accept()


class World:
    """A listening socket, its acceptor, its clients, and what the loop was told of."""

    def __init__(self) -> None:
        self.listener = Scripted(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.listener.errors = []
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(100)
        self.address = self.listener.getsockname()
        self.faults: list[dict[str, Any]] = []
        self.fault = asyncio.Event()
        self._clients: list[socket.socket] = []
        self.protocols: list[asyncio.Protocol] = []
        self.acceptor = Acceptor(self.listener, self.make)
        asyncio.get_running_loop().set_exception_handler(self._on_fault)

    def make(self) -> asyncio.Protocol:
        self.protocols.append(Greeting())
        return self.protocols[-1]

    def _on_fault(self, _: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        self.faults.append(what)
        self.fault.set()

    async def connect(self) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        self._clients.append(client)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(client, self.address), PATIENCE_S)
        return client

    async def said_to(self, client: socket.socket) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), PATIENCE_S)

    def close(self) -> None:
        self.acceptor.close()
        for client in self._clients:
            client.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_each_connection_gets_a_protocol_of_its_own(world: World) -> None:
    world.acceptor.start()
    clients = [await world.connect() for _ in range(3)]
    assert [await world.said_to(client) for client in clients] == [b"hello"] * 3
    assert len(set(world.protocols)) == 3


async def test_connections_that_waited_before_the_start_are_served(world: World) -> None:
    client = await world.connect()
    world.acceptor.start()
    assert await world.said_to(client) == b"hello"


async def test_a_flood_is_taken_in_several_turns_and_wholly(world: World) -> None:
    clients = [await world.connect() for _ in range(2 * AT_ONCE + 1)]
    world.acceptor.start()
    assert [await world.said_to(client) for client in clients] == [b"hello"] * len(clients)


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH])
async def test_a_connection_that_ended_before_it_was_taken_does_not_keep_the_next_waiting(
    world: World, code: int
) -> None:
    world.listener.errors = [code, code]
    client = await world.connect()
    world.acceptor.start()
    assert await world.said_to(client) == b"hello"
    assert world.faults == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_it_says_so_pauses_and_goes_on(
    world: World, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE_S", SHORT_S)
    world.listener.errors = [code, code]
    client = await world.connect()
    world.acceptor.start()
    with caplog.at_level(logging.INFO):
        assert await world.said_to(client) == b"hello"
    first, end = caplog.records  # the second time is counted
    assert (vars(first)["event"], vars(first)["why"]) == ("cannot_accept", os.strerror(code))
    assert (vars(end)["event"], vars(end)["count"]) == ("ended", 2)
    assert world.faults == []


async def test_during_the_pause_it_does_not_ask(world: World) -> None:
    world.listener.errors = [errno.EMFILE] * 50
    await world.connect()
    world.acceptor.start()
    await until(lambda: len(world.listener.errors) == 49)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.listener.errors) == 49


async def test_closed_in_the_pause_it_stays_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "PAUSE_S", SHORT_S)
    world.listener.errors = [errno.EMFILE]
    await world.connect()
    world.acceptor.start()
    await until(lambda: not world.listener.errors)
    world.acceptor.close()
    await asyncio.sleep(3 * SHORT_S)
    assert world.faults == []
    assert world.protocols == []


async def test_an_error_that_is_nobodys_goes_to_the_loops_handler(world: World) -> None:
    world.listener.errors = [errno.EBADF]
    await world.connect()
    world.acceptor.start()
    await asyncio.wait_for(world.fault.wait(), PATIENCE_S)
    assert world.faults[0]["exception"].errno == errno.EBADF


async def test_a_protocol_that_cannot_begin_is_told_to_the_loop_and_its_connection_ends(world: World) -> None:
    def fail() -> asyncio.Protocol:
        raise ValueError("boom")

    world.acceptor._factory = fail
    world.acceptor.start()
    client = await world.connect()
    assert await world.said_to(client) == b""
    await asyncio.wait_for(world.fault.wait(), PATIENCE_S)
    assert isinstance(world.faults[0]["exception"], ValueError)


async def test_closed_while_a_connection_is_being_made_the_connection_ends_too(world: World) -> None:
    client = await world.connect()
    world.acceptor.start()
    world.acceptor._accept()
    assert len(world.acceptor._making) == 1
    world.acceptor.close()
    assert await world.said_to(client) == b""
    assert world.faults == []
    assert world.protocols == []


async def test_closing_ends_listening_but_not_the_connections_that_stand(world: World) -> None:
    world.acceptor.start()
    client = await world.connect()
    assert await world.said_to(client) == b"hello"
    world.acceptor.close()
    world.acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        await world.connect()
    client.send(b"still there")
    await asyncio.sleep(0)
    assert len(world.protocols) == 1
    with pytest.raises(BlockingIOError):
        client.recv(1)


async def test_closed_before_it_began_it_is_closed() -> None:
    made = World()
    made.close()
    assert made.listener.fileno() == -1
