"""What the node says of itself in Prometheus text, whatever its version calls it.

One table of aliases per meaning: classic tracing (up to 10.x), new tracing, and new tracing with `nosuffix`
(docs: cardano-node's metrics migration guide; a node lists its own names with `cardano-node trace-documentation`).
Absent, stale and zero are three things.  A meaning that is not there, or that contradicts itself, is None.  Zero is
what the node wrote.  Whether a value is stale this module cannot know: who reads twice compares (a slot that stands
still, a count that does not rise), and gauges of forging and KES outlive the forging they speak of (issue 5751).
No text makes `parse_metrics` raise.  Format: Prometheus exposition formats, text version 0.0.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

PREFIX: Final = "cardano_node_metrics_"
"""The default of TraceOptionMetricsPrefix."""

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
        "Forge_forge_about_to_lead",
        "Forge_forgeAboutToLead",
    ),
    "node_start_time": ("nodeStartTime_int", "node_start_time_int", "nodeStartTime", "node_start_time"),
    "kes_current": ("currentKESPeriod_int", "currentKESPeriod"),
    "kes_remaining": ("remainingKESPeriods_int", "remainingKESPeriods"),
    "kes_start": ("operationalCertificateStartKESPeriod_int", "operationalCertificateStartKESPeriod"),
    "kes_expiry": ("operationalCertificateExpiryKESPeriod_int", "operationalCertificateExpiryKESPeriod"),
    "adopted": ("Forge_adopted_int", "Forge_adopted_counter", "Forge_adopted"),
}
"""Meaning -> names after the prefix.  If several are there, the first in this order counts."""

_MEANING: Final = {name: (meaning, rank) for meaning, names in ALIASES.items() for rank, name in enumerate(names)}
_NAME: Final = re.compile(r"[a-zA-Z0-9_:]+")
_REST: Final = re.compile(
    r'(?:\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})?'  # labels
    r"[ \t]+([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)"  # no sign: none of these can be negative; no NaN, no Inf
    r"(?:[ \t]+-?[0-9]+)?[ \t\r]*"  # time stamp
)
_LONGEST_LINE: Final = 4096
"""Characters.  No metric of ours comes near; a longer line is not worth reading."""
_MOST: Final = 2**53
"""Prometheus values are doubles: above this they are no counts any more."""


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """What was found.  Slots, blocks, epochs and KES periods are counts; node_start_time is Unix seconds."""

    slot: int | None = None
    """Of the chain's tip, not of the wall clock."""
    block: int | None = None
    epoch: int | None = None
    forging_enabled: int | None = None
    """1 or 0: the outcome of the last reconfiguration, alone no proof of anything."""
    about_to_lead: int | None = None
    """Leadership checks: rises once per slot while a forging thread lives."""
    node_start_time: int | None = None
    kes_current: int | None = None
    kes_remaining: int | None = None
    """0 also when the key has expired."""
    kes_start: int | None = None
    kes_expiry: int | None = None
    adopted: int | None = None
    """Blocks that the node made and took into its own chain: the ledger's rules held for them."""
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Meaning -> the full name under which it was found."""


def parse_metrics(text: str, prefix: str = PREFIX) -> NodeMetrics:
    """Read an exposition.  Lines that are not understood, and values that are no counts, are passed over.

    A name that comes twice with different values (a node shows none of these per label) means nothing: absent.
    """
    found: dict[str, dict[str, int | None]] = {}
    for line in text.split("\n"):
        if not line.startswith(prefix) or len(line) > _LONGEST_LINE:
            continue
        name = _NAME.match(line, len(prefix))
        if name is None or name[0] not in _MEANING:
            continue
        rest = _REST.fullmatch(line, name.end())
        value = _count(rest[1]) if rest is not None else None
        if value is None:
            continue
        values = found.setdefault(_MEANING[name[0]][0], {})
        values[name[0]] = value if values.get(name[0], value) == value else None
    chosen = {meaning: min(values, key=lambda name: _MEANING[name][1]) for meaning, values in found.items()}
    known = {meaning: found[meaning][name] for meaning, name in chosen.items()}
    return NodeMetrics(
        **known,
        aliases=MappingProxyType({meaning: prefix + chosen[meaning] for meaning, v in known.items() if v is not None}),
    )


def _count(number: str) -> int | None:
    """The number if it is whole and small enough to be exact."""
    value = float(number)
    return int(value) if value <= _MOST and value.is_integer() else None
