"""What is wrong with a set of credentials, judged by what is public of it, and what mends it.

Sources: an operational certificate is good from its KES period on for maxKESEvolutions periods (ouroboros-consensus
Ouroboros/Consensus/Protocol/Praos.hs: KESBeforeStartOCERT, KESAfterEndOCERT); its counter must be the last one seen on
chain or exactly one more (the same: CounterTooSmallOCERT, CounterOverIncrementedOCERT).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cardano.credentials import CredentialSet, Faulty, KesAgent
from cardano.kes import PERIODS, KesKey
from cardano.opcert import OperationalCertificate
from cardano.slots import NETWORKS, Network, kes_period_at, kes_period_start
from ipc.messages import Check, Finding, Severity
from policy.certificate_counter import ANNOTATION

UNUSABLE: Final = frozenset(
    {
        Check.KES_KEY,
        Check.KES_AGENT,
        Check.VRF_KEY,
        Check.CERTIFICATE,
        Check.MATCH,
        Check.SIGNATURE,
        Check.POOL,
    }
)
"""With an error of one of these a set is never installed: a node would not start with it, or must not.

With any other it may start, and cannot forge.
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the set is held against."""

    network: str
    wall_s: float
    """Unix time."""
    calendar: Network | None
    """The network's; None: not known."""
    pool_id: str = ""
    """bech32; empty: any pool."""
    pool_id_hex: str = ""
    counter_seen: int | None = None
    """The highest counter known to be on chain; None: not known."""
    counter_record: str = ""
    """Where that is written down, as kubectl names it; empty: the operator said so."""


_WARN_S: Final = 14 * 86400
"""Before its end from which on an expiring certificate is a warning."""
_ISSUE: Final = (
    "cardano-cli node key-gen-KES --verification-key-file kes.vkey --signing-key-file kes.skey, then, where the cold "
    "key is: cardano-cli node issue-op-cert --kes-verification-key-file kes.vkey --cold-signing-key-file cold.skey "
    "--operational-certificate-issue-counter-file cold.counter --kes-period {period} --out-file node.cert"
)
_FILES: Final = (
    (Check.KES_KEY, "put the KES signing key there, as cardano-cli node key-gen-KES writes it (--signing-key-file)"),
    (Check.VRF_KEY, "put the VRF signing key there, as cardano-cli node key-gen-VRF wrote it for this pool"),
    (Check.CERTIFICATE, "put the certificate there, as cardano-cli node issue-op-cert writes it (--out-file)"),
)


def examine(found: CredentialSet, expected: Expected) -> tuple[Finding, ...]:
    """All findings, the worst first.  No error among them: the node can forge with this set now, as far as we know."""
    findings = [
        Finding(check, Severity.ERROR, part.reason, remedy)
        for (check, remedy), part in zip(_FILES, (found.kes, found.vrf, found.certificate), strict=True)
        if isinstance(part, Faulty)
    ]
    if isinstance(certificate := found.certificate, OperationalCertificate):
        kes = found.kes if isinstance(found.kes, KesKey) else None
        findings += _belonging(kes, certificate, found.signed, expected)
        findings += _periods(kes, certificate, expected)
        findings += _counter(certificate, expected)
    if isinstance(found.kes, KesAgent):
        findings.append(_agent(found.kes))
    return worst_first(findings)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Alike ones in the order in which they came."""
    rank = list(Severity)
    return tuple(sorted(findings, key=lambda finding: rank.index(finding.severity)))


def periods_left(certificate: OperationalCertificate, expected: Expected) -> int | None:
    """KES periods left, this one counted; 0 and less: expired.  None without a calendar."""
    calendar, now = expected.calendar, kes_period_at(expected.calendar, expected.wall_s)
    return None if now is None or calendar is None else certificate.kes_period + calendar.max_kes_evolutions - now


def expires_at(certificate: OperationalCertificate, expected: Expected) -> float | None:
    """Unix seconds from which on it is not good any more; None where no calendar tells."""
    calendar = expected.calendar
    return kes_period_start(calendar, certificate.kes_period + calendar.max_kes_evolutions) if calendar else None


def _agent(agent: KesAgent) -> Finding:
    if agent.problem:
        remedy = "start the KES agent, and mount the volume with its socket at the same path as in the node's container"
        return Finding(Check.KES_AGENT, Severity.ERROR, agent.problem, remedy)
    reason = "the node gets its KES key from an agent: whether that is the certificate's, only the two of them see"
    return Finding(Check.KES_AGENT, Severity.INFO, reason)


def _belonging(
    kes: KesKey | None, certificate: OperationalCertificate, signed: bool, expected: Expected
) -> list[Finding]:
    findings = []
    if kes is not None and kes.verification_key != certificate.hot_key:
        reason = "the certificate is for another KES key: the node rejects the pair, and goes on with what it had"
        remedy = "take both files from the same rotation; if one of them is lost, make both anew: "
        findings.append(Finding(Check.MATCH, Severity.ERROR, reason, remedy + _issue_now(expected)))
    if not signed:
        reason = "the certificate does not bear its cold key's signature: every block made with it is rejected"
        remedy = "it is damaged, or was put together by hand: issue it again with cardano-cli node issue-op-cert"
        findings.append(Finding(Check.SIGNATURE, Severity.ERROR, reason, remedy))
    wanted = {expected.pool_id, expected.pool_id_hex} - {""}
    if wanted and not wanted & {certificate.pool_id, certificate.pool_id_hex}:
        reason = f"the certificate is of pool {certificate.pool_id}, not of {expected.pool_id or expected.pool_id_hex}"
        remedy = "put this pool's own keys there, or set POOL_ID to the pool that they belong to"
        findings.append(Finding(Check.POOL, Severity.ERROR, reason, remedy))
    return findings


def _periods(kes: KesKey | None, certificate: OperationalCertificate, expected: Expected) -> list[Finding]:
    now, left = kes_period_at(expected.calendar, expected.wall_s), periods_left(certificate, expected)
    if now is None or left is None:
        reason = f"the KES period cannot be judged: no calendar of network {expected.network} is known"
        remedy = "" if expected.calendar is not None else "name the network's Shelley genesis file: SHELLEY_GENESIS"
        return [Finding(Check.KES_PERIOD, Severity.INFO, reason, remedy)]
    findings = []
    start, ends = certificate.kes_period, expires_at(certificate, expected)
    until = _instant(ends)
    if now < start:
        begins = _instant(kes_period_start(expected.calendar, start))
        reason = f"the certificate is good from KES period {start} on ({begins}); now it is {now}"
        reason += _elsewhere(certificate, expected)
        findings.append(Finding(Check.KES_PERIOD, Severity.ERROR, reason, "issue it again: " + _issue_now(expected)))
    elif left <= 0:
        reason = f"the certificate expired {until}: it began with KES period {start}, now it is {now}"
        reason += _elsewhere(certificate, expected)
        findings.append(Finding(Check.KES_PERIOD, Severity.ERROR, reason, "rotate now: " + _issue_now(expected)))
    else:
        soon = ends is not None and ends - expected.wall_s <= _WARN_S
        reason = f"good for {left} KES period{'s' if left > 1 else ''} more, until {until}"
        severity = Severity.WARNING if soon else Severity.INFO
        findings.append(Finding(Check.KES_PERIOD, severity, reason, "rotate: " + _issue_now(expected) if soon else ""))
    if kes is not None and kes.evolved:
        # A node takes what it reads for a key that was never evolved (HotKey.hs, mkHotKey): each signature would be of
        # another period than it says.
        reason = (
            f"the KES key was evolved by {kes.evolved} or more of {PERIODS} periods: it is not as cardano-cli wrote "
            "it, and what a node signs with it is not valid"
        )
        findings.append(Finding(Check.EVOLUTION, Severity.ERROR, reason, "rotate: " + _issue_now(expected)))
    return findings


def _counter(certificate: OperationalCertificate, expected: Expected) -> list[Finding]:
    seen, counter = expected.counter_seen, certificate.counter
    if seen is None or seen <= counter <= seen + 1:
        return []
    if counter < seen:
        reason = f"the certificate's counter is {counter}, and {seen} has been used: the network rejects the older one"
        remedy = "put the newest certificate there, or issue one: " + _issue_now(expected) + _by_hand(expected)
    else:
        reason = f"the certificate's counter is {counter}; after {seen} the ledger accepts {seen} and {seen + 1} only"
        remedy = (
            f"set the issue counter back and issue it again: cardano-cli node new-counter --cold-verification-key-file "
            f"cold.vkey --counter-value {seen + 1} --operational-certificate-issue-counter-file cold.counter, then: "
        ) + _issue_now(expected)
        remedy += _by_hand(expected)
    return [Finding(Check.COUNTER, Severity.ERROR, reason, remedy)]


def _by_hand(expected: Expected) -> str:
    """The record is of blocks that were seen here; others may have been made elsewhere, or the chain begun anew."""
    if not expected.counter_record:
        return ""
    return (
        "; if another one is on chain (cardano-cli query kes-period-info, qKesNodeStateOperationalCertificateNumber), "
        f"write that down: kubectl annotate --overwrite {expected.counter_record} {ANNOTATION}=<counter>"
    )


def _issue_now(expected: Expected) -> str:
    now = kes_period_at(expected.calendar, expected.wall_s)
    return _ISSUE.format(period="<KES period now>" if now is None else now)


def _elsewhere(certificate: OperationalCertificate, expected: Expected) -> str:
    """A hint if it would be good on another network: certificates do not say for which they are."""
    for network, calendar in NETWORKS.items():
        if network == expected.network:
            continue
        now = kes_period_at(calendar, expected.wall_s)
        if now is not None and certificate.kes_period <= now < certificate.kes_period + calendar.max_kes_evolutions:
            return f"; on {network} it would be good: is it a certificate of that network?"
    return ""


def _instant(unix_s: float | None) -> str:
    return "at no time" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"
