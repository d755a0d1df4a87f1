"""The API servers: each for itself, and the coordination APIs as the set of which a majority counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from policy import timing
from policy.doctor.findings import Finding, Unseen, Weight, unseen
from policy.election import pod_of
from policy.lease import LeaseRecord
from policy.pool_lock import one_set

CLOCK_TOLERANCE_S: Final = 5.0
"""By which a server's clock may differ, beyond what cannot be told of it."""
_HOLDER: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?_[0-9a-z]{8}")
"""`<pod>_<instance>`."""
_LOCK_HOLDER: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?_[0-9a-z]{8}")
"""`<CardanoForgeCluster>/<pod>_<instance>`."""
_IN_SET: Final = re.compile(r"(.+)-[0-9]+")
"""A StatefulSet's pod."""


@dataclass(frozen=True, slots=True)
class Served:
    """One of our kinds on one server."""

    kind: str
    wanted: str
    """As it is looked for: cardanoleaders in cardano.io/v1."""
    problem: str
    """Why it cannot be used; empty: it is served."""
    dropped: tuple[str, ...] | Unseen
    """Fields that the server does not know, and so drops."""
    needed: tuple[str, ...]
    """Those among them without which something does not work."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One right, in words, and whether the account has it."""

    right: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class ApiFacts:
    name: str
    own: bool
    """It is a cluster's own: the Lease by which its pods elect is there."""
    coordinates: bool
    """The pool-wide lock is there."""
    kubectl: str
    """What makes kubectl ask the same one: `kubectl` and its options."""
    role: str
    """The command that makes the Role: what goes before `| kubectl ... apply -f -`."""
    account: bool
    """It was asked with the pods' account; False: with that of whoever runs this."""
    setup_problem: str = ""
    """Why it cannot even be known how to reach it."""
    problem: str = ""
    """Why it does not answer."""
    version: str = ""
    took_s: tuple[float, ...] = ()
    """Of each request that was answered, of those that are asked again and again."""
    unanswered: int = 0
    clock_ahead_s: float | Unseen = Unseen("not asked")
    """The server's before ours."""
    clock_unsure_s: float = 1.0
    rights: tuple[Asked, ...] | Unseen = Unseen("not asked")
    leader: Served | Unseen = Unseen("not asked")
    cluster: Served | Unseen = Unseen("not asked")
    lease: LeaseRecord | Unseen | None = Unseen("not asked")
    """None: there is none."""
    lock: LeaseRecord | Unseen | None = Unseen("not asked")
    identity: str | Unseen = Unseen("not asked")
    """Which server it is."""
    no_namespace: str = ""
    """The namespace that it should have and has not; empty: it has, or that is not known."""

    @property
    def answers(self) -> bool:
        return not self.setup_problem and not self.problem


@dataclass(frozen=True, slots=True)
class Timing:
    """What all pods must have alike, and ours."""

    lease_duration_s: int
    sleep_interval_s: float

    @property
    def left_s(self) -> float:
        """From the moment at which a renewal is due until the right to forge ends without it."""
        duration = self.lease_duration_s * timing.SECOND
        usable = timing.soft_deadline(timing.grant_deadline(0, duration)) / timing.SECOND
        return usable - self.sleep_interval_s

    @property
    def patience_s(self) -> float:
        """For which an answer is waited: by who takes, and by who renews the first time (each time after it less)."""
        renewing = max(self.left_s / 3, timing.REQUEST_TIMEOUT / timing.SECOND)
        return min(renewing, timing.CONTENDER_TIMEOUT / timing.SECOND)


def judge_server(api: ApiFacts, times: Timing, lease: str, lock: str, pod: str = "") -> Iterator[Finding]:
    """All there is to say of one server.  pod: ours, in a StatefulSet whose Lease may be another pool's; else empty."""
    where = api.name
    rest = ["api-latency", "api-clock", "rights"]
    rest += ["crd-leader", "lease"] if api.own else []
    rest += ["crd-cluster", "pool-lock"] if api.coordinates else []
    if api.setup_problem:
        remedy = "as it says; kubectl with the same file shows whether it is right"
        yield Finding("kubeconfig", Weight.ERROR, api.setup_problem, remedy, f"{api.kubectl} get lease", where)
        yield from (unseen(check, Unseen("it is not known how to reach it"), where) for check in ("api", *rest))
        return
    yield Finding("kubeconfig", Weight.INFO, "it is known how to reach it", where=where)
    if api.problem:
        remedy = "look at its address, at network policies and firewalls on the way, and whether it is healthy itself"
        yield Finding("api", Weight.ERROR, api.problem, remedy, f"{api.kubectl} get --raw /readyz", where)
        yield from (unseen(check, Unseen("it does not answer"), where) for check in rest)
        return
    if api.no_namespace:
        command = f"{api.kubectl} create namespace {api.no_namespace}"
        reason = f"answers, and has no namespace {api.no_namespace}"
        yield Finding("api", Weight.ERROR, reason, "make it, or name the one that is meant", command, where)
    else:
        yield Finding("api", Weight.INFO, f"answers; version {api.version or 'not told'}", where=where)
    yield _latency(api, times)
    yield _clock(api)
    yield _rights(api)
    if api.own:
        yield from _served("crd-leader", api.leader, api)
        yield from _lease(api, times, lease, pod)
    if api.coordinates:
        yield from _served("crd-cluster", api.cluster, api)
        yield from _lock(api, times, lock)


def _latency(api: ApiFacts, times: Timing) -> Finding:
    left = times.left_s
    if not api.took_s:
        reason = f"{api.unanswered} requests, none was answered in time; a renewal has {left:.1f} s"
        remedy = "look at the server's health and at what is between; see the log of its etcd"
        return Finding("api-latency", Weight.ERROR, reason, remedy, where=api.name)
    least, middle, most = min(api.took_s), median(api.took_s), max(api.took_s)
    told = f"{_ms(least)} / {_ms(middle)} / {_ms(most)} (least, median, most of {len(api.took_s)})"
    reason = f"{told}; an answer is waited for {times.patience_s:.1f} s, {left:.1f} s before the right to forge ends"
    if api.unanswered:
        reason += f"; {api.unanswered} not answered in time"
    longer = "a longer LEASE_DURATION (the same on all pods), a shorter SLEEP_INTERVAL, or a nearer API server"
    if middle >= timing.CONTENDER_TIMEOUT / timing.SECOND:  # no setting makes who takes wait longer
        longer = "a nearer or healthier API server; see the log of its etcd"
    if middle >= times.patience_s:
        return Finding("api-latency", Weight.ERROR, f"too slow to lead by: {reason}", longer, where=api.name)
    if most > times.patience_s / 2 or api.unanswered:
        return Finding("api-latency", Weight.WARNING, f"slow: {reason}", longer, where=api.name)
    return Finding("api-latency", Weight.INFO, reason, where=api.name)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _clock(api: ApiFacts) -> Finding:
    if isinstance(api.clock_ahead_s, Unseen):
        return unseen("api-clock", api.clock_ahead_s, api.name)
    ahead = api.clock_ahead_s
    reason = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    if abs(ahead) - api.clock_unsure_s > CLOCK_TOLERANCE_S:
        reason += ": no right depends on it, but overrides, certificates and tokens end by clocks"
        remedy = "let both keep their time by a time service (chrony, systemd-timesyncd)"
        return Finding("api-clock", Weight.WARNING, reason, remedy, "date -u", api.name)
    return Finding("api-clock", Weight.INFO, reason, where=api.name)


def _rights(api: ApiFacts) -> Finding:
    if isinstance(api.rights, Unseen):
        return unseen("rights", api.rights, api.name)
    missing = [each.right for each in api.rights if not each.allowed]
    if not missing:
        whose = "the account" if api.account else "your account, which need not be the pods',"
        return Finding("rights", Weight.INFO, f"{whose} has all {len(api.rights)} that are needed", where=api.name)
    remedy = "give the account the Role of this pool, and bind it"
    command = f"{api.role} | {api.kubectl} apply -f -"
    if api.account:
        return Finding("rights", Weight.ERROR, f"missing: {', '.join(missing)}", remedy, command, api.name)
    reason = f"you have not what the pods need (of theirs that says nothing): {', '.join(missing)}"
    return Finding("rights", Weight.WARNING, reason, "run it in the pod to know of its account", where=api.name)


def _served(check: str, served: Served | Unseen, api: ApiFacts) -> Iterator[Finding]:
    if isinstance(served, Unseen):
        yield unseen(check, served, api.name)
        return
    remedy, command = "install the definitions of this version", f"{api.kubectl} apply -f deploy/crds"
    if served.problem:
        reason = f"{served.kind}: {served.problem}"
        yield Finding(check, Weight.ERROR, reason, remedy, command, api.name)
        return
    if isinstance(served.dropped, Unseen):
        yield unseen(check, Unseen(f"{served.wanted} is served; its fields: {served.dropped.why}"), api.name)
        return
    needed = [field for field in served.dropped if field in served.needed]
    if served.dropped:
        weight = Weight.ERROR if needed else Weight.WARNING
        reason = (
            f"{served.kind}: the server drops {', '.join(needed or served.dropped)}: its definition is an older one"
        )
        yield Finding(check, weight, reason, remedy, command, api.name)
        return
    yield Finding(check, Weight.INFO, f"{served.wanted}, with all fields", where=api.name)


def _lease(api: ApiFacts, times: Timing, name: str, pod: str) -> Iterator[Finding]:
    yield from _held("lease", api, api.lease, times, name, _HOLDER, "pod_instance")
    ours = _IN_SET.fullmatch(pod)
    if ours is None or not isinstance(api.lease, LeaseRecord):
        return
    theirs = _IN_SET.fullmatch(pod_of(api.lease.holder))
    if theirs is not None and theirs[1] != ours[1]:
        reason = (
            f"Lease {name} is held by a pod of {theirs[1]}, and this one is of {ours[1]}: where these are two pools, "
            "only one of them forges"
        )
        remedy = "a POOL_ID for each pool, or a LEASE_NAME; end all pods of a pool before you change it"
        yield Finding("lease", Weight.WARNING, reason, remedy, where=api.name)


def _lock(api: ApiFacts, times: Timing, name: str) -> Iterator[Finding]:
    yield from _held("pool-lock", api, api.lock, times, name, _LOCK_HOLDER, "cluster/pod_instance")


def _held(
    check: str,
    api: ApiFacts,
    record: LeaseRecord | Unseen | None,
    times: Timing,
    name: str,
    form: re.Pattern[str],
    words: str,
) -> Iterator[Finding]:
    where = api.name
    if isinstance(record, Unseen):
        yield unseen(check, record, where)
        return
    if record is None:
        reason = f"there is no Lease {name} yet: whoever leads first makes it, a lease duration after it came up"
        yield Finding(check, Weight.INFO, reason, where=where)
        return
    if not record.holder:
        yield Finding(check, Weight.INFO, f"Lease {name} is held by nobody", where=where)
        return
    bad = False
    if record.duration_s != times.lease_duration_s:
        bad = True
        reason = (
            f"Lease {name} is held for {record.duration_s} s at a time, LEASE_DURATION is {times.lease_duration_s}: "
            "the pods of a pool must have one"
        )
        yield Finding(check, Weight.ERROR, reason, "set the same LEASE_DURATION for all pods of the pool", where=where)
    if not form.fullmatch(record.holder) or record.unsealed:
        bad = True
        how = "makes no seal" if form.fullmatch(record.holder) else f"is not {words}"
        reason = f"Lease {name} is held by {record.holder}, which {how}: another program, or an older manager, contends"
        remedy = "stop it before these pods may forge (docs/upgrading.md)"
        command = f"{api.kubectl} get lease {name} -o yaml"
        yield Finding(check, Weight.WARNING, reason, remedy, command, where)
    if not bad:
        reason = f"Lease {name} is held by {record.holder}, token {record.transitions}"
        yield Finding(check, Weight.INFO, reason, where=where)


# --- the set ---


def judge_set(apis: Sequence[ApiFacts], *, managed: bool) -> Iterator[Finding]:
    """The coordination APIs together."""
    members = [api for api in apis if api.coordinates]
    if not members:
        why = "none could be asked here; the arbiter has their credentials" if managed else "cluster management is off"
        for check in ("crd-cluster", "majority", "same-server", "pool-lock", "member-set"):
            weight = Weight.NOT_LOOKED_AT if managed else Weight.INFO
            yield Finding(check, weight, why if managed else f"not used: {why}")
        return
    yield _majority(members)
    yield from _same(members)
    yield from _sets(members)


def _majority(members: Sequence[ApiFacts]) -> Finding:
    count = len(members)
    if count == 1 and members[0].own:
        reason = "the pod's own server alone holds the lock: if another cluster of the pool says so too, each may forge"
        remedy = "name the same servers in COORDINATION_KUBECONFIGS in every cluster: docs/clusters.md"
        return Finding("majority", Weight.WARNING, reason, remedy)
    if count == 1:
        reason = "one coordination API: while it is away nobody forges"
        return Finding("majority", Weight.INFO, f"{reason}; three bear the loss of one")
    bears = (count - 1) // 2
    if count % 2 == 0:
        reason = (
            f"{count} coordination APIs bear the loss of {bears}, as {count - 1} would: the last one only adds risk"
        )
        return Finding("majority", Weight.WARNING, reason, "name an odd number in COORDINATION_KUBECONFIGS, everywhere")
    return Finding("majority", Weight.INFO, f"{count} coordination APIs bear the loss of {bears}")


def _same(members: Sequence[ApiFacts]) -> Iterator[Finding]:
    known: dict[str, list[str]] = {}
    silent = [api for api in members if isinstance(api.identity, Unseen)]
    for api in members:
        if not isinstance(api.identity, Unseen):
            known.setdefault(api.identity, []).append(api.name)
    twice = [names for names in known.values() if len(names) > 1]
    for names in twice:
        reason = f"{' and '.join(names)} are one API server: it would count twice, and be a majority by itself"
        yield Finding("same-server", Weight.ERROR, reason, "name different servers in COORDINATION_KUBECONFIGS")
    for api in silent:
        why = api.identity.why if isinstance(api.identity, Unseen) else ""
        yield unseen("same-server", Unseen(f"which server it is: {why}"), api.name)
    if not twice and not silent:
        yield Finding("same-server", Weight.INFO, "no server is named twice")


def _sets(members: Sequence[ApiFacts]) -> Iterator[Finding]:
    ours = tuple(sorted({api.identity for api in members if isinstance(api.identity, str)}))
    told = [api.lock for api in members if isinstance(api.lock, LeaseRecord) and api.lock.members]
    if not told:
        yield Finding("member-set", Weight.INFO, "no holder of the lock has told which coordination APIs it counts")
        return
    records = [(record.members, record.apis) for record in told]
    if one_set((len(members), ours), *records):
        yield Finding("member-set", Weight.INFO, f"the lock's holder counts the same {len(members)}")
        return
    counts = " and ".join(str(count) for count in sorted({count for count, _ in records}))
    reason = (
        f"the lock's holder counts {counts} coordination APIs, and not these {len(members)}: two majorities need not "
        "meet, so two pods may forge"
    )
    remedy = 'give every pod of the pool the same set: docs/clusters.md, "Changing the set"'
    yield Finding("member-set", Weight.ERROR, reason, remedy)
