"""A network's calendar from its Shelley genesis file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardano.genesis import MOST_BYTES, GenesisError, read_genesis, shelley_genesis
from cardano.slots import NETWORKS, Network, kes_period_at, slot_at

DEVNET: dict[str, Any] = {
    "activeSlotsCoeff": 0.1,
    "epochLength": 500,
    "maxKESEvolutions": 60,
    "networkId": "Testnet",
    "networkMagic": 42,
    "slotLength": 0.1,
    "slotsPerKESPeriod": 1000,
    "systemStart": "2026-01-01T00:00:00Z",
}
START = 1767225600


def genesis(**changes: Any) -> str:
    return json.dumps(DEVNET | changes)


def test_a_devnet_begins_with_slot_0_in_the_shelley_era() -> None:
    calendar = shelley_genesis(genesis())
    assert calendar == Network(START, 0, 0.1, 1000, START, 42, 0, 500, 60)
    assert slot_at(calendar, START + 10.05) == 100
    assert kes_period_at(calendar, START + 101) == 1


@pytest.mark.parametrize(("name", "start"), [("mainnet", "2017-09-23T21:44:51Z"), ("preprod", "2022-06-01T00:00:00Z")])
def test_of_a_public_network_the_length_of_its_byron_era_is_known(name: str, start: str) -> None:
    table = NETWORKS[name]
    found = shelley_genesis(
        genesis(
            networkMagic=table.magic,
            systemStart=start,
            slotLength=1,
            slotsPerKESPeriod=129600,
            epochLength=432000,
            maxKESEvolutions=62,
        )
    )
    assert found == table


def test_a_file_that_speaks_for_a_public_network_and_is_not_its_own_is_refused() -> None:
    with pytest.raises(GenesisError, match="764824073"):
        shelley_genesis(genesis(networkMagic=764824073))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"systemStart": "soon"}, "systemStart"),
        ({"systemStart": 5}, "systemStart"),
        ({"systemStart": "1950-01-01T00:00:00Z"}, "systemStart"),
        ({"slotLength": 0}, "slotLength"),
        ({"slotLength": True}, "slotLength"),
        ({"slotLength": float("nan")}, "slotLength"),
        ({"slotLength": float("inf")}, "slotLength"),
        ({"slotLength": 10**400}, "slotLength"),
        ({"slotsPerKESPeriod": 0}, "slotsPerKESPeriod"),
        ({"slotsPerKESPeriod": "129600"}, "slotsPerKESPeriod"),
        ({"maxKESEvolutions": 65}, "maxKESEvolutions"),
        ({"epochLength": None}, "epochLength"),
        ({"networkMagic": 2**32}, "networkMagic"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(GenesisError, match=named):
        shelley_genesis(genesis(**change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"startTime": 1506203091}', "[" * 100_000, "\ufeff{}"])
def test_what_is_no_shelley_genesis_is_refused(text: str) -> None:
    with pytest.raises(GenesisError, match=r"shelley-genesis\.json"):
        shelley_genesis(text)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(sorted(DEVNET)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    )
)
def test_whatever_stands_in_the_fields_a_calendar_counts_or_there_is_none(fields: dict[str, Any]) -> None:
    try:
        calendar = shelley_genesis(genesis(**fields))
    except GenesisError:
        return
    assert slot_at(calendar, calendar.start_s + calendar.slot_length_s * 1.5) == calendar.start_slot + 1


def test_a_file_that_is_not_there_or_too_large_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match="mount"):
        read_genesis(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(GenesisError, match="not a file"):
            read_genesis(other)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(GenesisError, match="larger"):
        read_genesis(large)
