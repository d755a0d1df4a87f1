"""Slots of the public networks, by the wall clock.  Pure: the time is an argument.

Sources: each network's Byron and Shelley genesis files (startTime / systemStart, slotLength, slotsPerKESPeriod,
epochLength, networkMagic), as published with cardano-node, and the point at which its Shelley era began after a Byron
era of 20 s slots: mainnet at slot 4492800 (epoch 208, 2020-07-29T21:44:51Z), preprod at slot 86400 (epoch 4,
2022-06-21T00:00:00Z); preview had no Byron slots.
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


NETWORKS: Final = {
    "mainnet": Network(1596059091, 4492800, 1.0, 129600, 1506203091, 764824073, 208, 432000),
    "preprod": Network(1655769600, 86400, 1.0, 129600, 1654041600, 1, 4, 432000),
    "preview": Network(1666656000, 0, 1.0, 129600, 1666656000, 2, 0, 86400),
}

_YEAR_9999_S: Final = 253370764800
MAX_KES_EVOLUTIONS: Final = 62
"""KES periods for which a certificate is good (maxKESEvolutions of all three)."""


def slot_at(network: str, unix_s: float) -> int | None:
    """The slot that the wall clock says it is.

    None for a network without a table (custom, a devnet), for a time before the Shelley era, and for no time at all
    (NaN, infinity).
    """
    calendar = NETWORKS.get(network)
    if calendar is None or not math.isfinite(unix_s) or unix_s < calendar.start_s:
        return None
    return calendar.start_slot + int((unix_s - calendar.start_s) / calendar.slot_length_s)


def slot_phase(network: str, unix_s: float) -> float | None:
    """Seconds since the running slot began: 0 <= phase < slot length.  None where `slot_at` is None."""
    if slot_at(network, unix_s) is None:
        return None
    calendar = NETWORKS[network]
    return math.fmod(unix_s - calendar.start_s, calendar.slot_length_s)


def slot_length_s(network: str) -> float:
    """Seconds; 1 for a network without a table, as on every public one."""
    calendar = NETWORKS.get(network)
    return calendar.slot_length_s if calendar is not None else 1.0


def kes_period_at(network: str, unix_s: float) -> int | None:
    """The KES period that the wall clock says it is: absolute slot // slotsPerKESPeriod.  None as for `slot_at`."""
    slot = slot_at(network, unix_s)
    return None if slot is None else slot // NETWORKS[network].slots_per_kes_period


def kes_period_start(network: str, period: int) -> float | None:
    """When a KES period begins, in Unix seconds.

    None for a network without a table, for a period that began before the Shelley era, and for one so far away that no
    calendar has it (year 9999).
    """
    calendar = NETWORKS.get(network)
    if calendar is None:
        return None
    slots = period * calendar.slots_per_kes_period - calendar.start_slot
    begins = calendar.start_s + slots * calendar.slot_length_s
    return begins if slots >= 0 and begins < _YEAR_9999_S else None


def epoch_of(network: str, slot: int) -> int | None:
    """The epoch of a slot; None for a network without a table and for a slot before the Shelley era."""
    calendar = NETWORKS.get(network)
    if calendar is None or slot < calendar.start_slot:
        return None
    return calendar.start_epoch + (slot - calendar.start_slot) // calendar.slots_per_epoch
