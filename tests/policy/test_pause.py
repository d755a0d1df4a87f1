"""What an operator writes on a Lease to keep the forging where it is, read from any text."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.pause import MOST, Pause, acting, as_text, of_members, parsed

END = 1_798_135_200.0
"""2026-12-24T18:00:00Z."""


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("2026-12-24T18:00:00Z new switches", Pause(END, "new switches")),
        ("2026-12-24T18:00:00Z", Pause(END, "")),
        ("true", Pause(None, "")),
        ("yes  new switches ", Pause(None, "new switches")),
        ("new switches", Pause(None, "new switches")),
        ("2026-12-24", Pause(None, "2026-12-24")),
        ("2026-02-31T00:00:00Z no such day", Pause(None, "2026-02-31T00:00:00Z no such day")),
        ("", None),
        ("  ", None),
        ("false", None),
        ("No", None),
    ],
)
def test_the_first_word_says_when_it_ends_and_the_rest_why(text: str, pause: Pause | None) -> None:
    assert parsed(text) == pause


def test_a_pause_is_told_with_its_end_and_its_reason() -> None:
    assert str(Pause(END, "new switches")) == "until 2026-12-24T18:00:00Z: new switches"
    assert str(Pause(None, "")) == "until resumed"


def test_a_pause_acts_until_its_end() -> None:
    text = as_text(Pause(END, "x"))
    assert acting(text, END - 1) == Pause(END, "x")
    assert acting(text, END) is None
    assert acting("true", 1e12) == Pause(None, "")


reasons = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)


@given(st.none() | st.integers(0, 4_000_000_000), reasons)
def test_what_is_written_is_read_again(until_s: int | None, reason: str) -> None:
    pause = Pause(None if until_s is None else float(until_s), f"for {reason}")
    assert parsed(as_text(pause)) == pause


@given(st.text(max_size=2 * MOST) | st.text("0123456789-T:Z. ", max_size=40))
def test_any_text_is_a_pause_or_none_and_shown_on_one_line(text: str) -> None:
    pause = parsed(text)
    assert pause is None or (str(pause).isprintable() and len(str(pause)) <= MOST + 40)
    if pause is not None:
        assert parsed(as_text(dataclasses.replace(pause, reason=f"why {pause.reason}"))) is not None


@pytest.mark.parametrize(
    ("texts", "paused"),
    [
        ((), False),
        (("",), False),
        (("true",), True),
        (("true", "true", ""), True),
        (("true", "", ""), False),
        (("true", ""), True),
        (("2026-12-24T18:00:00Z", "", "2026-12-24T18:00:00Z"), False),
    ],
)
def test_half_of_the_members_that_are_known_pause_a_pool(texts: tuple[str, ...], *, paused: bool) -> None:
    assert (of_members(texts, END) is not None) is paused


def test_of_several_ends_the_last_counts() -> None:
    assert of_members(("2026-12-24T18:00:00Z a", "2026-12-24T19:00:00Z b"), END - 1) == Pause(END + 3600, "b")
    assert of_members(("2026-12-24T18:00:00Z a", "true"), END - 1) == Pause(None, "")
