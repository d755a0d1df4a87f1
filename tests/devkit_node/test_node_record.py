"""What follows from the nodes' own records, against an oracle that counts every nanosecond."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from devkit.record import (
    NS,
    Follower,
    Interval,
    forgers_at,
    gap_s,
    gaps,
    intervals,
    overlap_s,
    overlaps,
    parse,
    read,
)

HORIZON = 40
"""ns: small enough to look at each one."""
LATER = 1000
"""Than all of them."""


def event(t: int, name: str) -> dict[str, object]:
    return {"t": t, "event": name, "node": "a"}


EVENTS = st.lists(
    st.builds(event, st.integers(0, HORIZON), st.sampled_from(["start", "on", "slot", "off", "stop", "exit", "hup"])),
    max_size=10,
).map(lambda events: sorted(events, key=lambda e: int(str(e["t"]))))
NODES = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.tuples(st.integers(0, HORIZON), st.integers(0, HORIZON)), max_size=3).map(
        lambda pairs: [Interval(min(pair), max(pair)) for pair in pairs]
    ),
)
WINDOW = st.tuples(st.integers(0, HORIZON), st.integers(0, HORIZON)).map(lambda pair: (min(pair), max(pair)))


def moments(found: list[Interval]) -> set[int]:
    return {t for interval in found for t in range(interval.begin, interval.end)}


def how_many(nodes: dict[str, list[Interval]], t: int) -> int:
    """As counted by `overlaps`: an interval of a node that overlaps itself counts twice; records have none."""
    return sum(i.begin <= t < i.end for found in nodes.values() for i in found)


@given(EVENTS, st.integers(0, HORIZON))
def test_a_node_forges_from_on_until_any_end(events: list[dict[str, object]], extra: int) -> None:
    now = HORIZON + extra
    expected, on = set(), False
    by_time: dict[int, list[str]] = {}
    for e in events:
        by_time.setdefault(int(str(e["t"])), []).append(str(e["event"]))
    for t in range(now):
        for name in by_time.get(t, []):
            on = (on or name == "on") and name not in ("off", "stop", "exit", "start")
        if on:
            expected.add(t)
    assert moments(intervals(events, now)) == expected


@given(NODES, WINDOW)
def test_overlaps_are_the_moments_with_two_or_more(nodes: dict[str, list[Interval]], window: tuple[int, int]) -> None:
    expected = {t for t in range(*window) if how_many(nodes, t) >= 2}
    assert moments(overlaps(nodes, *window)) == expected
    assert overlap_s(nodes, *window) == len(expected) / NS


@given(NODES, WINDOW)
def test_gaps_are_the_moments_with_none(nodes: dict[str, list[Interval]], window: tuple[int, int]) -> None:
    expected = {t for t in range(*window) if how_many(nodes, t) == 0}
    assert moments(gaps(nodes, *window)) == expected
    assert gap_s(nodes, *window) == len(expected) / NS


@given(NODES, WINDOW)
def test_stretches_are_in_order_and_do_not_touch(nodes: dict[str, list[Interval]], window: tuple[int, int]) -> None:
    for found in (overlaps(nodes, *window), gaps(nodes, *window)):
        assert all(a.end < b.begin for a, b in itertools.pairwise(found))
        assert all(window[0] <= i.begin < i.end <= window[1] for i in found)


@given(NODES, st.integers(0, HORIZON))
def test_who_forges_at_a_moment_is_who_has_an_interval_around_it(nodes: dict[str, list[Interval]], at: int) -> None:
    assert set(forgers_at(nodes, at)) == {name for name, found in nodes.items() if at in moments(found)}


def test_one_node_that_hands_over_in_the_same_nanosecond_neither_overlaps_nor_leaves_a_gap() -> None:
    nodes = {"a": [Interval(0, 10)], "b": [Interval(10, 20)]}
    assert overlaps(nodes, 0, 20) == gaps(nodes, 0, 20) == []


def test_three_at_once_overlap_once_not_twice() -> None:
    nodes = {name: [Interval(0, NS)] for name in "abc"}
    assert overlap_s(nodes, 0, NS) == 1.0


def test_a_killed_node_whose_end_nobody_wrote_down_forged_until_its_successor_started() -> None:
    assert intervals([event(1, "on"), event(5, "start"), event(7, "on"), event(9, "off")], 20) == [
        Interval(1, 5),
        Interval(7, 9),
    ]


def test_a_node_that_still_forges_does_so_until_now() -> None:
    assert intervals([event(1, "on")], 20) == [Interval(1, 20)]
    assert intervals([event(1, "on")], 0) == [Interval(1, 1)]


@given(st.text())
def test_a_record_is_read_whatever_stands_in_it(text: str) -> None:
    for e in parse(text + '\n{"t": 5, "event": "on", "node": "a"}\n' + text):
        assert isinstance(e["t"], int)


def test_a_line_cut_short_is_left_out_and_the_rest_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "record"
    assert read(path) == []
    path.write_text("\n".join(json.dumps(event(t, name)) for t, name in ((9, "off"), (3, "on"))) + '\n{"t": 12, "eve')
    assert [e["t"] for e in read(path)] == [3, 9]


LINES = EVENTS.map(lambda events: "".join(json.dumps(each) + "\n" for each in events))


@given(LINES | st.text(max_size=30), st.lists(st.integers(0, 400), max_size=4), st.integers(0, 2 * HORIZON))
def test_who_follows_a_record_knows_at_any_time_what_who_reads_all_of_it_knows(
    text: str, cuts: list[int], now: int
) -> None:
    raw = text.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record")
        follower = Follower(path)
        assert follower.intervals(now) == []
        for begin, end in itertools.pairwise([0, *sorted(cuts), len(raw)]):
            with path.open("ab") as file:
                file.write(raw[begin:end])
            whole = parse(path.read_bytes().rpartition(b"\n")[0].decode(errors="replace"))
            assert follower.intervals(now) == intervals(whole, now)
            known = intervals(whole, LATER)
            for at in range(HORIZON + 1):
                assert follower.intervals(LATER, at) == [each for each in known if each.end > at]
                assert follower.forges_at(at) == bool(forgers_at({"a": known}, at))
            assert follower.counts() == Counter(each["event"] for each in whole)
            assert follower.events() == [each for each in whole if each["event"] != "slot"]


def test_what_is_written_down_late_of_an_earlier_time_is_put_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "record"
    follower = Follower(path)
    path.write_text(json.dumps(event(5, "on")) + "\n" + json.dumps(event(9, "on")) + "\n")
    assert follower.intervals(20) == [Interval(5, 20)]
    with path.open("a") as file:
        file.write(json.dumps(event(7, "exit")) + "\n")
    assert follower.intervals(20) == [Interval(5, 7), Interval(9, 20)]


def test_of_a_node_that_began_only_after_the_moment_asked_about_nothing_negative_is_told(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(json.dumps(event(9, "on")) + "\n")
    assert Follower(path).intervals(5) == [Interval(9, 9)]
