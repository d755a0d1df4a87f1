"""arbiter: may this cluster forge for the pool?

Privileges: serves its own state socket; nothing else.  No secrets, no signals, no TCP, and (while cluster
management is off) no API token.

With cluster management off every cluster is a pool of its own: the grant is standing, but still renewed by a
living process, and not exclusive: it never suffices alone.
"""

from __future__ import annotations

import workers.lean  # noqa: F401  # before asyncio: this worker must not speak TLS

# isort: split
import asyncio

from ipc.messages import ArbiterState, Grant, Worker
from kernel.clock import boottime_ns
from policy import timing
from workers.runtime import Context, run_worker


async def serve(context: Context) -> None:
    """Renew the standing grant until asked to stop."""
    while not context.stopping.is_set():
        now = boottime_ns()
        grant = Grant(
            holder=context.config.cluster,
            fencing_token=0,
            deadline=now + timing.STANDING_GRANT,
            renewed_at=now,
            exclusive=False,
        )
        context.publish(ArbiterState(grant, "cluster management is off: standing grant", cluster_management=False))
        try:
            async with asyncio.timeout(timing.STANDING_RENEWAL / timing.SECOND):
                await context.stopping.wait()
        except TimeoutError:
            continue


if __name__ == "__main__":
    run_worker(Worker.ARBITER, serve)
