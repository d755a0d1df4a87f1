"""Counters that survive the restart of the worker they come from, and of the gateway that adds them up.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ipc.messages import ActuatorState, ArbiterState, Cost, ElectorState, Notifications, ProberState, State, Worker
from policy.kept import whole

MOST_LABELS: Final = 32
"""Of one kind: twice what honest workers have.  One gone bad fills neither memory nor the others' places."""
MOST_TEXT: Final = 40
"""Characters of a label, and of an instance's name: together they always fit into the ledger."""

MOST: Final = (1 << 63) - 1
"""Where counting ends: no honest count comes near it."""

UNAUTHORIZED: Final = "unauthorized"
"""The kind of the gateway's own count of requests without the right token."""

Counts = Counter[tuple[str, str]]
"""Kind and label (labels joined by '/') -> count."""


class Totals:
    """A worker that starts anew begins at zero; the total shown here goes on from where the old one ended."""

    def __init__(self) -> None:
        self._finished: Counts = Counter()
        self._living: dict[Worker, tuple[str, Counts]] = {}
        self.restarts: Counter[Worker] = Counter()

    def take(self, state: State) -> None:
        """Note a state's counters."""
        self.count(state.worker, state.instance, _counters(state))

    def count(self, worker: Worker, instance: str, counters: Counts) -> None:
        """Note a worker's counters; a new instance begins where the old one ended."""
        instance, known = instance[:MOST_TEXT], self._living.get(worker)
        if known is not None and known[0] == instance:
            counters = known[1] | counters  # the greater of each: no total ever goes down
        elif known is not None:
            self._finished = _bounded(self._finished + known[1])
            self.restarts[worker] += 1
        self._living[worker] = (instance, _bounded(counters))

    def of(self, name: str, known: Sequence[str] = ()) -> dict[str, int]:
        """Label (or labels joined by '/') -> total; those in `known` even if nothing was counted yet."""
        total = Counter(self._finished)
        for _, counters in self._living.values():
            total.update(counters)
        found = dict.fromkeys(known, 0)
        return found | {label: value for (kind, label), value in sorted(total.items()) if kind == name}

    def kept(self) -> dict[str, Any]:
        """To be written down, for `resumed`."""
        return {
            "finished": _listed(self._finished),
            "living": {str(w): [instance, _listed(counters)] for w, (instance, counters) in self._living.items()},
            "restarts": {str(worker): count for worker, count in self.restarts.items()},
        }

    @classmethod
    def resumed(cls, kept: Mapping[str, Any]) -> Totals:
        """As they were.  Raises ValueError, TypeError, KeyError for what `kept` did not make."""
        totals = cls()
        totals._finished = _unlisted(kept["finished"])
        for name, (instance, counters) in kept["living"].items():
            totals._living[Worker(name)] = (str(instance), _unlisted(counters))
        for name, count in kept["restarts"].items():
            totals.restarts[Worker(name)] = whole(count, MOST)
        return totals


def _counters(state: State) -> Counts:
    found: Counts = Counter()

    def add(name: str, values: Mapping[str, int]) -> None:
        for label, value in values.items():
            if len(label) <= MOST_TEXT and label.isascii() and label.isprintable():
                found[name, label] += max(value, 0)

    found.update(of_cost(state.worker, state.cost))
    match state.body:
        case ElectorState() as body:
            add("changes", {"": body.changes_total})
            add("api_failures", {"": body.failures_total})
            add("api_requests", body.requests_total)
        case ArbiterState() as body:
            add("api_failures", {"": body.failures_total})
            add("api_requests", body.requests_total)
        case ActuatorState() as body:
            add("sighups", body.sighups_total)
            add("operations", body.operations_total)
            add("kills", body.kills_total)
        case ProberState(notifications=Notifications() as told):
            add("notices", {"sent": told.sent_total, "failed": told.failed_total, "dropped": told.dropped_total})
        case _:
            pass
    return found


def of_cost(worker: Worker, cost: Cost) -> Counts:
    """CPU time, in ms."""
    return Counter({("cpu_ms", str(worker)): max(cost.cpu_ns, 0) // 1_000_000})


def _bounded(counters: Counts) -> Counts:
    """Of each kind those that were counted first, each as far as counting goes."""
    found: Counts = Counter()
    labels: Counter[str] = Counter()
    for (kind, label), count in counters.items():
        labels[kind] += 1
        if labels[kind] <= MOST_LABELS:
            found[kind, label] = min(count, MOST)
    return found


def _listed(counters: Counts) -> list[list[str | int]]:
    return [[kind, label, value] for (kind, label), value in counters.items()]


def _unlisted(raw: Sequence[Sequence[Any]]) -> Counts:
    return _bounded(Counter({(str(kind), str(label)): whole(value, MOST) for kind, label, value in raw}))
