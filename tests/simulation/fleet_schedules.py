"""Schedules for a pool of several clusters: a seed makes a fleet, and what happens to it."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from simulated_fleet import Fleet, ForgeClusters

import workers.arbiter
import workers.clusters
import workers.coordination
import workers.elector
import workers.pool_lock

from schedules import SilentReporter
from simulated_api import Leases
from simulated_time import SimulatedLoop, loop_now, wall_s

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""What the workers write down, they write in memory in a pod too."""
FIRST_S = 60.0
BACK_S = 120.0

Schedule = Callable[[Fleet], Awaitable[None]]


async def _no_event(*_: object, **__: object) -> None:
    """Kubernetes Events are no part of the decision."""


def run(monkeypatch: pytest.MonkeyPatch, seed: int, schedule: Schedule, **how: Any) -> Fleet:
    """The same seed gives the same story."""
    loop = SimulatedLoop()
    random.seed(seed)  # the product spreads its retries by it
    for module in (workers.elector, workers.arbiter, workers.pool_lock, workers.clusters):
        monkeypatch.setattr(module, "boottime_ns", loop_now)
    for module in (workers.elector, workers.arbiter, workers.pool_lock):
        monkeypatch.setattr(module, "LeaseClient", Leases)
    wall = types.SimpleNamespace(time=wall_s)
    for module in (workers.coordination, workers.clusters):
        monkeypatch.setattr(module, "time", wall)
    monkeypatch.setattr(workers.clusters, "ForgeClusterClient", ForgeClusters)
    monkeypatch.setattr(workers.clusters.events, "emit", _no_event)
    monkeypatch.setattr(workers.elector, "LeaderReporter", SilentReporter)
    asyncio.set_event_loop(loop)
    try:
        with tempfile.TemporaryDirectory(prefix="sim-", dir=MEMORY) as folder:  # short: sockets are named in it
            return loop.run_until_complete(_live(seed, Path(folder), schedule, how))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _live(seed: int, folder: Path, schedule: Schedule, how: dict[str, Any]) -> Fleet:
    fleet = Fleet(seed, folder, **how)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: fleet.violations.append(f"a worker's fault: {context}"))
    for pod in fleet.pods:
        pod.start_all()
    await fleet.until_somebody_forges(FIRST_S)
    await schedule(fleet)
    for pod in fleet.pods:
        pod.kill_all()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return fleet
