"""What every worker does before and around its own work.

`run_worker` promises: the configuration is checked; the process dies with supervisord and when its loop stands
still (the kernel sees to both); its state is served; SIGTERM sets `stopping`; anything unforeseen, in a task or
in a callback, ends the process with exit code 1, because a confused worker must not go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from config import Config, ConfigError, load
from ipc.messages import Body, Worker
from ipc.pubsub import StatePublisher, Subscription
from kernel.clock import boottime_ns
from kernel.deadline import DeathTimer
from kernel.process import SUPERVISOR_PID, die_with_parent, give_back_memory, no_core_dumps, set_name
from policy import timing
from workers import logs

log = logging.getLogger("worker")

SETTLED_S: Final = 5.0
"""After this time a worker has made what it needs, and what its imports left over can go back."""


class Context:
    """What a worker's own code gets: configuration, its publisher, subscriptions, the wish to stop."""

    def __init__(self, worker: Worker, config: Config) -> None:
        self.worker = worker
        self.config = config
        self.stopping = asyncio.Event()
        self.uids = frozenset({os.getuid()})
        self._publisher = StatePublisher(worker, config.state_socket(worker), allowed_uids=self.uids)
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        await self._publisher.start()

    def publish(self, body: Body) -> None:
        """Make `body` the state that subscribers see."""
        self._publisher.publish(body)

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Subscription:
        """Follow another worker's state from now on."""
        subscription = Subscription(worker, self.config.state_socket(worker), on_change, allowed_uids=self.uids)
        subscription.start()
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._publisher.close()


class Watchdog:
    """A kernel timer that kills this process unless its event loop keeps turning.

    Also a SIGSTOPped process: SIGKILL does not wait to be continued.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._timer = DeathTimer()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer.arm(boottime_ns() + self._patience)
        period = self._patience / timing.SECOND / 4
        self._handle = asyncio.get_running_loop().call_later(period, self.start)

    def last(self) -> None:
        """One more patience for the way out; the timer ends with the process."""
        if self._handle is not None:
            self._handle.cancel()
        self._timer.arm(boottime_ns() + self._patience)


def run_worker(
    worker: Worker,
    serve: Callable[[Context], Awaitable[None]],
    *,
    watchdog: int = timing.WATCHDOG,
) -> None:
    """Run a worker until SIGTERM; does not return.  Exit codes: 0 asked to stop, 1 fault, 2 configuration."""
    if (parent := os.environ.get(SUPERVISOR_PID, "")).isdecimal():
        die_with_parent(signal.SIGKILL, int(parent))
    try:
        config = load(os.environ)
    except ConfigError as error:
        print("\n".join(str(m) for m in error.mistakes), file=sys.stderr)  # noqa: T201  # no logging yet
        sys.exit(2)
    logs.set_up(worker, config.log_level, config.log_format)
    no_core_dumps()
    set_name(f"forge-{worker}")
    os.umask(0o077)
    sys.exit(asyncio.run(_main(worker, config, serve, watchdog)))


async def _main(worker: Worker, config: Config, serve: Callable[[Context], Awaitable[None]], patience: int) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail_stop)
    context = Context(worker, config)
    loop.add_signal_handler(signal.SIGTERM, context.stopping.set)
    loop.add_signal_handler(signal.SIGINT, context.stopping.set)
    dog = Watchdog(patience)
    dog.start()
    try:
        await context.start()
        log.info("started", extra={"event": "worker_started", "pid": os.getpid()})
        loop.call_later(SETTLED_S, give_back_memory)
        await serve(context)
        await context.close()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the process boundary: no going on
        _end(f"{type(error).__name__} in its own work", error)
    log.info("stopped", extra={"event": "worker_stopped"})
    dog.last()
    return 0


def _fail_stop(loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
    """An exception nobody awaited or a callback that raised."""
    error = what.get("exception")
    _end(str(what.get("message", "")), error if isinstance(error, BaseException) else None)


def _end(what: str, error: BaseException | None) -> NoReturn:
    """Say why and end at once: whatever else would have to be tidied up, the kernel does, and nothing can hang."""
    log.critical("ended by a fault: %s", what, exc_info=error, extra={"event": "worker_fault"})
    logging.shutdown()
    os._exit(1)
