"""A network's calendar from its Shelley genesis file, for networks of which no table is known.

Fields: cardano-ledger Cardano/Ledger/Shelley/Genesis.hs (systemStart, slotLength in seconds, slotsPerKESPeriod,
maxKESEvolutions, epochLength, networkMagic).  The file does not say how long a Byron era lasted before: for the public
networks a table knows, and any other one is taken to have had none.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cardano.slots import NETWORKS, Network, name_of

MOST_BYTES: Final = 16 * 1024 * 1024
"""Devnets carry their first funds and pools in it."""
_MOST: Final = 2**53


class GenesisError(ValueError):
    """Not a Shelley genesis; the text names the field and what would be right."""


def read_genesis(path: Path) -> Network:
    """The calendar that a file gives.  Raises GenesisError."""
    try:
        if not path.is_file() and path.exists():
            raise GenesisError("is not a file; name the network's shelley-genesis.json")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise GenesisError(f"cannot be read ({error.strerror}); mount the node's configuration there") from None
    if len(text) > MOST_BYTES:
        raise GenesisError(f"is larger than {MOST_BYTES // 1024**2} MiB: it is no genesis file")
    return shelley_genesis(text)


def shelley_genesis(text: str | bytes) -> Network:
    """The calendar.  Raises GenesisError."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise GenesisError("is no JSON; name the network's shelley-genesis.json") from None
    if not isinstance(raw, dict) or "systemStart" not in raw:
        raise GenesisError("has no systemStart: name the network's shelley-genesis.json, not another genesis file")
    magic = _whole(raw, "networkMagic", 0, 2**32 - 1)
    start = _system_start(raw)
    name = name_of(magic)
    known = NETWORKS[name] if name is not None else None
    if known is not None and known.system_start_s != start:
        raise GenesisError(f"has the magic number {magic} of a public network, and another systemStart than that has")
    return Network(
        start_s=known.start_s if known is not None else start,
        start_slot=known.start_slot if known is not None else 0,
        slot_length_s=_slot_length(raw),
        slots_per_kes_period=_whole(raw, "slotsPerKESPeriod", 1, _MOST),
        system_start_s=start,
        magic=magic,
        start_epoch=known.start_epoch if known is not None else 0,
        slots_per_epoch=_whole(raw, "epochLength", 1, _MOST),
        max_kes_evolutions=_whole(raw, "maxKESEvolutions", 1, 64),
    )


def _whole(raw: dict[str, Any], name: str, low: int, high: int) -> int:
    value = raw.get(name)
    if type(value) is not int or not low <= value <= high:
        raise GenesisError(f"{name} must be a whole number from {low} to {high}")
    return value


def _slot_length(raw: dict[str, Any]) -> float:
    value: Any = raw.get("slotLength")
    if type(value) not in (int, float) or not 0.001 <= value <= 3600:  # nor is NaN; any number can be compared
        raise GenesisError("slotLength must be a number of seconds from 0.001 to 3600")
    return float(value)


def _system_start(raw: dict[str, Any]) -> int:
    """Whole seconds: a fraction would matter to no KES period."""
    value = raw["systemStart"]
    try:
        instant = datetime.fromisoformat(value if isinstance(value, str) else "")
        seconds = int((instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise GenesisError("systemStart must be an instant such as 2022-10-25T00:00:00Z") from None
    if seconds < 0:
        raise GenesisError("systemStart must not be before 1970")
    return seconds
