"""Spoilt frames on every socket of a pod that runs and forges: it goes on as if nothing had come."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_corpus import corpus
from fuzz_mutate import Fuzzer
from fuzz_run import LONG, ON_SOCKETS, Run
from test_fuzz_gateway import requests, spoilt

from config import load
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pod import Pod
from devkit.pods import Cluster
from ipc.frames import FrameReader
from ipc.messages import DebugRequest, DebugWhat, ProtocolError, StandDown, Worker, decode

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not LONG, reason="a long run: FORGE_FUZZ_FRAMES=1000000"),
]
FRAMES = min(ON_SOCKETS, 20_000)
MOST_KIB = 8 * 1024
"""Resident memory that each worker may take beyond that of its warm-up."""


@pytest.fixture
def pod() -> Iterator[Pod]:
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        with Cluster(api, 1) as cluster:
            cluster.wait_healthy(60)
            made = cluster.pods[0]
            end = time.monotonic() + 60
            while not made.status().get("forging"):
                assert time.monotonic() < end, "the pod does not forge"
                time.sleep(0.1)
            yield made
    finally:
        api.stop_sync()


def resident_kib(pods_pids: dict[str, int]) -> dict[str, int]:
    found = {}
    for worker, pid in pods_pids.items():
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        found[worker] = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return found


def standing(status: dict[str, Any]) -> object:
    """What of /status must be as it was, whatever was sent."""
    workers = {name: (each["pid"], each["instance"]) for name, each in status["workers"].items()}
    leader = {name: status["leader"][name] for name in ("role", "identity", "holder", "token")}
    return workers, leader, status["forging"], status["fence"]["state"], status["standing_down_seconds"]


def moves_something(stream: bytes) -> bool:
    """Whether it is an order that a worker would rightly follow: not what this is about."""
    reader = FrameReader()
    with contextlib.suppress(ProtocolError):
        for at in range(0, len(stream), 64):
            for payload in reader.feed(stream[at : at + 64]):
                for kind in (StandDown, DebugRequest):
                    with contextlib.suppress(ProtocolError):
                        message = decode(payload, kind)
                        return kind is StandDown or getattr(message, "what", None) in (
                            DebugWhat.LOG_LEVEL,
                            DebugWhat.AUDIT,
                        )
    return False


def say_to(family: int, address: object, data: bytes) -> None:
    """Send it, hear what comes at once, go."""
    with socket.socket(family) as sock, contextlib.suppress(ConnectionError, TimeoutError, BlockingIOError):
        sock.settimeout(0.5)
        sock.connect(address)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(65536)


def test_a_pod_that_forges_goes_on_under_spoilt_frames_on_all_its_sockets(pod: Pod, say: Callable[[str], None]) -> None:
    config = load(pod._environment)
    paths = [config.command_socket]
    for worker in Worker:
        paths += [config.state_socket(worker), config.debug_socket(worker)]
    before, pids = standing(pod.status()), pod.worker_pids()
    assert set(pids) == set(Worker)
    memory: dict[str, int] = {}
    with Run("running pod", FRAMES, say) as run:
        fuzzer, asked = Fuzzer(corpus(run.rng), run.rng), requests()
        checked = time.monotonic()
        while run.done < run.frames:
            run.done += 1
            if run.rng.random() < 0.2:
                say_to(socket.AF_INET, ("127.0.0.1", pod.metrics_port), spoilt(asked, run.rng))
            else:
                stream = _harmless(fuzzer, run.rng)
                say_to(socket.AF_UNIX, str(run.rng.choice(paths)), stream)
            if not memory and run.done >= run.frames // 4:
                memory = resident_kib(pids)
            if time.monotonic() - checked > 1:
                checked = time.monotonic()
                assert standing(pod.status()) == before
        after = resident_kib(pids)
        run.facts += [f"{worker} {after[worker] - memory[worker]:+} KiB" for worker in sorted(pids)]
    assert pod.worker_pids() == pids
    assert standing(pod.status()) == before
    assert pod.healthy()
    assert all(after[worker] - memory[worker] < MOST_KIB for worker in pids)


def _harmless(fuzzer: Fuzzer, rng: random.Random) -> bytes:
    while True:
        stream = fuzzer.stream([fuzzer.payload()[1] for _ in range(rng.choice((1, 1, 1, 5)))])
        if not moves_something(stream):
            return stream
