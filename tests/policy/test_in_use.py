"""Which certificate a node really forges with, and with which a block of its own is on chain."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.opcert import OperationalCertificate
from ipc.messages import CertificateCounter, Check, NodeSample, Severity
from policy import timing
from policy.in_use import PATIENCE, InUse

S = timing.SECOND


def certificate(counter: int = 5, period: int = 300) -> OperationalCertificate:
    return OperationalCertificate(b"h" * 32, counter, period, b"s" * 64, b"c" * 32)


def sample(adopted: int | None, *, kes_start: int | None = 300, pid: int = 7, answered: bool = True) -> NodeSample:
    return NodeSample(pid, 0, 0, answered, 1, 1, 1, 1, 50, kes_start=kes_start, adopted=adopted)


def test_a_block_more_while_it_forges_puts_the_counter_on_chain() -> None:
    use = InUse()
    use.look(1, sample(3), certificate(), replaced=False)
    assert use.counter_used is None
    use.look(2, sample(4), certificate(), replaced=False)
    assert use.counter_used == CertificateCounter(5, certificate().pool_id)


@pytest.mark.parametrize(
    "second",
    [
        (sample(3), certificate(), False),  # no block more
        (sample(9, pid=8), certificate(), False),  # another node
        (sample(9), certificate(counter=6), False),  # another certificate by now
        (sample(9), None, False),  # not by our doing
        (sample(9, kes_start=299), certificate(), False),  # the node says that it uses another one
        (sample(9, kes_start=None), certificate(), True),  # it may have rejected the one it was given
        (sample(None), certificate(), False),  # the count was there before
        (sample(9, answered=False), certificate(), False),
        (None, certificate(), False),
    ],
)
def test_nothing_else_proves_it(second: tuple[NodeSample | None, OperationalCertificate | None, bool]) -> None:
    use = InUse()
    use.look(1, sample(3), certificate(), replaced=False)
    said, given_one, replaced = second
    use.look(2, said, given_one, replaced=replaced)
    assert use.counter_used is None


def test_a_node_whose_metrics_do_not_name_its_certificate_is_believed_if_it_never_had_another() -> None:
    use = InUse()
    use.look(1, sample(3, kes_start=None), certificate(), replaced=False)
    use.look(2, sample(4, kes_start=None), certificate(), replaced=False)
    assert use.counter_used == CertificateCounter(5, certificate().pool_id)


def test_a_lower_counter_later_takes_nothing_back() -> None:
    use = InUse()
    for now, (adopted, counter) in enumerate([(1, 5), (2, 5), (2, 4), (3, 4)]):
        use.look(now, sample(adopted), certificate(counter=counter), replaced=False)
    assert use.counter_used == CertificateCounter(5, certificate().pool_id)


def test_a_node_that_goes_on_with_another_certificate_is_a_warning_after_a_while() -> None:
    use = InUse()
    use.look(S, sample(3, kes_start=299), certificate(), replaced=True)
    assert use.finding is None
    use.look(S + PATIENCE, sample(3, kes_start=299), certificate(), replaced=True)
    assert use.finding is not None
    assert (use.finding.check, use.finding.severity) == (Check.IN_USE, Severity.WARNING)
    assert "299" in use.finding.reason
    assert "stand-down" in use.finding.remedy
    use.look(2 * S + PATIENCE, sample(3, kes_start=300), certificate(), replaced=True)
    assert use.finding is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=30))
def test_only_counters_that_were_given_are_ever_said_to_be_used(story: list[tuple[int, int, bool]]) -> None:
    use, given_counters = InUse(), set()
    for now, (adopted, counter, forging) in enumerate(story):
        given_counters |= {counter} if forging else set()
        use.look(now, sample(adopted), certificate(counter=counter) if forging else None, replaced=False)
        assert use.counter_used is None or use.counter_used.counter in given_counters


def test_certificates_are_told_apart_by_more_than_their_counter() -> None:
    use = InUse()
    use.look(1, sample(3), certificate(), replaced=False)
    use.look(2, sample(4), dataclasses.replace(certificate(), hot_key=b"o" * 32), replaced=False)
    assert use.counter_used is None


def test_a_block_of_another_pool_is_news_though_its_counter_is_lower() -> None:
    use = InUse()
    other = dataclasses.replace(certificate(counter=0), cold_key=b"o" * 32)
    for now, (adopted, one) in enumerate([(1, certificate()), (2, certificate()), (2, other), (3, other)]):
        use.look(now, sample(adopted), one, replaced=False)
    assert use.counter_used == CertificateCounter(0, other.pool_id)


def test_the_first_block_counts_though_a_node_without_one_shows_no_count() -> None:
    use = InUse()
    use.look(1, sample(None), certificate(), replaced=False)
    use.look(2, sample(1), certificate(), replaced=False)
    assert use.counter_used == CertificateCounter(5, certificate().pool_id)


def test_a_count_that_was_missed_once_is_not_taken_for_none() -> None:
    use = InUse()
    for now, adopted in enumerate([31, None, 31]):
        use.look(now, sample(adopted), certificate(), replaced=False)
    assert use.counter_used is None


def test_a_node_that_does_not_check_for_leadership_has_no_count_of_zero() -> None:
    use = InUse()
    use.look(1, dataclasses.replace(sample(None), about_to_lead=None), certificate(), replaced=False)
    use.look(2, sample(1), certificate(), replaced=False)
    assert use.counter_used is None
