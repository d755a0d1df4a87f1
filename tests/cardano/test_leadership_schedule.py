"""What the tools write about a pool's slots, and that nothing else is taken for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cardano.leadership_schedule import MOST_BYTES, MOST_SLOTS, SLOTS_END, ScheduleError, parse_schedule

TITLE = "     SlotNo                          UTC Time              "
DASHES = "-" * (len(TITLE) + 2)
SECRET = "58203f1c9d"
ANEW = "write it anew with `cardano-cli query leadership-schedule` or `cncli leaderlog`"


def cardano_cli_json(slots: list[int]) -> str:
    return json.dumps([{"slotNumber": slot, "slotTime": "2021-12-29T21:27:53Z"} for slot in slots], indent=4)


def cardano_cli_table(slots: list[int]) -> str:
    rows = [f"     {slot}                   2021-12-29 17:26:54.998001755 UTC" for slot in slots]
    return "\n".join([TITLE, DASHES, *rows, ""])


def cncli(slots: list[int]) -> str:
    assigned = [
        {"no": no, "slot": slot, "slotInEpoch": slot % 432000, "at": "2021-12-02T23:50:54+01:00"}
        for no, slot in enumerate(slots, 1)
    ]
    return json.dumps({"status": "ok", "epoch": 306, "sigma": 0.0028, "epochSlots": 2, "assignedSlots": assigned})


def numbers(slots: list[int]) -> str:
    return json.dumps(slots)


def blocklog(slots: list[int]) -> str:
    return json.dumps([{"id": no, "slot": slot, "epoch": 306, "status": "leader"} for no, slot in enumerate(slots)])


JSON_FORMS = [cardano_cli_json, cncli, numbers, blocklog]
FORMS = [*JSON_FORMS, cardano_cli_table]

some_slots = st.lists(st.integers(0, SLOTS_END - 1), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**54) | st.floats() | st.text(max_size=3) | st.just("ok"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["status", "assignedSlots", "slot", "slotNumber", "slotTime", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


def refusal(text: str) -> str:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    return str(caught.value)


def is_a_schedule_or_refused(text: str) -> None:
    try:
        slots = parse_schedule(text)
    except ScheduleError as error:
        assert "`cncli leaderlog`" in str(error)
        return
    assert list(slots) == sorted(set(slots))
    assert all(type(slot) is int and 0 <= slot < SLOTS_END for slot in slots)


# --- what is a schedule ---


@pytest.mark.parametrize("form", FORMS)
@given(slots=some_slots)
def test_every_form_gives_its_slots_ascending_and_each_once(form: Callable[[list[int]], str], slots: list[int]) -> None:
    assert parse_schedule(form(slots)) == tuple(sorted(set(slots)))


@pytest.mark.parametrize("form", FORMS)
def test_a_schedule_without_a_slot_is_one(form: Callable[[list[int]], str]) -> None:
    assert parse_schedule(form([])) == ()


def test_a_slot_whose_time_the_node_could_not_tell_is_a_slot() -> None:
    assert parse_schedule('[{"slotNumber": 4073, "error": "PastHorizon"}]') == (4073,)
    assert parse_schedule(cardano_cli_table([4073]) + "     4126                   PastHorizon {a = 1}\n") == (
        4073,
        4126,
    )


def test_a_table_without_fractions_of_a_second_is_read() -> None:
    assert parse_schedule(f"{TITLE}\n{DASHES}\n     71029049                   2022-09-08 00:02:20 UTC\n") == (
        71029049,
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(form: Callable[[list[int]], str]) -> None:
    text = form([4126, 4073])
    assert parse_schedule("\ufeff" + text.replace("\n", "\r\n") + "\r\n") == (4073, 4126)


# --- what is none ---


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t", "\ufeff"])
def test_an_empty_text_is_no_empty_schedule(text: str) -> None:
    assert refusal(text) == f"is empty, so the command that was to fill it failed: {ANEW}"


def test_the_failure_that_cncli_reports_is_passed_on_as_one() -> None:
    failure = json.dumps({"status": "error", "errorMessage": f"Query returned no rows {SECRET}"})
    assert refusal(failure) == (
        'has "status": "error" in place of a schedule: cncli failed and says why in "errorMessage"; '
        "mend that and run `cncli leaderlog` again"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "ok"}',  # cncli status, verify
        '{"status": "ok", "signature": "8aff"}',
        '{"status": "ok", "assignedSlots": {"slot": 1}}',
        '{"status": "ok", "assignedSlots": null}',
        '{"assignedSlots": [1]}',
        '{"status": "OK", "assignedSlots": [1]}',
        '{"status": true, "assignedSlots": [1]}',
        '{"slot": 1}',
        "{}",
    ],
)
def test_an_object_that_is_not_a_leaderlog_is_refused(text: str) -> None:
    assert refusal(text) == f'is JSON, but neither a list nor has it "status": "ok" and "assignedSlots": {ANEW}'


@pytest.mark.parametrize(
    "slot",
    ["null", "true", "false", "-1", "1.0", "4e3", '"4073"', "[4073]", "9007199254740992", "1" + "0" * 4000],
)
@pytest.mark.parametrize(
    "form",
    [
        "[7, %s]",
        '[{"slotNumber": 7}, {"slotNumber": %s}]',
        '[{"slot": 7}, {"slot": %s}]',
        '{"status": "ok", "assignedSlots": [{"slot": 7}, {"slot": %s}]}',
    ],
)
def test_what_is_no_slot_number_is_named_by_its_place(form: str, slot: str) -> None:
    expected = f"has no slot number (a whole number from 0 to below 2^53) in entry 2: {ANEW}"
    assert refusal(form % slot) == expected


@pytest.mark.parametrize("entry", ['{"slotInEpoch": 4}', "{}", '{"slot": 4, "slotNumber": 4}'])
def test_an_entry_whose_slot_is_missing_or_ambiguous_is_named_by_its_place(entry: str) -> None:
    expected = f'has no "slotNumber" and no "slot", or both, in entry 2: {ANEW}'
    assert refusal(f'[{{"slot": 3}}, {entry}]') == expected
    assert refusal(f'{{"status": "ok", "assignedSlots": [{{"slot": 3}}, {entry}]}}') == expected


@pytest.mark.parametrize(
    "text",
    [
        "[NaN]",
        "[Infinity]",
        "[-Infinity]",
        '{"status": "ok", "sigma": NaN, "assignedSlots": []}',
        "[" + "9" * 5000 + "]",
        "[" * 200_000,
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 100_000,
        "[1] [2]",
        '{"status": "error", "errorMessage": "x"}{"status": "ok", "assignedSlots": []}',
        '{"status": "ok", "assignedSlots": [1], "assignedSlots": []}',
        '[{"slot": 1, "slot": 2}]',
        "[1,]",
        "['1']",
    ],
)
def test_json_that_is_damaged_ambiguous_or_a_bomb_is_refused(text: str) -> None:
    assert refusal(text) == f"is cut short or no JSON, or has a field twice: {ANEW}"


@pytest.mark.parametrize(
    "text",
    ["4073", "4073\n4126\n", "- slotNumber: 4073\n  slotTime: 2021-12-29T21:27:53Z\n", "null", '"x"', "Slot", "\x00"],
)
def test_a_text_that_is_neither_json_nor_a_table_is_refused(text: str) -> None:
    assert refusal(text) == f"is neither JSON nor a table that begins with SlotNo and UTC Time: {ANEW}"


@pytest.mark.parametrize("below", ["", "4073   2021-12-29 17:26:54 UTC", "-4073   2021-12-29 17:26:54 UTC"])
def test_a_table_without_its_dashes_is_refused(below: str) -> None:
    assert (
        refusal(f"{TITLE}\n{below}\n")
        == f"is a table without a line of dashes below its header: it is cut short; {ANEW}"
    )


@pytest.mark.parametrize(
    "row",
    [
        "4126",
        "4126   2021-12-29 17:26:5",
        "4126   2021-12-29 17:26:54",
        "4126   2021-12-29 17:26:54.9 UT",
        "4126   2021-12-29 17:26:54 UTC     4206   2021-12-29 17:27:08 UTC",
        "-4126  2021-12-29 17:26:54 UTC",
        "4126.0 2021-12-29 17:26:54 UTC",
        "٤١٢٦   2021-12-29 17:26:54 UTC",
        "9007199254740992 2021-12-29 17:26:54 UTC",
        "9" * 5000 + " 2021-12-29 17:26:54 UTC",
        "2021-12-29 17:26:54 UTC",
        "UTC",
        DASHES,
        TITLE,
    ],
)
def test_a_row_that_is_none_or_cut_is_named_by_its_place(row: str) -> None:
    expected = f"has no slot number below 2^53 and time in row 2, or the row is cut: {ANEW}"
    assert refusal(cardano_cli_table([4073]) + row) == expected


# --- bounds ---


def test_a_text_may_be_as_long_as_the_bound_and_no_longer() -> None:
    assert parse_schedule("[7]".ljust(MOST_BYTES)) == (7,)
    assert refusal("[7]".ljust(MOST_BYTES + 1)) == f"is longer than {MOST_BYTES} bytes, and no schedule is: {ANEW}"


def test_there_may_be_as_many_slots_as_the_bound_and_no_more() -> None:
    def rows(count: int) -> str:
        return f"{TITLE}\n{DASHES}\n" + "1 x\n" * count

    too_many = f"has more than {MOST_SLOTS} slots, and no pool has in an epoch: {ANEW}"
    assert parse_schedule(json.dumps(list(range(MOST_SLOTS)))) == tuple(range(MOST_SLOTS))
    assert parse_schedule(rows(MOST_SLOTS)) == (1,)
    assert refusal("[" + "1," * MOST_SLOTS + "1]") == too_many
    assert refusal(rows(MOST_SLOTS + 1)) == too_many


def test_the_largest_slot_is_the_largest_whole_number_that_every_json_reader_keeps() -> None:
    assert SLOTS_END - 1 == 2**53 - 1 == int(float(2**53 - 1))
    for form in FORMS:
        assert parse_schedule(form([SLOTS_END - 1, 0])) == (0, SLOTS_END - 1)


# --- whatever the text ---


@given(st.text(max_size=80) | st.text(alphabet='[]{}",:0123456789.-eslotNumber \n', max_size=80))
@example("\ud800")
@example("[1]\ud800")
@example("\ufeff\ufeff[1]")
def test_any_text_is_a_schedule_or_refused_with_the_remedy(text: str) -> None:
    is_a_schedule_or_refused(text)


@given(json_values)
def test_any_json_is_a_schedule_or_refused_with_the_remedy(value: object) -> None:
    is_a_schedule_or_refused(json.dumps(value))


@given(st.sampled_from(FORMS), some_slots, st.data())
def test_any_spoilt_schedule_is_a_schedule_or_refused_with_the_remedy(
    form: Callable[[list[int]], str], slots: list[int], data: st.DataObject
) -> None:
    text = form(slots)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    is_a_schedule_or_refused(text[:start] + data.draw(st.text(max_size=5)) + text[end:])


@pytest.mark.parametrize("form", JSON_FORMS)
def test_json_that_is_cut_short_anywhere_is_refused(form: Callable[[list[int]], str]) -> None:
    text = form([4073, 46560203])
    for end in range(len(text)):
        refusal(text[:end])


def test_a_table_that_is_cut_within_a_row_is_refused() -> None:
    slots = (4073, 46560203)
    text = cardano_cli_table(list(slots))
    headed = text.index("-")
    for end in range(len(text) + 1):
        cut = text[:end].rstrip()
        if end > headed and cut.endswith(("--", "\n-", " UTC")):
            assert parse_schedule(cut) == slots[: cut.count(" UTC\n") + cut.endswith(" UTC")]
        else:
            refusal(cut)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type": "VrfSigningKey_PraosVRF", "description": "", "cborHex": "{SECRET}"}}',
        f'{{"type": "VrfSigningKey_PraosVRF", "cborHex": "{SECRET}',
        f'["{SECRET}"]',
        f'[{{"{SECRET}": 1}}]',
        f'[{{"slot": "{SECRET}"}}]',
        f'{{"{SECRET}": 1, "{SECRET}": 2}}',
        f'{{"status": "{SECRET}"}}',
        SECRET,
        f"{TITLE}\n{SECRET}",
        f"{TITLE}\n{DASHES}\n{SECRET}",
    ],
)
def test_no_refusal_shows_what_is_in_the_text(text: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_bomb_is_refused_whatever_is_left_of_the_stack() -> None:
    limit = sys.getrecursionlimit()
    for depth in (limit - 200, limit, limit + 200):
        refusal("[" * depth + "]" * depth)
