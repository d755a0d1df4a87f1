"""What a worker's log says when something it answers for became otherwise.

Each line has `old`, `new`, `why`, `token` and `seconds`, for which the old state lasted.  Another reason for the same
state has an event of its own; such lines are counted where they come in masses.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from ipc.complaints import Complaint
from policy import timing

REASONS: Final = 12
"""Lines in a minute about the same state."""
_MEASURE: Final = re.compile(r"\d+(\.\d+)? s\b")
"""A reason that differs by it only is the same."""


class Told:
    """One thing, and what the log has of it."""

    def __init__(
        self,
        log: logging.Logger,
        event: str,
        now: int,
        *,
        old: str = "",
        token: int = 0,
        reason_event: str = "",
        warns: tuple[str, str] | None = None,
    ) -> None:
        """`old`: its state since `now` (ns), no news.  `reason_event`: of another reason for the same state.

        `warns`: from which state to which the change is a warning.
        """
        self._log, self._event, self._warns = log, event, warns
        self._state, self._since, self._token, self._why = old, now, token, ""
        self._reason = Complaint(log, reason_event, "", level=logging.INFO, end=None, passes=True, free=REASONS)
        self._tells_reasons = bool(reason_event)

    def tell(self, at: int, new: str, why: str, token: int = 0, *, message: str = "", **more: Any) -> None:
        """It is `new` since `at` (ns).  `token`: 0: none now; the line then names that of the state that ended."""
        if new != self._state:
            seconds = round(max(at - self._since, 0) / timing.SECOND, 3)
            old, named = self._state, token or self._token
            self._state, self._since, self._token, self._why = new, at, token, why
            told = {"old": old, "new": new, "why": why, "token": named, "seconds": seconds, **more}
            level = logging.WARNING if (old, new) == self._warns else logging.INFO
            self._log.log(level, "%s", message or why or new, extra={"event": self._event, **told})
            return
        self._token = token or self._token
        if self._tells_reasons and why != self._why and _MEASURE.sub("", why) != _MEASURE.sub("", self._why):
            self._why = why
            self._reason.again(message=why, state=new, why=why, token=self._token, **more)
