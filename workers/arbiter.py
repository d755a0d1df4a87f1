"""arbiter: may this cluster forge for the pool?

With cluster management off every cluster is a pool of its own: the grant is standing, but still renewed by a
living process, and not exclusive: it never suffices alone.
"""

from __future__ import annotations

import workers.lean  # noqa: F401  # before asyncio: this worker must not speak TLS

# isort: split
import asyncio
import contextlib
from typing import Final

from ipc.messages import ActuatorState, ArbiterState, Grant, Worker
from kernel.clock import boottime_ns
from policy import timing
from sandbox.privileges import Privileges
from sandbox.syscalls import Calls
from workers.runtime import Context, run_worker

PRIVILEGES: Final = Privileges(
    worker=Worker.ARBITER,
    calls=frozenset({Calls.PYTHON}),
    subscribes=frozenset({Worker.ACTUATOR}),
)


class Arbiter:
    """Renews the standing grant while it lives."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake = asyncio.Event()
        self._renewed_at = 0
        self._actuator = context.subscribe(Worker.ACTUATOR, self._look)

    def _look(self) -> None:
        """Renew at once what the actuator no longer takes: the wall clock jumped."""
        state = self._actuator.last()
        if state is not None and isinstance(state.body, ActuatorState) and self._renewed_at <= state.body.void_before:
            self._wake.set()

    async def run(self) -> None:
        """Renew until asked to stop."""
        stopping = asyncio.create_task(self._context.stopping.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        while not stopping.done():
            self._renew()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timing.STANDING_RENEWAL / timing.SECOND):
                    await self._wake.wait()

    def _renew(self) -> None:
        now = self._renewed_at = boottime_ns()
        grant = Grant(
            holder=self._context.config.cluster,
            fencing_token=0,
            deadline=now + timing.STANDING_GRANT,
            renewed_at=now,
            exclusive=False,
        )
        self._context.publish(
            ArbiterState(grant, "cluster management is off: standing grant", cluster_management=False)
        )


async def serve(context: Context) -> None:
    await Arbiter(context).run()


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve)
