"""Every kind of notice that a webhook can get, once: its type, how grave it is, and what it says.  Pure.

docs/notifications.md is made from this.  A type is a promise to receivers: it is never renamed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "io.cardano.forge."
"""Of every type."""
EVERYTHING: Final = "all"


class Gravity(enum.StrEnum):
    """The words of the extension attribute `severity`, which are those of the alerting rules; the least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_ORDER: Final = tuple(Gravity)


@dataclass(frozen=True, slots=True)
class Kind:
    """One type."""

    name: str
    """Without the prefix."""
    gravity: Gravity
    meaning: str
    ends: str = ""
    """The kind whose end it tells: whoever is told of that one is told of its end."""
    also: tuple[Gravity, ...] = ()
    """Other severities that it may have; `meaning` says when."""

    @property
    def type(self) -> str:
        """As a notice carries it."""
        return PREFIX + self.name


_INFO, _WARNING, _CRITICAL = Gravity.INFO, Gravity.WARNING, Gravity.CRITICAL

POD_STARTED: Final = Kind(
    "pod.started",
    _INFO,
    "This pod's notices begin: the pod is new, or its RUN_DIR is. Says what it found, and that notices arrive",
)
FORGING_STARTED: Final = Kind(
    "forging.started", _INFO, "This pod's node began to forge, as it confirmed", "forging.stopped"
)
FORGING_STOPPED: Final = Kind("forging.stopped", _WARNING, "This pod's node stopped forging, as it is proven")
NODE_KILLED: Final = Kind(
    "node.killed",
    _CRITICAL,
    "The actuator sent the node signals that end it, because it did not confirm that it stopped forging; old and new "
    "are how many were sent since the actuator started",
)
NODE_UNFIT: Final = Kind("node.unfit", _WARNING, "The node has not been fit to forge for two minutes")
NODE_FIT: Final = Kind("node.fit", _INFO, "The node has been fit again for ten seconds", "node.unfit")
FENCE_UNPROVEN: Final = Kind(
    "fence.unproven", _CRITICAL, "The node was told to stop ten seconds ago, and nothing proves yet that it did"
)
FENCE_PROVEN: Final = Kind("fence.proven", _INFO, "What was not proven is", "fence.unproven")
CREDENTIALS_ERROR: Final = Kind(
    "credentials.error",
    _CRITICAL,
    "An error was found in the credentials, which keeps this pod from forging; `about` is the check",
)
CREDENTIALS_CURED: Final = Kind(
    "credentials.cured", _INFO, "An error in the credentials is there no more", "credentials.error"
)
KES_EXPIRING: Final = Kind(
    "kes.expiring",
    _WARNING,
    "The certificate is good for 14 days at most (info), then 7 (warning), then 2 (critical): rotate the KES key",
    also=(_INFO, _CRITICAL),
)
KES_EXPIRED: Final = Kind("kes.expired", _CRITICAL, "The certificate is good no more")
KES_RENEWED: Final = Kind("kes.renewed", _INFO, "A certificate is there that is good for longer", "kes.expiring")
CLUSTER_STATE: Final = Kind("cluster.state-changed", _WARNING, "The cluster's effective state is another one")
CLUSTER_PRIORITY: Final = Kind("cluster.priority-changed", _INFO, "The cluster's effective priority is another one")
OVERRIDE_BEGAN: Final = Kind(
    "cluster.override-began", _WARNING, "An operator's override forces the cluster's state or priority"
)
OVERRIDE_ENDED: Final = Kind(
    "cluster.override-ended", _INFO, "No override forces anything any more", "cluster.override-began"
)
CONFLICT_BEGAN: Final = Kind("cluster.conflict-began", _WARNING, "This cluster and another one are Enabled at once")
CONFLICT_ENDED: Final = Kind(
    "cluster.conflict-ended", _INFO, "At most one cluster is Enabled again", "cluster.conflict-began"
)
CLUSTER_UNHEALTHY: Final = Kind(
    "cluster.unhealthy", _WARNING, "The cluster's health checks failed as often in a row as is borne"
)
CLUSTER_HEALTHY: Final = Kind("cluster.healthy", _INFO, "They succeed again", "cluster.unhealthy")
LOCK_TAKEN: Final = Kind("lock.taken", _INFO, "This pod took the pool-wide lock", "lock.left")
LOCK_LEFT: Final = Kind("lock.left", _INFO, "This pod holds the pool-wide lock no more")
LOCK_DISPUTED: Final = Kind(
    "lock.disputed",
    _CRITICAL,
    "Not all pods of the pool count the same coordination APIs, so nobody here may hold the lock",
)
LOCK_UNDISPUTED: Final = Kind("lock.undisputed", _INFO, "They do again", "lock.disputed")
WORKER_SILENT: Final = Kind(
    "worker.silent", _WARNING, "Another worker of this pod has said nothing for half a minute; `about` is its name"
)
WORKER_BACK: Final = Kind("worker.back", _INFO, "It speaks again", "worker.silent")
SANDBOX_VIOLATED: Final = Kind(
    "sandbox.violated", _CRITICAL, "A worker's self-audit found that it can do what it does not declare"
)
SANDBOX_KEPT: Final = Kind("sandbox.kept", _INFO, "It finds nothing of the kind any more", "sandbox.violated")

KINDS: Final = {kind.name: kind for kind in tuple(globals().values()) if isinstance(kind, Kind)}
"""By name, in the order of docs/notifications.md."""


class FilterError(ValueError):
    """A word of a filter that means nothing; the text is the remedy."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notices are wanted: those that any word of NOTIFY_EVENTS names."""

    least: Gravity | None
    """All at least this grave; None: no notice is wanted for its gravity alone."""
    names: tuple[str, ...]
    """All of these kinds, and those below them (`forging` is `forging.started`, too)."""

    def passes(self, kind: Kind, gravity: Gravity) -> bool:
        """Whether a notice of this kind and severity is wanted."""
        ended = KINDS.get(kind.ends)
        weights = (gravity, ended.gravity, *ended.also) if ended is not None else (gravity,)
        if self.least is not None and max(map(_ORDER.index, weights)) >= _ORDER.index(self.least):
            return True
        return any(_below(kind.name, name) or _below(kind.ends, name) for name in self.names)


def filter_of(words: Sequence[str]) -> Filter:
    """Of `all`, severities (this one and graver), types and their beginnings.  Raises FilterError."""
    least: Gravity | None = None
    names = []
    for word in words:
        name = word.removeprefix(PREFIX)
        if word == EVERYTHING:
            least = Gravity.INFO
        elif word in _ORDER:
            least = min(least or Gravity(word), Gravity(word), key=_ORDER.index)
        elif any(_below(kind, name) for kind in KINDS):
            names.append(name)
        else:
            subjects = ", ".join(dict.fromkeys(kind.partition(".")[0] for kind in KINDS))
            raise FilterError(
                f"{word!r} is no type: must be `all`, or words with commas between them, each a least severity "
                f"({', '.join(_ORDER)}), a subject ({subjects}) or a type (docs/notifications.md)"
            )
    return Filter(least, tuple(names))


def _below(kind: str, name: str) -> bool:
    return kind == name or kind.startswith(f"{name}.")
