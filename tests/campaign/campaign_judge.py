"""What the nodes' own records say of a campaign: overlaps, gaps, whose they are, and whether they were allowed.

Pure: intervals and rounds in, judgement out.  Times are ns on CLOCK_MONOTONIC, as in the records; only durations in
seconds end in `_s`.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from devkit import record
from devkit.record import NS, Interval

MEASURING_S: Final = 0.05
"""A bound of zero is zero; this much is left to the reading of a record that is being written."""
BUSY: Final = 0.5
"""From this share of a round on, in which something waited for a processor, the machine was too busy for a zero.

A bound of zero says that what was ended is there again before anybody's right is over: that takes a processor.
"""


@dataclass(slots=True)
class Fault:
    """One fault as it was."""

    kind: str
    victim: str
    began: int
    ended: int
    bound_s: float = 0.0
    """Alone, it may cost so much."""
    missed: str = ""
    """Why there was nothing to strike; empty: it struck."""
    told: str = ""
    """What was left to chance, in words."""

    @property
    def lasted_s(self) -> float:
        return (self.ended - self.began) / NS


@dataclass(slots=True)
class Round:
    """One round as it was: from its first fault to the beginning of the next round."""

    number: int
    began: int
    ended: int
    faults: list[Fault] = field(default_factory=list)
    excused: str = ""
    """What else happened to the machine: its gaps prove nothing."""
    late_s: float = 0.0
    """So late, at most, was a timer of ours in it: what the machine itself cost."""
    waited: float = 0.0
    """The share of it in which something on the machine waited for a processor."""
    home: bool = True
    """Whether the pool forged where it belongs when it began.  Otherwise it may go there in it, as planned."""
    notes: list[str] = field(default_factory=list)
    """What went wrong beside the gaps."""

    @property
    def busy(self) -> bool:
        """Whether the machine had so much else to do that no bound holds without slack."""
        return self.waited >= BUSY


@dataclass(frozen=True, slots=True)
class Terms:
    """What a part of the campaign is held to."""

    slack_s: float
    """Beside each bound that is not zero, and on a busy machine beside each: for a machine that runs a whole pool."""
    recovery_s: float
    """Whatever was done, so long after the last of it was mended one forges again."""
    planned_s: float = 0.0
    """A gap of this length needs no fault where the forger changed in a pool that was not at home."""
    longest: bool = False
    """Bounds are for the longest single gap; otherwise for all gaps of a round together."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody forged, and whose it is."""

    begin: int
    end: int
    round: int | None
    """The round's number; None: it began before the first."""
    faults: tuple[int, ...]
    """Places in that round of those that had begun before it ended; none: nothing explains it."""

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / NS


def attribute(gaps: Iterable[Interval], rounds: Sequence[Round]) -> list[Gap]:
    """Each gap belongs to the last round that had begun before the gap ended, or to that in which it began.

    Rounds follow each other.  A gap that goes on into a later round is the earlier one's.
    """
    starts = [each.began for each in rounds]
    found = []
    for gap in gaps:
        place = bisect.bisect_right(starts, gap.begin) - 1
        if place < 0:  # it began before the first round; if that round began before its end, it may be the cause
            found.append(Gap(gap.begin, gap.end, None, ()))
            continue
        owner = rounds[place]
        active = tuple(i for i, fault in enumerate(owner.faults) if not fault.missed and fault.began < gap.end)
        found.append(Gap(gap.begin, gap.end, owner.number, active))
    return found


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one round."""

    number: int
    gap_s: float
    """Together."""
    longest_s: float
    bound_s: float | None
    """What was allowed, without slack; None: of several faults at once only the recovery is bounded."""
    back_s: float
    """From when the last fault was mended until one forged for good; 0: one did then already."""
    restless: int
    """So often forging ceased again after the last fault was mended."""
    violations: tuple[str, ...]


def judge(played: Round, gaps: Sequence[Gap], terms: Terms, *, forgers: int = 1) -> Judgement:
    """gaps: those of this round.  forgers: how many nodes forged in it, one after another."""
    struck = [fault for fault in played.faults if not fault.missed]
    total = sum(gap.seconds for gap in gaps)
    longest = max((gap.seconds for gap in gaps), default=0.0)
    mended = max((fault.ended for fault in played.faults), default=played.began)
    back = max((gap.end for gap in gaps), default=mended)
    back_s = max(0.0, (back - mended) / NS)
    bound = struck[0].bound_s if len(struck) == 1 else 0.0 if not struck else None
    wrong = []
    if bound is not None and terms.longest and forgers > 1 and not played.home:
        bound = max(bound, terms.planned_s)
    if not played.excused:
        busy = f" (something waited for a processor in {played.waited:.0%} of the round)" if played.busy else ""
        if bound is not None:
            measured = longest if terms.longest else total
            if measured > allowed_s(bound, terms, busy=played.busy):
                wrong.append(f"{measured:.3f} s without a forger, at most {bound:g} s were promised{busy}")
        # The gap counts from when the last fault was mended: what it cost before was that fault's to take.
        late = max((gap.end - max(gap.begin, mended) for gap in gaps), default=0) / NS
        if late > terms.recovery_s + terms.slack_s * played.busy:
            wrong.append(
                f"nobody forged for {late:.3f} s after all was mended, at most {terms.recovery_s:g} s expected{busy}"
            )
    restless = sum(gap.begin > mended for gap in gaps)
    return Judgement(played.number, total, longest, bound, back_s, restless, (*wrong, *played.notes))


def allowed_s(bound_s: float, terms: Terms, *, busy: bool) -> float:
    """What a bound comes to on this machine: a zero has no slack, unless the machine was busy."""
    return bound_s + terms.slack_s if bound_s or busy else MEASURING_S


def forgers_in(nodes: Mapping[str, Sequence[Interval]], begin: int, end: int) -> list[str]:
    """Who forged at any moment of the window; each node's intervals are in order and apart, as a record has them."""
    forged = []
    for name, found in nodes.items():
        first = bisect.bisect_right(found, begin, key=lambda interval: interval.end)
        if first < len(found) and found[first].begin < end:
            forged.append(name)
    return forged


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a part."""

    overlaps: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    judgements: tuple[Judgement, ...]
    violations: tuple[str, ...]


def verdict(
    nodes: Mapping[str, list[Interval]], rounds: Sequence[Round], terms: Terms, begin: int, end: int
) -> Verdict:
    """Of all that happened from `begin` to `end`."""
    overlaps = record.overlaps(nodes, begin, end)
    gaps = attribute(record.gaps(nodes, begin, end), rounds)
    wrong = [
        f"two forged for {overlap.seconds:.3f} s, {(overlap.begin - begin) / NS:.3f} s from the beginning"
        for overlap in overlaps
    ]
    judgements = []
    of_round: dict[int | None, list[Gap]] = {}
    for gap in gaps:
        of_round.setdefault(gap.round, []).append(gap)
    for played in rounds:
        forgers = len(forgers_in(nodes, played.began, played.ended))
        judgements.append(judge(played, of_round.get(played.number, []), terms, forgers=forgers))
        wrong += [f"round {played.number}: {violation}" for violation in judgements[-1].violations]
    allowed = terms.planned_s + terms.slack_s if terms.planned_s else MEASURING_S
    wrong += [
        f"before the first round nobody forged for {gap.seconds:.3f} s"
        for gap in of_round.get(None, [])
        if gap.seconds > allowed
    ]
    return Verdict(tuple(overlaps), tuple(gaps), tuple(judgements), tuple(wrong))


# --- figures ---


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one kind of fault."""

    kind: str
    count: int
    alone: int
    missed: int
    median_s: float | None
    p95_s: float | None
    max_s: float | None
    """Of what it cost alone; None: it never was alone."""
    bound_s: float | None
    """The largest that it had."""


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that is not exceeded by this share of them.  Raises ValueError: there is none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def by_kind(rounds: Sequence[Round], judgements: Sequence[Judgement], *, longest: bool = False) -> list[Figures]:
    """By name; both lists in the same order."""
    cost: dict[str, list[float]] = {}
    bounds: dict[str, list[float]] = {}
    count: dict[str, int] = {}
    missed: dict[str, int] = {}
    for played, judged in zip(rounds, judgements, strict=True):
        struck = [fault for fault in played.faults if not fault.missed]
        for fault in played.faults:
            count[fault.kind] = count.get(fault.kind, 0) + 1
            missed[fault.kind] = missed.get(fault.kind, 0) + bool(fault.missed)
        if len(struck) == 1 and not played.excused:
            cost.setdefault(struck[0].kind, []).append(judged.longest_s if longest else judged.gap_s)
            bounds.setdefault(struck[0].kind, []).append(judged.bound_s or 0.0)
    return [
        Figures(
            kind,
            count[kind],
            len(cost.get(kind, [])),
            missed[kind],
            statistics.median(cost[kind]) if kind in cost else None,
            quantile(cost[kind], 0.95) if kind in cost else None,
            max(cost[kind]) if kind in cost else None,
            max(bounds[kind]) if kind in bounds else None,
        )
        for kind in sorted(count)
    ]
