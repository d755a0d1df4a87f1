"""What pods say of themselves, held against what their nodes wrote down: a metric, a page or an object that lies.

`Onlooker` looks all the time, also while faults last: what is said may then be as old as a state is valid, no older.
A pool at rest has no such excuse: `own_words` and `together` say in what it contradicts itself, or the record.

Pure but for the `Onlooker`.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devkit.pods import Pod
from devkit.record import NS, Interval
from policy import timing

EVERY_S: Final = 2.0
STALE_S: Final = timing.STATE_VALIDITY / timing.SECOND + 1
"""What is told may be so old: a worker's last state is valid for so long after it fell silent; and a second."""
MOST: Final = 20
"""Findings that are kept: the first ones tell enough."""

Sheet = Mapping[str, Sequence[tuple[str, float]]]
"""A page of metrics: name -> (labels as they stand there, value)."""


def sheet(text: str) -> Sheet:
    """Of the text format; what cannot be read is left out."""
    found: dict[str, list[tuple[str, float]]] = {}
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if line.startswith("#") or not head:
            continue
        name, _, labels = head.partition("{")
        try:
            found.setdefault(name, []).append((labels.rstrip("}"), float(value)))
        except ValueError:
            continue
    return found


def total(page: Sheet, name: str, having: str = "") -> float | None:
    """The sum over the samples whose labels contain this; None: there is none."""
    values = [value for labels, value in page.get(name, ()) if having in labels]
    return sum(values) if values else None


# --- while faults last ---


@dataclass(frozen=True, slots=True)
class Look:
    """At one pod's metrics.  Instants are CLOCK_MONOTONIC, ns."""

    pod: str
    asked: int
    answered: int
    forging: bool
    leading: bool
    enabled: bool


def look(pod: str, asked: int, answered: int, page: Sheet) -> Look:
    def says(name: str) -> bool:
        return total(page, name) == 1

    return Look(
        pod,
        asked,
        answered,
        says("cardano_forging_enabled"),
        says("cardano_leader_status"),
        says("cardano_cluster_forge_enabled"),
    )


def lie(seen: Look, forged: Iterable[Interval], longest_s: float) -> str:
    """Whether it says that its node forges, which by its record (`forged`) has not for so long; empty: it does not."""
    since = seen.asked - longest_s * NS
    if not seen.forging or any(each.end > since and each.begin <= seen.answered for each in forged):
        return ""
    return f"{seen.pod} says that its node forges, which has not for {longest_s:g} s by its own record"


class Lasting:
    """Something that may be so for a moment and no longer."""

    def __init__(self, longest_s: float) -> None:
        self._longest = longest_s * NS
        self._since: int | None = None
        self._told = False

    def too_long(self, at: int, *, so: bool) -> bool:
        """Whether it is so now and was at each look since longer ago than that; said once each time."""
        if not so:
            self._since, self._told = None, False
            return False
        self._since = at if self._since is None else self._since
        if self._told or at - self._since <= self._longest:
            return False
        self._told = True
        return True


class Critic:
    """What is wrong with the looks at all pods, one after another."""

    def __init__(self, leases: Sequence[Sequence[str]], slack_s: float) -> None:
        """leases: the names of the pods that are elected by one Lease, of which one API server alone decides."""
        self._longest_s = STALE_S + slack_s
        self._leases = [(tuple(names), Lasting(self._longest_s)) for names in leases]
        self._enabled = Lasting(self._longest_s)

    def judge(self, looks: Sequence[Look], forged: Mapping[str, Sequence[Interval]]) -> list[str]:
        """forged: each node's intervals, those at least that were not over `STALE_S` and slack ago."""
        found = [told for seen in looks if (told := lie(seen, forged[seen.pod], self._longest_s))]
        at = max((seen.answered for seen in looks), default=0)
        several = [("cardano_cluster_forge_enabled", [seen.pod for seen in looks if seen.enabled], self._enabled)]
        for names, lasting in self._leases:
            leading = [seen.pod for seen in looks if seen.leading and seen.pod in names]
            several.append(("cardano_leader_status", leading, lasting))
        for metric, pods, lasting in several:
            if lasting.too_long(at, so=len(pods) > 1):
                found.append(f"{metric} is 1 at once for more than {self._longest_s:g} s: {', '.join(pods)}")
        return found


class Onlooker:
    """Looks at every pod's metrics again and again, in a thread of its own."""

    def __init__(self, pods: Iterable[Pod], critic: Critic) -> None:
        self._pods, self._critic = list(pods), critic
        self._found: list[str] = []
        self.looks = 0
        """Pages that were read."""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onlooker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(EVERY_S):
            looks = [seen for pod in self._pods if (seen := self._look(pod)) is not None]
            now = time.monotonic_ns()
            forged = {pod.name: pod.intervals(now, now - 60 * NS) for pod in self._pods}
            found = self._critic.judge(looks, forged)
            with self._lock:
                self.looks += len(looks)
                self._found += found

    @staticmethod
    def _look(pod: Pod) -> Look | None:
        """None: nobody answers."""
        asked = time.monotonic_ns()
        try:
            code, text = pod.get("/metrics")
        except (OSError, http.client.HTTPException):
            return None
        return look(pod.name, asked, time.monotonic_ns(), sheet(text)) if code == 200 else None

    def found(self) -> list[str]:
        """Since the last call, each once."""
        with self._lock:
            found, self._found = self._found, []
        return list(dict.fromkeys(found))[:MOST]

    def close(self) -> None:
        self._end.set()
        self._thread.join(30)


# --- at rest ---


@dataclass(frozen=True, slots=True)
class Word:
    """What one pod says of itself, and what its node wrote down."""

    pod: str
    forges: bool
    """By the record."""
    status: Mapping[str, Any]
    page: Sheet


def word(pod: Pod, *, forges: bool) -> Word:
    """An empty page, or status: nobody answers."""
    try:
        code, text = pod.get("/metrics")
    except (OSError, http.client.HTTPException):
        code, text = 0, ""
    return Word(pod.name, forges, pod.status(), sheet(text) if code == 200 else {})


def own_words(said: Word, counter: int) -> list[str]:
    """In what it contradicts its node's record, or is not well.  counter: of the certificate in its secret."""
    forges = float(said.forges)
    wanted = {
        "cardano_forging_enabled": forges,
        "cardano_cluster_forge_enabled": forges,
        "cardano_forge_manager_ready": 1,
        "cardano_forge_manager_node_fit": 1,
        "cardano_forge_manager_node_started_producing": 0,
        "cardano_opcert_counter": counter,
    }
    found = {name: total(said.page, name) for name in wanted}
    wrong = [f"{name} is {found[name]}, not {value:g}" for name, value in wanted.items() if found[name] != value]
    wrong += [
        f"{name} is not 1 for {labels}"
        for name in ("cardano_forge_manager_worker_up",)
        for labels, value in said.page.get(name, ())
        if value != 1
    ]
    if total(said.page, "cardano_forge_manager_privilege_violations"):
        wrong.append("cardano_forge_manager_privilege_violations is not 0")
    if total(said.page, "cardano_credential_findings", 'severity="error"'):
        wrong.append("cardano_credential_findings has an error")
    if said.forges and total(said.page, "cardano_leader_status") != 1:
        wrong.append("cardano_leader_status is not 1, and its node forges")
    if said.status.get("forging") is not said.forges:
        wrong.append(f"/status says forging: {said.status.get('forging')}")
    if (said.status.get("health") or {}).get("alive") is not True:
        wrong.append(f"/status says of the workers: {said.status.get('health')}")
    if said.status.get("paused"):
        wrong.append(f"/status says that something is paused: {said.status['paused']}")
    fence = (said.status.get("fence") or {}).get("state")
    if fence != ("armed" if said.forges else "fenced"):
        wrong.append(f"/status says that the fence is {fence}")
    return [f"{said.pod}: {each}" for each in wrong]


def together(words: Sequence[Word], *, of: str, one_lease: bool) -> list[str]:
    """In what pods contradict each other.

    of: the part of /status that names holder and token of what all of them share, `leader` or `pool`.
    """
    wrong = []
    for key in ("holder", "token"):
        told = {said.pod: (said.status.get(of) or {}).get(key) for said in words}
        if len(set(told.values())) != 1:
            wrong.append(f"/status does not name one {of} {key}: {told}")
    leading = [said.pod for said in words if total(said.page, "cardano_leader_status") == 1]
    if one_lease and len(leading) != 1:
        wrong.append(f"cardano_leader_status is 1 for: {', '.join(leading) or 'nobody'}")
    return wrong


@dataclass(frozen=True, slots=True)
class Turn:
    """Who forged when the pool had come to rest, and by which fencing token."""

    forger: str
    token: int


def turned(before: Turn | None, after: Turn) -> list[str]:
    """Tokens only rise, and each forger has one of its own."""
    if before is None:
        return []
    if after.token < before.token:
        return [f"the fencing token fell from {before.token} to {after.token}"]
    if after.token == before.token and after.forger != before.forger:
        return [f"{after.forger} forges by the fencing token {after.token} of {before.forger}"]
    return []
