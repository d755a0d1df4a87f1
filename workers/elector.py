"""elector: does this pod hold its cluster's Lease?

A standby holds one watch; the leader sends one PUT per renewal and watches nothing.  Every request has a timeout.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from ipc.acceptor import Acceptor
from ipc.complaints import Complaint
from ipc.frames import FrameReader, frame
from ipc.messages import (
    MAX_FRAME,
    ActuatorState,
    ArbiterState,
    CertificateCounter,
    ElectorState,
    Fence,
    Grant,
    ProberState,
    Proof,
    ProtocolError,
    Role,
    StandDown,
    StandDownReply,
    Worker,
    decode,
    encode,
)
from ipc.peers import Peer, may_command, peer_of
from kernel.clock import boottime_ns
from kube import endpoint
from kube.errors import ANSWERS, ApiFailure
from kube.leader_status import LeaderStatusClient
from kube.leases import LeaseChange, LeaseClient, went_back
from kube.session import ApiSession
from policy import timing
from policy.certificate_counter import as_text, is_news, parsed
from policy.credential_summary import summary
from policy.election import COPIED, STANDING_DOWN, Circumstances, Do, Election, Held, Step
from policy.last_sign import LastSign
from policy.lease import LeaseRecord, Observed
from policy.pause import acting
from policy.seal import arbiters_half, half_of, joined
from sandbox.privileges import Place, Port, Privileges, Socket
from sandbox.syscalls import Calls
from workers.catch_up import caught_up
from workers.leader_report import LeaderReporter
from workers.notebook import Notebook, observation
from workers.reopening import Reopening
from workers.runtime import Context, run_worker
from workers.tasks import end, fail_stop, woken
from workers.transitions import Told

PRIVILEGES: Final = Privileges(
    worker=Worker.ELECTOR,
    calls=frozenset({Calls.PYTHON, Calls.WRITE, Calls.MEMORY_FILES}),
    reads=frozenset({Place.API_CREDENTIALS, Place.TRUST, Place.NAMES}),
    writes=frozenset({Place.OWN}),
    serves=(Socket.STATE, Socket.DEBUG, Socket.COMMAND),
    subscribes=frozenset({Worker.PROBER, Worker.ACTUATOR, Worker.ARBITER}),
    connects=(Port.API,),
    names=True,
)

log = logging.getLogger("elector")

RETRY_AFTER_MOST: Final = 2 * timing.SECOND
"""A server that asks for more patience than this is asked again all the same: the grant is running out."""
LOOK_FIRST: Final = 2 * timing.SECOND
"""With so much left of its right a leader lets its arbiter look at the Lease before it renews.

Less would not help: without its arbiter's eyes the right ends all the same, and once it has ended there is time.
"""
STOP_PATIENCE: Final = 9 * timing.SECOND
"""Below supervisord's stopwaitsecs.  Then the lease is left to run out."""
MOST_STAND_DOWN_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What an elector's next life goes on with."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    """Of the seal of the last term."""
    held: Held | None = None
    seen: Observed | None = None
    position: str = ""
    stand_down_until: int = 0
    drained: str = ""
    """Why, if until further notice: that holds over a restart of the machine, too."""
    key_told: bool = False


def _remembered(raw: dict[str, Any], this_boot: bool) -> _Remembered:
    """Instants of another boot are worth nothing; that we held a term then is."""
    held, seen, position = raw["held"], raw["seen"], str(raw["position"])
    return _Remembered(
        key=str(raw["key"]),
        held=None
        if held is None
        else Held(int(held["token"]), str(held["version"]), int(held["until"]) if this_boot else 0),
        seen=observation(seen) if seen is not None and this_boot and position else None,
        position=position,
        stand_down_until=int(raw.get("stand_down_until", 0)) if this_boot else 0,
        drained=str(raw.get("drained", "")),
        key_told=raw.get("key_told") is not False,
    )


class Elector:
    """One pod's elector: carries out what `policy.election` decides."""

    def __init__(self, context: Context, session: ApiSession) -> None:
        config = context.config
        self._context = context
        self._config = config
        self._session = session
        self._leases = LeaseClient(session, config.namespace, config.lease_name)
        instance = config.instance_file.read_text(encoding="ascii").strip()
        self._notebook = Notebook(config.worker_dir(Worker.ELECTOR), log)
        known = self._notebook.read(_remembered) or _Remembered()
        self._key = known.key
        self._key_told = known.key_told
        """It went out with a release, heard or not: the next term needs another one."""
        self._election = Election(
            f"{config.pod_name}_{instance}",
            lease_duration_s=config.lease_duration,
            sleep_interval=config.sleep_interval_ns,
            held=known.held,
            now=boottime_ns(),
            seen=known.seen,
            handover_wait=config.handover_wait_ns,
        )
        self._drained = known.drained
        if known.drained or known.stand_down_until:
            self._election.stand_down(timing.NEVER if known.drained else known.stand_down_until, boottime_ns())
        self._last_sign = LastSign(self._election.identity)
        self._position = known.position
        """The version that the next one is asked for after."""
        self._wake = asyncio.Event()
        self._prober = context.subscribe(Worker.PROBER, self._wake.set)
        self._actuator = context.subscribe(Worker.ACTUATOR, self._wake.set)
        self._arbiter = context.subscribe(Worker.ARBITER, self._wake.set)
        self._fit_at = boottime_ns()
        self._api_ok = self._ever_ok = False
        self._watching: asyncio.Task[None] | None = None
        self._reopening = Reopening()
        self._stop_by = 0
        self._reporter = LeaderReporter(
            LeaderStatusClient(
                session,
                config.namespace,
                config.crd_group,
                config.crd_version,
                config.crd_plural,
                config.crd_name,
            ),
            session,
            config.pod_name,
        )
        self._told = Told(
            log, "role_changed", self._election.since, old=str(self._election.role), reason_event="role_reason"
        )
        self._failing = Complaint(
            log, "api_failed", "the API server fails us", end=("api_ok", "the API server answers again")
        )
        self._refused = Complaint(log, "command_refused", "a command is refused", passes=True, facts={"audit": True})
        self._copied_told = False
        self._challenged_at = 0
        """Of the arbiter's challenge in our last write."""
        self._counter_recorded: CertificateCounter | None = None
        """Of our node's blocks, as it was found written down."""
        self._early_at = 0
        self._started = boottime_ns()
        self._half_let_go = ""
        """The arbiter's half of the last term that we said we would release."""

    # --- the loop ---

    async def run(self) -> None:
        """Take part in the election until asked to stop and, if we led, handed over."""
        stopping = asyncio.create_task(self._context.stopping.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                self._wake.clear()
                now = boottime_ns()
                world = self._circumstances(now)
                step = self._election.next(now, world)
                self._publish(now, world, step)
                if self._finished(now, step):
                    return
                if why := self._must_wait_for_arbiter(now, step.act):
                    step = Step(Do.WAIT, now + timing.SECOND, why)
                if step.act is Do.WAIT:
                    self._keep_watching()
                    await self._wait(step.until)
                else:
                    await self._carry_out(step)
        finally:
            stopping.cancel()
            await self._stop_watching()
            await self._reporter.close()

    async def _wait(self, until: int) -> None:
        pause = max(until - boottime_ns(), 0) / timing.SECOND
        await woken(self._wake, min(pause, 1.0))

    def _finished(self, now: int, step: Step) -> bool:
        """Whether a stopping elector has nothing left to do."""
        if not self._context.stopping.is_set():
            return False
        if self._stop_by == 0:
            self._stop_by = now + STOP_PATIENCE
        if now >= self._stop_by:
            log.error("stopping without a release; the lease runs out", extra={"event": "release_abandoned"})
            return True
        return self._election.settled and not self._election.leading and step.act is not Do.RELEASE

    # --- requests ---

    async def _carry_out(self, step: Step) -> None:
        """One request, and what its answer means."""
        sent = boottime_ns()
        try:
            await self._request(step.act, sent, self._election.request_timeout(sent) / timing.SECOND)
        except ApiFailure as failure:
            self._failed(step, failure)
        else:
            self._answered()
            if self._election.leading:
                await self._stop_watching()

    def _answered(self) -> None:
        if not self._failing.over() and not self._ever_ok:
            log.info("the API server answers", extra={"event": "api_ok"})
        self._api_ok = self._ever_ok = True

    async def _request(self, act: Do, sent: int, timeout_s: float) -> None:
        election, leases = self._election, self._leases
        if act is Do.READ:
            await self._look(timeout_s)
            return
        transitions = election.begin(act)
        if act in (Do.CREATE, Do.TAKE) and self._key_told:
            self._key, self._key_told = secrets.token_hex(16), False
        arbiter = self._arbiter_state()
        assert arbiter is not None  # `_must_wait_for_arbiter`
        seal = joined(half_of(self._key), arbiter.half)
        challenge, challenged_at = arbiter.challenge, arbiter.challenged_at
        if act is Do.CREATE:
            written = await leases.create(
                holder=election.identity,
                duration_s=self._config.lease_duration,
                transitions=transitions,
                timeout_s=timeout_s,
                seal=seal,
                challenge=challenge,
                counter=self._counter_to_record(None),
            )
            election.wrote(written, sent_at=sent, now=boottime_ns())
            self._challenged_at = challenged_at
        else:
            assert election.observed is not None
            known = election.observed.record
            assert known is not None
            if act is Do.RELEASE:
                self._key_told = True
                self._remember()  # before anybody can read it
                key = joined(self._key, arbiter.given_away)
                left_to = election.leaves_to or None
                written = await leases.release(
                    known, timeout_s=timeout_s, seal=known.seal, key=key, preferred_holder=left_to
                )
                election.released(written, boottime_ns())
            else:
                written = await leases.replace(
                    known,
                    holder=election.identity,
                    duration_s=self._config.lease_duration,
                    transitions=transitions,
                    acquired=act is Do.TAKE,
                    timeout_s=timeout_s,
                    preferred_holder="" if known.preferred_holder else None,
                    seal=seal,
                    challenge=challenge,
                    counter=self._counter_to_record(known),
                )
                election.wrote(written, sent_at=sent, now=boottime_ns())
                self._challenged_at = challenged_at
        self._note_counter(written)
        self._position = written.resource_version
        self._remember()

    def _counter_to_record(self, known: LeaseRecord | None) -> str:
        """What our node's blocks have proven of the certificate's counter; empty: nothing beyond what is written.

        What was written once is not written again over a lower number: that is an operator's, who corrects it.
        """
        used, there = self._counter_used(), parsed(known.counter) if known is not None else None
        if used is None or not is_news(used, there):
            return ""
        return as_text(used) if known is None or used != self._counter_recorded else ""

    def _counter_used(self) -> CertificateCounter | None:
        state = self._actuator.last()
        return state.body.counter_used if state is not None and isinstance(state.body, ActuatorState) else None

    def _note_counter(self, record: LeaseRecord) -> None:
        """Whether what our node's blocks have proven is written down by now."""
        used = self._counter_used()
        if used is None or not is_news(used, parsed(record.counter)):
            self._counter_recorded = used

    async def _look(self, timeout_s: float) -> None:
        """The Lease as it is, and what was written since we saw it last: somebody may hold a right unseen."""
        await self._stop_watching()  # or it would tell later of what was before
        by = asyncio.get_running_loop().time() + timeout_s
        record, version = await self._leases.look(timeout_s=timeout_s)
        known = self._election.observed
        missed = known is not None and (record is None or record != known.record)
        if went_back(version, self._position):
            missed = True  # what the server has forgotten, another may have seen
        elif missed and record is not None and not self._election.leading:  # a leader has to know at once
            missed = not await self._caught_up(record, by)
        self._saw(record, version, missed=missed, read=True)

    async def _caught_up(self, record: LeaseRecord, by: float) -> bool:
        leases = LeaseClient(self._session, self._config.namespace, self._config.lease_name)  # we write upon no past

        def tell(change: LeaseChange) -> None:
            self._saw(change.record, change.version)

        return await caught_up(leases, self._position, record, tell, by=by)

    def _failed(self, step: Step, failure: ApiFailure) -> None:
        pause = timing.RETRY_PAUSE + random.randrange(timing.RETRY_PAUSE // 2)  # noqa: S311  # spreads contenders
        if failure.retry_after_s is not None:
            pause = max(pause, min(int(failure.retry_after_s * timing.SECOND), RETRY_AFTER_MOST))
        if self._election.degraded(boottime_ns()):
            pause = max(pause, RETRY_AFTER_MOST)  # nothing depends on it
        conflict = step.act is not Do.READ and failure.kind in ANSWERS
        self._election.failed(boottime_ns(), conflict=conflict, pause=pause)
        if conflict and self._watching is not None and not self._election.leading:
            self._watching.cancel()  # it did not tell us what we had to learn from a refusal
        if not conflict:
            kind = str(failure.kind)
            self._failing.again(kind, act=step.act.value, kind=kind, why=str(failure))
            self._api_ok = False

    def _saw(self, record: LeaseRecord | None, version: str, *, missed: bool = False, read: bool = False) -> None:
        foreign = self._leases.is_foreign(record)
        self._election.saw(record, boottime_ns(), missed=missed, read=read, foreign=foreign)
        if self._election.copied and not self._copied_told:
            self._copied_told = True
            log.error(
                "%s: end one of the two, empty its RUN_DIR, and give it a POD_NAME of its own (nothing to do if "
                "this worker was killed a moment ago: its last request arrived late)",
                COPIED,
                extra={"event": "copied"},
            )
        self._position = version or self._position
        self._remember()

    # --- the watch ---

    def _keep_watching(self) -> None:
        """A contender learns of changes by one watch; a leader needs none."""
        if self._watching is None and self._election.may_watch(boottime_ns()) and not self._context.stopping.is_set():
            self._watching = asyncio.create_task(self._watch(), name="watch")
            self._watching.add_done_callback(self._watch_ended)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._reopening.opened(loop.time())
        try:
            async for change in self._leases.watch(self._position, timeout_s=timing.WATCH_TIMEOUT_S):
                self._reopening.told()
                self._answered()
                self._saw(change.record, change.version)
                self._wake.set()
        except ApiFailure as failure:
            self._failed(Step(Do.READ, 0, "watch"), failure)
        else:
            await asyncio.sleep(self._reopening.ended(loop.time()))

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if self._watching is task:
            self._watching = None
        fail_stop(task)
        self._wake.set()

    async def _stop_watching(self) -> None:
        task, self._watching = self._watching, None
        await end(task)

    # --- what we know ---

    def _circumstances(self, now: int) -> Circumstances:
        prober = self._prober.current(now)
        actuator = self._actuator.current(now)
        fit, unfit_why, quiet_at = False, "the prober is silent", 0
        if prober is not None and isinstance(prober.body, ProberState):
            fit, unfit_why = prober.body.fit, "; ".join(prober.body.reasons)
            quiet_at = prober.body.quiet_at
        if fit:
            self._fit_at = now
        ready, not_ready_why, fence, gone, void_before = False, "the actuator is silent", None, False, 0
        if actuator is not None and isinstance(actuator.body, ActuatorState):
            body = actuator.body
            ready, fence, void_before = body.ready, body.fence, body.void_before
            not_ready_why = "; ".join(body.refusals) or body.reason
            gone = fence is Fence.FENCED and body.proof is Proof.NODE_GONE and body.node is None
        if not self._arbiter_is_able(now):
            ready, not_ready_why = False, "the arbiter cannot see the lease"
        elif self._election.continuing and (self._given_up_by_arbiter() or self._may_be_given_up()):
            ready, not_ready_why = False, "the term in the lease has been given up"
        return Circumstances(
            fit=fit,
            unfit_for=0 if fit else now - self._fit_at,
            unfit_why=unfit_why,
            ready=ready,
            not_ready_why=not_ready_why,
            fence=fence,
            void_before=max(void_before, self._asked_to_renew(now)),
            node_gone=gone,
            stopping=self._context.stopping.is_set(),
            heard_all=self._heard_all(now),
            managed=self._config.enable_cluster_management,
            pool_grant=self._pool_grant(now),
            quiet_at=quiet_at,
            paused=self._paused(),
        )

    def _paused(self) -> str:
        """The pause that is in force, in words; empty: there is none."""
        seen = self._election.observed
        pause = acting(seen.record.paused, time.time()) if seen is not None and seen.record is not None else None
        return str(pause) if pause is not None else ""

    def _pool_grant(self, now: int) -> Grant | None:
        """The arbiter's right to the whole pool, which has a deadline of its own."""
        body = self._arbiter_state()
        grant = body.grant if body is not None and body.cluster_management else None
        return grant if grant is not None and grant.exclusive and now < grant.deadline else None

    def _heard_all(self, now: int) -> bool:
        """Whether a worker that has not spoken yet is silent, and not just slower to start than we are."""
        others = (self._prober, self._actuator, self._arbiter)
        return all(each.last() is not None for each in others) or now >= self._started + timing.STATE_VALIDITY

    def _arbiter_state(self) -> ArbiterState | None:
        state = self._arbiter.last()
        return state.body if state is not None and isinstance(state.body, ArbiterState) else None

    def _arbiter_is_able(self, now: int) -> bool:
        """Whether the second key could come: without it, holding the Lease would keep others from forging.

        A leader is patient: its arbiter's restart is no reason to hand over, and a right that ends without the
        arbiter's renewal is (`timing.ARM_GRACE`).
        """
        state, body = self._arbiter.last(), self._arbiter_state()
        if state is None or body is None:
            return False
        if self._election.leading:
            return now < state.sent_at + timing.ARBITER_SILENCE
        return now < state.valid_until and (body.api_ok or self._pool_grant(now) is not None)

    def _must_wait_for_arbiter(self, now: int, act: Do) -> str:
        """Why this step would cost us the second key if it were done now; empty: it would not."""
        if act in (Do.CREATE, Do.TAKE) and not self._arbiter_is_willing(now):
            return "the arbiter would not countersign"
        arbiter = self._arbiter_state()
        if act in (Do.CREATE, Do.TAKE) and arbiter is not None and arbiter.pool is not None and arbiter.pool.sibling:
            # Its path to our API server may be broken: by the pool-wide lock it forges on, and ours would make it stop.
            return "another pod of this cluster holds the pool-wide lock"
        if act in (Do.RENEW, Do.RELEASE) and arbiter is None:  # after our restart
            return "without its challenge the arbiter would take our own renewal for a stranger's"
        if act is Do.RENEW and arbiter is not None and arbiter.giving_up and not self._election.leading:
            return "the arbiter must hear that the term goes on, and make another half of the seal"
        if act is Do.RENEW and self._election.role is Role.HANDOVER and self._given_up_by_arbiter():
            return "the arbiter has given its half of the release's key away: under another, the release frees nothing"
        if act is Do.RELEASE and not self._given_up_by_arbiter():
            return "the arbiter must give its half of the release's key away"
        if act in (Do.RENEW, Do.RELEASE) and self._arbiter_lost_sight(now):
            return "the arbiter must see the lease before it changes"
        return ""

    def _lets_go(self, now: int, world: Circumstances, step: Step) -> bool:
        """Whether the arbiter shall hear that we want to release.

        Who stops, or stands down, in a term that it has not gone on with yet says so before the node is fenced: those
        who stop with us stay as long as they are needed for it, and what an earlier life granted is not waited for.
        """
        election = self._election
        if election.role is Role.HANDOVER:
            return True
        goes = world.stopping or election.reason == STANDING_DOWN
        wants = step.act is Do.RELEASE or (goes and election.continuing)
        return wants and not self._arbiter_lost_sight(now)

    def _half_in_lease(self) -> str:
        """The arbiter's half of the seal in the Lease; empty: there is none."""
        record = self._election.observed.record if self._election.observed is not None else None
        return arbiters_half(record.seal) if record is not None else ""

    def _given_up_by_arbiter(self) -> bool:
        """Whether its half of the key of the term in the Lease is known: it grants nothing there any more."""
        body = self._arbiter_state()
        return body is not None and bool(body.given_away) and half_of(body.given_away) == self._half_in_lease()

    def _may_be_given_up(self) -> bool:
        """Whether we asked for that, and the arbiter's next word may be the key: too late to change our mind.

        A version that we write now with this half would be a stranger's to it.  Once it has moved on to another
        half, it has heard us.
        """
        body = self._arbiter_state()
        asked = self._half_let_go
        return body is not None and bool(asked) and self._half_in_lease() == asked == body.half

    def _arbiter_is_willing(self, now: int) -> bool:
        """Whether it would countersign a term that begins now, with the challenge that it gave."""
        body = self._arbiter_state()
        return self._arbiter.current(now) is not None and body is not None and body.willing

    def _arbiter_lost_sight(self, now: int) -> bool:
        """Whether the API failed the arbiter too, and there is time to let it look first.

        After a restart of the API server it cannot ask what was written meanwhile; it must not find anything new.
        Who does not lead any more, and finds the Lease his own still, has all the time that others leave him.
        """
        body = self._arbiter_state()
        if self._arbiter.current(now) is None or body is None or body.api_ok:
            return False
        return not self._election.leading or now < self._election.right_ends - LOOK_FIRST

    def _asked_to_renew(self, now: int) -> int:
        """Our last renewal's instant if the arbiter needs another one now; else 0.  Once a second at most."""
        body, grant = self._arbiter_state(), self._election.grant
        if body is None or grant is None or body.renew_after <= 0 or now - self._early_at < timing.SECOND:
            return 0
        if self._challenged_at > body.renew_after or body.challenged_at <= self._challenged_at:
            return 0
        self._early_at = now
        return grant.renewed_at

    def _publish(self, now: int, world: Circumstances, step: Step) -> None:
        election = self._election
        record = election.observed.record if election.observed is not None else None
        if election.observed is not None:
            self._last_sign.note(record.holder if record is not None else "", election.observed.at)
        letting_go = self._half_in_lease() if self._lets_go(now, world, step) else ""
        self._half_let_go = letting_go or self._half_let_go
        state = ElectorState(
            role=election.role,
            since=election.since,
            reason=election.reason,
            identity=election.identity,
            lease=f"{self._config.namespace}/{self._config.lease_name}",
            holder=record.holder if record is not None else "",
            fencing_token=election.token if election.leading else (record.transitions if record is not None else 0),
            grant=election.published_grant(now),
            settled=election.settled,
            changes_total=election.changes_total,
            requests_total=dict(self._session.requests_total),
            failures_total=self._session.failures_total,
            api_ok=self._api_ok,
            standing_down_until=election.standing_down_until,
            letting_go=letting_go,
            unsure_until=election.unsure_until,
            degraded=election.degraded(now),
            counter_recorded=parsed(record.counter) if record is not None else None,
            holder_until=election.holder_until,
            other_seen_at=self._last_sign.at,
            renewal_margin=election.renewal_margin,
            drained=self._drained if election.drained else "",
            paused=world.paused,
        )
        self._context.publish(state)
        self._told.tell(election.since, str(election.role), election.reason, state.fencing_token, holder=state.holder)
        forging = world.fence is Fence.ARMED and election.role is Role.LEADER
        actuator = self._actuator.current(now)
        findings = actuator.body.findings if actuator and isinstance(actuator.body, ActuatorState) else None
        self._reporter.report(
            now,
            leading=election.leading,
            forging=forging,
            reason=election.reason,
            credentials=summary(findings) if findings is not None else None,
            counter=state.counter_recorded.counter if state.counter_recorded is not None else None,
        )

    def _remember(self) -> None:
        election = self._election
        known = _Remembered(
            self._key,
            election.held,
            election.observed,
            self._position,
            election.standing_down_until,
            self._drained if election.drained else "",
            self._key_told,
        )
        self._notebook.keep(dataclasses.asdict(known))

    # --- stand-down ---

    async def command(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the command socket: one frame in, one frame out."""
        try:
            peer = peer_of(writer.get_extra_info("socket"))
            who: dict[str, Any] = {"uid": peer.uid, "pid": peer.pid}
            if not may_command(peer, os.getuid(), self._context.parent):
                self._refused.again("forbidden", why="neither root nor our user, or a sibling worker", **who)
                return
            async with asyncio.timeout(5):
                reply = self._stand_down(decode(await _one_frame(reader), StandDown), peer)
                writer.write(frame(encode(reply)))
                await writer.drain()
        except ProtocolError as error:
            self._refused.again("bad", why=str(error), **who)
        except (TimeoutError, ConnectionError) as error:
            log.debug("command aborted", extra={"event": "command_aborted", "why": type(error).__name__})
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _stand_down(self, command: StandDown, peer: Peer) -> StandDownReply:
        seconds, now = command.seconds, boottime_ns()
        if seconds is not None and not 0 <= seconds <= MOST_STAND_DOWN_S:
            why = f"seconds must be from 0 to {MOST_STAND_DOWN_S:.0f}"
            self._refused.again("out of range", why=why, uid=peer.uid, pid=peer.pid)
            return StandDownReply(False, why)
        out = seconds != 0
        before = self._stays_out(now)
        until = timing.NEVER if seconds is None else now + int(seconds * timing.SECOND)
        self._election.stand_down(until, now, at_once=command.at_once)
        self._drained = (command.reason or "no reason given") if seconds is None else ""
        forgotten = self._problem_of_remembering()
        log.info(
            "asked to stand down" if out else "asked to come back",
            extra={
                "event": "stand_down",
                "audit": True,
                "uid": peer.uid,
                "pid": peer.pid,
                "for_seconds": seconds,
                "at_once": command.at_once,
                "why": command.reason,
                "token": self._election.token,
            },
        )
        self._wake.set()
        what = f"back in the election; {before} is ended" if before else "in the election, as before"
        if out:
            what = "standing down until `forgectl come-back`" if seconds is None else f"standing down for {seconds:g} s"
            what += f", instead of {before}" if before else ""
        prober = self._prober.current(now)
        quiet_at = prober.body.quiet_at if prober is not None and isinstance(prober.body, ProberState) else 0
        if out and not command.at_once and quiet_at > now and self._election.leading:
            wait_s = min((quiet_at - now) / timing.SECOND, self._config.handover_wait)
            what += f", in {wait_s:.0f} s: until then the pool has slots (with --now it does not wait)"
        return StandDownReply(True, what + forgotten)

    def _stays_out(self, now: int) -> str:
        """What keeps it out of the election by an earlier command, which a new one replaces; empty: nothing."""
        if self._election.drained:
            return f"the drain ({self._drained})"
        left_s = (self._election.standing_down_until - now) / timing.SECOND
        return f"the stand-down ({left_s:.0f} s more)" if left_s > 0 else ""

    def _problem_of_remembering(self) -> str:
        """Why a restart would undo what was just asked, as the end of a sentence; empty: it would not."""
        try:
            self._remember()
        except OSError as error:
            return f"; but only until its elector restarts: its folder cannot be written ({error.strerror or error})"
        return ""


async def _one_frame(reader: asyncio.StreamReader) -> bytes:
    """The first whole frame.  Raises ProtocolError when the peer ends before it."""
    frames = FrameReader()
    while data := await reader.read(4096):
        if payloads := frames.feed(data):
            return payloads[0]
    raise ProtocolError("the connection ended before a whole frame")


async def serve(context: Context) -> None:
    config = context.config
    async with ApiSession(config.kubeconfig, user_agent="cardano-forge-manager/elector") as session:
        elector = Elector(context, session)
        assert context.command is not None  # declared
        commands = Acceptor(context.command, lambda: _command_protocol(elector))
        commands.start()
        try:
            await elector.run()
        finally:
            commands.close()


def _command_protocol(elector: Elector) -> asyncio.StreamReaderProtocol:
    """One connection to the command socket."""
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=MAX_FRAME), elector.command)


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve, find_endpoint=endpoint.find)
