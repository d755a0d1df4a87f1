"""Repeated conditions in the log: the first at once, then few lines, and nothing is lost from the count."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.repeats import Ended, Repeats

PERIOD = 60

STEPS = st.lists(
    st.tuples(st.integers(0, 150), st.sampled_from(["a", "a", "a", "b", "over", "look"])), min_size=1, max_size=150
)
"""How long after the last one, and what."""


class Reader:
    """Does what is asked, and keeps what the log would have."""

    def __init__(self, repeats: Repeats) -> None:
        self.repeats = repeats
        self.now = 0
        self.lines: list[tuple[int, str, int]] = []
        self.ends: list[tuple[int, Ended]] = []
        self.happened = 0

    def do(self, after: int, what: str) -> None:
        until = self.now + after
        while (due := self.repeats.due) is not None and due <= until:  # as the timer of a loop does
            self.now = max(due, self.now)  # what waited in a pause of the condition is due as soon as it is back
            self._look()
            assert self.repeats.due is None or self.repeats.due > self.now, "a timer that fires without end"
        self.now = until
        if what == "look":
            self._look()
        elif what == "over":
            if (ended := self.repeats.over(self.now)) is not None:
                self.ends.append((self.now, ended))
        else:
            self.happened += 1
            if (repeated := self.repeats.happened(self.now, what)) is not None:
                self.lines.append((self.now, what, repeated))

    def _look(self) -> None:
        kinds, ended = self.repeats.look(self.now)
        self.lines += [(self.now, kind, repeated) for kind, repeated in kinds.items()]
        if ended is not None:
            self.ends.append((self.now, ended))


def read(steps: list[tuple[int, str]], *, passes: bool, free: int) -> Reader:
    reader = Reader(Repeats(PERIOD, free, passes))
    for after, what in steps:
        reader.do(after, what)
    return reader


@settings(max_examples=500)
@given(STEPS, st.booleans(), st.integers(1, 3))
@example([(0, "a"), (1, "a"), (60, "a"), (0, "over"), (59, "b"), (0, "a")], True, 1)
@example([(0, "a"), (2, "a"), (60, "a"), (0, "over"), (59, "b"), (0, "a")], True, 1)
def test_whatever_comes_the_lines_are_few(steps: list[tuple[int, str]], passes: bool, free: int) -> None:
    reader = read(steps, passes=passes, free=free)
    for kind in ("a", "b"):
        instants = [at for at, each, _ in reader.lines if each == kind]
        for at in instants:
            assert sum(at <= other < at + PERIOD for other in instants) <= 2 * free  # two windows at most
        assert len(instants) <= free * (reader.now // PERIOD + 1)
    assert len(reader.ends) <= len(reader.lines) + reader.now // PERIOD + 1


@settings(max_examples=500)
@given(STEPS, st.booleans(), st.integers(1, 3))
def test_none_is_lost_from_the_count(steps: list[tuple[int, str]], passes: bool, free: int) -> None:
    reader = read(steps, passes=passes, free=free)
    assert sum(ended.count for _, ended in reader.ends) + reader.repeats.count == reader.happened


@settings(max_examples=500)
@given(STEPS, st.booleans())
def test_soon_after_the_last_occurrence_all_have_been_told_of(steps: list[tuple[int, str]], passes: bool) -> None:
    reader = read(steps, passes=passes, free=1)
    reader.do(0, "over")
    reader.do(3 * PERIOD, "look")
    assert reader.repeats.count == 0
    assert sum(ended.count for _, ended in reader.ends) == reader.happened


@given(STEPS)
def test_the_first_is_told_at_once(steps: list[tuple[int, str]]) -> None:
    reader = read(steps, passes=False, free=1)
    firsts = [kind for _, kind, _ in reader.lines]
    for kind in ("a", "b"):
        assert (kind in firsts) == any(what == kind for _, what in steps)


def test_what_goes_on_is_counted_once_a_period_and_its_end_says_how_long_it_lasted() -> None:
    reader = read([(0, "a"), *[(10, "a")] * 13, (5, "over")], passes=False, free=1)
    assert reader.lines == [(0, "a", 0), (60, "a", 4), (120, "a", 5)]
    assert reader.ends == [(135, Ended(14, 0, 135))]


def test_what_nobody_ends_is_over_when_nothing_came_for_a_period() -> None:
    reader = read([(0, "a"), (1, "a"), (1, "a"), (300, "look")], passes=True, free=1)
    assert reader.lines == [(0, "a", 0), (60, "a", 1)]
    assert reader.ends == [(62, Ended(3, 0, 62))]


def test_what_comes_and_goes_within_a_period_is_told_as_one() -> None:
    flickers = [(1, "a"), (1, "over")] * 20
    reader = read([*flickers, (100, "look")], passes=False, free=1)
    assert reader.lines == [(1, "a", 0)]
    assert [(at, ended.count) for at, ended in reader.ends] == [(2, 1), (62, 19)]
