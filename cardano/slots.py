"""Slots and KES periods by the wall clock, of the public networks and of one whose genesis is given.  Pure.

Sources: each network's Byron and Shelley genesis files (startTime / systemStart, slotLength, slotsPerKESPeriod,
epochLength, networkMagic), as published with cardano-node, and the point at which its Shelley era began after a Byron
era of 20 s slots: mainnet at slot 4492800 (epoch 208, 2020-07-29T21:44:51Z), preprod at slot 86400 (epoch 4,
2022-06-21T00:00:00Z); preview had no Byron slots.  A network without a calendar is None in all that follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Network:
    """One network's calendar.  Seconds are Unix time."""

    start_s: int
    """When the slot `start_slot` began."""
    start_slot: int
    """First slot of the Shelley era."""
    slot_length_s: float
    slots_per_kes_period: int
    system_start_s: int
    """When slot 0 began."""
    magic: int
    start_epoch: int
    """Epoch that began with `start_slot`."""
    slots_per_epoch: int
    max_kes_evolutions: int = 62
    """KES periods for which a certificate is good; 62 on all three."""


NETWORKS: Final = {
    "mainnet": Network(1596059091, 4492800, 1.0, 129600, 1506203091, 764824073, 208, 432000),
    "preprod": Network(1655769600, 86400, 1.0, 129600, 1654041600, 1, 4, 432000),
    "preview": Network(1666656000, 0, 1.0, 129600, 1666656000, 2, 0, 86400),
}

_YEAR_9999_S: Final = 253370764800


def name_of(magic: int) -> str | None:
    """The public network with this magic number; None: it is none of them."""
    return next((name for name, network in NETWORKS.items() if network.magic == magic), None)


def slot_at(calendar: Network | None, unix_s: float) -> int | None:
    """The slot that the wall clock says it is.

    None without a calendar, for a time before the Shelley era, and for no time at all (NaN, infinity).
    """
    if calendar is None or not math.isfinite(unix_s) or unix_s < calendar.start_s:
        return None
    return calendar.start_slot + int((unix_s - calendar.start_s) / calendar.slot_length_s)


def slot_phase(calendar: Network | None, unix_s: float) -> float | None:
    """Seconds since the running slot began: 0 <= phase < slot length.  None where `slot_at` is None."""
    if calendar is None or slot_at(calendar, unix_s) is None:
        return None
    return math.fmod(unix_s - calendar.start_s, calendar.slot_length_s)


def slot_length_s(calendar: Network | None) -> float:
    """Seconds; 1 without a calendar, as on every public network."""
    return calendar.slot_length_s if calendar is not None else 1.0


def kes_period_at(calendar: Network | None, unix_s: float) -> int | None:
    """The KES period that the wall clock says it is: absolute slot // slotsPerKESPeriod.  None as for `slot_at`."""
    slot = slot_at(calendar, unix_s)
    return None if slot is None or calendar is None else slot // calendar.slots_per_kes_period


def kes_period_start(calendar: Network | None, period: int) -> float | None:
    """When a KES period begins, in Unix seconds.

    None without a calendar, for a period that began before the Shelley era, and for one in the year 9999 or later.
    """
    if calendar is None:
        return None
    slots = period * calendar.slots_per_kes_period - calendar.start_slot
    begins = calendar.start_s + slots * calendar.slot_length_s
    return begins if slots >= 0 and begins < _YEAR_9999_S else None


def epoch_of(calendar: Network | None, slot: int) -> int | None:
    """The epoch of a slot; None without a calendar and for a slot before the Shelley era."""
    if calendar is None or slot < calendar.start_slot:
        return None
    return calendar.start_epoch + (slot - calendar.start_slot) // calendar.slots_per_epoch
