"""gateway: shows the pod to the outside.

Privileges: listens on METRICS_PORT; subscribes to every other worker.  No API token, no secrets, no signals; there
is nothing it could order anybody to do.
"""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version

from gateway import http
from gateway.metrics import PodCollector
from gateway.views import WATCHED, Picture
from ipc.messages import GatewayState, Worker
from ipc.pubsub import Subscription
from kernel.clock import boottime_ns
from workers.runtime import Context, run_worker

VERSION = version("cardano-forge-manager")
REPORT_S = 5.0


class Gateway:
    """Follows the workers, answers for them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = boottime_ns()
        self._collector = PodCollector()
        self._subscriptions: dict[Worker, Subscription] = {}
        for worker in WATCHED:
            self._subscriptions[worker] = context.subscribe(worker, partial(self._heard, worker))

    def _heard(self, worker: Worker) -> None:
        state = self._subscriptions[worker].last()
        if state is not None:
            self._collector.totals.take(state)

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
        )

    async def run(self) -> None:
        """Serve until asked to stop.  Raises OSError when METRICS_PORT is taken."""
        site = http.Site(self.look, self._collector)
        runner, port = await http.listen(site, self._context.config.metrics_port)
        try:
            while not self._context.stopping.is_set():
                self._context.publish(GatewayState(port, dict(site.requests)))
                try:
                    async with asyncio.timeout(REPORT_S):
                        await self._context.stopping.wait()
                except TimeoutError:
                    continue
        finally:
            await runner.cleanup()


async def serve(context: Context) -> None:
    await Gateway(context).run()


if __name__ == "__main__":
    run_worker(Worker.GATEWAY, serve)
