"""All findings in one word and one sentence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipc.messages import Check, Finding, Severity
from policy.credential_summary import GOOD, MOST, summary


def finding(severity: Severity, check: Check = Check.KES_PERIOD, remedy: str = "") -> Finding:
    return Finding(check, severity, "it is so", remedy)


def test_without_a_finding_that_asks_for_something_all_is_good() -> None:
    assert summary(()) == GOOD
    assert summary((finding(Severity.INFO),)) == GOOD


def test_the_worst_finding_speaks_for_all_and_says_what_to_do() -> None:
    told = summary((finding(Severity.ERROR, Check.VRF_KEY, "mend it"), finding(Severity.WARNING)))
    assert (told.usable, told.reason, told.message) == (False, "VrfKey", "it is so; mend it")


def test_a_warning_is_no_obstacle() -> None:
    told = summary((finding(Severity.WARNING),))
    assert (told.usable, told.reason, told.message) == (True, "KesPeriod", "it is so")


@given(st.sampled_from(Check), st.sampled_from(Severity), st.text(max_size=3000), st.text(max_size=3000))
def test_a_reason_is_one_word_and_a_message_fits_an_event(
    check: Check, severity: Severity, reason: str, remedy: str
) -> None:
    told = summary((Finding(check, severity, reason, remedy),))
    assert told.reason.isalnum()
    assert told.reason[0].isupper()
    assert len(told.message) <= MOST
    assert told.usable is (severity is not Severity.ERROR)
