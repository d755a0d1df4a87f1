"""The arbiter's part across clusters: who should forge by what is known, and the pool-wide lock that decides whether.

Only the pod that holds its cluster's Lease contends, by its elector's word; the lock alone gives the right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from config import Config
from health import reach
from ipc.messages import (
    ActuatorState,
    CertificateCounter,
    ClusterView,
    ElectorState,
    Fence,
    Grant,
    HealthCheck,
    HealthReport,
    LockPhase,
    PoolState,
    ProberState,
    Role,
)
from kernel.clock import boottime_ns
from kube.errors import SessionConfigError
from kube.session import ApiSession
from policy import arbitration, timing
from policy.arbitration import Arbitration, Cluster, Verdict
from policy.credential_summary import GOOD, summary
from policy.health import bounded
from policy.last_sign import LastSign
from policy.pause import of_members
from policy.pool_lock import Wish, cluster_of
from workers.cluster_report import (
    ACCEPTED,
    CONFLICT,
    COORDINATED,
    CREDENTIALS,
    FORGING,
    PREFERRED,
    READY,
    Condition,
    Report,
)
from workers.clusters import Clusters, Own
from workers.pool_lock import PoolLockKeeper
from workers.transitions import Told

log = logging.getLogger("arbiter")

ELECTOR_SILENCE: Final = timing.ARBITER_SILENCE
"""Its restart is no reason to let go of the lock; what it granted ends by itself."""
MOST_SHOWN: Final = 32
MOST_WHY: Final = 200


@dataclass(frozen=True, slots=True)
class Around:
    """What the other workers say; None: silent."""

    elector: ElectorState | None
    actuator: ActuatorState | None
    prober: ProberState | None
    stopping: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows for the arbiter's state."""

    grant: Grant | None
    reason: str
    pool: PoolState
    withdrawn: int
    unsure_until: int
    health_check: HealthCheck
    until: int
    counter_recorded: CertificateCounter | None
    other_seen_at: int


class Coordination:
    """One pod's arbiter among those of all clusters."""

    def __init__(self, config: Config, sessions: list[ApiSession], on_change: Callable[[], None]) -> None:
        """`sessions`: in the order of the configuration."""
        self._config = config
        self._keeper = PoolLockKeeper(config, sessions, on_change)
        self._clusters = Clusters(config, sessions, on_change)
        self._arbitration = Arbitration(config.preemption_delay_ns, config.handover_wait_ns)
        self._began, self._learned = boottime_ns(), False
        self._led_at = 0
        self.leads = False
        """Whether our elector held the cluster's Lease when we judged last."""
        self._state_told = Told(log, "cluster_state_changed", self._began)
        self._preferred_told = Told(log, "preferred_changed", self._began)
        self._last_sign = LastSign(self._keeper.lock.identity)
        self._ready = (False, "just started")
        self._keys = Condition(GOOD.usable, GOOD.reason, GOOD.message)

    def start(self) -> None:
        if len(self._config.coordination_kubeconfigs) % 2 == 0:
            log.warning(
                "an even number of coordination APIs bears the loss of no more than one fewer would; add or remove one",
                extra={"event": "even_members", "members": len(self._config.coordination_kubeconfigs)},
            )
        if [each.name for each in self._config.coordination_kubeconfigs] == ["own"]:
            said = "COORDINATION_KUBECONFIGS" in self._config.explicit
            log.log(
                logging.INFO if said else logging.WARNING,
                "the pool-wide lock is on this pod's own API server alone: a cluster of the pool that has another one "
                "has another lock, and forges beside this one%s",
                ""
                if said
                else "; name the same API servers on every pod of the pool in COORDINATION_KUBECONFIGS, or set it to "
                "own if every cluster of the pool does use this very one",
                extra={"event": "own_coordination"},
            )
        if len(self._config.coordination_kubeconfigs) > 1 and "COORDINATION_NAMESPACE" not in self._config.explicit:
            log.warning(
                "COORDINATION_NAMESPACE is not set, so the lock is looked for in %s, this pod's NAMESPACE, on every "
                "coordination API; set it alike on every pod of the pool: in another namespace is another lock",
                self._config.coordination_namespace,
                extra={"event": "namespace_by_default"},
            )
        self._keeper.start()
        self._clusters.start()

    async def close(self) -> None:
        await self._keeper.close()
        await self._clusters.close()

    @property
    def released(self) -> bool:
        """Whether nothing of the lock has to be given back any more."""
        return self._keeper.released

    def judge(self, now: int, around: Around) -> Judgement:
        """Weigh what is known at `now`."""
        wall_s = time.time()
        lock = self._keeper.lock
        lock.note_token(self._clusters.token)
        leading = self.leads = self._leading(now, around)
        clusters = self._views(now, around, leading=leading)
        pause = of_members(lock.pauses, wall_s)
        paused = str(pause) if pause is not None else ""
        if leading:
            quiet_at = around.prober.quiet_at if around.prober is not None else 0
            verdict = self._arbitration.judge(
                clusters,
                held_since=lock.held_since,
                now=now,
                wall_s=wall_s,
                quiet_at=quiet_at,
                paused=paused,
                passed_over=lock.passed_over,
            )
        else:
            self._arbitration.forget()
            ranking = arbitration.rank(clusters, now, wall_s)
            why = "this pod does not lead its cluster"
            verdict = Verdict(ranking, False, len(ranking), self._config.forge_cluster_name, why, 0)
        kept_for = lock.last_cluster if paused and not lock.held_since else ""
        if any(each.name == kept_for and arbitration.disabled(each, wall_s) for each in clusters):
            kept_for = ""  # what a person commands acts in a pause, too
        kept_out = kept_for not in ("", self._config.forge_cluster_name) and not self._commanded_here(verdict, wall_s)
        wanted = leading and verdict.want and self._clusters.known and not kept_out
        want = wanted or self._learns(now, around)
        wish = self._wish(around, verdict, want=want)
        until = self._keeper.judge(now, wish, verdict.successor)
        grant = self._keeper.grant(now)
        holder = lock.holder(now)
        self._last_sign.note(holder, lock.seen_at(holder))
        both = arbitration.conflict(clusters, wall_s)
        self._report(now, wall_s, around, verdict, clusters, both, leading=leading, holder=holder)
        reason = self._reason(verdict, holder, granted=grant is not None)
        if kept_out and leading:
            reason = f"paused {paused}; {kept_for} alone may take the lock"
        if verdict.look_again > now:
            until = min(until, verdict.look_again)
        pool = self._pool(now, wall_s, clusters, verdict, both, holder, paused)
        self._log_transitions(now, pool)
        return Judgement(
            grant=grant,
            reason=reason,
            pool=pool,
            withdrawn=lock.withdrawn,
            unsure_until=lock.unsure_until,
            health_check=self._health_check(),
            until=until,
            counter_recorded=self._counter(),
            other_seen_at=self._last_sign.at,
        )

    def _log_transitions(self, now: int, pool: PoolState) -> None:
        """What our cluster may do, and which one should forge, once they are known."""
        ours = next((cluster for cluster in pool.clusters if cluster.name == pool.cluster), None)
        if pool.state:
            why, facts = ours.why_not if ours is not None else "", {"cluster": pool.cluster, "priority": pool.priority}
            text = f"our cluster is {pool.state}"
            self._state_told.tell(now, pool.state, why, pool.fencing_token, message=text, **facts)
        if self._clusters.known:
            text = f"{pool.wanted or 'no cluster'} should forge"
            self._preferred_told.tell(now, pool.wanted or "none", pool.why, pool.fencing_token, message=text)

    # --- what we are ---

    def _leading(self, now: int, around: Around) -> bool:
        """Whether our elector holds the cluster's Lease, as far as it can know; its restart changes nothing."""
        elector = around.elector
        if around.stopping:
            return False
        if elector is not None and elector.settled:
            if elector.role is not Role.LEADER:
                self._led_at = 0
                return False
            self._led_at = now
            return True
        return self._led_at > 0 and now - self._led_at < ELECTOR_SILENCE

    def _learns(self, now: int, around: Around) -> bool:
        """Whether we hold the lock from an earlier life and have not heard yet of all by which to let go of it."""
        elector = around.elector
        settled = elector is not None and elector.settled
        known = around.actuator is not None and self._clusters.known
        if settled and (known or (elector is not None and elector.role is not Role.LEADER)):
            self._learned = True
        late = around.stopping or now - self._began >= ELECTOR_SILENCE
        return not self._learned and not late and self._keeper.lock.phase is LockPhase.HELD

    def _own_readiness(self, now: int, around: Around) -> tuple[bool, str]:
        if not self._keeper.lock.sound(now):
            return False, self._keeper.lock.objection
        actuator = around.actuator
        if actuator is None:
            return False, "the actuator is silent"
        if actuator.ready or actuator.fence in (Fence.ARMED, Fence.ARMING):
            return True, ""
        if actuator.fence is Fence.FENCING and actuator.node is not None:
            return self._ready  # on its way; what was said last stands
        return False, "; ".join(actuator.refusals) or actuator.reason

    def _commanded_here(self, verdict: Verdict, wall_s: float) -> bool:
        """Whether a person put this cluster first: that is no hand-over by itself."""
        spec = self._clusters.spec()
        return verdict.place == 0 and spec is not None and spec.commanded(wall_s)

    def _views(self, now: int, around: Around, *, leading: bool) -> list[Cluster]:
        """All clusters, ours as we know it better than its status."""
        views = self._clusters.views()
        if not leading:
            return [dataclasses.replace(view, ours=False) for view in views]
        self._ready = self._own_readiness(now, around)
        ready, why_not = self._ready
        health = self._health(around)
        failures = health.consecutive_failures if health is not None else 0
        found = []
        for view in views:
            if not view.ours:
                found.append(view)
                continue
            found.append(
                dataclasses.replace(
                    view,
                    ready=ready,
                    why_not=why_not,
                    failures=failures,
                    leader=self._config.pod_name,
                    changed_at=now,
                )
            )
        return found

    def _health(self, around: Around) -> HealthReport | None:
        """What came of the checks that are wanted now; None: none are, or they have not been heard of yet."""
        report = around.prober.health if around.prober is not None else None
        return report if report is not None and report.endpoint == self._health_check().endpoint else None

    # --- the lock ---

    def _wish(self, around: Around, verdict: Verdict, *, want: bool) -> Wish:
        lock, own = self._keeper.lock, self._config.forge_cluster_name
        actuator = around.actuator
        fenced = (
            actuator is not None
            and actuator.fence is Fence.FENCED
            and lock.withdrawn > 0
            and actuator.heard_withdrawn == lock.withdrawn
        )
        left_to = lock.preferred
        place = verdict.place
        if left_to == own:
            place = 0
        elif left_to and place == 0:
            place = 1
        return Wish(
            want=want,
            delay=place * arbitration.STEP,
            hurry=left_to == own,
            fenced=fenced,
            void_before=actuator.void_before if actuator is not None else 0,
        )

    def _sibling(self, holder: str) -> str:
        """The holder of the lock, if it is another pod of our own cluster; else empty."""
        others = holder.startswith(f"{self._config.forge_cluster_name}/") and holder != self._keeper.lock.identity
        return holder if others else ""

    def _reason(self, verdict: Verdict, holder: str, *, granted: bool) -> str:
        lock = self._keeper.lock
        if granted:
            return f"this cluster holds the pool-wide lock: {verdict.why}"
        if not self._clusters.known:
            return "not every coordination API has told of the pool's clusters yet"
        if objection := lock.objection:
            return objection
        if not verdict.want:
            return verdict.why
        return f"{lock.reason}; held by {holder}" if holder else lock.reason

    # --- what we say ---

    def _report(
        self,
        now: int,
        wall_s: float,
        around: Around,
        verdict: Verdict,
        clusters: list[Cluster],
        both: tuple[str, ...],
        *,
        leading: bool,
        holder: str,
    ) -> None:
        ours = next((cluster for cluster in clusters if cluster.ours), None)
        name, pod = self._config.forge_cluster_name, self._config.pod_name
        lock = self._keeper.lock
        if not leading or self._sibling(holder):
            self._clusters.say(None)
            return
        forging = around.actuator is not None and around.actuator.fence is Fence.ARMED
        in_conflict = name in both
        wrong = ours.unreadable if ours is not None else ""
        reached, objection = sum(member.reachable for member in lock.members), lock.objection
        ready, why_not = self._ready
        why = f"{pod} forges" if forging else verdict.why or lock.reason
        health = self._health(around)
        recorded = around.elector.counter_recorded if around.elector is not None else None
        state = ours.spec.effective_state(wall_s) if ours is not None and ours.spec is not None else "Priority-based"
        conditions = {
            READY: Condition(ready, "Fit" if ready else "NotFit", f"led by {pod}" if ready else why_not),
            FORGING: Condition(forging, "Forging" if forging else "NotForging", why),
            PREFERRED: self._preferred(now, verdict, reached),
            ACCEPTED: Condition(
                not wrong,
                "Unreadable" if wrong else "Read",
                f"{wrong}; what was read last is in force" if wrong else "",
            ),
            CONFLICT: Condition(
                in_conflict,
                "BothEnabled" if in_conflict else "None",
                f"Enabled at once: {', '.join(both)}; the best of them forges" if in_conflict else "",
            ),
            COORDINATED: Condition(
                reached >= lock.majority and not objection,
                "SetsDiffer" if objection else "MajorityReached" if reached >= lock.majority else "MajorityLost",
                objection or f"{reached} of {len(lock.members)} coordination APIs answer",
            ),
            CREDENTIALS: self._credentials(around),
        }
        report = Report(
            state=str(state),
            priority=ours.priority(wall_s) if ours is not None else self._config.cluster_priority,
            leader=pod,
            forging=forging,
            reason="Forging" if forging else "Standby" if verdict.want else "NotAllowed",
            message=why[:1024],
            token=lock.token,
            counter=recorded.counter if recorded is not None else None,
            pool_leader=cluster_of(holder),
            conditions=tuple(conditions.items()),
            healthy=health.healthy if health is not None else True,
            failures=health.consecutive_failures if health is not None else 0,
            health_message=health.message if health is not None else "no health check is configured",
        )
        prober = around.prober
        self._clusters.say(
            Own(
                report,
                health,
                prober.sample if prober is not None else None,
                prober.tip_lag_s if prober is not None else None,
            )
        )

    def _preferred(self, now: int, verdict: Verdict, reached: int) -> Condition:
        """Upon this word a holder lets go in our favour: not to be said by who could not take the lock then."""
        lock = self._keeper.lock
        majority = lock.majority
        if reached < majority:
            why = f"it could not take the lock: {reached} coordination APIs answer, {majority} are needed"
            return Condition(False, "MajorityLost", why)
        first = verdict.want and verdict.place == 0
        if first and not lock.could_take(now):
            why = "it could not take the lock yet: it has not seen for a lease duration who may hold a majority"
            return Condition(False, "NotSureYet", why)
        return Condition(first, "Ranked", verdict.why)

    def _counter(self) -> CertificateCounter | None:
        """Of the whole pool."""
        highest = self._clusters.counter
        return CertificateCounter(highest, self._config.pool_id) if highest is not None else None

    def _credentials(self, around: Around) -> Condition:
        """What was heard last of them stands: a silent actuator says nothing."""
        if around.actuator is not None:
            told = summary(around.actuator.findings)
            self._keys = Condition(told.usable, told.reason, told.message)
        return self._keys

    def _pool(
        self,
        now: int,
        wall_s: float,
        clusters: list[Cluster],
        verdict: Verdict,
        both: tuple[str, ...],
        holder: str,
        paused: str,
    ) -> PoolState:
        config, lock = self._config, self._keeper.lock
        spec = self._clusters.spec()
        mine = next((cluster for cluster in clusters if cluster.name == config.forge_cluster_name), None)
        ranked = {cluster.name for cluster in verdict.ranking}
        order = [*verdict.ranking, *(cluster for cluster in clusters if cluster.name not in ranked)]
        return PoolState(
            lock=f"{config.coordination_namespace}/{config.pool_lock_name}",
            phase=lock.phase,
            holder=cluster_of(holder),
            sibling=self._sibling(holder),
            fencing_token=lock.token,
            members=self._keeper.members(self._clusters.crd_ok),
            majority=lock.majority,
            cluster=config.forge_cluster_name,
            wanted=verdict.winner,
            why=verdict.why,
            state=str(spec.effective_state(wall_s)) if spec is not None else "",
            priority=mine.priority(wall_s) if mine is not None else config.cluster_priority,
            conflict=config.forge_cluster_name in both,
            clusters=tuple(_view(cluster, now, wall_s) for cluster in order[:MOST_SHOWN]),
            objection=lock.objection,
            paused=paused,
            override=spec.acting_override(wall_s).in_words()[:MOST_WHY] if spec is not None else "",
        )

    def _health_check(self) -> HealthCheck:
        """What the prober shall ask, by our CardanoForgeCluster, or by the environment until that is known."""
        spec = self._clusters.spec()
        if spec is None:
            return reach.by_environment(self._config)
        health = spec.health
        endpoint = health.endpoint if health.enabled else ""
        headers = dict(health.headers)
        return bounded(HealthCheck(endpoint, health.interval_s, health.timeout_s, health.threshold, headers))


def _view(cluster: Cluster, now: int, wall_s: float) -> ClusterView:
    against = cluster.against(now, wall_s)
    return ClusterView(
        name=cluster.name,
        region=cluster.region,
        state=str(cluster.spec.effective_state(wall_s)) if cluster.spec is not None else "",
        priority=cluster.priority(wall_s),
        eligible=not against,
        why_not=against[:MOST_WHY],
        leader=cluster.leader,
        changed_at=0 if cluster.ours else cluster.changed_at,
    )


@contextlib.asynccontextmanager
async def sessions(config: Config) -> AsyncGenerator[list[ApiSession], None]:
    """One for each coordination API, in the order of the configuration.  Raises SessionConfigError."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for each in config.coordination_kubeconfigs:
            session = ApiSession(
                each.kubeconfig or config.kubeconfig,
                context=each.context,
                user_agent="cardano-forge-manager/arbiter",
            )
            try:
                found.append(await stack.enter_async_context(session))
            except SessionConfigError as error:
                raise SessionConfigError(f"COORDINATION_KUBECONFIGS {each.name}: {error}") from None
        yield found
