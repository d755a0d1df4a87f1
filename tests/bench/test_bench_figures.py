"""What is told of a fault follows from the intervals in which the instances led, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.figures import Round, judged, mean, per_minute, successor, summary
from bench.tail import Tail
from devkit.record import Interval

S = 1_000_000_000


def test_nobody_leads_from_the_fault_until_the_next_one_begins() -> None:
    led = {"a": [Interval(0, 10 * S)], "b": [Interval(17 * S, 30 * S)]}
    assert judged(led, 10 * S, 20 * S) == Round(nobody_s=7.0, two_s=0.0)


def test_two_lead_while_the_old_one_has_not_noticed() -> None:
    led = {"a": [Interval(0, 35 * S)], "b": [Interval(27 * S, 40 * S)]}
    assert judged(led, 10 * S, 40 * S) == Round(nobody_s=0.0, two_s=8.0)


def test_what_happened_before_the_fault_or_after_the_window_is_not_its_doing() -> None:
    led = {"a": [Interval(0, 5 * S)], "b": [Interval(7 * S, 20 * S)], "c": [Interval(19 * S, 25 * S)]}
    assert judged(led, 8 * S, 18 * S) == Round(nobody_s=0.0, two_s=0.0)


def test_three_leaders_at_once_are_no_more_seconds_than_two() -> None:
    led = {name: [Interval(0, 4 * S)] for name in "abc"}
    assert judged(led, 0, 10 * S) == Round(nobody_s=6.0, two_s=4.0)


def test_the_old_leader_is_not_its_own_successor_though_it_believes_so() -> None:
    led = {"a": [Interval(0, 30 * S)], "b": []}
    assert successor(led, 10 * S, "a", 20 * S) == ""
    assert successor(led | {"b": [Interval(15 * S, 30 * S)]}, 10 * S, "a", 20 * S) == "b"


def test_two_who_lead_beside_the_old_one_are_no_successor_yet() -> None:
    led = {"a": [Interval(0, 5 * S)], "b": [Interval(6 * S, 9 * S)], "c": [Interval(6 * S, 9 * S)]}
    assert successor(led, 5 * S, "a", 8 * S) == ""


def test_median_and_most_are_of_all_rounds_and_the_rounds_are_kept() -> None:
    told = summary([Round(1.0, 0.0), Round(9.0, 2.0, settled=False), Round(2.0, 0.0)])
    assert (told["nobody_median_s"], told["nobody_most_s"]) == (2.0, 9.0)
    assert (told["two_median_s"], told["two_most_s"]) == (0.0, 2.0)
    assert [each["settled"] for each in told["rounds"]] == [True, False, True]


@pytest.mark.parametrize(("before", "after", "seconds", "rate"), [(10, 16, 30, 12.0), (1.5, 1.5, 60, 0.0)])
def test_a_rise_is_told_per_minute(before: float, after: float, seconds: float, rate: float) -> None:
    assert per_minute(before, after, seconds) == rate


def test_of_no_instances_the_mean_is_zero() -> None:
    assert mean([]) == 0.0
    assert mean(iter([1.0, 2.0])) == 1.5


# --- a record that is being written ---


def test_each_line_of_a_record_is_read_once_and_a_line_cut_short_with_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "record"
    tail = Tail(path)
    assert tail.events() == []
    path.write_text('{"t": 1, "event": "on", "node": "a"}\n{"t": 2, "event": "slot"}\n{"t": 3, "ev')
    assert [event["t"] for event in tail.events()] == [1]
    with path.open("a") as file:
        file.write('ent": "off", "node": "a"}\n')
    assert [event["event"] for event in tail.events()] == ["on", "off"]
    assert [event["event"] for event in tail.events()] == ["on", "off"]


def test_an_end_that_the_reaper_wrote_late_stands_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "record"
    tail = Tail(path)
    path.write_text('{"t": 5, "event": "start"}\n')
    tail.events()
    with path.open("a") as file:
        file.write('{"t": 4, "event": "exit"}\n')
    assert [event["event"] for event in tail.events()] == ["exit", "start"]
