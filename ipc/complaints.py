"""What happens again and again, in the log: its first, then at most a line a period with a count, then its end.

`policy.repeats` decides; `Complaint` writes.  Where a loop runs, what had no line is told when its period is over.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from kernel.clock import boottime_ns
from policy import timing
from policy.repeats import PERIOD, Ended, Repeats

ENDED: Final = "ended"
"""The event of an end that has no name of its own."""


class Complaint:
    """One condition."""

    def __init__(
        self,
        log: logging.Logger,
        event: str,
        message: str,
        *,
        level: int = logging.WARNING,
        end: tuple[str, str] | None = (ENDED, ""),
        passes: bool = False,
        period: int = PERIOD,
        free: int = 1,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """`end`: its event and text; None: that it is over is no news.  `facts`: in every line.

        `passes`, `period`, `free`: as in `policy.repeats`.
        """
        self._log, self._event, self._message, self._level = log, event, message, level
        self._end = end
        self._facts = facts or {}
        self._repeats = Repeats(period, free, passes)
        self._latest: dict[str, tuple[str, dict[str, Any], BaseException | None]] = {}
        """Of each kind, for its next line."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def active(self) -> bool:
        """Whether it holds, as far as anybody said."""
        return self._repeats.active

    def again(self, kind: str = "", /, *, message: str = "", error: BaseException | None = None, **fields: Any) -> None:
        """It occurred; `kind`: of a closed list.  `error`: its trace goes with the line."""
        repeated = self._repeats.happened(boottime_ns(), kind)
        self._latest[kind] = (message or self._message, fields, error)
        if repeated is not None:
            self._say(kind, repeated)
        self._wait()

    def over(self, **fields: Any) -> bool:
        """It is over, if it was on; whether that was said."""
        if not self._repeats.active:
            return False
        ended = self._repeats.over(boottime_ns())
        if ended is not None:
            self._say_end(ended, fields)
        self._wait()
        return ended is not None

    def _say(self, kind: str, repeated: int) -> None:
        message, fields, error = self._latest[kind]
        counted = {"repeated": repeated} if repeated else {}
        extra = {"event": self._event, **self._facts, **fields, **counted}
        self._log.log(self._level, "%s", message, exc_info=error, extra=extra)

    def _say_end(self, ended: Ended, fields: dict[str, Any]) -> None:
        if self._end is None:
            return
        event, text = self._end
        seconds = round(ended.lasted / timing.SECOND, 3)
        what = {"what": self._event} if event == ENDED else {}
        self._log.info(
            "%s: ended after %d in %.1f s",
            text or self._message,
            ended.count,
            seconds,
            extra={"event": event, **what, **self._facts, **fields, "count": ended.count, "seconds": seconds},
        )

    def _look(self) -> None:
        self._timer = None
        kinds, ended = self._repeats.look(boottime_ns())
        for kind, repeated in kinds.items():
            self._say(kind, repeated)
        if ended is not None and ended.count > 1:  # a single one has had its line
            self._say_end(ended, {})
        self._wait()

    def _wait(self) -> None:
        """Look again when that is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._repeats.due
        if due is None:
            self._latest.clear()  # no exception's frames are kept for nothing
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # none: told with the next occurrence
            return
        self._timer = loop.call_later(max(due - boottime_ns(), 0) / timing.SECOND + 0.001, self._look)
