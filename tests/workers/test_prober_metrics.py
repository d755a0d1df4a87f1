"""The prober and NODE_METRICS_URL: what another node answers there is no answer of the node's."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cardano.process import start_ticks
from config import load
from devkit import states
from ipc.messages import NodeView, ProberState, StartFlag, Worker
from workers.prober import Prober

from surroundings import PATIENCE_S, Surroundings

HOUR_S = 3600


class Place:
    """A node, which is this process and serves NODE_SOCKET; and who answers at NODE_METRICS_URL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started_s = int(time.time())
        self.node = NodeView(os.getpid(), start_ticks(os.getpid()), True, True, StartFlag.NON_PRODUCING, "")

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        values = {"nodeStartTime_int": self.started_s, "forging_enabled": 0, "slotNum_int": 7}
        body = "".join(f"cardano_node_metrics_{name} {value}\n" for name, value in values.items())
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def prober(self) -> AsyncIterator[Surroundings]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = load(
            {
                "NODE_METRICS_URL": f"http://127.0.0.1:{port}/metrics",
                "NODE_SOCKET": f"{self.folder}/node.socket",
                "RUN_DIR": f"{self.folder}/run",
                "CARDANO_NETWORK": "custom",
                "NETWORK_MAGIC": "42",
            }
        )
        around = Surroundings(config)
        worker = Prober(cast("Any", around), None)
        around.neighbours[Worker.ACTUATOR].says(states.actuator(node=self.node))
        running = asyncio.create_task(worker.run())
        try:
            yield around
        finally:
            around.stopping.set()
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(running, return_exceptions=True)
            server.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="pm-") as name, socket.socket(socket.AF_UNIX) as node:
        node.bind(f"{name}/node.socket")
        node.listen()
        yield Place(Path(name))


async def looked(around: Surroundings) -> ProberState:
    return await around.until(ProberState, lambda said: said.sampled_total >= 1)


async def test_the_nodes_own_answer_is_its_word(place: Place) -> None:
    async with place.prober() as around:
        said = await looked(around)
    assert (said.fit, said.reasons) == (True, ())
    assert said.sample is not None
    assert (said.sample.answered, said.sample.forging_enabled, said.sample.slot) == (True, 0, 7)


@pytest.mark.parametrize(("seconds", "says"), [(-HOUR_S, "s before process"), (HOUR_S, "s after process")])
async def test_the_answer_of_a_node_that_started_at_another_time_proves_nothing_and_makes_it_unfit(
    place: Place, seconds: int, says: str
) -> None:
    place.started_s += seconds
    async with place.prober() as around:
        said = await looked(around)
    assert not said.fit
    assert says in said.reasons[0]
    assert said.sample is not None
    assert (said.sample.answered, said.sample.forging_enabled, said.sample.slot) == (False, None, None)


async def test_the_answer_to_a_node_that_is_starting_is_judged_by_its_process_alone(place: Place) -> None:
    """The file at NODE_SOCKET may be its predecessor's."""
    place.node = dataclasses.replace(place.node, up=False)
    place.started_s += HOUR_S
    async with place.prober() as around:
        assert (await looked(around)).fit
