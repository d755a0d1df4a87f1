"""The public networks' calendars."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.slots import NETWORKS, epoch_of, kes_period_at, slot_at, slot_length_s, slot_phase

BYRON_SLOT_S = 20
BYRON_EPOCH_SLOTS = 21600
TIMES = st.floats(min_value=1_700_000_000, max_value=2_500_000_000)


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_the_shelley_era_began_at_the_published_slots() -> None:
    assert slot_at(NETWORKS["mainnet"], unix("2020-07-29T21:44:51")) == 4492800
    assert slot_at(NETWORKS["preprod"], unix("2022-06-21T00:00:00")) == 86400
    assert slot_at(NETWORKS["preview"], unix("2022-10-25T00:00:00")) == 0


def test_the_tables_agree_with_the_length_of_the_byron_era() -> None:
    for network in NETWORKS.values():
        assert network.system_start_s + network.start_slot * BYRON_SLOT_S == network.start_s
        assert network.start_epoch * BYRON_EPOCH_SLOTS == network.start_slot


def test_the_magic_numbers_are_those_of_the_protocol() -> None:
    assert {name: network.magic for name, network in NETWORKS.items()} == {
        "mainnet": 764824073,
        "preprod": 1,
        "preview": 2,
    }


def test_a_network_without_a_calendar_has_no_slots_but_a_slot_length() -> None:
    assert slot_at(None, 1_800_000_000) is None
    assert slot_phase(None, 1_800_000_000) is None
    assert kes_period_at(None, 1_800_000_000) is None
    assert epoch_of(None, 10**9) is None
    assert slot_length_s(None) == 1.0


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1596059090.999])
def test_a_time_before_the_era_or_no_time_at_all_has_no_slot(time: float) -> None:
    assert slot_at(NETWORKS["mainnet"], time) is None
    assert slot_phase(NETWORKS["mainnet"], time) is None


def test_periods_and_epochs_follow_the_published_lengths() -> None:
    assert kes_period_at(NETWORKS["mainnet"], unix("2020-07-29T21:44:51")) == 4492800 // 129600
    assert epoch_of(NETWORKS["mainnet"], 4492800) == 208
    assert epoch_of(NETWORKS["mainnet"], 4492800 + 432000) == 209
    assert epoch_of(NETWORKS["mainnet"], 4492799) is None
    assert epoch_of(NETWORKS["preview"], 86400) == 1


@given(st.sampled_from(sorted(NETWORKS)), TIMES)
def test_a_second_later_is_the_next_slot(network: str, time: float) -> None:
    slot, later = slot_at(NETWORKS[network], float(int(time))), slot_at(NETWORKS[network], float(int(time)) + 1)
    assert slot is not None
    assert later == slot + 1


@given(st.sampled_from(sorted(NETWORKS)), TIMES)
def test_slot_and_phase_together_give_back_the_time(network: str, time: float) -> None:
    calendar, slot, phase = NETWORKS[network], slot_at(NETWORKS[network], time), slot_phase(NETWORKS[network], time)
    assert slot is not None
    assert phase is not None
    assert 0 <= phase < calendar.slot_length_s
    assert calendar.start_s + (slot - calendar.start_slot) * calendar.slot_length_s + phase == pytest.approx(time)
