"""The last sign of another holder is when it was seen to renew or to release, and nothing that we did ourselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policy.last_sign import LastSign


def after(*noted: tuple[str, int]) -> int:
    sign = LastSign("us")
    for holder, at in noted:
        sign.note(holder, at)
    return sign.at


def test_a_holder_that_renews_is_heard_of_each_time() -> None:
    assert after(("them", 10), ("them", 15), ("them", 20)) == 20


def test_its_release_is_its_last_sign() -> None:
    assert after(("them", 10), ("", 12)) == 12


def test_a_lease_that_stays_free_says_nothing_new() -> None:
    assert after(("them", 10), ("", 12), ("", 12), ("", 30)) == 12


def test_taking_renewing_and_releasing_it_ourselves_is_no_sign_of_another() -> None:
    assert after(("them", 10), ("", 12), ("us", 13), ("us", 18), ("", 19), ("us", 20)) == 12


def test_one_that_died_was_last_heard_of_when_it_renewed() -> None:
    assert after(("them", 10), ("them", 10), ("us", 26)) == 10


def test_a_lease_that_was_never_anybodys_gives_none() -> None:
    assert after(("", 5), ("us", 6), ("", 7)) == 0


@given(st.lists(st.tuples(st.sampled_from(["", "us", "them", "others"]), st.integers(1, 100))))
def test_it_never_goes_back_and_is_always_an_instant_that_was_noted(noted: list[tuple[str, int]]) -> None:
    sign, before = LastSign("us"), 0
    for holder, at in noted:
        sign.note(holder, at)
        assert sign.at >= before
        assert sign.at in {0, *(instant for _, instant in noted)}
        before = sign.at
