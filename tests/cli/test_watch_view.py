"""What `forgectl watch` draws: never more than the window, the weightiest first, and every word without colour too."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_forgectl import elector_state

from cli.cells import cut, shown, width_of, wrapped
from cli.watch_view import render
from cli.watching import Happened, remembered, story_of, with_earlier
from config import load
from gateway.chronicle import Chronicle
from gateway.story import headline
from gateway.views import Picture
from ipc.messages import (
    ArbiterState,
    Body,
    ClusterView,
    Decision,
    Grant,
    LockMember,
    LockPhase,
    PoolState,
    ProberState,
    Role,
    State,
    Worker,
)
from policy import timing

S = timing.SECOND
NOW = 1_000 * S
SGR = re.compile(r"\x1b\[[0-9;]*m")
TEXTS = st.one_of(st.text(max_size=60), st.text(alphabet="漢字ｗ\u0301\ufe0f👩\u200d🚀\x1b[2J é", max_size=60))


def grant(seconds: float) -> Grant:
    return Grant("pod-0_aa", 7, NOW + int(seconds * S), NOW - S, exclusive=True)


def pool(text: str = "east") -> PoolState:
    return PoolState(
        lock="cardano/cardano-pool",
        phase=LockPhase.HELD,
        holder=text,
        sibling="",
        fencing_token=7,
        members=(
            LockMember("one", api_ok=True, crd_ok=True, holder=text, ours_until=0),
            LockMember(text, False, True, "", 0),
        ),
        majority=2,
        cluster="east",
        wanted="west",
        why=text,
        state="Enabled",
        priority=1,
        conflict=False,
        clusters=tuple(ClusterView(f"{text}{n}", text, "Enabled", 1, n == 0, text, text, 0) for n in range(3)),
        objection=text,
    )


def picture(text: str = "because", *, managed: bool = True, silent: bool = False) -> Picture:
    elector = dataclasses.replace(
        elector_state(text), role=Role.LEADER, reason=text, grant=grant(9.4), holder_until=NOW + 12 * S
    )
    bodies: dict[Worker, Body] = {
        Worker.ELECTOR: elector,
        Worker.ARBITER: ArbiterState(grant(11), text, managed, pool=pool(text) if managed else None),
        Worker.PROBER: ProberState(False, 0, (text, text), None, 0, None, ()),
    }
    sent = 0 if silent else NOW
    states = {
        worker: State(worker, "a", 1, 1, 0, sent, sent + timing.STATE_VALIDITY, body) for worker, body in bodies.items()
    }
    return Picture(load({"POD_NAME": "pod-0"}), "", NOW, 0, states, dict.fromkeys(states, True))


def page(shown_picture: Picture, *, entries: tuple[Happened, ...] = ()) -> dict[str, Any]:
    chronicle = Chronicle()
    chronicle.note(shown_picture)
    chronicle.entries.extend(entries)
    return story_of(shown_picture, chronicle, 1_800_000_000.0)


def cells(text: str) -> int:
    """As a terminal counts what is left of it, by a rule of its own."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 200), st.integers(1, 60), st.booleans(), st.booleans(), st.booleans())
def test_it_is_never_wider_nor_higher_than_the_window(
    text: str, width: int, height: int, managed: bool, silent: bool, colour: bool
) -> None:
    entry = Happened(NOW, "role", text, text, text, 7)
    told = page(picture(text, managed=managed, silent=silent), entries=(entry,) * 30)
    lines = render(told, width, height, unheard=text, colour=colour)
    assert 0 < len(lines) <= height
    for line in lines:
        bare = SGR.sub("", line)
        assert cells(bare) <= width
        assert bare.isprintable()


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 150), st.integers(1, 60))
def test_colour_adds_nothing_that_a_word_does_not_say(text: str, width: int, height: int) -> None:
    told = page(picture(text))
    coloured = [SGR.sub("", line) for line in render(told, width, height, colour=True)]
    assert coloured == render(told, width, height)
    assert not any("\x1b" in line for line in render(told, width, height))


@given(TEXTS, st.integers(1, 80), st.integers(1, 5))
def test_what_is_broken_into_lines_keeps_its_words(text: str, width: int, most: int) -> None:
    safe = shown(text)
    lines = wrapped(safe, width, most)
    assert 1 <= len(lines) <= most
    assert all(width_of(line) <= width for line in lines)
    if len(lines) < most:
        assert "".join("".join(lines).split()) == "".join(safe.split()) or any(width_of(c) > width for c in safe)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("much too long", 10, "much to..."),
        ("漢字漢字漢字", 9, "漢字漢..."),
        ("漢字漢字漢字", 8, "漢字..."),
        ("long", 3, "lon"),
        ("漢", 1, ""),
    ],
)
def test_what_is_cut_says_so_where_there_is_room(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected


def test_it_says_what_the_page_and_why_say() -> None:
    now = picture(managed=False)
    told = headline(now, Chronicle())
    lines = "\n".join(render(page(now), 500, 50))
    assert f"{told.standing.upper()}: {told.title}" in lines
    assert "; ".join(told.why) in lines
    assert told.next in lines


def test_it_shows_who_forges_until_when_the_grants_and_who_is_silent() -> None:
    lines = render(page(picture(managed=False)), 100, 50)
    rows = dict(line.split(maxsplit=1) for line in lines if line and line[0] != " ")
    assert rows["role"].startswith("leader for ")
    assert rows["grants"] == "elector 9 s, arbiter 11 s"
    assert rows["fence"] == "unknown: the actuator is silent"
    assert rows["node"] == "no process, not fit: because; because"
    assert "         silent: actuator, gateway" in lines


def test_what_a_short_window_leaves_out_is_below_and_counted() -> None:
    told = page(picture())
    whole = render(told, 80, 100)
    lines = render(told, 80, 6)
    assert lines[:5] == whole[:5]
    body = whole.index("")
    assert lines[5] == f"{body - 5} more lines: make the window taller"


def test_in_forty_columns_it_still_says_the_weightiest() -> None:
    lines = render(page(picture("a rather long reason for all of this")), 40, 24)
    assert lines[0].startswith("UNKNOWN: It is not known")
    assert any(line.startswith("role     leader for ") for line in lines)


def test_the_newest_of_what_happened_stands_first_in_the_room_that_is_left() -> None:
    entries = tuple(Happened(NOW - (30 - n) * S, "fence", f"state {n}", f"state {n + 1}", "why", 7) for n in range(30))
    told = page(picture(managed=False), entries=entries)
    lines = render(told, 100, 20)
    assert len(lines) == 20
    happened = lines[lines.index("") + 1 :]
    assert happened[0].endswith("fence state 29 -> state 30: why (token 7)")


def test_since_when_is_not_claimed_of_what_was_so_before_it_was_looked() -> None:
    elector = dataclasses.replace(elector_state("pod-1_bb"), holder_until=NOW + 60 * S)
    states = {Worker.ELECTOR: State(Worker.ELECTOR, "a", 1, 1, 0, NOW, NOW + timing.STATE_VALIDITY, elector)}
    before = Picture(load({"POD_NAME": "pod-0"}), "", NOW, 0, states, {})
    chronicle = Chronicle()
    chronicle.note(before)
    later = dataclasses.replace(before, now=NOW + 3 * S)
    lines = render(story_of(later, chronicle, 1_800_000_000.0), 80, 40)
    assert "forger   pod-1 in cardano-leader-default, for at least 3 s" in lines or any(
        line.startswith("forger   pod-1") and line.endswith("for at least 3 s") for line in lines
    )


# --- what was before ---


def test_a_transition_in_a_workers_log_is_an_entry_of_the_time_line() -> None:
    fields = {"old": "standby", "new": "leader", "why": "took the lease", "token": "7", "seconds": "3"}
    assert list(remembered(Decision(5, "INFO", "role_changed", "took the lease", fields))) == [
        Happened(5, "role", "standby", "leader", "took the lease", 7)
    ]


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("api_failed", {"old": "a", "new": "b", "why": "c", "token": "7"}),
        ("role_changed", {"role": "leader", "token": "7"}),
        ("role_changed", {"old": "a", "new": "b", "why": "c", "token": "x"}),
        ("fence_changed", {"old": "a", "new": "b", "why": "c", "token": "9" * 400}),
    ],
)
def test_any_other_decision_is_none(event: str, fields: dict[str, str]) -> None:
    assert list(remembered(Decision(5, "INFO", event, "", fields))) == []


def test_what_was_before_stands_before_and_is_not_told_twice() -> None:
    before = [Happened(1, "role", "observer", "standby", "", 0), Happened(2, "role", "standby", "leader", "", 7)]
    overlapping = Happened(12, "role", "leader", "handover", "", 7)
    seen = [Happened(10, "role", "", "leader", "", 7), Happened(10, "lease", "", "pod-0", "", 7), overlapping]
    assert with_earlier(seen, [*before, overlapping]) == [*before, seen[1], overlapping]
