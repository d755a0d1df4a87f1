"""When the next watch is opened: at once, unless the last ones were over as soon as they were open."""

from __future__ import annotations

from policy import timing
from workers.reopening import SHORT_S, Reopening

LEAST_S, MOST_S = timing.RETRY_PAUSE / timing.SECOND, 1.5 * timing.RETRY_PAUSE / timing.SECOND


def test_a_watch_that_lasted_or_told_something_is_followed_by_another_at_once() -> None:
    reopening = Reopening()
    reopening.opened(10.0)
    assert reopening.ended(10.0 + SHORT_S) == 0
    reopening.opened(20.0)
    reopening.told()
    assert reopening.ended(20.0) == 0


def test_a_watch_that_is_over_at_once_and_told_nothing_is_followed_by_a_pause() -> None:
    reopening = Reopening()
    for _ in range(3):
        reopening.opened(10.0)
        assert LEAST_S <= reopening.ended(10.1) <= MOST_S


def test_the_first_version_that_is_too_old_costs_no_time_and_the_second_in_a_row_does() -> None:
    reopening = Reopening()
    reopening.opened(10.0)
    assert reopening.gone() == 0
    reopening.opened(10.1)
    assert LEAST_S <= reopening.gone() <= MOST_S
    reopening.opened(11.0)
    assert reopening.ended(11.1) > 0
    assert reopening.gone() > 0


def test_a_watch_that_lasted_or_told_something_makes_the_next_version_that_is_too_old_a_first_one() -> None:
    reopening = Reopening()
    reopening.gone()
    reopening.opened(10.0)
    reopening.told()
    assert reopening.gone() == 0
    reopening.opened(10.0)
    reopening.ended(10.0 + SHORT_S)
    assert reopening.gone() == 0
