"""When this cluster's health is to be asked, and what the answers so far say of it.

Only the outcome of whole checks counts; whoever makes them is elsewhere (`health.endpoint`).  ns of CLOCK_BOOTTIME
unless a name says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from ipc.messages import HealthCheck, HealthReport
from policy import timing

LEAST_INTERVAL_S: Final = 1.0
MOST_INTERVAL_S: Final = 86400.0
USUAL_TIMEOUT_S: Final = 10.0
"""In place of one that is not above 0."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MOST_TEXT: Final = 32


def parse_duration(text: str) -> float:
    """Seconds of a duration as the CRD writes them: 30s, 1m30s, 500ms, 1.5h.  Raises ValueError with the remedy."""
    if len(text) > _MOST_TEXT or not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        raise ValueError("must be a duration: numbers, each with its unit ms, s, m or h, such as 30s, 1m30s or 500ms")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def bounded(check: HealthCheck) -> HealthCheck:
    """The same with an interval, a timeout and a threshold that can be kept: a check ends before the next begins."""
    interval_s = min(max(check.interval_s, LEAST_INTERVAL_S), MOST_INTERVAL_S)
    timeout_s = check.timeout_s if check.timeout_s > 0 else USUAL_TIMEOUT_S
    return replace(
        check, interval_s=interval_s, timeout_s=min(timeout_s, interval_s), threshold=max(check.threshold, 1)
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check."""

    healthy: bool
    message: str
    response_s: float | None = None
    """From the first step to the end of the answer; None: there was none."""


class Health:
    """Folds the checks of one endpoint into a report; another endpoint begins anew."""

    def __init__(self) -> None:
        self.check = HealthCheck()
        """What is wanted now, within bounds."""
        self.due: int | None = None
        """When the next check is to begin; None: nothing is to be asked."""
        self._report: HealthReport | None = None

    @property
    def report(self) -> HealthReport | None:
        """What is known; None: no endpoint is to be asked."""
        return self._report

    def want(self, check: HealthCheck, now: int) -> bool:
        """Take settings over; whether they are others than before, which makes a check due at once."""
        check = bounded(check)
        if check == self.check:
            return False
        before, self.check = self.check, check
        if not check.endpoint:
            self.due = self._report = None
            return True
        self.due = now
        if self._report is None or check.endpoint != before.endpoint:
            self._report = HealthReport(check.endpoint, True, 0, 0, None, "not checked yet")
        else:
            failures = self._report.consecutive_failures
            self._report = replace(self._report, healthy=failures < check.threshold)
        return True

    def began(self, now: int) -> None:
        """A check begins; the next one is due an interval later, whatever comes of this one."""
        assert self.due is not None, "nothing is to be asked"
        self.due = now + int(self.check.interval_s * timing.SECOND)

    def ended(self, outcome: Outcome, now: int) -> None:
        """The check that began last, under the settings of now, is over."""
        assert self._report is not None, "nothing is to be asked"
        failures = 0 if outcome.healthy else self._report.consecutive_failures + 1
        self._report = HealthReport(
            endpoint=self.check.endpoint,
            healthy=failures < self.check.threshold,
            consecutive_failures=failures,
            checked_at=now,
            response_s=outcome.response_s,
            message=outcome.message,
        )
