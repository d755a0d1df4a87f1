"""gateway: shows the pod to the outside.

There is nothing it could order anybody to do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from gateway import story
from gateway.chronicle import Chronicle
from gateway.exposition import Exposition
from gateway.guard import Guard
from gateway.http import Listener, Site
from gateway.metrics import PodCollector
from gateway.totals import UNAUTHORIZED, Totals, of_cost
from gateway.views import WATCHED, Picture
from ipc.messages import GatewayState, Worker
from ipc.pubsub import Subscription
from kernel.clock import boot_id, boottime_ns
from kernel.ledger import MOST, Ledger
from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Calls
from workers.runtime import Context, run_worker

PRIVILEGES: Final = Privileges(
    worker=Worker.GATEWAY,
    calls=frozenset({Calls.PYTHON}),
    reads=frozenset({Place.GATEWAY}),
    keeps=True,
    subscribes=frozenset(WATCHED),
    listens=(Port.METRICS,),
)

log = logging.getLogger("gateway")

VERSION: Final = version("cardano-forge-manager")
REPORT_S: Final = 5.0


class Memory:
    """What the gateway's next life goes on with: totals that never go down, and what happened."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._boot = boot_id()
        self._written = b""
        self.totals, self.chronicle = self._read()

    def _read(self) -> tuple[Totals, Chronicle]:
        """As an earlier life left them; from nothing, said aloud, where that cannot be read."""
        written = self._ledger.read() if self._ledger is not None else b""
        if not written:
            return Totals(), Chronicle()
        try:
            raw = json.loads(written)
            chronicle = Chronicle.resumed(raw["chronicle"], this_boot=raw["boot"] == self._boot)
            return Totals.resumed(raw["totals"]), chronicle
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            log.warning("unreadable ledger; counting from zero", extra={"event": "ledger_unreadable"})
            return Totals(), Chronicle()

    def keep(self) -> None:
        """Write it, if it changed.  Raises ValueError where the totals alone are too long."""
        record = self._record(entries=True)
        if self._ledger is not None and record != self._written:
            self._written = record
            self._ledger.write(record if len(record) <= MOST else self._record(entries=False))

    def _record(self, *, entries: bool) -> bytes:
        chronicle = self.chronicle.kept(entries=entries)
        known = {"boot": self._boot, "totals": self.totals.kept(), "chronicle": chronicle}
        return json.dumps(known, separators=(",", ":")).encode("ascii")


class Gateway:
    """Follows the workers, answers for them."""

    def __init__(self, context: Context, memory: Memory) -> None:
        self._context = context
        self._guard = Guard(context.config)
        self._started = boottime_ns()
        self._instance = f"{os.getpid()} {self._started}"
        self._memory = memory
        self._complained = False
        collector = PodCollector(self._look_and_keep, memory.totals, memory.chronicle)
        self._site = Site(self.look, Exposition(collector, boottime_ns), self._story, self._guard)
        self._subscriptions: dict[Worker, Subscription] = {}
        for worker in WATCHED:
            self._subscriptions[worker] = context.subscribe(worker, partial(self._heard, worker))

    def _heard(self, worker: Worker) -> None:
        state = self._subscriptions[worker].last()
        before = self._memory.totals.restarts.total()
        if state is not None:
            self._memory.totals.take(state)
        self._look_and_note()
        self._site.live.changed()
        if self._memory.totals.restarts.total() != before:
            self._keep()  # what ended is told by nobody any more

    def look(self) -> Picture:
        """What is known now."""
        known = {worker: s.last() for worker, s in self._subscriptions.items()}
        return Picture(
            config=self._context.config,
            version=VERSION,
            now=boottime_ns(),
            started_at=self._started,
            states={worker: state for worker, state in known.items() if state is not None},
            connected={worker: s.connected for worker, s in self._subscriptions.items()},
            own=self._context.sandbox,
            own_cost=self._context.cost,
            own_files=self._guard.problems,
        )

    def _look_and_note(self) -> Picture:
        picture = self.look()
        self._memory.chronicle.note(picture)
        refused = Counter({(UNAUTHORIZED, str(shown)): count for shown, count in self._guard.refused.items()})
        own = of_cost(Worker.GATEWAY, self._context.cost) + refused
        self._memory.totals.count(Worker.GATEWAY, self._instance, own)
        return picture

    def _look_and_keep(self) -> Picture:
        """For what is scraped: the next life must not show less, which would be taken for a count from zero."""
        picture = self._look_and_note()
        self._keep()
        return picture

    def _story(self) -> dict[str, Any]:
        return story.page(self._look_and_note(), self._memory.chronicle, time.time())

    def _keep(self) -> None:
        """What is too long for it costs the next life, not this one."""
        try:
            self._memory.keep()
        except ValueError as error:
            if not self._complained:
                log.warning("the ledger cannot be written", extra={"event": "ledger_unwritten", "why": str(error)})
            self._complained = True

    async def run(self) -> None:
        """Serve until asked to stop."""
        listener = Listener(self._site)
        try:
            await listener.start(self._context.tcp[Port.METRICS])
            log.info("listening", extra={"event": "listening", "port": listener.port})
            while not self._context.stopping.is_set():
                self._site.look_again()
                self._context.publish(GatewayState(listener.port, dict(self._site.requests)))
                self._look_and_note()
                self._keep()
                try:
                    async with asyncio.timeout(REPORT_S):
                        await self._context.stopping.wait()
                except TimeoutError:
                    continue
        finally:
            self._keep()
            await listener.close()


async def serve(context: Context) -> None:
    await Gateway(context, Memory(context.ledger)).run()


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve)
