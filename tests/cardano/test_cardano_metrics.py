"""Reading what a node says of itself, by any of its names, and believing no garbage."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.metrics import ALIASES, PREFIX, NodeMetrics, parse_metrics

CLASSIC = """\
# TYPE cardano_node_metrics_slotNum_int gauge
cardano_node_metrics_slotNum_int 143012062
cardano_node_metrics_blockNum_int 11236512
cardano_node_metrics_epoch_int 528
cardano_node_metrics_slotInEpoch_int 345262
cardano_node_metrics_density_real 4.9e-2
cardano_node_metrics_nodeStartTime_int 1736000000
cardano_node_metrics_currentKESPeriod_int 1103
cardano_node_metrics_remainingKESPeriods_int 17
cardano_node_metrics_operationalCertificateStartKESPeriod_int 1058
cardano_node_metrics_operationalCertificateExpiryKESPeriod_int 1120
cardano_node_metrics_Forge_forge_about_to_lead_int 86400
cardano_node_metrics_Forge_adopted_int 31
cardano_node_metrics_forging_enabled 1
"""
NEW = """\
cardano_node_metrics_slotNum_int 143012062
cardano_node_metrics_blockNum_int 11236512
cardano_node_metrics_epoch_int 528
cardano_node_metrics_node_start_time_int 1736000000
cardano_node_metrics_currentKESPeriod_int 1103
cardano_node_metrics_remainingKESPeriods_int 17
cardano_node_metrics_operationalCertificateStartKESPeriod_int 1058
cardano_node_metrics_operationalCertificateExpiryKESPeriod_int 1120
cardano_node_metrics_Forge_about_to_lead_counter 86400
cardano_node_metrics_Forge_adopted_counter 31
cardano_node_metrics_forging_enabled_int 1
"""
NOSUFFIX = NEW.replace("_int", "").replace("_counter", "")
WHOLE = NodeMetrics(
    slot=143012062,
    block=11236512,
    epoch=528,
    forging_enabled=1,
    about_to_lead=86400,
    node_start_time=1736000000,
    kes_current=1103,
    kes_remaining=17,
    kes_start=1058,
    kes_expiry=1120,
    adopted=31,
)
MEANINGS = [field.name for field in dataclasses.fields(NodeMetrics) if field.name != "aliases"]


def without_aliases(metrics: NodeMetrics) -> NodeMetrics:
    return dataclasses.replace(metrics, aliases={})


@pytest.mark.parametrize("text", [CLASSIC, NEW, NOSUFFIX], ids=["classic", "new", "nosuffix"])
def test_every_tracing_system_says_the_same(text: str) -> None:
    found = parse_metrics(text)
    assert without_aliases(found) == without_aliases(WHOLE)
    assert set(found.aliases) == set(MEANINGS)
    assert all(name + " " in text for name in found.aliases.values())


def test_the_table_has_every_meaning_and_no_name_twice() -> None:
    assert sorted(ALIASES) == sorted(MEANINGS)
    names = [name for names in ALIASES.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("meaning", "name"), [(m, n) for m, names in ALIASES.items() for n in names])
def test_each_alias_alone_is_found_and_named(meaning: str, name: str) -> None:
    found = parse_metrics(f"{PREFIX}{name} 5\n")
    assert getattr(found, meaning) == 5
    assert dict(found.aliases) == {meaning: PREFIX + name}


def test_what_is_not_there_is_absent_and_zero_is_zero() -> None:
    assert parse_metrics("") == NodeMetrics()
    found = parse_metrics(f"{PREFIX}forging_enabled 0\n")
    assert found.forging_enabled == 0
    assert found.about_to_lead is None


def test_the_first_alias_of_the_table_counts_wherever_it_stands() -> None:
    first, second = f"{PREFIX}Forge_forge_about_to_lead_int 7\n", f"{PREFIX}Forge_about_to_lead_counter 9\n"
    assert parse_metrics(first + second) == parse_metrics(second + first)
    assert parse_metrics(second + first).about_to_lead == 7


def test_a_name_that_contradicts_itself_means_nothing() -> None:
    twice = f"{PREFIX}forging_enabled 0\n{PREFIX}forging_enabled 1\n{PREFIX}forging_enabled 0\n"
    found = parse_metrics(twice)
    assert found.forging_enabled is None
    assert "forging_enabled" not in found.aliases
    assert parse_metrics(f"{PREFIX}forging_enabled 0\n" * 2).forging_enabled == 0


@pytest.mark.parametrize(
    "value",
    ["NaN", "+Inf", "-Inf", "-1", "1e300", "9007199254740994", "0.5", "", "x", "1_0", "0x1", "٣", "1 x", "1 2 3"],
)
def test_a_value_that_is_no_count_is_absent(value: str) -> None:
    assert parse_metrics(f"{PREFIX}slotNum_int {value}\n") == NodeMetrics()


@pytest.mark.parametrize("value", ["12", "12.0", "1.2e1", "12 1700000000000", "12\r", "  12  ", "12 -5"])
def test_a_count_may_be_written_in_several_ways(value: str) -> None:
    assert parse_metrics(f"{PREFIX}slotNum_int {value}\n").slot == 12


def test_labels_are_passed_over_even_with_spaces_and_brackets_in_them() -> None:
    assert parse_metrics(PREFIX + 'slotNum_int{a="b c} 7",d="\\"}"} 12\n').slot == 12
    assert parse_metrics(PREFIX + 'slotNum_int{a="b 7\n').slot is None


def test_a_label_cannot_smuggle_in_a_line() -> None:
    for separator in ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"):
        smuggled = f'{PREFIX}tipBlock{{hash="{separator}{PREFIX}forging_enabled 0{separator}"}} 1\n'
        assert parse_metrics(smuggled) == NodeMetrics()


def test_a_longer_name_is_another_metric() -> None:
    assert parse_metrics(f"{PREFIX}slotNum_int_total 3\n{PREFIX}slotNum_intx 4\nx{PREFIX}slotNum_int 5\n").slot is None


def test_another_prefix_is_a_parameter() -> None:
    assert parse_metrics("pool_slotNum_int 3\n", prefix="pool_").slot == 3
    assert parse_metrics("pool_slotNum_int 3\n").slot is None


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    parse_metrics(text)
    parse_metrics(f"{PREFIX}slotNum_int{text}\n{PREFIX}{text}")


LINES = st.lists(
    st.one_of(
        st.sampled_from((CLASSIC + NEW).splitlines()),
        st.builds(
            lambda name, rest: f"{PREFIX}{name}{rest}",
            st.sampled_from([name for names in ALIASES.values() for name in names]),
            st.one_of(st.text(max_size=12), st.floats().map(lambda f: f" {f}"), st.integers().map(lambda n: f" {n}")),
        ),
    ),
    max_size=12,
)


@given(LINES)
def test_whatever_is_found_is_a_count_and_stands_in_the_text_under_its_alias(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = parse_metrics(text)
    for meaning in MEANINGS:
        value = getattr(found, meaning)
        assert (value is None) == (meaning not in found.aliases)
        if value is not None:
            assert 0 <= value <= 2**53
            assert found.aliases[meaning] in text
            assert found.aliases[meaning].removeprefix(PREFIX) in ALIASES[meaning]


@given(LINES, st.text(alphabet=st.characters(exclude_characters="\n")))
def test_a_line_that_is_not_understood_changes_nothing(lines: list[str], garbage: str) -> None:
    assert parse_metrics("\n".join([*lines, "# " + garbage])) == parse_metrics("\n".join(lines))


@pytest.mark.parametrize("line", ["{", '{a="', '{a="b",', "{" + '""' * 30000, " 1" * 30000, "1" * 65000])
def test_a_hostile_line_costs_no_more_than_its_length(line: str) -> None:
    """Generous: a quadratic reading of 64 KiB would take many seconds."""
    text = (PREFIX + "slotNum_int" + line * max(1, 60000 // len(line)))[:65536]
    began = time.process_time()
    parse_metrics(text)
    assert time.process_time() - began < 1
