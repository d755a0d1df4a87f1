"""actuator: arms and fences the node.

It alone reads the source credentials, writes the target paths and signals the node; it has no network of any kind.

Decisions are `policy.fencing`'s; this file looks, carries out, and reports.  Anything it did not foresee ends the
process, and the process's end fences the node (docs/safety.md): the kernel sees to that.
"""

from __future__ import annotations

import workers.lean  # noqa: F401  # before asyncio: this worker must not speak TLS

# isort: split
import asyncio
import logging
import signal
from collections import Counter
from typing import Any, Final

from cardano.process import NodeGone
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    CertificateCounter,
    ElectorState,
    Fence,
    Grant,
    LockPhase,
    ProberState,
    Proof,
    Role,
    StartFlag,
    Startup,
    Worker,
)
from kernel.clock import boottime_ns
from kernel.deadline import DeathTimer
from kernel.deathpipe import DeathSignal
from kernel.wallclock import WallClockWatch
from policy import timing
from policy.election import may_hold
from policy.fencing import (
    Action,
    Aim,
    ClearDeath,
    Expose,
    FenceMachine,
    Hup,
    Kill,
    Replace,
    SetDeath,
    Unaim,
    View,
    Withdraw,
    mute,
)
from sandbox.privileges import Place, Privileges
from sandbox.syscalls import Calls
from workers.audit_trail import SENT, AuditTrail
from workers.credentials import CannotExpose, Credentials
from workers.node_watch import NodeWatch
from workers.notebook import Notebook
from workers.runtime import Context, run_worker
from workers.tasks import woken
from workers.transitions import Told

PRIVILEGES: Final = Privileges(
    worker=Worker.ACTUATOR,
    calls=frozenset({Calls.PYTHON, Calls.WRITE, Calls.FENCE}),
    reads=frozenset({Place.SOURCES}),
    writes=frozenset({Place.OWN, Place.TARGETS}),
    subscribes=frozenset({Worker.ELECTOR, Worker.ARBITER, Worker.PROBER}),
    node_socket=True,
    signals=True,
    dumpable=True,  # the node follows /proc/<our pid>/cwd
)

log = logging.getLogger("actuator")

GONE: Final = "not sent: the node has ended"
BUSY_S: Final = 0.02
STARTING_S: Final = 0.1
IDLE_S: Final = 1.0
STOP_PATIENCE: Final = 4 * timing.SECOND


class Actuator:
    """Looks at the world, asks the machine, obeys it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._config = context.config
        self._wake = asyncio.Event()
        self._death = DeathSignal()
        self._timer = DeathTimer()
        self._wall = WallClockWatch()
        self._jumps = Notebook(context.config.worker_dir("actuator"), log, "jump")
        self._void_before = self._jumped_before()
        self._machine = FenceMachine(
            boottime_ns(),
            managed=context.config.enable_cluster_management,
            handover_wait=context.config.handover_wait_ns,
        )
        self._trail = AuditTrail()
        self._credentials = Credentials(context.config, self._wake.set, self._trail)
        self._node = NodeWatch(context.config, self._wake.set, supervisor=context.parent)
        self._sighups: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()
        self._elector = context.subscribe(Worker.ELECTOR, self._wake.set)
        self._arbiter = context.subscribe(Worker.ARBITER, self._wake.set)
        self._prober = context.subscribe(Worker.PROBER, self._wake.set)
        self._granted: Grant | None = None
        """The elector's last word, kept over its restart."""
        self._heard_giving_up = ""
        self._heard_withdrawn = 0
        self._recorded: dict[Worker, CertificateCounter | None] = {}
        """The certificate counter that each of them told last."""
        now = self._machine.since
        self._fence_told = Told(log, "fence_changed", now, old=str(self._machine.fence), reason_event="fence_reason")
        self._startup_told = Told(log, "startup_changed", now, old=str(Startup.PREPARING))
        self._ready_told = Told(log, "readiness_changed", now, old="not ready")
        self._token_granted = 0
        """Of the grant that is exclusive over the whole scope, as heard last."""
        self._flag_said = 0

    # --- the loop ---

    async def run(self) -> None:
        """Arm and fence until asked to stop; then leave the node fenced, and say so if it could not be proven."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._wall.fileno(), self._wall_clock_jumped)
        stopping = asyncio.create_task(self._context.stopping.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        stop_by = 0
        try:
            while True:
                self._wake.clear()
                now = boottime_ns()
                self._step(now)
                if stopping.done():
                    stop_by = stop_by or now + STOP_PATIENCE
                    if now >= stop_by or (self._machine.fence is Fence.FENCED and not self._needed(now)):
                        return
                await self._pause(now)
        finally:
            stopping.cancel()
            self._close(loop)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave nothing behind.  If the node is not proven fenced, our end makes the kernel tell it once more."""
        loop.remove_reader(self._wall.fileno())
        self._credentials.withdraw("stopping")
        if self._machine.fence is Fence.FENCED:
            self._death.close()
        else:
            log.error("stopping with an unproven fence", extra={"event": "unfenced_at_exit"})
        self._trail.write()
        self._timer.close()
        self._wall.close()
        self._node.close()
        self._credentials.close()

    async def _pause(self, now: int) -> None:
        await asyncio.sleep(0)  # an event that is set already would not let anybody else have a turn
        if self._machine.busy():
            pause = BUSY_S
        elif self._node.starting():
            pause = STARTING_S
        else:
            pause = IDLE_S
        if self._machine.deadline:
            pause = min(pause, max(timing.soft_deadline(self._machine.deadline) - now, 0) / timing.SECOND)
        await woken(self._wake, pause)

    def _needed(self, now: int) -> bool:
        """Whether the Lease or the pool-wide lock may be held still: released only while we say that we are fenced."""
        elector = self._elector.current(now) if self._elector.connected else None
        arbiter = self._arbiter.current(now) if self._arbiter.connected else None
        if elector is not None and isinstance(elector.body, ElectorState) and may_hold(elector.body):
            return True
        body = arbiter.body if arbiter is not None and isinstance(arbiter.body, ArbiterState) else None
        return body is not None and body.pool is not None and body.pool.phase is not LockPhase.IDLE

    def _step(self, now: int) -> None:
        self._node.look(now)
        self._hear_counters()
        forging = self._machine.fence is Fence.ARMED and not self._machine.busy()
        prober = self._prober_says(now)
        self._credentials.hear_node(now, prober.sample if prober is not None else None, forging=forging)
        self._credentials.look(now)
        self._look_for_other_keys(now, prober)
        view = self._view(now)
        granted = view.arbiter if self._config.enable_cluster_management else view.elector
        self._token_granted = granted.fencing_token if granted is not None else self._token_granted
        try:
            for action in self._machine.step(now, view):
                if not self._carry_out(action):
                    break
        finally:  # nothing is written before all of it is done
            self._trail.write()
        self._report(boottime_ns(), view)

    # --- looking ---

    def _look_for_other_keys(self, now: int, prober: ProberState | None) -> None:
        """Paths that differ may lead to one file.  A node that started, or forges, and read none of ours has others."""
        if not self._node.warnings or (since := self._credentials.unread_since) == 0:
            return
        sample, began = prober.sample if prober is not None else None, self._node.young_since
        tells = sample is not None and sample.answered and not mute(sample) and sample.asked_at > began
        runs = self._node.up or (tells and sample is not None and sample.node_pid in (0, self._node.pid))
        began_without = self._machine.exposed == "bootstrap" and runs and since < began
        told = self._machine.fence is Fence.ARMED and not self._machine.busy()
        if began_without or (told and now - since >= timing.SETTLE):
            self._node.has_other_keys()

    def _view(self, now: int) -> View:
        elector, calm = self._elector_says(now)
        prober = self._prober_says(now)
        arbiter, self._heard_giving_up, self._heard_withdrawn = self._arbiter_says()
        return View(
            elector=elector,
            arbiter=arbiter,
            calm=calm,
            giving_up=bool(self._heard_giving_up or self._heard_withdrawn),
            node=self._node.view(),
            unseen=self._node.unseen,
            born_after_us=self._node.born_after_us,
            hup_pending=self._node.hup_pending() if self._machine.busy() else False,
            sample=prober.sample if prober is not None else None,
            quiet_at=prober.quiet_at if prober is not None else 0,
            sources=self._credentials.sources_problem,
            unfit=self._credentials.unfit,
            rotated=self._credentials.rotated,
            spent=self._credentials.spent,
            targets=self._credentials.targets_problem,
            read=self._credentials.read_by_node,
            void_before=self._void_before,
            stopping=self._context.stopping.is_set(),
        )

    def _elector_says(self, now: int) -> tuple[Grant | None, bool]:
        """Its last grant (which has a deadline of its own), and whether it will wait for our fence."""
        state = self._elector.last()
        if state is None or not isinstance(state.body, ElectorState):
            return None, False
        body = state.body
        if body.settled:  # otherwise it has just started; what its earlier life granted stands until its deadline
            self._granted = body.grant
        grant = self._granted
        alive = self._elector.current(now) is not None and state.sent_at > self._void_before
        granting = grant is not None and now < timing.soft_deadline(grant.deadline)
        return grant, alive and (body.role is Role.HANDOVER or granting)

    def _arbiter_says(self) -> tuple[Grant | None, str, int]:
        """Its grant; or the term in which it gives none any more, and which grant of the pool-wide lock it withdrew."""
        state = self._arbiter.last()
        if state is None or not isinstance(state.body, ArbiterState):
            return None, "", 0
        body = state.body
        return (body.grant, "", 0) if body.grant is not None else (None, body.giving_up, body.withdrawn)

    def _hear_counters(self) -> None:
        """As both keepers of a record said last; a restart of theirs takes nothing back."""
        for subscription in (self._elector, self._arbiter):
            state = subscription.last()
            if state is not None and isinstance(state.body, ElectorState | ArbiterState):
                known = state.body.counter_recorded
                read = isinstance(state.body, ElectorState) and state.body.settled
                if known is not None or read:
                    self._recorded[state.worker] = known
        self._credentials.hear_counters(self._recorded.get(Worker.ELECTOR), self._recorded.get(Worker.ARBITER))

    def _prober_says(self, now: int) -> ProberState | None:
        state = self._prober.current(now)
        return state.body if state is not None and isinstance(state.body, ProberState) else None

    def _wall_clock_jumped(self) -> None:
        """The machine may have slept, moved or been copied: what it was granted before counts for nothing."""
        if self._wall.jumped():
            self._void_before = boottime_ns()
            self._note_jump()
            log.warning("the wall clock jumped: earlier grants are void", extra={"event": "wall_clock_jumped"})
            self._wake.set()

    def _note_jump(self) -> None:
        """For our next life: who granted before the jump goes on saying so."""
        try:
            self._jumps.keep({"void_before": self._void_before})
        except OSError as error:
            log.error(
                "a jump of the wall clock cannot be written down: %s", error.strerror, extra={"event": "jump_not_kept"}
            )

    def _jumped_before(self) -> int:
        """Since when grants count, as an earlier life knew; from now on where its note cannot be read."""

        def parsed(raw: dict[str, Any], this_boot: bool) -> int:
            return min(int(raw["void_before"]), boottime_ns()) if this_boot else 0

        if not self._jumps.exists():
            return 0
        found = self._jumps.read(parsed)
        return boottime_ns() if found is None else found

    # --- carrying out ---

    def _carry_out(self, action: Action) -> bool:
        """Do one action; False when the rest must not be done (the keys could not be exposed, the node is gone)."""
        match action:
            case Aim(pid):
                return self._aim(pid)
            case Unaim():
                self._death.disarm()
            case SetDeath(deadline):
                self._timer.arm(deadline)
            case ClearDeath():
                self._timer.disarm()
            case Expose(why):
                return self._expose(why)
            case Replace(why):
                return self._replace(why)
            case Withdraw(why):
                self._credentials.withdraw(why)
            case Hup(reason):
                return self._hup(reason)
            case Kill(name, why):
                self._kill(name, why)
        return True

    def _aim(self, pid: int) -> bool:
        try:
            self._death.aim(pid)
        except ProcessLookupError:
            self._undo("the node ended")
            self._machine.not_armed(boottime_ns(), "the node ended")
            return False
        return True

    def _expose(self, why: str) -> bool:
        self._trail.token = self._token_granted if why == "armed" else 0
        try:
            self._credentials.expose(why)
        except CannotExpose as error:
            self._undo(str(error))
            self._machine.not_exposed(boottime_ns(), str(error))
            return False
        return True

    def _replace(self, why: str) -> bool:
        try:
            self._credentials.expose(why)
        except CannotExpose:
            self._machine.not_replaced()
            return False
        return True

    def _undo(self, why: str) -> None:
        """Nothing was exposed and nobody told: undo what was prepared."""
        self._credentials.withdraw(why)
        self._timer.disarm()
        self._death.disarm()

    def _hup(self, reason: str) -> bool:
        try:
            outcome = self._node.send(signal.SIGHUP)
        except NodeGone:
            self._note_signal(signal.SIGHUP, reason, GONE)
            self._wake.set()
            return False
        if outcome == SENT:
            self._sighups[reason] += 1
        else:
            self._machine.not_sent()
        self._note_signal(signal.SIGHUP, reason, outcome)
        return True

    def _kill(self, name: str, why: str) -> None:
        sig = signal.SIGTERM if name == "TERM" else signal.SIGKILL
        self._kills[sig.name] += 1
        try:
            outcome = self._node.send(sig)
        except NodeGone:
            outcome = GONE
        self._note_signal(sig, why, outcome)

    def _note_signal(self, sig: signal.Signals, why: str, outcome: str) -> None:
        self._trail.signal(sig.name, self._node.pid, self._node.start_ticks, why, outcome=outcome)

    # --- reporting ---

    def _report(self, now: int, view: View) -> None:
        machine = self._machine
        startup, startup_reason = machine.startup(view)
        refusals = machine.refusals(view)
        if view.node is None and self._node.hint:
            refusals = (*refusals, self._node.hint)
        self._context.publish(
            ActuatorState(
                fence=machine.fence,
                since=machine.since,
                proof=machine.proof,
                reason=machine.reason,
                ready=not refusals,
                refusals=refusals,
                warnings=self._warnings(now, view),
                node=view.node,
                node_gone_at=machine.node_gone_at,
                startup=startup,
                startup_reason=startup_reason,
                mode=self._config.credential_mode,
                deadline=machine.deadline,
                sighups_total=dict(self._sighups),
                operations_total=dict(self._credentials.operations),
                kills_total=dict(self._kills),
                void_before=self._void_before,
                heard_giving_up=self._heard_giving_up,
                heard_withdrawn=self._heard_withdrawn,
                findings=self._credentials.findings,
                certificate=self._credentials.certificate,
                counter_used=self._credentials.counter_used,
            )
        )
        self._log_transitions(now, startup, startup_reason, refusals)

    def _log_transitions(self, now: int, startup: Startup, startup_reason: str, refusals: tuple[str, ...]) -> None:
        machine, token = self._machine, self._trail.token
        proof = "" if machine.proof is Proof.NONE else str(machine.proof)
        left = round((machine.deadline - now) / timing.SECOND, 3) if machine.deadline else None
        self._fence_told.tell(
            machine.since,
            str(machine.fence),
            machine.reason,
            token,
            proof=proof,
            right_lasts=left,
            node_pid=self._node.pid,
        )
        if machine.fence is Fence.FENCED:
            self._trail.token = 0
        self._startup_told.tell(now, str(startup), startup_reason)
        why = "; ".join(refusals) or "the node could be armed at once"
        text = f"not ready: {why}" if refusals else "ready"
        self._ready_told.tell(now, "not ready" if refusals else "ready", why, token, message=text)

    def _warnings(self, now: int, view: View) -> tuple[str, ...]:
        found = [*self._credentials.warnings, *self._node.warnings]
        node = view.node
        if node is not None and node.flag in (StartFlag.PRODUCING, StartFlag.UNKNOWN):
            text = (
                "the node was started without --start-as-non-producing-node: it forges from bootstrap files as soon "
                "as it is up, until it is told to stop; add the flag (a key in its configuration is no proof: versions "
                "differ)"
                if node.flag is StartFlag.PRODUCING
                else "whether the node was started as a non-producing one is not known: its arguments cannot be seen"
            )
            found.append(text)
            if self._flag_said != node.pid:
                self._flag_said = node.pid
                log.error(text, extra={"event": "producing_flag", "node_pid": node.pid, "flag": str(node.flag)})
        if node is not None and node.up and view.sample is not None and mute(view.sample):
            found.append(
                "NODE_METRICS_URL answers with neither forging_enabled nor Forge_about_to_lead: nothing confirms that "
                "the node forges or has stopped, but five seconds (A3); leave TraceOptionMetricsPrefix at its default, "
                "and use a node that shows them"
            )
        if waited := self._node.starting_for(now):
            limit = self._config.socket_wait_timeout
            if waited > limit * timing.SECOND:
                found.append(f"the node has been starting for more than {limit:g} s (SOCKET_WAIT_TIMEOUT)")
        return tuple(found)


async def serve(context: Context) -> None:
    await Actuator(context).run()


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve, watchdog=timing.ACTUATOR_WATCHDOG)
