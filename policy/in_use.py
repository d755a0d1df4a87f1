"""What the node really forges with, by its own metrics: which certificate, and whether a block was made with it.

A node that rejects new keys forges on with the old ones and says so in its log only; here it shows.  And a block that
the node made and adopted stood before the ledger's rules: the counter of its certificate is on chain from then on
(ouroboros-consensus Ouroboros/Consensus/Protocol/Praos.hs, doValidateKESSignature), and no lower one is good any more.
"""

from __future__ import annotations

from typing import Final

from cardano.opcert import OperationalCertificate
from ipc.messages import CertificateCounter, Check, Finding, NodeSample, Severity
from policy import timing
from policy.certificate_counter import is_news

PATIENCE: Final = 120 * timing.SECOND
"""The gauge follows the next look of the node at its KES key; up to a KES period late on old versions."""


class InUse:
    """Folds samples of one node after the other."""

    def __init__(self) -> None:
        self.counter_used: CertificateCounter | None = None
        """The highest with which a block was made and adopted."""
        self._recorded: CertificateCounter | None = None
        """What of it was found written down."""
        self.finding: Finding | None = None
        self._base: tuple[int, OperationalCertificate, int] | None = None
        """Node, certificate, and the count of blocks from which on each one more was made with it."""
        self._differs_since = 0
        self._counts = -1
        """Process whose count was seen: from then on it is there, or not known."""

    def look(
        self, now: int, sample: NodeSample | None, given: OperationalCertificate | None, *, replaced: bool
    ) -> None:
        """`given`: the certificate that the node confirmed to forge with; None: it does not forge by our doing.

        `replaced`: in place of another one, with which it forges on if it rejected this one.
        """
        if given is None:
            self._base, self.finding, self._differs_since = None, None, 0
            return
        if sample is None or not sample.answered:
            return
        differs = sample.kes_start is not None and sample.kes_start != given.kes_period
        self._compare(now, sample, given, differs=differs)
        unsure = differs or (replaced and sample.kes_start is None)
        adopted = self._adopted(sample)
        if unsure or adopted is None:
            self._base = None
            return
        base, self._base = self._base, (sample.node_pid, given, adopted)
        if base is not None and base[:2] == self._base[:2] and adopted > base[2]:
            used = CertificateCounter(given.counter, given.pool_id)
            self.counter_used = used if is_news(used, self.counter_used) else self.counter_used

    def look_at_record(self, recorded: CertificateCounter | None) -> None:
        """What the Lease says.  A lower number after ours is somebody's who knows better: the chain was begun anew."""
        used = self.counter_used
        if used is None or recorded is None:
            return
        if not is_news(used, recorded):
            self._recorded = used
        elif used == self._recorded:
            self.counter_used = self._recorded = None

    def _adopted(self, sample: NodeSample) -> int | None:
        """The count; a node that checks for leadership shows none before its first block."""
        if sample.adopted is not None:
            self._counts = sample.node_pid
            return sample.adopted
        return None if sample.about_to_lead is None or self._counts == sample.node_pid else 0

    def _compare(self, now: int, sample: NodeSample, given: OperationalCertificate, *, differs: bool) -> None:
        self._differs_since = (self._differs_since or now) if differs else 0
        if not differs or now - self._differs_since < PATIENCE:
            self.finding = None
            return
        reason = (
            f"the node names KES period {sample.kes_start} as the first of the certificate that it uses; the one that "
            f"it was given begins with {given.kes_period}"
        )
        remedy = (
            "look for BlockForgingUpdateError in the node's log; forgectl stand-down makes it read the keys again (old "
            "versions of the node show this number up to a KES period late: then nothing is wrong)"
        )
        self.finding = Finding(Check.IN_USE, Severity.WARNING, reason, remedy)
