"""gateway: shows the pod to the outside.

There is nothing it could order anybody to do.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from importlib.metadata import version
from typing import Final

from gateway.http import Listener, Site
from gateway.metrics import PodCollector, Totals
from gateway.views import WATCHED, Picture
from ipc.messages import GatewayState, Worker
from ipc.pubsub import Subscription
from kernel.clock import boottime_ns
from sandbox.privileges import Port, Privileges
from sandbox.syscalls import Calls
from workers.runtime import Context, run_worker

PRIVILEGES: Final = Privileges(
    worker=Worker.GATEWAY,
    calls=frozenset({Calls.PYTHON}),
    subscribes=frozenset(WATCHED),
    listens=(Port.METRICS,),
)

log = logging.getLogger("gateway")

VERSION: Final = version("cardano-forge-manager")
REPORT_S: Final = 5.0


class Gateway:
    """Follows the workers, answers for them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = boottime_ns()
        self._totals = Totals()
        self._subscriptions: dict[Worker, Subscription] = {}
        for worker in WATCHED:
            self._subscriptions[worker] = context.subscribe(worker, partial(self._heard, worker))

    def _heard(self, worker: Worker) -> None:
        state = self._subscriptions[worker].last()
        if state is not None:
            self._totals.take(state)

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
        )

    async def run(self) -> None:
        """Serve until asked to stop."""
        site = Site(self.look, PodCollector(self.look, self._totals))
        listener = Listener(site)
        try:
            await listener.start(self._context.tcp[Port.METRICS])
            log.info("listening", extra={"event": "listening", "port": listener.port})
            while not self._context.stopping.is_set():
                self._context.publish(GatewayState(listener.port, dict(site.requests)))
                try:
                    async with asyncio.timeout(REPORT_S):
                        await self._context.stopping.wait()
                except TimeoutError:
                    continue
        finally:
            await listener.close()


async def serve(context: Context) -> None:
    await Gateway(context).run()


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve)
