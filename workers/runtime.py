"""What every worker does before and around its own work.

`run_worker` promises: the configuration is checked; the process dies with supervisord and when its loop stands
still (the kernel sees to both); its sockets listen, and the sandbox is closed as the worker declared it before the
first byte from outside is read; its state is served; SIGTERM sets `stopping`; anything unforeseen, in a task or in a
callback, ends the process with exit code 1, because a confused worker must not go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from config import Config, ConfigError, load
from ipc.debug import DebugServer
from ipc.messages import Body, Cost, Sandbox, Worker
from ipc.pubsub import StatePublisher, Subscription, listen
from kernel import cost, tcp
from kernel.clock import boottime_ns
from kernel.deadline import DeathTimer
from kernel.flock import AlreadyHeld, hold
from kernel.ledger import Ledger
from kernel.process import (
    SUPERVISOR_PID,
    die_with_parent,
    die_with_supervisor,
    give_back_memory,
    no_core_dumps,
    set_name,
)
from kernel.tcp import PortTaken
from policy import timing
from sandbox.close import CannotClose, Closed, close, file_identity
from sandbox.places import Endpoint, Unreachable
from sandbox.privileges import Port, Privileges, Socket
from workers import logs
from workers.inspection import Inspection
from workers.self_audit import SelfAudit

log = logging.getLogger("worker")

LOOK_AT_PLACES_EVERY_S: Final = 2.0
MOST_TOLD: Final = 32
SETTLED_S: Final = 5.0
"""After this time a worker has made what it needs, and what its imports left over can go back."""
MEASURE_EVERY_S: Final = 30.0


class Context:
    """What a worker's own code gets: configuration, its sockets and subscriptions, the wish to stop.

    Made before the sandbox closes: every socket that will ever listen listens from here on.
    """

    def __init__(self, privileges: Privileges, config: Config) -> None:
        """Raises OSError, PortTaken."""
        self.privileges = privileges
        self.worker = privileges.worker
        self.config = config
        self.stopping = asyncio.Event()
        self.own_uids = frozenset({os.getuid(), 0})
        """Who may give commands: ourselves and root."""
        self.uids = self.own_uids | frozenset(config.worker_uids.values())
        """Who may see our state."""
        self._mode = 0o666 if config.worker_uids else 0o600  # other uids must get as far as SO_PEERCRED
        self._publisher = StatePublisher(
            self.worker, config.state_socket(self.worker), allowed_uids=self.uids, mode=self._mode
        )
        self.parent = os.getppid() if SUPERVISOR_PID in os.environ else None
        """Whose children are our siblings: they may not use our debug and command sockets."""
        self.debug = DebugServer(listen(config.debug_socket(self.worker), mode=self._mode), parent=self.parent)
        """For answers of the worker's own: `debug.answer`."""
        self.ledger = self._open_ledger() if privileges.keeps else None
        """What its next life shall know; None: it declares none, or there is no place for it."""
        self.command: socket.socket | None = None
        if Socket.COMMAND in privileges.serves:
            self.command = listen(config.command_socket, mode=self._mode)
        self.tcp: dict[Port, list[socket.socket]] = {}
        for port in privileges.listens:
            self.tcp[port] = tcp.listen(config.metrics_port, port.value)
        self._subscriptions: list[Subscription] = []
        self._closed: Closed | None = None
        self._replaced: dict[str, tuple[int, int]] = {}
        """Name files that were others at the last look than when the sandbox closed."""
        self._audit: SelfAudit | None = None
        Inspection(self.worker, self._publisher, self._subscriptions, logs.keep_recent(), self.debug)

    def _open_ledger(self) -> Ledger | None:
        """A worker that cannot write down what its next life could know does its work all the same."""
        try:
            return Ledger(self.config.worker_dir(self.worker) / "ledger")
        except OSError as error:
            log.warning("no ledger can be kept", extra={"event": "no_ledger", "why": error.strerror})
            return None

    def seal(self, closed: Closed) -> None:
        """The sandbox is closed; every state says so from now on."""
        self._closed = closed
        self._publisher.sandbox = Sandbox(
            closed=not closed.failures,
            separation=closed.separation,
            missing=tuple([*closed.failures, *closed.missing][:MOST_TOLD]),
        )
        self._audit = SelfAudit(
            self.privileges, self.config, closed, self._publisher, self._subscriptions, parent=self.parent
        )

    @property
    def sandbox(self) -> Sandbox:
        """What our state says of our sandbox now."""
        return self._publisher.sandbox

    @property
    def cost(self) -> Cost:
        """What our state says of this process's cost now."""
        return self._publisher.cost

    async def start(self) -> None:
        await self._publisher.start()
        if self._audit is not None:
            self._audit.start(self.debug)
        self.debug.start()
        self._look_at_places()

    def _look_at_places(self) -> None:
        """What did not exist when the sandbox closed cannot be reached by this process, only by its successor.

        Nor can another file in the place of one that was left open: a host's resolv.conf is replaced with its network.
        Without it a standby that is connected looks well, and cannot reach the API server when it has to take over.
        """
        if self._closed is None or not (self._closed.absent or self._closed.names):
            return
        for path in self._closed.absent:
            if os.path.exists(path):  # noqa: PTH110
                log.warning("%s appeared after our start", path, extra={"event": "place_appeared", "path": path})
                _end("a declared folder appeared; starting anew to be able to use it", None)
        now = {path: file_identity(path) for path in self._closed.names}
        replaced = {path: new for path, new in now.items() if new is not None and new != self._closed.names[path]}
        if replaced and replaced == self._replaced:  # whoever writes them is done
            path = min(replaced)
            log.warning(
                "%s was replaced after our start; starting anew to be able to resolve names by it",
                path,
                extra={"event": "names_replaced", "path": path},
            )
            logging.shutdown()
            os._exit(1)
        self._replaced = replaced
        asyncio.get_running_loop().call_later(LOOK_AT_PLACES_EVERY_S, self._look_at_places)

    def measure(self) -> None:
        """Tell what this process costs with the states from now on, and again each half minute."""
        self._publisher.cost = Cost(boottime_ns(), cost.cpu_ns(), cost.memory_bytes(), cost.open_files())
        asyncio.get_running_loop().call_later(MEASURE_EVERY_S, self.measure)

    def publish(self, body: Body) -> None:
        """Make `body` the state that subscribers see."""
        self._publisher.publish(body)

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Subscription:
        """Follow another worker's state from now on; it must be a declared one."""
        assert worker in self.privileges.subscribes, f"the {self.worker} does not declare to follow the {worker}"
        uid = self.config.worker_uids.get(worker, os.getuid())
        subscription = Subscription(worker, self.config.state_socket(worker), on_change, allowed_uids=frozenset({uid}))
        subscription.start()
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        if self._audit is not None:
            self._audit.close()
        self._publisher.close()
        self.debug.close()


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
    privileges: Privileges,
    serve: Callable[[Context], Awaitable[None]],
    *,
    find_endpoint: Callable[[Config], Endpoint] | None = None,
    watchdog: int = timing.WATCHDOG,
) -> None:
    """Run a worker until SIGTERM; does not return.  Exit codes: 0 asked to stop, 1 fault, 2 configuration.

    find_endpoint: for workers that use the API (`kube.endpoint.find`); they must know it before the sandbox closes.
    """
    worker = privileges.worker
    if (parent := os.environ.get(SUPERVISOR_PID, "")).isdecimal():
        die_with_parent(signal.SIGKILL, int(parent))
        die_with_supervisor()
    try:
        config = load(os.environ)
    except ConfigError as error:
        print("\n".join(str(m) for m in error.mistakes), file=sys.stderr)  # noqa: T201  # no logging yet
        sys.exit(2)
    logs.set_up(worker, config.log_level, config.log_format)
    no_core_dumps()
    set_name(f"forge-{worker}")
    os.umask(0o077)
    context = _closed_context(privileges, config, find_endpoint)
    sys.exit(asyncio.run(_main(context, serve, watchdog)))


def _closed_context(
    privileges: Privileges, config: Config, find_endpoint: Callable[[Config], Endpoint] | None
) -> Context:
    """Sockets made, sandbox closed.  Ends the process, saying why, when that cannot be done."""
    uid = config.worker_uids.get(privileges.worker, os.getuid())
    if uid != os.getuid():
        log.critical("runs as uid %d, but WORKER_UIDS says %d", os.getuid(), uid, extra={"event": "wrong_uid"})
        sys.exit(2)
    try:
        hold(config.worker_dir(privileges.worker) / "lock")
        context = Context(privileges, config)
        endpoint = find_endpoint(config) if find_endpoint is not None else None
        context.seal(close(privileges, config, endpoint))
    except AlreadyHeld as error:
        log.critical("another %s runs: %s", privileges.worker, error, extra={"event": "already_runs"})
    except PortTaken as error:
        log.error(str(error), extra={"event": "port_taken"})
    except OSError as error:
        facts = {"path": error.filename, "why": error.strerror}
        what = "its sockets cannot be made: %s: %s"
        log.critical(what, error.filename, error.strerror, extra={"event": "no_socket", **facts})
    except CannotClose as error:
        why = "the sandbox cannot be closed: %s (SANDBOX=permissive starts all the same)"
        log.critical(why, error, extra={"event": "sandbox_open"})
    except Unreachable as error:
        log.critical(str(error), extra={"event": "api_settings"})
    else:
        return context
    logging.shutdown()
    sys.exit(1)


async def _main(context: Context, serve: Callable[[Context], Awaitable[None]], patience: int) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail_stop)
    loop.add_signal_handler(signal.SIGTERM, context.stopping.set)
    loop.add_signal_handler(signal.SIGINT, context.stopping.set)
    dog = Watchdog(patience)
    dog.start()
    try:
        await context.start()
        log.info("started", extra={"event": "worker_started", "pid": os.getpid()})
        loop.call_later(SETTLED_S, _settle, context)
        await serve(context)
        await context.close()
    except Unreachable as error:  # what a session found of its token or certificates: no fault of ours
        log.critical(str(error), extra={"event": "api_settings"})
        logging.shutdown()
        os._exit(1)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the process boundary: no going on
        _end(f"{type(error).__name__} in its own work", error)
    log.info("stopped", extra={"event": "worker_stopped"})
    dog.last()
    return 0


def _settle(context: Context) -> None:
    give_back_memory()
    context.measure()


def _fail_stop(loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
    """An exception nobody awaited or a callback that raised."""
    error = what.get("exception")
    _end(str(what.get("message", "")), error if isinstance(error, BaseException) else None)


def _end(what: str, error: BaseException | None) -> NoReturn:
    """Say why and end at once: whatever else would have to be tidied up, the kernel does, and nothing can hang."""
    log.critical("ended by a fault: %s", what, exc_info=error, extra={"event": "worker_fault"})
    logging.shutdown()
    os._exit(1)
