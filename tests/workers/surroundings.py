"""What a worker has of its process, without the process: words of the others as a test gives them, and its own kept."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from config import Config
from devkit import states
from ipc.messages import (
    Body,
    Cost,
    Role,
    Sandbox,
    State,
    Worker,
)
from kernel.clock import boottime_ns
from policy import timing
from workers.cluster_report import CONFLICT, COORDINATED, FORGING, PREFERRED, READY, Condition, Report

PATIENCE_S = 60.0

OURS = (READY, FORGING, PREFERRED, CONFLICT, COORDINATED)
"""Conditions that a report always has."""

B = TypeVar("B", bound=Body)

FIT = states.prober()
FENCED = states.actuator()
LEADING = states.elector(role=Role.LEADER, holder="pod-0_1")


def copy_database(source: Path, target: Path) -> None:
    """Of an embedded API server, over what is there: a backup, or its return while the server is down."""
    with contextlib.closing(sqlite3.connect(source)) as one, contextlib.closing(sqlite3.connect(target)) as other:
        one.backup(other)


def report(**changes: Any) -> Report:
    given_conditions = changes.pop("conditions", {})
    conditions = {name: Condition(True, "Why", "because") for name in OURS} | given_conditions
    plain = Report(
        state="Priority-based",
        priority=100,
        leader="pod-a",
        forging=True,
        reason="Forging",
        message="pod-a forges",
        token=7,
        pool_leader="east",
        conditions=tuple(conditions.items()),
        healthy=True,
        failures=0,
        health_message="200",
    )
    return dataclasses.replace(plain, **changes)


@dataclass
class Neighbour:
    """Another worker as its subscriber sees it: silent until `says`."""

    worker: Worker
    on_change: Callable[[], None]
    state: State | None = None
    connected: bool = False

    def says(self, body: Body) -> None:
        """Valid for as long as a test may last."""
        now = boottime_ns()
        self.state = State(self.worker, "instance", 1, 1, now, now, now + int(10 * PATIENCE_S) * timing.SECOND, body)
        self.connected = True
        self.on_change()

    def says_it_again(self) -> None:
        if self.state is not None:
            self.says(self.state.body)

    def last(self) -> State | None:
        return self.state

    def current(self, now: int) -> State | None:
        return self.state if self.state is not None and now < self.state.valid_until else None


class Surroundings:
    """In place of a `workers.runtime.Context`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.parent: int | None = None
        self.sandbox = Sandbox()
        self.cost = Cost()
        self.said: list[Body] = []
        self.neighbours: dict[Worker, Neighbour] = {}
        self._news = asyncio.Event()

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Neighbour:
        return self.neighbours.setdefault(worker, Neighbour(worker, on_change))

    def disconnect(self) -> None:
        """The others end."""
        for neighbour in self.neighbours.values():
            neighbour.connected = False
            neighbour.on_change()

    def publish(self, body: Body) -> None:
        self.said.append(body)
        self._news.set()

    async def until(self, kind: type[B], holds: Callable[[B], bool]) -> B:
        """What the worker says, as soon as this holds of it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if self.said and isinstance(body := self.said[-1], kind) and holds(body):
                    return body
                self._news.clear()
                await self._news.wait()
