"""Slots of the public networks, by the wall clock.

Source: each network's Shelley genesis (systemStart, slotLength, slotsPerKESPeriod) and the slot at which its
Shelley era began, after a Byron era of 20 s slots where there was one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Network:
    """One network's calendar.  Seconds are Unix time."""

    start_s: int
    """When the slot `start_slot` began."""
    start_slot: int
    slot_length_s: float
    slots_per_kes_period: int


NETWORKS: Final = {
    "mainnet": Network(1596059091, 4492800, 1.0, 129600),
    "preprod": Network(1655769600, 86400, 1.0, 129600),
    "preview": Network(1666656000, 0, 1.0, 129600),
}


def slot_at(network: str, unix_s: float) -> int | None:
    """The slot that the wall clock says it is; None for a network without a table (custom)."""
    calendar = NETWORKS.get(network)
    if calendar is None or unix_s < calendar.start_s:
        return None
    return calendar.start_slot + int((unix_s - calendar.start_s) / calendar.slot_length_s)


def slot_length_s(network: str) -> float:
    """Seconds; 1 for a network without a table, as on every public one."""
    calendar = NETWORKS.get(network)
    return calendar.slot_length_s if calendar is not None else 1.0
