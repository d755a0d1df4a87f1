"""arbiter: may this cluster forge for the pool?

With cluster management off every cluster is a pool of its own, and the arbiter is the witness: it follows the
cluster's Lease through a session of its own and countersigns what `policy.witness` allows.  One watch, one look at
the start and after a failure; it writes nothing there.  What it knows outlives it in RUN_DIR/arbiter/term, so that its
restart neither costs forging nor makes it forget whom it saw.

With cluster management on it is the witness all the same, whom the release of the cluster's Lease needs; but what it
grants is the pool-wide lock (`workers.coordination`), exclusive over all clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import secrets
from collections import Counter
from pathlib import Path
from typing import Any, Final

from health import reach
from ipc.complaints import Complaint
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    CertificateCounter,
    ElectorState,
    Fence,
    Grant,
    PoolState,
    ProberState,
    Worker,
)
from kernel.clock import boottime_ns
from kube import endpoint
from kube.errors import ApiFailure, Failure
from kube.leases import LeaseClient, went_back
from kube.session import ApiSession
from policy import timing
from policy.election import may_hold
from policy.witness import Ledger, Witness
from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Calls
from workers.coordination import Around, Coordination, sessions
from workers.notebook import Notebook, lease_record
from workers.reopening import Reopening
from workers.runtime import Context, run_worker
from workers.tasks import end, fail_stop, woken
from workers.transitions import Told

PRIVILEGES: Final = Privileges(
    worker=Worker.ARBITER,
    calls=frozenset({Calls.PYTHON, Calls.WRITE, Calls.MEMORY_FILES}),
    reads=frozenset({Place.API_CREDENTIALS, Place.COORDINATION, Place.TRUST, Place.NAMES}),
    writes=frozenset({Place.OWN}),
    subscribes=frozenset({Worker.ELECTOR, Worker.ACTUATOR, Worker.PROBER}),
    connects=(Port.API,),
    names=True,
)

log = logging.getLogger("arbiter")

GRANTED: Final = "granted"
NOTHING: Final = "nothing"
LOOK_S: Final = 2.5
DISBELIEF: Final = timing.SECOND
"""The elector tells of something that the watch has not told for so long: the watch may be dead."""
REOPEN: Final = 3 * timing.SECOND
"""At the least between two watches that are given up for that reason."""
LETTING_GO: Final = 9 * timing.SECOND
"""An elector that was asked to stop gives up after this time."""
STOPPING_TOO: Final = 2 * timing.SECOND
"""So much later may our elector be asked to stop, each worker being a container of its own."""


class Memory:
    """The ledger and the challenges' key, for the next life."""

    def __init__(self, folder: Path) -> None:
        self._notebook = Notebook(folder, log)
        self.key, self.ledger = self._notebook.read(_remembered) or (secrets.token_bytes(32), Ledger())
        self._kept: Ledger | None = None
        """As it was written down; that takes longer than to see that nothing is new, which is usual."""

    def keep(self) -> None:
        if self.ledger == self._kept:
            return
        self._notebook.keep({"key": self.key.hex(), "ledger": dataclasses.asdict(self.ledger)})
        self._kept = dataclasses.replace(self.ledger, rights=dict(self.ledger.rights))


def _remembered(raw: dict[str, Any], this_boot: bool) -> tuple[bytes, Ledger] | None:
    if not this_boot:
        return None
    said = raw["ledger"]
    record, granted = said["record"], said["granted"]
    ledger = Ledger(
        position=str(said["position"]),
        record=None if record is None else lease_record(record),
        rights={str(seal): int(until) for seal, until in said["rights"].items()},
        unknown_until=int(said["unknown_until"]),
        stolen=bool(said["stolen"]),
        anchor=int(said["anchor"]),
        seal=str(said["seal"]),
        granted=None if granted is None else Grant(**granted),
        half=int(said["half"]),
        giving_up=bool(said["giving_up"]),
        given_away=str(said["given_away"]),
    )
    return bytes.fromhex(raw["key"]), ledger


class Arbiter:
    """Watches, judges, publishes."""

    def __init__(self, context: Context, session: ApiSession, coordinators: list[ApiSession] | None = None) -> None:
        """`session`: with the pod's own API server; `coordinators`: with those that hold the pool-wide lock."""
        config = context.config
        self._context = context
        self._session = session
        self._coordinators = coordinators or []
        self._api_ok = self._ever_ok = False
        self._memory = Memory(config.worker_dir(Worker.ARBITER))
        self._witness = Witness(
            config.pod_name,
            self._memory.key,
            lease_duration_s=config.lease_duration,
            sleep_interval=config.sleep_interval_ns,
            now=boottime_ns(),
            ledger=self._memory.ledger,
        )
        self._started = boottime_ns()
        self._heard_at = self._started
        """When the API last told us something."""
        self._reopened_at = self._disbelieved_since = 0
        self._must_look = True
        self._wake = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._between_watches = Reopening()
        self._told = Told(log, "grant_changed", self._started, old=NOTHING, reason_event="grant_reason")
        self._failing = Complaint(
            log, "api_failed", "the API server fails us", end=("api_ok", "the API server answers again")
        )
        self._reopening = Complaint(
            log, "watch_reopened", "the watch may be dead: opening another", level=logging.INFO, passes=True
        )
        self._elector = context.subscribe(Worker.ELECTOR, self._wake.set)
        self._actuator = context.subscribe(Worker.ACTUATOR, self._wake.set)
        self._prober = context.subscribe(Worker.PROBER, self._prober_spoke)
        self._coordination: Coordination | None = None
        if config.enable_cluster_management:
            self._coordination = Coordination(config, self._coordinators, self._wake.set)

    async def run(self) -> None:
        """Witness until asked to stop and, if our elector holds the Lease, until it has let go."""
        stopping = asyncio.create_task(self._context.stopping.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        stop_asked = 0
        if self._coordination is not None:
            self._coordination.start()
        try:
            while True:
                self._wake.clear()
                now = boottime_ns()
                self._keep_following(now)
                until = self._publish(now)
                if stopping.done():
                    stop_asked = stop_asked or now
                    if not self._needed(now, stop_asked):
                        return
                await woken(self._wake, max(until - boottime_ns(), 0) / timing.SECOND)
        finally:
            stopping.cancel()
            await self._stop_following()
            if self._coordination is not None:
                await self._coordination.close()

    def _prober_spoke(self) -> None:
        """Every second; but health and the gaps in the schedule only count for who leads a cluster among others."""
        if self._coordination is not None and self._coordination.leads:
            self._wake.set()

    def _needed(self, now: int, stop_asked: int) -> bool:
        """Whether the elector cannot release without us: asked to stop too, it is about to, or soon will be.

        Or the pool-wide lock is not released yet.
        """
        if self._coordination is not None and not self._coordination.released and now < stop_asked + LETTING_GO:
            return True
        if self._elector.last() is None:  # just started: we have not been told yet
            return now < self._started + STOPPING_TOO
        claim = self._claim()
        if claim is None or not self._elector.connected:
            return False
        if claim.letting_go:
            return now < stop_asked + LETTING_GO
        return (may_hold(claim) or self._witness.ours) and now < stop_asked + STOPPING_TOO

    def _publish(self, now: int) -> int:
        """Judge and say so; when to judge again."""
        witness, claim, void = self._witness, self._claim(), self._void_before()
        if claim is not None:
            witness.let_go(claim.letting_go, fenced_and_heard=self._fenced_and_heard(now))
        renewed_at = claim.grant.renewed_at if claim is not None and claim.grant is not None else 0
        challenge, made = witness.challenge(now, void_before=void, renewed_at=renewed_at)
        grant = witness.grant(now, claimed=claim.identity if claim is not None else "", void_before=void)
        self._memory.keep()
        pool: PoolState | None = None
        reason, withdrawn, health_check = witness.reason, 0, reach.by_environment(self._context.config)
        counter: CertificateCounter | None = None
        other_seen_at = 0
        until = min(witness.next_challenge(void, renewed_at), now + timing.SECOND)
        until = min(until, witness.clear_at) if witness.clear_at > now else until
        renew_after, unsure_until = witness.renew_after(now, void), witness.unsure_until
        if self._coordination is not None:
            judged = self._coordination.judge(now, self._around(now))
            grant, reason, pool = judged.grant, judged.reason, judged.pool
            withdrawn, health_check = judged.withdrawn, judged.health_check
            counter, other_seen_at = judged.counter_recorded, judged.other_seen_at
            unsure_until = max(unsure_until, judged.unsure_until)
            until, renew_after = min(until, judged.until), 0
        self._context.publish(
            ArbiterState(
                grant=grant,
                reason=reason,
                cluster_management=self._coordination is not None,
                willing=self._api_ok and witness.willing(now),
                challenge=challenge,
                challenged_at=made,
                renew_after=renew_after,
                half=witness.half,
                giving_up=witness.giving_up,
                given_away=self._memory.ledger.given_away,
                unsure_until=unsure_until,
                withdrawn=withdrawn,
                health_check=health_check,
                pool=pool,
                requests_total=self._requests(),
                failures_total=sum(each.failures_total for each in (self._session, *self._coordinators)),
                api_ok=self._api_ok,
                counter_recorded=counter,
                other_seen_at=other_seen_at,
            )
        )
        token = grant.fencing_token if grant is not None else 0
        self._told.tell(now, GRANTED if grant is not None else NOTHING, reason, token)
        return until

    def _around(self, now: int) -> Around:
        actuator, prober = self._actuator.current(now), self._prober.current(now)
        return Around(
            elector=self._claim(),
            actuator=actuator.body if actuator is not None and isinstance(actuator.body, ActuatorState) else None,
            prober=prober.body if prober is not None and isinstance(prober.body, ProberState) else None,
            stopping=self._context.stopping.is_set(),
        )

    def _requests(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for each in (self._session, *self._coordinators):
            total.update(each.requests_total)
        return dict(total)

    def _claim(self) -> ElectorState | None:
        state = self._elector.current(boottime_ns())
        return state.body if state is not None and isinstance(state.body, ElectorState) else None

    def _void_before(self) -> int:
        state = self._actuator.last()
        return state.body.void_before if state is not None and isinstance(state.body, ActuatorState) else 0

    def _fenced_and_heard(self, now: int) -> str:
        state = self._actuator.current(now)
        body = state.body if state is not None else None
        return body.heard_giving_up if isinstance(body, ActuatorState) and body.fence is Fence.FENCED else ""

    # --- the Lease ---

    def _keep_following(self, now: int) -> None:
        if self._following is not None and self._disbelieves(now) and now - self._reopened_at >= REOPEN:
            self._reopening.again()
            self._reopened_at, self._must_look = now, True
            self._following.cancel()
            self._following = None
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="follow")
            self._following.add_done_callback(fail_stop)

    def _disbelieves(self, now: int) -> bool:
        """Whether the elector has told of a change for a while that our watch should have told too."""
        claim, record = self._claim(), self._memory.ledger.record
        news = claim is not None and claim.api_ok and claim.holder != (record.holder if record is not None else "")
        if claim is not None and claim.grant is not None:
            news = news or claim.grant.renewed_at > self._heard_at
        if not news:
            self._disbelieved_since = 0
            return False
        self._disbelieved_since = self._disbelieved_since or now
        return now - self._disbelieved_since >= DISBELIEF

    async def _follow(self) -> None:
        """Look where needed, watch, again and again."""
        config = self._context.config
        leases = LeaseClient(self._session, config.namespace, config.lease_name)
        loop, reopening = asyncio.get_running_loop(), self._between_watches
        while True:
            try:
                await self._look(leases)
                reopening.opened(loop.time())
                async for change in leases.watch(self._memory.ledger.position, timeout_s=timing.WATCH_TIMEOUT_S):
                    reopening.told()
                    self._heard_at = boottime_ns()
                    self._witness.saw(change.record, change.version, self._heard_at)
                    self._wake.set()
                await asyncio.sleep(reopening.ended(loop.time()))
            except ApiFailure as failure:
                if failure.kind is Failure.GONE:
                    self._witness.lost_track()
                    await asyncio.sleep(reopening.gone())
                else:
                    self._failed(failure)
                    await asyncio.sleep((timing.RETRY_PAUSE + random.randrange(timing.RETRY_PAUSE // 2)) / 1e9)  # noqa: S311

    async def _look(self, leases: LeaseClient) -> None:
        """Where the watch begins; after a failure, whether the API answers and nothing was written meanwhile.

        Then the watch goes on from the present: a server that was restarted does not know older versions any more.
        If something was written, the watch tells it, or that it cannot; unless the server's memory is older than ours.
        """
        ledger = self._memory.ledger
        if ledger.position and not self._must_look:
            return
        record, version = await leases.look(timeout_s=LOOK_S)
        now = boottime_ns()
        restored = went_back(version, ledger.position)
        if restored:
            log.warning("the API server was restored from a backup", extra={"event": "history_went_back"})
        if restored or not ledger.position or (record is not None and record == ledger.record):
            self._witness.looked(record, version, now, restored=restored)
            self._heard_at = now
        if not self._failing.over() and not self._ever_ok:
            log.info("the API server answers", extra={"event": "api_ok"})
        self._api_ok, self._ever_ok, self._must_look = True, True, False
        self._wake.set()

    def _failed(self, failure: ApiFailure) -> None:
        kind = str(failure.kind)
        self._failing.again(kind, act="watch", kind=kind, why=str(failure))
        self._api_ok, self._must_look = False, True
        self._wake.set()

    async def _stop_following(self) -> None:
        task, self._following = self._following, None
        await end(task)


async def serve(context: Context) -> None:
    config = context.config
    async with contextlib.AsyncExitStack() as stack:
        session = ApiSession(config.kubeconfig, user_agent="cardano-forge-manager/arbiter")
        await stack.enter_async_context(session)
        coordinators = []
        if config.enable_cluster_management:
            coordinators = await stack.enter_async_context(sessions(config))
        await Arbiter(context, session, coordinators).run()


if __name__ == "__main__":
    run_worker(PRIVILEGES, serve, find_endpoint=endpoint.find_with_coordinators)
