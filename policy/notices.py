"""From what a pod's workers say, one picture after the other, to what is worth telling somebody far away.  Pure.

`Teller.look` promises: each change that lasted as long as its kind asks for is told once, or counted in `held_back` of
the next notice about the same thing; without a change there is no notice; one thing is told of `BURST` times in a row,
then once in `EACH`, however it flaps; a teller that goes on from `kept()` repeats nothing.

What a teller that knows nothing finds is no change.  It tells of it only what is wrong (an error in the credentials, a
silent worker), for nobody was told.  A worker that is silent changes nothing but its own line: what it said last stays.

One pod tells of itself alone.  What all pods of a cluster see alike (its state, its health) is told by the one that
leads it.  Instants are ns of CLOCK_BOOTTIME, but `wall_s`: Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Check,
    ElectorState,
    Fence,
    LockPhase,
    PoolState,
    ProberState,
    Role,
    Sandbox,
    Severity,
    State,
    Worker,
)
from policy import notice_kinds as kinds
from policy import timing
from policy.kept import whole
from policy.notice_kinds import Gravity, Kind
from policy.wall_time import shown

BURST: Final = 6
EACH: Final = 60 * timing.SECOND
UNFIT_GRACE: Final = 120 * timing.SECOND
FIT_GRACE: Final = 10 * timing.SECOND
SILENT_GRACE: Final = 30 * timing.SECOND
"""Beyond the validity of a worker's last state: a restart is no reason to wake anybody."""
UNPROVEN_GRACE: Final = 10 * timing.SECOND
"""By then even an unhurried fence has killed the node (`policy.timing`)."""
FILES_GRACE: Final = 5 * timing.SECOND
"""The files of a secret may be replaced one after the other."""
KILLS_GRACE: Final = 3 * timing.SECOND
"""SIGTERM and SIGKILL to one node are one notice."""
CLOCK_GRACE: Final = 60 * timing.SECOND
"""What depends on the wall clock is told when it has been so for a while: clocks are set."""
DAYS: Final = (14, 7, 2)
"""Before the certificate's end, as in deploy/alerts/rules.yaml."""

MOST_TEXT: Final = 300
MOST_LINES: Final = 64
_DAY_S: Final = 86400.0
_MOST: Final = (1 << 64) - 1
"""The largest number that a frame can carry."""


More = tuple[tuple[str, str | int | None], ...]
NONE: Final[More] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the prober knows at one instant."""

    now: int
    wall_s: float
    states: Mapping[Worker, State]
    """The last state of each worker that was heard of, valid or not."""
    own: ProberState | None
    sandbox: Sandbox
    """The prober's own."""
    began: int
    """Since when it listens."""
    followed: tuple[Worker, ...]
    stopping: bool = False
    """The pod is about to end: who falls silent now does as it is told."""

    def _fresh(self, worker: Worker) -> Any:
        state = self.states.get(worker)
        return state.body if state is not None and self.now < state.valid_until else None

    @property
    def actuator(self) -> ActuatorState | None:
        found: ActuatorState | None = self._fresh(Worker.ACTUATOR)
        return found

    @property
    def elector(self) -> ElectorState | None:
        found: ElectorState | None = self._fresh(Worker.ELECTOR)
        return found

    @property
    def arbiter(self) -> ArbiterState | None:
        found: ArbiterState | None = self._fresh(Worker.ARBITER)
        return found

    @property
    def leading(self) -> bool:
        return self.elector is not None and self.elector.role in (Role.LEADER, Role.HANDOVER)

    @property
    def token(self) -> int:
        """Fencing token of the right under which this pod may forge; 0: it has none."""
        grants = [body.grant for body in (self.arbiter, self.elector) if body is not None and body.grant is not None]
        return next((max(grant.fencing_token, 0) for grant in grants if grant.exclusive), 0)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told."""

    number: int
    """Counts what this pod ever had to tell."""
    kind: Kind
    gravity: Gravity
    wall_s: float
    """When it happened."""
    about: str
    """The check, or the worker; empty: the kind says it."""
    old: str
    new: str
    why: str
    token: int
    """0: none."""
    seconds: float | None
    """How long it had been as it was; None: not known."""
    held_back: int
    """Changes of the same thing since the notice before, which were not told."""
    more: More = ()
    """What this kind has beside that."""


# --- what is so now ---


@dataclass(frozen=True, slots=True)
class _Reading:
    """One thing as it is now."""

    line: str
    """Which; what stands behind a slash is told as `about`."""
    value: str
    why: str = ""
    since: int = 0
    """0: since it was seen first."""
    lasting: int = 0
    """ns for which it has to be so before it counts."""
    usual: str | None = None
    """What is assumed before anything is known; None: nothing, so what is found first is told to nobody."""
    told: bool = True
    """Whether it is this pod's to tell."""
    token: int = 0
    more: More = ()


def _readings(seen: Seen) -> Iterator[_Reading]:
    """What is known now; what is not is left out, and so stays as it was."""
    if seen.actuator is not None:
        yield from _of_actuator(seen, seen.actuator)
    if seen.own is not None:
        yield from _of_ourselves(seen, seen.own)
    if seen.arbiter is not None and seen.arbiter.pool is not None:
        yield from _of_pool(seen, seen.arbiter.pool)
    yield from _of_workers(seen)


def _of_actuator(seen: Seen, actuator: ActuatorState) -> Iterator[_Reading]:
    since, more = actuator.since, NONE
    if actuator.fence is Fence.FENCED:
        more = (("proof", str(actuator.proof)),)
        yield _Reading("forging", "not forging", _why(seen, actuator, led=False), since, more=more)
    elif actuator.fence is Fence.ARMED and seen.now < actuator.deadline:
        yield _Reading("forging", "forging", _why(seen, actuator, led=True), since, token=seen.token)
    if actuator.fence is Fence.FENCING:
        yield _Reading("fence", "not proven", actuator.reason, since, UNPROVEN_GRACE, usual="proven")
    else:
        yield _Reading("fence", "proven", usual="proven")
    state = seen.states[Worker.ACTUATOR]
    kills = sum(max(count, 0) for count in actuator.kills_total.values())
    signals = ", ".join(f"{name}: {count}" for name, count in sorted(actuator.kills_total.items()))
    more = (("signals", signals[:MOST_TEXT]),)
    yield _Reading("kills", f"{kills}@{state.instance[:MOST_TEXT]}", actuator.reason, 0, KILLS_GRACE, more=more)
    yield from _of_credentials(seen, actuator)


def _why(seen: Seen, actuator: ActuatorState, *, led: bool) -> str:
    """The actuator knows that there is a grant or none, the elector why; led: whether that is a leader's to say."""
    elector = seen.elector
    if elector is None or not elector.reason or led is not (elector.role is Role.LEADER):
        return actuator.reason
    return f"{actuator.reason}; {elector.role}: {elector.reason}"


def _of_credentials(seen: Seen, actuator: ActuatorState) -> Iterator[_Reading]:
    errors = {each.check: each for each in reversed(actuator.findings) if each.severity is Severity.ERROR}
    for check in Check:
        found = errors.get(check)
        value, why, remedy = ("error", found.reason, found.remedy) if found is not None else ("good", "", "")
        yield _Reading(
            f"credentials/{check}", value, why, 0, FILES_GRACE, usual="good", more=(("remedy", remedy[:MOST_TEXT]),)
        )
    certificate = actuator.certificate
    if certificate is None or certificate.expires_at is None:
        return
    days = (certificate.expires_at - seen.wall_s) / _DAY_S
    stage = next((str(stage) for stage in reversed(DAYS) if days <= stage), "more") if days > 0 else "0"
    yield _Reading(
        "kes",
        stage,
        "",
        0,
        CLOCK_GRACE,
        usual="more",
        more=(("expires_at", shown(certificate.expires_at)), ("periods_left", certificate.periods_left)),
    )


def _of_ourselves(seen: Seen, own: ProberState) -> Iterator[_Reading]:
    grace, value = (FIT_GRACE, "fit") if own.fit else (UNFIT_GRACE, "unfit")
    yield _Reading("fit", value, "; ".join(own.reasons), own.since, grace, usual="fit")
    health = own.health
    if health is not None and health.checked_at:
        value = "healthy" if health.healthy else "unhealthy"
        yield _Reading("health", value, health.message, health.checked_at, usual="healthy", told=seen.leading)


def _of_pool(seen: Seen, pool: PoolState) -> Iterator[_Reading]:
    leading = seen.leading
    if pool.state:
        yield _Reading("state", pool.state[:MOST_TEXT], pool.why, told=leading)
        yield _Reading("priority", str(pool.priority), pool.why, told=leading)
    yield _Reading("override", pool.override[:MOST_TEXT] or "none", pool.why, told=leading)
    yield _Reading("conflict", "yes" if pool.conflict else "no", pool.why, usual="no", told=leading)
    held = pool.phase in (LockPhase.HELD, LockPhase.DRAINING)
    yield _Reading("lock", "held" if held else "not held", pool.why, token=max(pool.fencing_token, 0))
    disputed = "disputed" if pool.objection else "undisputed"
    yield _Reading("objection", disputed, pool.objection, usual="undisputed")


def _of_workers(seen: Seen) -> Iterator[_Reading]:
    for worker in seen.followed:
        state = seen.states.get(worker)
        if state is not None and seen.now < state.valid_until:
            yield _Reading(f"worker/{worker}", "alive", usual="alive")
            yield from _of_sandbox(worker, state.sandbox)
        elif not seen.stopping:
            since = state.valid_until if state is not None else seen.began
            yield _Reading(f"worker/{worker}", "silent", "", since, SILENT_GRACE, usual="alive")
    yield from _of_sandbox(Worker.PROBER, seen.sandbox)


def _of_sandbox(worker: Worker, sandbox: Sandbox) -> Iterator[_Reading]:
    if sandbox.audited_at:
        value = "violated" if sandbox.violations else "kept"
        yield _Reading(f"sandbox/{worker}", value, "; ".join(sandbox.violations), usual="kept")


# --- what is made of a change ---

_Made = tuple[Kind, Gravity] | None


def _pair(value: str, kind: Kind, other: Kind) -> Callable[[str, str], _Made]:
    """This kind where that is the new value, else the other."""
    return lambda _, new: (kind, kind.gravity) if new == value else (other, other.gravity)


def _always(kind: Kind) -> Callable[[str, str], _Made]:
    return lambda _, __: (kind, kind.gravity)


def _killed(old: str, new: str) -> _Made:
    """An actuator that starts anew counts from zero."""
    (before, _, instance), (now, _, other) = old.partition("@"), new.partition("@")
    more = int(now) > (int(before) if instance == other else 0)
    return (kinds.NODE_KILLED, Gravity.CRITICAL) if more else None


def _expires(old: str, new: str) -> _Made:
    if _days(new) > _days(old):
        return kinds.KES_RENEWED, Gravity.INFO
    if new == "0":
        return kinds.KES_EXPIRED, Gravity.CRITICAL
    return kinds.KES_EXPIRING, {"14": Gravity.INFO, "7": Gravity.WARNING}.get(new, Gravity.CRITICAL)


def _days(stage: str) -> int:
    """`more`: more than any."""
    return int(stage[:9]) if stage.isdecimal() else 1 << 16


_MAKE: Final[dict[str, Callable[[str, str], _Made]]] = {
    "forging": _pair("forging", kinds.FORGING_STARTED, kinds.FORGING_STOPPED),
    "fence": _pair("not proven", kinds.FENCE_UNPROVEN, kinds.FENCE_PROVEN),
    "kills": _killed,
    "credentials": _pair("error", kinds.CREDENTIALS_ERROR, kinds.CREDENTIALS_CURED),
    "kes": _expires,
    "fit": _pair("unfit", kinds.NODE_UNFIT, kinds.NODE_FIT),
    "health": _pair("unhealthy", kinds.CLUSTER_UNHEALTHY, kinds.CLUSTER_HEALTHY),
    "state": _always(kinds.CLUSTER_STATE),
    "priority": _always(kinds.CLUSTER_PRIORITY),
    "override": _pair("none", kinds.OVERRIDE_ENDED, kinds.OVERRIDE_BEGAN),
    "conflict": _pair("yes", kinds.CONFLICT_BEGAN, kinds.CONFLICT_ENDED),
    "lock": _pair("held", kinds.LOCK_TAKEN, kinds.LOCK_LEFT),
    "objection": _pair("disputed", kinds.LOCK_DISPUTED, kinds.LOCK_UNDISPUTED),
    "worker": _pair("silent", kinds.WORKER_SILENT, kinds.WORKER_BACK),
    "sandbox": _pair("violated", kinds.SANDBOX_VIOLATED, kinds.SANDBOX_KEPT),
}
"""By the line's name in front of the slash."""


# --- from change to change ---


@dataclass(slots=True)
class _Line:
    """One thing that has a value at a time."""

    value: str
    """What counts now."""
    since: int
    token: int = 0
    """Of the right under which it is so."""
    held: int = 0
    """Changes that were not told yet."""
    spent_until: int = 0
    """When everything told so far is paid for, at `EACH` a notice."""
    coming: str | None = None
    """What it seems to become."""
    coming_since: int = 0
    change: Notice | None = None
    """The last change, while it is held back."""

    @property
    def may_tell_at(self) -> int:
        """When the next notice about it may be made."""
        return self.spent_until - (BURST - 1) * EACH


class Teller:
    """Of one pod, over the restarts of its prober."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._made = 0
        """Notices so far."""
        self._new = True
        """Whoever knows nothing yet says so, when it first sees whether the node forges."""

    def look(self, seen: Seen) -> tuple[Notice, ...]:
        """What is to be told now."""
        found: list[Notice] = []
        for reading in _readings(seen):
            line = self._lines.get(reading.line)
            if line is None and len(self._lines) < MOST_LINES:
                line = self._lines[reading.line] = _begun(reading, seen.now)
                if self._new and reading.line == "forging":
                    self._new = False
                    found.append(self._numbered(_first(reading, seen)))
            if line is not None and self._take(line, reading, seen):
                self._change(line, reading, seen)
        for line in self._lines.values():
            if line.change is not None and seen.now >= line.may_tell_at:
                found += [self._tell(line, line.change, seen.now)]
        return tuple(found)

    def _tell(self, line: _Line, change: Notice, now: int) -> Notice:
        held_back, line.held, line.change = line.held - 1, 0, None
        line.spent_until = max(line.spent_until, now) + EACH
        return self._numbered(replace(change, held_back=held_back))

    def _numbered(self, notice: Notice) -> Notice:
        self._made += 1
        return replace(notice, number=self._made)

    @staticmethod
    def _take(line: _Line, reading: _Reading, seen: Seen) -> bool:
        """Whether it has changed, for long enough to count."""
        if reading.value == line.value:
            line.coming, line.token = None, reading.token or line.token
            return False
        if line.coming != reading.value:
            line.coming = reading.value
            line.coming_since = _since(reading, seen.now)
        return seen.now >= line.coming_since + reading.lasting

    def _change(self, line: _Line, reading: _Reading, seen: Seen) -> None:
        old, lasted = line.value, (line.coming_since - line.since) / timing.SECOND if line.since else None
        line.value, line.since, line.coming = reading.value, line.coming_since, None
        token = reading.token or line.token
        line.token = reading.token
        made = _MAKE[reading.line.partition("/")[0]](old, reading.value)
        if made is None or not reading.told:
            return
        kind, gravity = made
        line.held += 1
        line.change = Notice(
            number=0,
            kind=kind,
            gravity=gravity,
            wall_s=seen.wall_s - (seen.now - line.since) / timing.SECOND,
            about=reading.line.partition("/")[2],
            old=_shown(old),
            new=_shown(reading.value),
            why=reading.why[:MOST_TEXT],
            token=token,
            seconds=None if lasted is None else round(max(lasted, 0.0), 3),
            held_back=0,
            more=reading.more,
        )

    def kept(self) -> dict[str, Any]:
        """To be written down, for `resumed`."""
        return {
            "made": self._made,
            "new": self._new,
            "lines": {
                name: {
                    "value": line.value,
                    "since": line.since,
                    "token": line.token,
                    "held": line.held,
                    "spent_until": line.spent_until,
                    "change": asdict(replace(line.change, kind=line.change.kind.name)) if line.change else None,  # type: ignore[arg-type]
                }
                for name, line in self._lines.items()
            },
        }

    @classmethod
    def resumed(cls, kept: Mapping[str, Any]) -> Teller:
        """As it was.  Raises ValueError, TypeError, KeyError, AttributeError for what `kept` did not make."""
        teller = cls()
        teller._made, teller._new = whole(kept["made"], _MOST), kept["new"] is True
        for name, raw in list(kept["lines"].items())[:MOST_LINES]:
            if name.partition("/")[0] not in _MAKE:
                raise ValueError("a line that there is none of")
            change = _resumed_notice(raw["change"]) if raw["change"] is not None else None
            teller._lines[name] = _Line(
                value=_resumed_value(name, raw["value"]),
                since=whole(raw["since"], _MOST),
                token=whole(raw["token"], _MOST),
                held=max(whole(raw["held"], _MOST), 1) if change is not None else 0,
                spent_until=whole(raw["spent_until"], _MOST),
                change=change,
            )
        return teller


def _begun(reading: _Reading, now: int) -> _Line:
    """A line that nothing was known of."""
    value = reading.usual if reading.usual is not None else reading.value
    known = value == reading.value and reading.since
    return _Line(value, since=_since(reading, now) if known else 0, token=reading.token if known else 0)


def _since(reading: _Reading, now: int) -> int:
    """Since when it is so; from now on, where a worker says nothing, or what cannot be."""
    return reading.since if 0 < reading.since <= now else now


def _first(reading: _Reading, seen: Seen) -> Notice:
    """What somebody who knows nothing yet finds; no change."""
    new, why = reading.value, reading.why[:MOST_TEXT]
    return Notice(
        0, kinds.POD_STARTED, kinds.POD_STARTED.gravity, seen.wall_s, "", "", new, why, reading.token, None, 0
    )


def _shown(value: str) -> str:
    """Without whose count it is."""
    return value.partition("@")[0][:MOST_TEXT]


def _resumed_value(line: str, value: Any) -> str:
    """Raises ValueError."""
    text = str(value)[:MOST_TEXT]
    number = text.partition("@")[0] if line == "kills" else "0"
    if not number.isdecimal() or (line == "kills" and "@" not in text):
        raise ValueError("a number of kills is expected")
    return text


def _resumed_notice(raw: Mapping[str, Any]) -> Notice:
    """Raises ValueError, TypeError, KeyError."""
    texts = {name: str(raw[name])[:MOST_TEXT] for name in ("about", "old", "new", "why")}
    return Notice(
        number=0,
        kind=kinds.KINDS[raw["kind"]],
        gravity=Gravity(raw["gravity"]),
        wall_s=float(raw["wall_s"]),
        token=whole(raw["token"], _MOST),
        seconds=None if raw["seconds"] is None else float(raw["seconds"]),
        held_back=0,
        more=tuple((str(name), value) for name, value in raw["more"] if isinstance(value, str | int | None)),
        **texts,
    )
