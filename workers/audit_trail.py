"""The audit trail of the fence: what was done with the credentials, and which signals went to the node.

Never what is in a file.  What is noted is written by `write`, which the actuator calls when it has done all that its
machine asked for: no line of the log delays a fence.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ipc.complaints import ENDED, Complaint

log = logging.getLogger("actuator")

DONE: Final = "done"
SENT: Final = "sent"


class Operation(enum.StrEnum):
    """What is done with the files at the target paths."""

    OFFER = "offer"
    """To a node that is to start: it cannot forge with them."""
    WITHDRAW = "withdraw"
    """Takes an offer back."""
    INSTALL = "install"
    """For a node that is to forge."""
    REPLACE = "replace"
    """With a newer set, under a node that forges."""
    REMOVE = "remove"
    """Takes away what a node was to forge with."""


@dataclass(frozen=True, slots=True)
class _Noted:
    level: int
    message: str
    event: str
    fields: dict[str, Any]
    failed: bool
    kind: str
    """Of what it fails at: an operation, a signal."""


class AuditTrail:
    """Of one actuator."""

    def __init__(self) -> None:
        self.token = 0
        """Of the right under which the node was armed last; 0: not in this life, or it is fenced since."""
        self._noted: list[_Noted] = []
        self._failing: dict[str, Complaint] = {}

    def operation(
        self,
        operation: Operation,
        files: Sequence[str],
        why: str,
        *,
        outcome: str = DONE,
        counter: int | None = None,
        kes_period: int | None = None,
    ) -> None:
        """`outcome`: what went wrong, in words; `counter`, `kes_period`: the certificate's, where they are known."""
        failed = outcome != DONE
        fields = {
            "operation": str(operation),
            "files": list(files),
            "why": why,
            "counter": counter,
            "kes_period": kes_period,
            "token": self.token,
            "outcome": outcome,
        }
        level, message = logging.ERROR if failed else logging.INFO, f"credentials: {operation}"
        self._noted.append(_Noted(level, message, "credential_operation", fields, failed, str(operation)))

    def signal(self, name: str, pid: int, start_ticks: int, why: str, *, outcome: str = SENT) -> None:
        """`name`: SIGHUP and so on; `start_ticks`: when the process started, in clock ticks since boot."""
        failed, told = outcome != SENT, name == "SIGHUP"
        fields = {
            "signal": name,
            "to": "node",
            "pid": pid,
            "start_ticks": start_ticks,
            "why": why,
            "token": self.token,
            "outcome": outcome,
        }
        level = logging.ERROR if failed else logging.INFO if told else logging.CRITICAL
        message = f"{name} to the node: {why}" if told else f"{name} to end the node: {why}"
        self._noted.append(_Noted(level, message, "signal", fields, failed, name))

    def earlier_life(self, pid: int, files: Sequence[str], why: str) -> None:
        """What this life found of the one before.  `pid`: 0: not known; `files`: names of what was left."""
        message = "an earlier life of this process ended" + (" with keys in its stage" if files else " without keys")
        fields = {"pid": pid, "files": list(files), "why": why}
        level = logging.WARNING if files else logging.INFO
        self._noted.append(_Noted(level, message, "earlier_life", fields, failed=False, kind="earlier_life"))

    def write(self) -> None:
        """Say what was noted; what fails again and again is counted."""
        noted, self._noted = self._noted, []
        for one in noted:
            if one.failed:
                if one.kind not in self._failing:
                    facts, end = {"audit": True}, (ENDED, f"failures of {one.kind}")
                    self._failing[one.kind] = Complaint(log, one.event, "", level=one.level, end=end, facts=facts)
                self._failing[one.kind].again(message=one.message, **one.fields)
                continue
            if one.kind in self._failing:
                self._failing[one.kind].over(of=one.kind)
            log.log(one.level, "%s", one.message, extra={"event": one.event, "audit": True, **one.fields})
