"""The kinds of notices of docs/notifications.md, with an example each, rendered as the prober renders them."""

from __future__ import annotations

import json
from typing import Any, Final

from policy import cloud_event
from policy.cloud_event import Sender
from policy.notice_kinds import KINDS, Kind
from policy.notices import More, Notice

SENDER: Final = Sender(
    namespace="cardano-mainnet",
    pod="cardano-bp-0",
    network="mainnet",
    pool_id="pool1cvwpepghavqdh825nwc7kcanr6ymef9tatlj78lkfc2j7ef5a4y",
    cluster="us-east-1",
    subject="pool1cvwpepghavqdh825nwc7kcanr6ymef9tatlj78lkfc2j7ef5a4y",
)
_WHEN: Final = 1_800_000_000.125
_COMES_FIRST: Final = "Priority-based, priority 1"
_EXPIRES: Final[More] = (("expires_at", "2027-01-22T08:00:00Z"), ("periods_left", 4))

Example = tuple[str, str, str, str, int, float | None, More]
"""about, old, new, why, token, seconds, more."""

EXAMPLES: Final[dict[str, Example]] = {
    "pod.started": ("", "", "not forging", "no node yet; standby: cardano-bp-1 leads", 0, None, ()),
    "forging.started": ("", "not forging", "forging", "the node forges; leader: took the lease", 42, 86400.125, ()),
    "forging.stopped": (
        *("", "forging", "not forging", "no grant from the elector; handover: standing down as asked", 42, 7265.25),
        (("proof", "metrics"),),
    ),
    "node.killed": (
        *("", "0", "2", "the node did not confirm that it stopped forging", 0, None),
        (("signals", "SIGKILL: 1, SIGTERM: 1"),),
    ),
    "node.unfit": ("", "fit", "unfit", "the node's metrics do not answer", 0, 86400.0, ()),
    "node.fit": ("", "unfit", "fit", "", 0, 312.5, ()),
    "fence.unproven": ("", "proven", "not proven", "no grant from the elector", 0, None, ()),
    "fence.proven": ("", "not proven", "proven", "", 0, 12.75, ()),
    "credentials.error": (
        *("match", "good", "error", "the certificate is for another KES key", 0, None),
        (("remedy", "put the certificate that was issued for this KES key into the secret"),),
    ),
    "credentials.cured": ("match", "error", "good", "", 0, 600.0, (("remedy", ""),)),
    "kes.expiring": ("", "14", "7", "", 0, 604800.0, _EXPIRES),
    "kes.expired": ("", "2", "0", "", 0, 172800.0, (("expires_at", "2027-01-15T08:00:00Z"), ("periods_left", 0))),
    "kes.renewed": ("", "7", "more", "", 0, 259200.0, (("expires_at", "2027-04-15T08:00:00Z"), ("periods_left", 62))),
    "cluster.state-changed": ("", "Priority-based", "Disabled", "Disabled: maintenance", 0, None, ()),
    "cluster.priority-changed": ("", "1", "101", "Priority-based, priority 101", 0, None, ()),
    "cluster.override-began": ("", "none", "Disabled (maintenance)", "Disabled: maintenance", 0, None, ()),
    "cluster.override-ended": ("", "Disabled (maintenance)", "none", _COMES_FIRST, 0, 14400.0, ()),
    "cluster.conflict-began": ("", "no", "yes", "Enabled, priority 1", 0, None, ()),
    "cluster.conflict-ended": ("", "yes", "no", _COMES_FIRST, 0, 95.5, ()),
    "cluster.unhealthy": ("", "healthy", "unhealthy", "health.example: answered 503", 0, None, ()),
    "cluster.healthy": ("", "unhealthy", "healthy", "health.example: answered 200", 0, 240.0, ()),
    "lock.taken": ("", "not held", "held", _COMES_FIRST, 43, None, ()),
    "lock.left": ("", "held", "not held", "us-west-2 comes first: Priority-based, priority 1", 43, 7200.0, ()),
    "lock.disputed": ("", "undisputed", "disputed", "cardano-bp-0 of eu-west-1 counts other members", 0, None, ()),
    "lock.undisputed": ("", "disputed", "undisputed", "", 0, 61.0, ()),
    "worker.silent": ("elector", "alive", "silent", "", 0, None, ()),
    "worker.back": ("elector", "silent", "alive", "", 0, 41.25, ()),
    "sandbox.violated": ("arbiter", "kept", "violated", "read SOURCE_KES_KEY: done", 0, None, ()),
    "sandbox.kept": ("arbiter", "violated", "kept", "", 0, 600.0, ()),
}
_SAME: Final = ("pod", "namespace", "network", "pool_id", "cluster")


def event(kind: Kind) -> dict[str, Any]:
    """An example of it, as a receiver gets it."""
    about, old, new, why, token, seconds, more = EXAMPLES[kind.name]
    number = list(KINDS).index(kind.name) + 1
    notice = Notice(number, kind, kind.gravity, _WHEN, about, old, new, why, token, seconds, 0, more)
    return cloud_event.cloud_event(notice, f"5f0c9a3be1d27486-{number}", SENDER)


def whole() -> str:
    """One of them with all its attributes."""
    return f"```json\n{json.dumps(event(KINDS['forging.stopped']), indent=2)}\n```"


def kinds() -> str:
    """All of them by subject; of the examples what is not alike in all."""
    parts = []
    for subject in dict.fromkeys(name.partition(".")[0] for name in KINDS):
        of_it = [kind for kind in KINDS.values() if kind.name.partition(".")[0] == subject]
        rows = [f"| `{kind.type}` | {_severities(kind)} | {kind.meaning}. |" for kind in of_it]
        examples = [json.dumps({name: event(kind)["data"][name] for name in _shown(kind)}) for kind in of_it]
        table = "\n".join(["| type | severity | |", "|---|---|---|", *rows])
        parts.append(f"### {subject}\n\n{table}\n\n```json lines\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts)


def _severities(kind: Kind) -> str:
    return ", ".join(dict.fromkeys(map(str, (kind.gravity, *kind.also))))


def _shown(kind: Kind) -> list[str]:
    return [name for name in event(kind)["data"] if name not in _SAME]
