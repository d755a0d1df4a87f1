"""The certificate counter that stands in a Lease, and what is news to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.messages import CertificateCounter
from policy.certificate_counter import as_text, concerns, is_news, parsed

OURS, OTHER = "pool1" + "a" * 51, "pool1" + "b" * 51
COUNTERS = st.builds(CertificateCounter, st.integers(0, 10**18 - 1), st.sampled_from([OURS, OTHER, ""]))


@given(COUNTERS)
def test_what_is_written_is_read_again(counter: CertificateCounter) -> None:
    assert parsed(as_text(counter)) == counter


def test_an_operator_may_leave_the_pool_out() -> None:
    assert parsed("6") == CertificateCounter(6, "")


@pytest.mark.parametrize(
    "text", ["", "-1", "x", "5.0", " 5", "5 ", "٣", "9" * 19, "4@", "4@pool1short", f"@{OURS}", f"4@{OURS}x"]
)
def test_what_is_none_is_not_known(text: str) -> None:
    assert parsed(text) is None


@given(st.text(max_size=100))
def test_no_text_is_more_than_a_counter_or_nothing(text: str) -> None:
    found = parsed(text)
    assert found is None or as_text(found) == text or found.counter == int(text.partition("@")[0])


@pytest.mark.parametrize(
    ("used", "known", "news"),
    [
        (None, None, False),
        (None, CertificateCounter(1, OURS), False),
        (CertificateCounter(1, OURS), None, True),
        (CertificateCounter(1, OURS), CertificateCounter(1, OURS), False),
        (CertificateCounter(2, OURS), CertificateCounter(1, OURS), True),
        (CertificateCounter(1, OURS), CertificateCounter(2, OURS), False),
        (CertificateCounter(1, OURS), CertificateCounter(2, ""), False),
        (CertificateCounter(3, OURS), CertificateCounter(2, ""), True),
        (CertificateCounter(0, OURS), CertificateCounter(9, OTHER), True),
    ],
)
def test_a_block_is_news_if_it_proves_more_or_is_another_pools(
    used: CertificateCounter | None, known: CertificateCounter | None, *, news: bool
) -> None:
    assert is_news(used, known) is news


def test_a_number_without_a_pool_concerns_every_pool() -> None:
    assert concerns(CertificateCounter(1, ""), OURS)
    assert concerns(CertificateCounter(1, OURS), OURS)
    assert not concerns(CertificateCounter(1, OTHER), OURS)
