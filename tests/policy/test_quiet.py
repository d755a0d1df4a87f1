"""When a planned hand-over disturbs no block, and how long it may be put off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import timing
from policy.quiet import may_begin, next_assigned, quiet_from

S = timing.SECOND
BOOTED = 5_000 * S

EIGHTHS = 8
"""Times in the properties are eighths of a second: floats add and compare these without error."""

slot_lists = st.lists(st.integers(80, 140), max_size=25, unique=True).map(sorted)
gaps = st.integers(0, 20 * EIGHTHS).map(lambda n: n / EIGHTHS)


@st.composite
def nows(draw: st.DrawFn) -> tuple[int, float, float]:
    """The running slot, seconds since it began, the length of a slot."""
    length = draw(st.sampled_from([0.25, 0.5, 1.0, 2.0, 20.0]))
    phase = draw(st.integers(0, int(length * EIGHTHS) - 1)) / EIGHTHS
    return draw(st.integers(90, 130)), phase, length


def is_quiet(slots: list[int], at_s: float, gap_s: float, now: tuple[int, float, float]) -> bool:
    """By the definition: no assigned slot runs, and none begins before the gap has passed."""
    slot, phase_s, length_s = now
    for assigned in slots:
        begins = (assigned - slot) * length_s - phase_s
        if begins <= at_s < begins + length_s:
            return False
        if begins > at_s and begins - at_s < gap_s:
            return False
    return True


# --- quiet ---


@pytest.mark.parametrize(
    ("slots", "phase_s", "gap_s", "seconds"),
    [
        ([], 0.25, 10, 0.0),
        ([97, 98, 99], 0.25, 10, 0.0),
        ([100], 0.25, 10, 0.75),
        ([100], 0.0, 0, 1.0),
        ([110], 0.0, 10, 0.0),
        ([110], 0.25, 10, 10.75),
        ([110], 0.25, 9.75, 0.0),
        ([101], 0.25, 0, 0.0),
        ([100, 101], 0.25, 0, 1.75),
        ([105, 112, 130], 0.0, 10, 13.0),
        ([105, 116, 117, 200], 0.5, 10, 5.5),
        ([105, 115, 125, 200], 0.5, 10, 25.5),
    ],
)
def test_quiet_begins_when_the_gap_before_the_next_slot_is_long_enough(
    slots: list[int], phase_s: float, gap_s: float, seconds: float
) -> None:
    assert quiet_from(slots, 100, phase_s, 1.0, gap_s) == seconds


@given(slot_lists, nows(), gaps)
def test_the_moment_is_quiet_and_no_earlier_one_is(
    slots: list[int], now: tuple[int, float, float], gap_s: float
) -> None:
    slot, phase_s, length_s = now
    found = quiet_from(slots, slot, phase_s, length_s, gap_s)
    assert found >= 0
    assert is_quiet(slots, found, gap_s, now)
    assert not any(is_quiet(slots, at / EIGHTHS, gap_s, now) for at in range(int(found * EIGHTHS)))


@given(slot_lists, nows(), gaps)
def test_it_is_quiet_at_the_latest_when_the_last_slot_is_over(
    slots: list[int], now: tuple[int, float, float], gap_s: float
) -> None:
    slot, phase_s, length_s = now
    last = max([slot - 1, *slots])
    over = max(0.0, (last + 1 - slot) * length_s - phase_s)
    assert quiet_from(slots, slot, phase_s, length_s, gap_s) <= over
    assert quiet_from(slots, slot, phase_s, length_s, 1e9) in (0.0, over)


@given(slot_lists, nows(), gaps, gaps)
def test_a_longer_gap_is_never_found_earlier(
    slots: list[int], now: tuple[int, float, float], gap_s: float, more_s: float
) -> None:
    assert quiet_from(slots, *now, gap_s + more_s) >= quiet_from(slots, *now, gap_s)


@given(slot_lists, st.integers(0, 79), nows(), gaps)
def test_slots_that_are_over_change_nothing(
    slots: list[int], past: int, now: tuple[int, float, float], gap_s: float
) -> None:
    assert quiet_from([past, *slots], *now, gap_s) == quiet_from(slots, *now, gap_s)


@given(st.floats(0, 0.2, exclude_max=True), st.integers(1, 40))
def test_no_rounding_lets_it_begin_between_two_slots_that_adjoin(phase_s: float, count: int) -> None:
    slots = list(range(100, 100 + count))
    assert quiet_from(slots, 100, phase_s, 0.2, 0.0) == pytest.approx(count * 0.2 - phase_s)


def test_a_long_schedule_costs_only_the_slots_that_are_passed_over() -> None:
    class Counting(list[int]):
        looks = 0

        def __getitem__(self, index: int) -> int:  # type: ignore[override]
            self.looks += 1
            return super().__getitem__(index)

    slots = Counting(range(0, 2_000_000, 20))
    assert quiet_from(slots, 1_000_001, 0.0, 1.0, 10.0) == 0.0
    assert slots.looks < 40


# --- what is next ---


@pytest.mark.parametrize(("slot", "expected"), [(0, 105), (105, 105), (106, 112), (112, 112), (113, None)])
def test_the_next_slot_may_be_the_running_one_and_is_none_after_the_last(slot: int, expected: int | None) -> None:
    assert next_assigned([105, 112], slot) == expected


def test_an_empty_schedule_has_no_next_slot() -> None:
    assert next_assigned([], 100) is None


@given(slot_lists, st.integers(70, 150))
def test_the_next_slot_is_the_least_that_is_not_over(slots: list[int], slot: int) -> None:
    assert next_assigned(slots, slot) == min((s for s in slots if s >= slot), default=None)


@given(slot_lists, nows(), gaps)
def test_a_schedule_without_a_slot_to_come_is_quiet_at_once(
    slots: list[int], now: tuple[int, float, float], gap_s: float
) -> None:
    if next_assigned(slots, now[0]) is None:
        assert quiet_from(slots, *now, gap_s) == 0.0


# --- how long it may be put off ---


@pytest.mark.parametrize(
    ("now", "quiet_at", "may"),
    [
        (BOOTED, 0, True),
        (BOOTED, BOOTED, True),
        (BOOTED, BOOTED + 1, False),
        (BOOTED + 30 * S - 1, BOOTED + 90 * S, False),
        (BOOTED + 30 * S, BOOTED + 90 * S, True),
        (BOOTED + 10 * S, BOOTED + 9 * S, True),
    ],
)
def test_a_planned_hand_over_begins_when_it_is_quiet_or_has_waited_long_enough(
    now: int, quiet_at: int, may: bool
) -> None:
    assert may_begin(now, asked_at=BOOTED, quiet_at=quiet_at, at_most=30 * S) is may


instants = st.integers(0, 10**6)


@given(instants, instants, instants, instants)
def test_nothing_puts_it_off_beyond_the_longest_wait(asked_at: int, quiet_at: int, at_most: int, later: int) -> None:
    assert may_begin(asked_at + at_most + later, asked_at=asked_at, quiet_at=quiet_at, at_most=at_most)


@given(instants, instants, instants, instants)
def test_it_begins_early_only_when_it_is_quiet(now: int, asked_at: int, quiet_at: int, at_most: int) -> None:
    if may_begin(now, asked_at=asked_at, quiet_at=quiet_at, at_most=at_most):
        assert now >= min(quiet_at, asked_at + at_most)
    else:
        assert now < quiet_at
        assert now < asked_at + at_most


def test_without_a_wait_it_begins_at_once() -> None:
    assert may_begin(BOOTED, asked_at=BOOTED, quiet_at=BOOTED + 3600 * S, at_most=0)
