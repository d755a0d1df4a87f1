"""Who of the pool's clusters should forge: a pure function of what is known of them.

`rank` puts the clusters that can forge into the one order that everybody computes from the same view: Enabled before
Priority-based, those whose health checks fail too often after all others, then effective priority (lower wins), region,
name.  Disabled, unfit, silent or unreadable clusters are not in it.  Priority decides who *should* forge; the pool-wide
lock alone (`policy.pool_lock`) decides whether, so views that differ cost time and nothing else.

`Arbitration` adds what needs memory: the hold-down before a better cluster preempts one that forges, longer for a
cluster that has come and gone, or whose health checks have.  A holder gives way only to a cluster that itself says that
it should forge: two clusters with different views (their clocks may disagree whether an override has expired) do not
throw the lock to and fro.

All instants are ns of CLOCK_BOOTTIME, but `wall_s`: seconds since 1970 by this pod's clock, against which the
operator's `override.expiresAt` is read.  Nobody else's clock counts.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from policy import timing
from policy.quiet import may_begin

DEFAULT_PRIORITY: Final = 100
PENALTY: Final = 100
"""Added to the priority for each health check that failed in a row."""
FRESH: Final = 65 * timing.SECOND
"""A cluster whose status has not been seen to change for so long is silent: three heartbeats and a bit."""
STEP: Final = timing.SECOND * 7 // 10
"""What a cluster leaves to each better one once the lock can be taken."""
FORGIVEN: Final = 3600 * timing.SECOND
"""A cluster that lost its fitness, or forging by its health checks, is held down longer for this time."""
MOST_DOUBLINGS: Final = 6
PASSED_OVER: Final = 15 * timing.SECOND
"""A cluster that did not take the lock when it was left to it is not left it again so soon; doubled each time."""
MOST_PASSED_DOUBLINGS: Final = 4


class ForgeState(enum.StrEnum):
    """What a cluster may do: two commands, and the rule."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PRIORITY_BASED = "Priority-based"


@dataclass(frozen=True, slots=True)
class Override:
    """Stands above the rest of the spec until it expires."""

    enabled: bool = False
    reason: str = ""
    expires_at: float | None = None
    """Seconds since 1970; None: it does not."""
    force_priority: int | None = None
    force_state: ForgeState | None = None

    def in_words(self) -> str:
        """What it forces, and why; empty: nothing."""
        forced = [str(self.force_state)] if self.force_state is not None else []
        forced += [f"priority {self.force_priority}"] if self.force_priority is not None else []
        because = f" ({self.reason})" if self.reason else ""
        return ", ".join(forced) + because if forced else ""


NO_OVERRIDE: Final = Override()


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """spec.healthCheck."""

    enabled: bool = False
    endpoint: str = ""
    interval_s: float = 30.0
    timeout_s: float = 10.0
    threshold: int = 3
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What an operator says of a cluster."""

    state: ForgeState = ForgeState.PRIORITY_BASED
    priority: int = DEFAULT_PRIORITY
    health: HealthSpec = HealthSpec()
    override: Override = NO_OVERRIDE

    def acting_override(self, wall_s: float) -> Override:
        """The override while it is in force, else none: an expired one equals none."""
        given = self.override
        in_force = given.enabled and (given.expires_at is None or wall_s < given.expires_at)
        return given if in_force else NO_OVERRIDE

    def effective_state(self, wall_s: float) -> ForgeState:
        return self.acting_override(wall_s).force_state or self.state

    def base_priority(self, wall_s: float) -> int:
        """Before health."""
        return self.acting_override(wall_s).force_priority or self.priority

    def stopped_by(self, other: ClusterSpec) -> ClusterSpec:
        """The same, but for the Disabled of another one, of which nothing else counts."""
        if other.state is ForgeState.DISABLED:
            return replace(self, state=other.state, override=NO_OVERRIDE)
        return replace(self, override=other.override)

    def commanded(self, wall_s: float) -> bool:
        """Whether a person has decided where this cluster stands: that acts at once."""
        override = self.acting_override(wall_s)
        forced = override.force_priority is not None or override.force_state is not None
        return forced or self.state is not ForgeState.PRIORITY_BASED


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster as it is known here."""

    name: str
    """Of its CardanoForgeCluster."""
    region: str
    spec: ClusterSpec | None
    """None: it cannot be read."""
    unreadable: str = ""
    """What in it cannot be read; ours goes by what was read last."""
    ready: bool = False
    """Its leader's word that it forges or could at once; of ours, what we know."""
    why_not: str = ""
    prefers_itself: bool = False
    """Its leader's word that it should forge."""
    coordinated: bool = True
    """Not its leader's word that it does not reach a majority of the coordination APIs."""
    failures: int = 0
    """Health checks that failed in a row."""
    leader: str = ""
    changed_at: int = 0
    """When its status was last seen to change here, or seen at all (ns)."""
    said_at: int = 0
    """Its status was not written before this instant (ns); 0: nobody knows."""
    ours: bool = False

    def priority(self, wall_s: float) -> int:
        """Effective: with what its health costs."""
        if self.spec is None:
            return DEFAULT_PRIORITY
        penalty = PENALTY * self.failures if self.spec.health.enabled else 0
        return self.spec.base_priority(wall_s) + penalty

    def unhealthy(self) -> bool:
        """Whether its health checks have failed as often as the operator bears."""
        return self.spec is not None and self.spec.health.enabled and self.failures >= self.spec.health.threshold

    def against(self, now: int, wall_s: float) -> str:
        """Why it cannot be chosen; empty: it can."""
        if self.spec is None:
            return f"its spec cannot be read: {self.unreadable}"
        if self.spec.effective_state(wall_s) is ForgeState.DISABLED:
            reason = self.spec.acting_override(wall_s).reason
            return f"Disabled: {reason}" if reason else "Disabled"
        if not self.ours and now - self.changed_at >= FRESH:
            return "silent"
        if not self.ready:
            return self.why_not or "not ready"
        return ""


def rank(clusters: Sequence[Cluster], now: int, wall_s: float) -> tuple[Cluster, ...]:
    """Those that can forge, the best first."""

    def key(cluster: Cluster) -> tuple[int, int, str, str]:
        enabled = cluster.spec is not None and cluster.spec.effective_state(wall_s) is ForgeState.ENABLED
        standing = 0 if enabled else 2 if cluster.unhealthy() else 1
        return standing, cluster.priority(wall_s), cluster.region, cluster.name

    return tuple(sorted((c for c in clusters if not c.against(now, wall_s)), key=key))


def conflict(clusters: Sequence[Cluster], wall_s: float) -> tuple[str, ...]:
    """The clusters that are Enabled, if they are more than one."""
    enabled = [c.name for c in clusters if c.spec and c.spec.effective_state(wall_s) is ForgeState.ENABLED]
    return tuple(sorted(enabled)) if len(enabled) > 1 else ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What this cluster should do."""

    ranking: tuple[Cluster, ...]
    want: bool
    """Hold the lock, or take it when it is our turn."""
    place: int
    """Ours in the ranking, from 0; as many as there are, if we are not in it."""
    successor: str
    """To whom the lock is to be left, when we let go of it; empty: to whoever comes."""
    why: str
    look_again: int
    """When a hold-down ends; 0: nothing to wait for."""

    @property
    def winner(self) -> str:
        """Who should forge; empty: nobody can."""
        return self.ranking[0].name if self.ranking else ""


class Arbitration:
    """The part of one arbiter that remembers."""

    def __init__(self, hold_down: int, wait: int = 0) -> None:
        """`hold_down`: ns that a better cluster must have been fit before it preempts.

        `wait`: ns for which it then waits at most for a moment in which that disturbs no block.
        """
        self._hold_down = hold_down
        self._wait = wait
        self._better: dict[str, int] = {}
        """Since when a cluster has been better than ours."""
        self._able: dict[str, bool] = {}
        self._flaps: dict[str, list[int]] = {}
        """When a cluster that could forge ceased to, or its failing health checks made forging come to us."""
        self._passed_over: dict[str, tuple[ClusterSpec | None, tuple[int, ...]]] = {}
        """When a cluster did not take what was left to it, and under which spec: another one is a new word."""
        self._held_since = 0

    def forget(self) -> None:
        """We do not lead our cluster: who has been better meanwhile, nobody has noted."""
        self._better = {}

    def judge(
        self,
        clusters: Sequence[Cluster],
        *,
        held_since: int,
        now: int,
        wall_s: float,
        quiet_at: int = 0,
        paused: str = "",
        passed_over: str = "",
    ) -> Verdict:
        """`clusters`: all that are known, ours among them.  `held_since`: when the lock became ours; 0: it is not.

        `quiet_at`: a preemption that nobody commanded waits for it, `policy.quiet`; 0: it need not.
        `paused`: an operator's pause (`policy.pause`): who holds the lock leaves it by command only; empty: none.
        `passed_over`: the cluster to which the lock was left when we took it; empty: to none, or to ours.
        """
        ranking = rank(clusters, now, wall_s)
        ours = next((cluster for cluster in clusters if cluster.ours), None)
        self._note(clusters, ranking, now, wall_s)
        against = ours.against(now, wall_s) if ours is not None else "this cluster's CardanoForgeCluster is not known"
        if ours is None or against:
            self._better = {}  # nobody has been better than nothing for any time
            if paused and held_since and ours is not None and not disabled(ours, wall_s):
                why = f"paused {paused}; it keeps the lock although: {against}"
                return Verdict(ranking, True, len(ranking), ours.name, why, 0)
            others = [cluster.name for cluster in ranking if cluster is not ours and cluster.coordinated]
            return Verdict(ranking, False, len(ranking), others[0] if others else "", against, 0)
        place = ranking.index(ours)
        self._note_taking(ranking, place, held_since, now, wall_s, passed_over)
        better = ranking[:place]
        self._better = {c.name: self._better.get(c.name, now) for c in better}
        if place == 0:
            return Verdict(ranking, True, 0, ours.name, self._in_words(ours, wall_s), 0)
        best = better[0]
        if not held_since:
            return Verdict(ranking, True, place, ours.name, f"{best.name} comes first", 0)
        # Whoever has not said a word since we took the lock may be the one who lost it by dying.  What was only found
        # as it is, by an arbiter that has just started say, may be the last word of one that died long ago.
        due = [
            (self._due(c, ours, held_since, wall_s), c) for c in better if c.prefers_itself and c.said_at > held_since
        ]
        again: list[int] = []
        waits = "it has to be fit for a while first" if due else "it has not said so itself yet"
        for at, candidate in due:
            commanded = self._commanded(candidate, ours, wall_s)
            if paused and not commanded:
                waits = f"paused {paused}"
            elif now < at:
                again.append(at)
            elif commanded or may_begin(now, asked_at=at, quiet_at=quiet_at, at_most=self._wait):
                why = f"{candidate.name} comes first: {self._in_words(candidate, wall_s)}"
                return Verdict(ranking, False, place, candidate.name, why, 0)
            else:
                again.append(min(quiet_at, at + self._wait))
                waits = "waits for a gap in the pool's leadership schedule"
        return Verdict(ranking, True, place, ours.name, f"{best.name} comes first, but {waits}", min(again, default=0))

    def _due(self, candidate: Cluster, ours: Cluster, held_since: int, wall_s: float) -> int:
        """When it may preempt us."""
        since = max(self._better[candidate.name], held_since, self._not_again_before(candidate))
        if self._commanded(candidate, ours, wall_s):
            return since
        doublings = min(len(self._flaps.get(candidate.name, ())), MOST_DOUBLINGS)
        return since + (self._hold_down << doublings)

    def _not_again_before(self, candidate: Cluster) -> int:
        """For commands, too: each attempt that fails is a moment in which nobody forges."""
        spec, times = self._passed_over.get(candidate.name, (None, ()))
        if not times or spec != candidate.spec:
            return 0
        return times[-1] + (PASSED_OVER << min(len(times) - 1, MOST_PASSED_DOUBLINGS))

    @staticmethod
    def _commanded(candidate: Cluster, ours: Cluster, wall_s: float) -> bool:
        """Whether a person decided that it comes before us."""
        return any(spec is not None and spec.commanded(wall_s) for spec in (candidate.spec, ours.spec))

    def _note(self, clusters: Sequence[Cluster], ranking: Sequence[Cluster], now: int, wall_s: float) -> None:
        """Who ceased to be able to forge; not those whom a person has disabled, which is no flapping."""
        able = {cluster.name for cluster in ranking}
        for cluster in clusters:
            was = self._able.get(cluster.name, False)
            self._able[cluster.name] = cluster.name in able
            if was and cluster.name not in able and not disabled(cluster, wall_s):
                self._flaps.setdefault(cluster.name, []).append(now)
        known = {cluster.name for cluster in clusters}
        self._flaps = {
            name: kept
            for name, times in self._flaps.items()
            if name in known and (kept := [at for at in times if now - at < FORGIVEN][-MOST_DOUBLINGS:])
        }
        self._able = {name: able for name, able in self._able.items() if name in known}
        self._passed_over = {name: kept for name, kept in self._passed_over.items() if name in known}

    def _note_taking(
        self, ranking: Sequence[Cluster], place: int, held_since: int, now: int, wall_s: float, passed_over: str
    ) -> None:
        """Who could have had the lock instead, and whose health checks brought it to us when it becomes ours.

        A check that fails without moving anything is no flapping: one in twenty would keep its cluster out for good.
        """
        ours, taken = ranking[place], held_since not in (0, self._held_since)
        self._held_since = held_since
        for cluster in ranking[:place] if taken else ():
            if cluster.name == passed_over:
                spec, times = self._passed_over.get(cluster.name, (None, ()))
                lately = [at for at in times if now - at < FORGIVEN] if spec == cluster.spec else []
                self._passed_over[cluster.name] = cluster.spec, (*lately, now)[-MOST_PASSED_DOUBLINGS - 1 :]
        for cluster in ranking[place + 1 :] if taken else ():
            well = replace(cluster, failures=0)
            if rank((ours, well), now, wall_s)[0] is well:
                self._flaps.setdefault(cluster.name, []).append(now)

    @staticmethod
    def _in_words(cluster: Cluster, wall_s: float) -> str:
        assert cluster.spec is not None
        override = cluster.spec.acting_override(wall_s)
        state, priority = cluster.spec.effective_state(wall_s), cluster.priority(wall_s)
        by = f" by override ({override.reason})" if override.force_state or override.force_priority else ""
        last = "; its health checks fail, but nobody else can" if cluster.unhealthy() else ""
        return f"{state}, priority {priority}{by}{last}"


def disabled(cluster: Cluster, wall_s: float) -> bool:
    """Whether a person says that it may not forge."""
    return cluster.spec is not None and cluster.spec.effective_state(wall_s) is ForgeState.DISABLED
