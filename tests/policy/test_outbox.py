"""The queue of notices: in order, one at a time, again and again more seldom, never more than it may hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import outbox, timing
from policy.outbox import MOST, MOST_AGE, MOST_BODY, MOST_PAUSE, Failed, Letter, Outbox, Refused, Sent

S = timing.SECOND


def letter(number: int, at: int = 0) -> Letter:
    return Letter(f"abc-{number}", at, f"body {number}")


def filled(count: int, at: int = 0) -> Outbox:
    made = Outbox()
    for number in range(count):
        made.put(letter(number, at))
    return made


def test_notices_go_out_in_their_order_one_at_a_time() -> None:
    box = filled(3)
    went = []
    while box.due(7) == 7:
        went.append(box.begun().id)
        assert box.due(7) is None, "one is under way"
        box.ended(Sent(), 7, 0.5)
    assert went == ["abc-0", "abc-1", "abc-2"]
    assert (box.sent, box.failed, box.dropped, len(box)) == (3, 0, 0, 0)


def test_one_that_failed_is_tried_again_alike_and_the_others_wait_for_it() -> None:
    box = filled(2)
    first = box.begun()
    box.ended(Failed("503"), 0, 0.0)
    assert not box.calm
    due = box.due(0)
    assert due is not None
    assert box.begun() == first
    box.ended(Sent(), due, 0.0)
    assert box.calm
    assert box.problem == ""
    assert box.due(due) == due, "what succeeds ends the pause"


def test_pauses_double_up_to_five_minutes_and_are_spread_by_the_jitter() -> None:
    for jitter, share in ((0.0, 0.5), (1.0, 1.0)):
        box, pauses = filled(1), []
        for _ in range(12):
            box.begun()
            box.ended(Failed("503"), 0, jitter)
            pauses.append((box.due(0) or 0) / S)
        assert pauses == [min(2.0**n, MOST_PAUSE / S) * share for n in range(12)]


@pytest.mark.parametrize(("asked", "pause"), [(0.1, 0.5), (40.0, 40.0), (1e9, outbox.MOST_ASKED), (-5.0, 0.5)])
def test_a_receiver_that_asks_for_time_gets_it_within_reason(asked: float, pause: float) -> None:
    box = filled(1)
    box.begun()
    box.ended(Failed("429", asked), 0, 0.0)
    assert box.due(0) == int(pause * S)


def test_one_that_is_refused_is_dropped_and_the_next_goes_at_once() -> None:
    box = filled(2)
    box.begun()
    box.ended(Refused("400"), 3, 0.0)
    assert (box.failed, box.dropped, box.problem, len(box)) == (1, 1, "400", 1)
    assert box.due(3) == 3


def test_what_is_too_old_is_given_up_and_counted() -> None:
    box = filled(2)
    box.put(letter(2, at=S))
    assert box.due(MOST_AGE) == MOST_AGE
    assert box.due(MOST_AGE + 1) == MOST_AGE + 1
    assert (box.dropped, box.begun().id) == (2, "abc-2")


def test_of_too_many_the_oldest_goes_but_not_the_one_under_way() -> None:
    box = filled(MOST)
    under_way = box.begun()
    box.put(letter(MOST))
    box.ended(Sent(), 0, 0.0)
    assert (box.dropped, len(box), under_way.id) == (1, MOST - 1, "abc-0")
    assert box.begun().id == "abc-2"


def test_one_that_no_receiver_would_read_to_its_end_is_never_queued() -> None:
    box = Outbox()
    box.put(Letter("a-1", 0, "x" * (MOST_BODY + 1)))
    assert (box.dropped, len(box)) == (1, 0)


def test_what_waits_outlives_its_process_and_the_one_under_way_too() -> None:
    box = filled(3)
    box.begun()
    again = Outbox.resumed(json.loads(json.dumps(box.kept())))
    assert len(again) == 3
    assert again.begun() == letter(0)


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"letters": 5},
        {"letters": [5]},
        {"letters": [{"id": "a", "made_at": 0}]},
        {"letters": [{"id": "a", "made_at": -1, "body": ""}]},
        {"letters": [{"id": "a", "made_at": True, "body": ""}]},
        {"letters": [{"id": "a\r\nX-Evil: 1", "made_at": 0, "body": ""}]},
        {"letters": [{"id": "a", "made_at": 0, "body": "x" * (MOST_BODY + 1)}]},
    ],
)
def test_what_no_outbox_wrote_is_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Outbox.resumed(spoilt)


STEPS = st.lists(
    st.one_of(
        st.just("put"),
        st.sampled_from([Sent(), Failed("503"), Failed("429", 20.0), Refused("400")]),
        st.integers(1, 1200),
    ),
    max_size=300,
)


@given(STEPS)
def test_each_notice_is_sent_or_counted_as_dropped_or_waits_and_none_is_sent_twice(steps: list[object]) -> None:
    box, now, made, sent = Outbox(), 0, 0, []
    for step in steps:
        if step == "put":
            box.put(letter(made, now))
            made += 1
        elif isinstance(step, int):
            now += step * S
        elif box.due(now) == now:
            under_way = box.begun()
            assert now - under_way.made_at <= MOST_AGE
            box.ended(step, now, 0.3)  # type: ignore[arg-type]
            sent += [under_way.id] if isinstance(step, Sent) else []
        assert len(box) <= MOST
        assert box.sent + box.dropped + len(box) == made
    assert len(set(sent)) == len(sent) == box.sent
    assert sent == sorted(sent, key=lambda name: int(name[4:]))
