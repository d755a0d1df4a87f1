"""What is found in a set of credentials, how bad it is, and the command that mends it."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.credentials import CredentialSet, Faulty
from cardano.kes import KesKey
from cardano.opcert import OperationalCertificate
from cardano.slots import NETWORKS, kes_period_at, kes_period_start
from cardano.vrf import VrfKey
from ipc.messages import Check, Finding, Severity
from policy.credential_findings import Expected, examine, expires_at, periods_left

HOT, COLD = b"h" * 32, b"c" * 32
PERIOD = 1000
"""The KES period now."""
START = kes_period_start(NETWORKS["mainnet"], PERIOD)
assert START is not None
NOW = START + 3600
POOL = OperationalCertificate(HOT, 0, 0, b"", COLD).pool_id
POOL_HEX = OperationalCertificate(HOT, 0, 0, b"", COLD).pool_id_hex
DAY = 86400.0
EVOLUTIONS = NETWORKS["mainnet"].max_kes_evolutions


def found(*, period: int = PERIOD - 3, counter: int = 5, signed: bool = True, **parts: object) -> CredentialSet:
    certificate = OperationalCertificate(HOT, counter, period, b"s" * 64, COLD)
    return dataclasses.replace(CredentialSet(KesKey(HOT, 0), VrfKey(b"v" * 32), certificate, signed), **parts)  # type: ignore[arg-type]


def expected(**how: object) -> Expected:
    return dataclasses.replace(Expected("mainnet", NOW, NETWORKS["mainnet"]), **how)  # type: ignore[arg-type]


def of(findings: tuple[Finding, ...], check: Check) -> Finding:
    (one,) = (finding for finding in findings if finding.check is check)
    return one


def errors(findings: tuple[Finding, ...]) -> list[Check]:
    return [finding.check for finding in findings if finding.severity is Severity.ERROR]


def test_a_good_set_has_no_finding_but_how_long_it_is_good() -> None:
    (only,) = examine(found(), expected(pool_id=POOL, pool_id_hex=POOL_HEX, counter_seen=5))
    assert (only.check, only.severity, only.remedy) == (Check.KES_PERIOD, Severity.INFO, "")
    assert only.reason.startswith("good for 59 KES periods more, until ")


BAD = [
    ("no KES key", found(kes=Faulty("kes.skey is gone")), expected(), Check.KES_KEY),
    ("no VRF key", found(vrf=Faulty("vrf.skey is gone")), expected(), Check.VRF_KEY),
    ("no certificate", found(certificate=Faulty("node.cert is gone")), expected(), Check.CERTIFICATE),
    ("another KES key", found(kes=KesKey(b"o" * 32, 0)), expected(), Check.MATCH),
    ("a bad signature", found(signed=False), expected(), Check.SIGNATURE),
    ("another pool", found(), expected(pool_id="pool1" + "q" * 51), Check.POOL),
    ("another pool by its digits", found(), expected(pool_id_hex="00" * 28), Check.POOL),
    ("not yet valid", found(period=PERIOD + 1), expected(), Check.KES_PERIOD),
    ("expired in this period", found(period=PERIOD - EVOLUTIONS), expected(), Check.KES_PERIOD),
    ("expired long ago", found(period=0), expected(), Check.KES_PERIOD),
    ("of a far future", found(period=2**64 - 1), expected(), Check.KES_PERIOD),
    ("evolved past now", found(kes=KesKey(HOT, 4)), expected(), Check.EVOLUTION),
    ("a stale counter", found(counter=4), expected(counter_seen=5), Check.COUNTER),
    ("a counter that skips", found(counter=7), expected(counter_seen=5), Check.COUNTER),
]


@pytest.mark.parametrize(("what", "bad", "against", "check"), BAD, ids=[each[0] for each in BAD])
def test_a_bad_set_is_an_error_with_its_remedy(what: str, bad: CredentialSet, against: Expected, check: Check) -> None:
    findings = examine(bad, against)
    assert errors(findings) == [check], what
    assert of(findings, check).remedy


def test_the_errors_come_first() -> None:
    findings = examine(found(period=0, kes=KesKey(b"o" * 32, 2)), expected(pool_id="pool1x"))
    ranks = [list(Severity).index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)
    assert set(errors(findings)) == {Check.MATCH, Check.POOL, Check.KES_PERIOD, Check.EVOLUTION}


@pytest.mark.parametrize("seen", [None, 4, 5])
def test_the_last_counter_and_the_next_one_are_accepted(seen: int | None) -> None:
    assert not errors(examine(found(counter=5), expected(counter_seen=seen)))


def test_either_form_of_the_pools_id_will_do() -> None:
    assert not errors(examine(found(), expected(pool_id=POOL)))
    assert not errors(examine(found(), expected(pool_id_hex=POOL_HEX)))


def test_the_remedy_for_an_expired_key_names_the_period_to_issue_for() -> None:
    remedy = of(examine(found(period=0), expected()), Check.KES_PERIOD).remedy
    assert f"--kes-period {PERIOD} " in remedy
    assert "cardano-cli node key-gen-KES" in remedy


def test_the_remedy_for_a_counter_that_skips_sets_the_issue_counter_back() -> None:
    remedy = of(examine(found(counter=9), expected(counter_seen=5)), Check.COUNTER).remedy
    assert "cardano-cli node new-counter" in remedy
    assert "--counter-value 6" in remedy


@pytest.mark.parametrize(
    ("days", "severity"), [(14.1, Severity.INFO), (13.9, Severity.WARNING), (0.01, Severity.WARNING)]
)
def test_a_key_that_expires_soon_is_warned_of_fourteen_days_before(days: float, severity: Severity) -> None:
    ends = expires_at(OperationalCertificate(HOT, 0, PERIOD, b"", COLD), expected())
    assert ends is not None
    one = of(examine(found(period=PERIOD), expected(wall_s=ends - days * DAY)), Check.KES_PERIOD)
    assert one.severity is severity
    assert bool(one.remedy) is (severity is Severity.WARNING)


def test_a_certificate_of_another_network_is_told_as_such() -> None:
    now = kes_period_at(NETWORKS["preprod"], time.time())
    assert now is not None
    one = of(examine(found(period=now), Expected("mainnet", time.time(), NETWORKS["mainnet"])), Check.KES_PERIOD)
    assert one.severity is Severity.ERROR
    assert "on preprod it would be good" in one.reason


def test_on_a_network_without_a_calendar_the_period_is_not_judged_and_the_rest_is() -> None:
    findings = examine(found(kes=KesKey(b"o" * 32, 0)), expected(network="devnet", calendar=None))
    assert errors(findings) == [Check.MATCH]
    assert "no calendar" in of(findings, Check.KES_PERIOD).reason
    assert periods_left(OperationalCertificate(HOT, 0, 0, b"", COLD), expected(calendar=None)) is None


@pytest.mark.parametrize("evolved", [1, 2, 40])
def test_an_evolved_key_is_an_error_whatever_the_period(evolved: int) -> None:
    one = of(examine(found(kes=KesKey(HOT, evolved)), expected()), Check.EVOLUTION)
    assert one.severity is Severity.ERROR


@given(
    st.sampled_from([*NETWORKS, "devnet"]),
    st.floats(0, 5e9),
    st.integers(0, 2**64 - 1) | st.integers(900, 1700),
    st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**64 - 1),
)
def test_the_verdict_is_total_and_an_error_exactly_where_the_ledger_rejects(
    network: str, wall_s: float, period: int, counter: int, seen: int | None
) -> None:
    findings = examine(
        found(period=period, counter=counter), Expected(network, wall_s, NETWORKS.get(network), counter_seen=seen)
    )
    now = kes_period_at(NETWORKS.get(network), wall_s)
    rejected = set()
    if now is not None and not period <= now < period + EVOLUTIONS:
        rejected.add(Check.KES_PERIOD)
    if seen is not None and not seen <= counter <= seen + 1:
        rejected.add(Check.COUNTER)
    assert set(errors(findings)) == rejected
