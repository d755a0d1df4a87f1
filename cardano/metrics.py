"""What the node says of itself in Prometheus text, whatever its version calls it.

One table of aliases per meaning: classic tracing (up to 10.x), new tracing, and new tracing with `nosuffix`
(docs: cardano-node's metrics migration guide, `trace-documentation`).  Absent, stale and zero are different
things: a meaning that is not there is None.  No text makes `parse_metrics` raise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "cardano_node_metrics_"

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "slot": ("slotNum_int", "slotNum"),
    "block": ("blockNum_int", "blockNum"),
    "epoch": ("epoch_int", "epoch"),
    "forging_enabled": ("forging_enabled", "forging_enabled_int"),
    "about_to_lead": (
        "Forge_forge_about_to_lead_int",
        "Forge_about_to_lead_counter",
        "Forge_about_to_lead_int",
        "Forge_forge_about_to_lead_counter",
        "Forge_forgeAboutToLead_counter",
        "Forge_about_to_lead",
    ),
    "node_start_time": ("nodeStartTime_int", "node_start_time_int", "node_start_time"),
    "kes_current": ("currentKESPeriod_int", "currentKESPeriod"),
    "kes_remaining": ("remainingKESPeriods_int", "remainingKESPeriods"),
    "kes_start": ("operationalCertificateStartKESPeriod_int", "operationalCertificateStartKESPeriod"),
    "kes_expiry": ("operationalCertificateExpiryKESPeriod_int", "operationalCertificateExpiryKESPeriod"),
}
"""Meaning -> names after the prefix, the first that is found counts."""

_MEANING: Final = {name: (meaning, rank) for meaning, names in ALIASES.items() for rank, name in enumerate(names)}
_MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """What was found.  Slots, blocks, epochs and KES periods are counts; node_start_time is Unix seconds."""

    slot: int | None = None
    block: int | None = None
    epoch: int | None = None
    forging_enabled: int | None = None
    """1 or 0: the outcome of the last reconfiguration, alone no proof of anything."""
    about_to_lead: int | None = None
    """Leadership checks: rises once per slot while a forging thread lives."""
    node_start_time: int | None = None
    kes_current: int | None = None
    kes_remaining: int | None = None
    kes_start: int | None = None
    kes_expiry: int | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    """Meaning -> the name under which it was found."""


def parse_metrics(text: str, prefix: str = PREFIX) -> NodeMetrics:
    """Read an exposition.  Lines that are not understood, and values that are no counts, are passed over."""
    values: dict[str, int] = {}
    ranks: dict[str, int] = {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith(prefix):
            continue
        name, _, rest = line.partition(" ")
        known = _MEANING.get(name.partition("{")[0][len(prefix) :])
        if known is None:
            continue
        meaning, rank = known
        value = _count(rest)
        if value is not None and rank <= ranks.get(meaning, rank):
            values[meaning], ranks[meaning], found[meaning] = value, rank, name.partition("{")[0]
    return NodeMetrics(**values, aliases=found)


def _count(text: str) -> int | None:
    """The value before an optional timestamp, if it is a non-negative whole number."""
    words = text.split()
    if not words:
        return None
    try:
        value = float(words[0])
    except ValueError:
        return None
    if not math.isfinite(value) or not 0 <= value <= _MOST:
        return None
    return int(value)
