"""prober: is the node fit to forge, and what does it say of itself?

It looks every two and a half seconds, and twenty times a second while the actuator waits for a confirmation: the
length of a hand-over is the time until the node's own metrics say that it stopped.

Beside that it asks the cluster's health endpoint, where there is one, and tells NOTIFY_URL, where it is set, what
happens, in tasks of their own: no look waits for them.
"""

from __future__ import annotations

import os

from health.reach import by_environment, may_be_wanted
from outgoing.reach import may_be

if HEALTH := may_be_wanted(os.environ):
    import health.endpoint  # all of it, before the sandbox closes
if NOTICES := may_be(os.environ, lambda config: bool(config.notify_url)):
    import workers.notifier
if not HEALTH and not NOTICES:
    import workers.lean  # before asyncio: this worker must not speak TLS

# isort: split
import asyncio
import contextlib
import dataclasses
import logging
import stat
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from cardano.metrics import NodeMetrics, parse_metrics
from cardano.process import SocketCheck, SocketOutcome, check_socket
from cardano.scrape import ScrapeError, fetch
from cardano.slots import slot_at, slot_length_s
from ipc.complaints import Complaint
from ipc.messages import ActuatorState, ArbiterState, Fence, HealthCheck, HealthReport, NodeSample, ProberState, Worker
from kernel.clock import boottime_ns
from policy import timing
from policy.fitness import Began, Fitness, Look, Owner
from policy.health import Health, Outcome, bounded
from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Calls
from workers.leadership import LeadershipSchedule
from workers.runtime import Context, run_worker
from workers.tasks import woken
from workers.transitions import Told

if TYPE_CHECKING:
    from workers.notifier import Notifier

PRIVILEGES: Final = Privileges(
    worker=Worker.PROBER,
    calls=frozenset({Calls.PYTHON}),
    reads=frozenset({Place.NAMES, Place.TRUST, Place.SCHEDULE}),
    subscribes=frozenset({Worker.ACTUATOR, Worker.ARBITER}),
    node_socket=True,
    connects=(Port.NODE_METRICS, Port.HEALTH),
    names=True,
)

NOTIFYING: Final = dataclasses.replace(
    PRIVILEGES,
    reads=PRIVILEGES.reads | {Place.NOTIFY_KEY},
    keeps=True,
    subscribes=PRIVILEGES.subscribes | {Worker.ELECTOR},
    connects=(*PRIVILEGES.connects, Port.NOTIFY),
)
"""What it may do instead where NOTIFY_URL is set, for what it has to tell."""

log = logging.getLogger("prober")

CALM_S: Final = 2.5
BUSY_S: Final = 0.05
JUST_FENCED: Final = 2 * timing.SECOND
"""A reload that overtook ours would show in this time."""
SCRAPE_TIMEOUT_S: Final = 1.5
LINGER: Final = 2 * timing.SECOND
"""How long after a SIGTERM the actuator may need us; below supervisord's stopwaitsecs."""
SOCKET_EVERY: Final = 5 * timing.SECOND
"""A connection is an entry in the node's log: not more often than needed."""


Ask = Callable[[HealthCheck], Awaitable[Outcome]]


class Prober:
    """Looks at one node and publishes what it saw."""

    def __init__(self, context: Context, ask: Ask | None, notifier: Notifier | None = None) -> None:
        """ask: makes one health check; None: this process cannot.  notifier: tells; None: nothing is told."""
        self._context = context
        self._config = context.config
        self._fitness = Fitness(boottime_ns(), max_tip_lag_s=context.config.max_tip_lag)
        self._owner = Owner()
        self._wake = asyncio.Event()
        self._notifier = notifier
        self._actuator = context.subscribe(Worker.ACTUATOR, self._actuator_spoke)
        self._samples = 0
        config = context.config
        self._schedule = LeadershipSchedule(config.leadership_schedule, config.calendar, config.handover_gap)
        self._socket = SocketCheck(ok=False, why="not looked at yet", pid=0)
        self._socket_at = 0
        self._told = Told(
            log, "fitness_changed", self._fitness.since, reason_event="fitness_reason", warns=("fit", "not fit")
        )
        self._unscraped = Complaint(
            log,
            "scrape_failed",
            "the node's metrics do not answer",
            level=logging.INFO,
            end=("scrape_ok", "the node's metrics answer"),
        )
        self._seen: ProberState | None = None
        """What was last seen of the node."""
        self._ask = ask
        self._health = Health()
        self._health_news = asyncio.Event()
        self._arbiter = context.subscribe(Worker.ARBITER, self._arbiter_spoke)
        if notifier is not None:
            elector = context.subscribe(Worker.ELECTOR, notifier.note)
            notifier.follow((self._actuator, self._arbiter, elector), self._own, self._say)

    def _own(self) -> ProberState | None:
        """What there is to be told of ourselves."""
        return dataclasses.replace(self._seen, health=self._health.report) if self._seen is not None else None

    def _actuator_spoke(self) -> None:
        self._wake.set()
        if self._notifier is not None:
            self._notifier.note()

    def _arbiter_spoke(self) -> None:
        self._health_news.set()
        if self._notifier is not None:
            self._notifier.note()

    async def run(self) -> None:
        """Look, publish, wait; until asked to stop and no longer needed."""
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._keep_asking(), name="health")
            if self._notifier is not None:
                self._notifier.start()
            await self._keep_looking()
            asking.cancel()
        if self._notifier is not None:
            await self._notifier.finish()

    async def _keep_looking(self) -> None:
        stop = asyncio.create_task(self._context.stopping.wait())
        stop.add_done_callback(lambda _: self._wake.set())
        leave_by = 0
        while not stop.done() or (self._needed() and boottime_ns() < leave_by):
            began = boottime_ns()
            await self.look()
            pause = (BUSY_S if self._busy() else CALM_S) - (boottime_ns() - began) / timing.SECOND
            await self._pause(max(pause, 0.01), stop)
            if stop.done() and not leave_by:
                leave_by = boottime_ns() + LINGER

    async def _pause(self, seconds: float, stop: asyncio.Task[bool]) -> None:
        """Wait, unless the actuator begins to wait for us or its node changes."""
        loop = asyncio.get_running_loop()
        until, stopped, before = loop.time() + seconds, stop.done(), (self._busy(), self._node_pid())
        while loop.time() < until and stop.done() is stopped and (self._busy(), self._node_pid()) == before:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._wake.wait()

    async def look(self) -> None:
        """One look at socket and metrics."""
        now = boottime_ns()
        if now - self._socket_at >= SOCKET_EVERY or not self._socket.ok:
            self._socket, self._socket_at = self._check_socket(), now
        metrics, why, stranger = NodeMetrics(), "", ""
        asked, pid, began = boottime_ns(), self._node_pid(), self._node_began()
        try:
            metrics = parse_metrics(await fetch(self._config.node_metrics_url, SCRAPE_TIMEOUT_S))
        except ScrapeError as error:
            why = str(error)
            self._unscraped.again(why=why)
        else:
            self._unscraped.over()
            if stranger := self._owner.stranger(metrics.node_start_time, began):
                metrics, why = NodeMetrics(), stranger  # another's word is none of the node's: no proof, no tip
        answered = boottime_ns()
        self._samples += 1
        sample = NodeSample(
            node_pid=pid,
            asked_at=asked,
            answered_at=answered,
            answered=not why,
            forging_enabled=metrics.forging_enabled,
            about_to_lead=metrics.about_to_lead,
            slot=metrics.slot,
            epoch=metrics.epoch,
            remaining_kes_periods=metrics.kes_remaining,
            kes_start=metrics.kes_start,
            adopted=metrics.adopted,
        )
        calendar = self._config.calendar
        self._fitness.judge(
            Look(
                at=answered,
                socket_ok=self._socket.ok,
                socket_why=self._socket.why,
                metrics_ok=not why,
                metrics_why=why,
                slot=metrics.slot,
                wall_slot=slot_at(calendar, time.time()),
                slot_length_s=slot_length_s(calendar),
                stranger=stranger,
            )
        )
        self._publish(sample, metrics)

    def _publish(self, sample: NodeSample, metrics: NodeMetrics) -> None:
        fitness = self._fitness
        why = "; ".join(fitness.reasons)
        self._told.tell(
            fitness.since,
            "fit" if fitness.fit else "not fit",
            why or "socket, metrics and tip are as they should be",
            self._token(),
            message="the node is fit" if fitness.fit else f"the node is not fit: {why}",
        )
        outlook = self._schedule.outlook(boottime_ns(), time.time())
        self._seen = ProberState(
            fit=fitness.fit,
            since=fitness.since,
            reasons=fitness.reasons,
            sample=sample,
            sampled_total=self._samples,
            tip_lag_s=fitness.tip_lag_s,
            aliases=tuple(f"{meaning}={name}" for meaning, name in sorted(metrics.aliases.items())),
            quiet_at=outlook.quiet_at,
            leads_at=outlook.leads_at,
            schedule_problem=outlook.problem,
        )
        self._say()

    def _token(self) -> int:
        """Of the arbiter's grant; 0: it gives none."""
        state = self._arbiter.current(boottime_ns())
        grant = state.body.grant if state is not None and isinstance(state.body, ArbiterState) else None
        return grant.fencing_token if grant is not None else 0

    def _say(self) -> None:
        """What is known of node, health and notices; nothing before the first look."""
        if self._seen is not None:
            told = self._notifier.report if self._notifier is not None else None
            said = dataclasses.replace(self._seen, health=self._health.report, notifications=told)
            self._context.publish(said)

    def _check_socket(self) -> SocketCheck:
        if self._config.disable_socket_check:
            return SocketCheck(ok=True, why="", pid=0)
        found = check_socket(self._config.node_socket)
        state = self._state()
        if found.outcome is SocketOutcome.FORBIDDEN and state is not None and state.node is not None and state.node.up:
            # A node's socket is its own user's; where we have another one, the actuator has looked for us.
            return SocketCheck(ok=True, why="", pid=state.node.pid)
        return found

    def _state(self) -> ActuatorState | None:
        state = self._actuator.current(boottime_ns())
        return state.body if state is not None and isinstance(state.body, ActuatorState) else None

    def _busy(self) -> bool:
        state = self._state()
        if state is None or state.node is None:
            return False
        just_fenced = state.fence is Fence.FENCED and boottime_ns() - state.since < JUST_FENCED
        return state.fence in (Fence.ARMING, Fence.FENCING) or just_fenced

    def _needed(self) -> bool:
        """Whether the actuator still needs our eyes: where all are told to stop at once, it has to prove its fence."""
        state = self._state()
        return state is not None and state.fence is not Fence.FENCED

    def _node_pid(self) -> int:
        """The node's process as the actuator knows it; else whoever last answered behind the socket."""
        state = self._state()
        if state is not None:
            return state.node.pid if state.node is not None else -1
        return self._socket.pid

    def _node_began(self) -> Began | None:
        """When the actuator's node came into being, of which its metrics tell too; None: no node is known."""
        state = self._state()
        if state is None or (node := state.node) is None:
            return None
        now_s = time.time() - boottime_ns() / timing.SECOND
        process_s = now_s + node.start_ticks / os.sysconf("SC_CLK_TCK")
        return Began(node.pid, node.start_ticks, process_s, self._socket_made_s() if node.up else None)

    def _socket_made_s(self) -> float | None:
        if self._config.disable_socket_check:
            return None
        try:
            info = self._config.node_socket.stat()
        except OSError:  # gone, or in a folder that keeps us out
            return None
        return info.st_mtime if stat.S_ISSOCK(info.st_mode) else None

    # --- health ---

    async def _keep_asking(self) -> None:
        """For ever: a check when it is due, under the settings of that moment."""
        while self._ask is not None:
            self._health_news.clear()
            if self._health.want(self._wanted_check(), boottime_ns()):
                self._say()
            if self._health.due is None:
                await self._health_news.wait()
            elif (left := self._health.due - boottime_ns()) > 0:
                await woken(self._health_news, left / timing.SECOND)
            else:
                await self._check_health(self._ask)

    async def _check_health(self, ask: Ask) -> None:
        """One check; other settings end it early and without a result."""
        self._health.began(boottime_ns())
        check = self._health.check
        asking = asyncio.ensure_future(ask(check))
        try:
            while not asking.done():
                self._health_news.clear()
                if bounded(self._wanted_check()) != check:
                    return
                news = asyncio.create_task(self._health_news.wait())
                await asyncio.wait({asking, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            asking.cancel()
        before = self._health.report
        self._health.ended(asking.result(), boottime_ns())
        self._log_health(before)
        self._say()

    def _wanted_check(self) -> HealthCheck:
        """The CardanoForgeCluster's, as the arbiter read it; until it did, and without one, the environment's."""
        config = self._config
        state = self._arbiter.last()
        if config.enable_cluster_management and state is not None and isinstance(state.body, ArbiterState):
            return state.body.health_check
        return by_environment(config)

    def _log_health(self, before: HealthReport | None) -> None:
        """When the checks begin to fail, when that makes the cluster unhealthy, when they succeed again."""
        now = self._health.report
        if now is None or before is None:
            return
        first = before.checked_at == 0
        failing, failed = now.consecutive_failures > 0, before.consecutive_failures > 0
        if first or failing is not failed or now.healthy is not before.healthy:
            level = logging.INFO if not failing else logging.WARNING
            text = "health check: %s" if now.healthy else "the cluster is unhealthy: %s"
            fields = {"event": "health", "healthy": now.healthy, "failures": now.consecutive_failures}
            log.log(level, text, now.message, extra=fields)


async def serve(context: Context) -> None:
    ask: Ask | None = None
    notifier: Notifier | None = None
    if HEALTH:
        reach = health.reach.of(context.config, os.environ)
        ask = health.endpoint.Checker(reach.ports if reach is not None else ()).ask
    if NOTICES:
        notifier = workers.notifier.of(context, os.environ)
    await Prober(context, ask, notifier).run()


if __name__ == "__main__":
    run_worker(NOTIFYING if NOTICES else PRIVILEGES, serve)
