"""What happened in this pod, from the pictures that the gateway sees one after the other.  Pure.

`Chronicle` promises: an interval in which this pod could not see whether anybody forges counts as neither; a take-over
counts once, from the last sign of the forger before to this node's confirmed forging.  Instants are ns of
CLOCK_BOOTTIME, durations ns where not said otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.views import WATCHED, Picture, told_by_majority
from ipc.messages import Fence, Role, Severity
from policy import timing
from policy.kept import whole

BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the take-over histogram; one more has none."""
MOST: Final = 60
"""Entries of the time line."""
MOST_TEXT: Final = 300
_MOST: Final = (1 << 64) - 1
"""The largest number that a frame can carry."""
_AS_IT_SHOULD_BE: Final = frozenset({"alive", "usable"})
"""Not worth a line when it is the first that is known."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One entry of the time line."""

    at: int
    about: str
    """role, fence, lease, lock, preferred, keys, or a worker's name."""
    old: str
    """Empty: nothing was known before."""
    new: str
    why: str
    token: int
    """Fencing token of the Lease, or for `lock` of the pool-wide lock; 0: none."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One thing as it is now."""

    value: str
    why: str = ""
    token: int = 0


class Chronicle:
    """Of one pod, over the restarts of its workers, the gateway's too."""

    def __init__(self) -> None:
        self.entries: deque[Happened] = deque(maxlen=MOST)
        """Oldest first."""
        self.takeovers = [0] * (len(BUCKETS_S) + 1)
        """How many fell into each bucket (not added up), the last one without a bound."""
        self.takeover_ns = 0
        """All of them together."""
        self.without_forger = 0
        """ns in which nobody forged, as far as could be seen."""
        self._nobody_from: int | None = None
        self._noted_at = 0
        self._counted_sign = 0
        self._known: dict[str, str] = {}

    def note(self, picture: Picture) -> None:
        """Take in the present picture; call it at each change, and before anything is read."""
        now = picture.now
        if self._nobody_from is not None:
            self.without_forger += max(now - max(self._noted_at, self._nobody_from), 0)
        self._noted_at, self._nobody_from = now, nobody_from(picture)
        self._count_takeover(picture)
        for about, said in _situation(picture).items():
            old, new = self._known.get(about, ""), said.value[:MOST_TEXT]
            if old == new:
                continue
            self._known[about] = new
            if old or new not in _AS_IT_SHOULD_BE:
                self.entries.append(Happened(now, about, old, new, said.why[:MOST_TEXT], max(said.token, 0)))

    def since(self, about: str, value: str) -> int:
        """When it became so, as the time line tells; 0: it does not, or it is otherwise by now."""
        last = next((each for each in reversed(self.entries) if each.about == about), None)
        return last.at if last is not None and last.new == value[:MOST_TEXT] else 0

    def _count_takeover(self, picture: Picture) -> None:
        actuator = picture.actuator
        if actuator is None or actuator.fence is not Fence.ARMED or not picture.forging:
            return
        sign = max((body.other_seen_at for body in (picture.elector, picture.arbiter) if body is not None), default=0)
        if sign == self._counted_sign or not 0 < sign < actuator.since:
            return
        self._counted_sign = sign
        took = actuator.since - sign
        self.takeover_ns = min(self.takeover_ns + took, _MOST)
        bucket = next((i for i, bound in enumerate(BUCKETS_S) if took <= bound * timing.SECOND), len(BUCKETS_S))
        self.takeovers[bucket] += 1

    def kept(self, *, entries: bool = True) -> dict[str, Any]:
        """To be written down, for `resumed`; without the time line where there is no room for it."""
        return {
            "takeovers": self.takeovers,
            "takeover_ns": self.takeover_ns,
            "without": self.without_forger,
            "counted_sign": self._counted_sign,
            "known": self._known,
            "entries": [asdict(each) for each in self.entries] if entries else [],
        }

    @classmethod
    def resumed(cls, kept: Mapping[str, Any], *, this_boot: bool) -> Chronicle:
        """As it was, what happened in another boot of the machine left out.

        Raises ValueError, TypeError, KeyError for what `kept` did not make.
        """
        chronicle = cls()
        takeovers = [whole(each, _MOST) for each in kept["takeovers"]]
        if len(takeovers) == len(chronicle.takeovers):  # else: of a version with other buckets
            chronicle.takeovers, chronicle.takeover_ns = takeovers, whole(kept["takeover_ns"], _MOST)
        chronicle.without_forger = whole(kept["without"], _MOST)
        if this_boot:
            chronicle._counted_sign = whole(kept["counted_sign"], _MOST)
            chronicle._known = {str(about): str(value) for about, value in kept["known"].items()}
            chronicle.entries.extend(_entry(each) for each in kept["entries"])
        return chronicle


def nobody_from(picture: Picture) -> int | None:
    """From when on nobody forges, should nothing more be heard; None: somebody does, or it cannot be told."""
    elector, pool = picture.elector, picture.pool
    if elector is None or picture.actuator is None:
        return None
    if picture.forging:
        return picture.actuator.deadline or None  # none while it is told to stop, and has not yet
    if picture.config.enable_cluster_management:
        if pool is None or not told_by_majority(pool):
            return None
        ours = pool.holder == pool.cluster and not pool.sibling
        return picture.now if ours or not pool.holder else None
    if elector.role in (Role.LEADER, Role.HANDOVER):
        return picture.now
    if not elector.api_ok or not elector.settled or elector.holder == elector.identity:
        return None
    return elector.holder_until if elector.holder else picture.now


def _situation(picture: Picture) -> dict[str, _Said]:
    """What the time line follows; what is not known now is left out, and so stays as it was."""
    found: dict[str, _Said] = {}
    elector, actuator, pool = picture.elector, picture.actuator, picture.pool
    if elector is not None:
        found["role"] = _Said(str(elector.role), elector.reason, elector.fencing_token)
        found["lease"] = _Said(elector.holder or "nobody", elector.lease, elector.fencing_token)
    if actuator is not None:
        found["fence"] = _Said(str(actuator.fence), actuator.reason)
        errors = [finding for finding in actuator.findings if finding.severity is Severity.ERROR]
        checks = ", ".join(sorted({str(finding.check) for finding in errors}))
        found["keys"] = _Said(checks or "usable", errors[0].reason if errors else "")
    if pool is not None:
        found["lock"] = _Said(pool.holder or "nobody", pool.lock, pool.fencing_token)
        found["preferred"] = _Said(pool.wanted or "nobody", pool.why)
    for worker in WATCHED:
        if worker in picture.states:
            found[str(worker)] = _Said("alive" if picture.fresh(worker) is not None else "silent")
    return found


def _entry(raw: Mapping[str, Any]) -> Happened:
    texts = {name: str(raw[name])[:MOST_TEXT] for name in ("about", "old", "new", "why")}
    return Happened(at=whole(raw["at"], _MOST), token=whole(raw["token"], _MOST), **texts)
