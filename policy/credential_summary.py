"""All findings of a pod's credentials in one word and one sentence, for conditions and Events.  Pure, and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ipc.messages import Finding, Severity

CONDITION: Final = "CredentialsUsable"
"""Type of the condition in CardanoLeader and CardanoForgeCluster."""
MOST: Final = 900
"""Characters of the message: an Event takes 1024."""


@dataclass(frozen=True, slots=True)
class Summary:
    usable: bool
    """A node could forge with them now."""
    reason: str
    """One word: Good, or the worst finding's check, such as KesPeriod."""
    message: str
    """The worst finding and what mends it; nothing secret."""


GOOD: Final = Summary(True, "Good", "a node can forge with the credentials in the secret")


def summary(findings: Sequence[Finding]) -> Summary:
    """`findings`: the worst first."""
    worst = findings[0] if findings else None
    if worst is None or worst.severity is Severity.INFO:
        return GOOD
    word = "".join(part.capitalize() for part in str(worst.check).split("-"))
    text = f"{worst.reason}; {worst.remedy}" if worst.remedy else worst.reason
    return Summary(worst.severity is not Severity.ERROR, word, text[:MOST])
