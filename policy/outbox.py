"""What waits to be sent, when the next attempt is due, and what becomes of each.  Pure.

`Outbox` promises: notices go out in their order, one at a time; whatever cannot be sent is tried again, more and more
seldom, until it is too old; the queue never grows beyond `MOST`; each notice that nobody will get is counted.  Whoever
sends is elsewhere (`outgoing.webhook`).  ns of CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from policy import timing
from policy.kept import whole

MOST: Final = 100
MOST_BODY: Final = 16 * 1024
"""Characters of a body; an honest one has a thousand."""
MOST_AGE: Final = 3600 * timing.SECOND
"""What is older is of no use to whoever would be woken by it, and keeps newer ones waiting."""
FIRST_PAUSE: Final = timing.SECOND
MOST_PAUSE: Final = 300 * timing.SECOND
MOST_ASKED: Final = 900.0
"""Seconds that a receiver may have us wait (Retry-After)."""
_MOST_DOUBLINGS: Final = 16
_MOST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Letter:
    """One notice as it is sent, again and again alike."""

    id: str
    made_at: int
    body: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will never take it."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It may do so later."""

    why: str
    asked_s: float = 0.0
    """Seconds that the receiver asks us to wait; 0: it does not."""


Result = Sent | Refused | Failed


class Outbox:
    """Of one pod.  `begun` and `ended` around each attempt."""

    def __init__(self) -> None:
        self.sent = self.failed = self.dropped = 0
        self.problem = ""
        """Why the last attempt came to nothing; empty: it did not."""
        self._queue: deque[Letter] = deque()
        self._under_way: Letter | None = None
        self._failures = 0
        """In a row."""
        self._not_before = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def calm(self) -> bool:
        """Whether there is no reason to think that an attempt would come to nothing."""
        return not self._failures

    def put(self, letter: Letter) -> None:
        """To be sent after those before it; where there is no room the oldest goes, but not the one under way."""
        if len(letter.body) > MOST_BODY:
            self.dropped += 1
            return
        if len(self._queue) >= MOST:
            del self._queue[1 if self._queue[0] is self._under_way else 0]
            self.dropped += 1
        self._queue.append(letter)

    def due(self, now: int) -> int | None:
        """When the next attempt is to begin; None: nothing waits, or one is under way."""
        self._forget_the_old(now)
        return max(self._not_before, now) if self._queue and self._under_way is None else None

    def begun(self) -> Letter:
        """The one to be sent now."""
        assert self._under_way is None, "one at a time"
        self._under_way = self._queue[0]
        return self._under_way

    def ended(self, result: Result, now: int, jitter: float) -> None:
        """What came of it.  `jitter`: from 0 to 1, at random."""
        assert self._under_way is not None, "nothing was under way"
        letter, self._under_way = self._under_way, None
        if isinstance(result, Failed):
            self._failures += 1
            self.failed += 1
            self.problem = result.why
            self._not_before = now + self._pause(result.asked_s, jitter)
            self._forget_the_old(now)
            return
        self._queue.remove(letter)
        self._failures = 0
        if isinstance(result, Sent):
            self.sent += 1
            self.problem = ""
        else:
            self.failed += 1
            self.dropped += 1
            self.problem = result.why

    def _pause(self, asked_s: float, jitter: float) -> int:
        doubled = FIRST_PAUSE << min(self._failures - 1, _MOST_DOUBLINGS)
        pause = int(min(doubled, MOST_PAUSE) * (1 + jitter) / 2)
        return max(pause, int(min(max(asked_s, 0.0), MOST_ASKED) * timing.SECOND))

    def _forget_the_old(self, now: int) -> None:
        while self._queue and self._queue[0] is not self._under_way and now - self._queue[0].made_at > MOST_AGE:
            self._queue.popleft()
            self.dropped += 1

    def kept(self, cut: int = 0) -> dict[str, Any]:
        """What waits, to be written down for `resumed`; counts and pauses are of one process.

        `cut`: so many of the oldest are left out for want of room.  The next life counts them as dropped.
        """
        return {"letters": [asdict(letter) for letter in self._queue][cut:], "cut": cut}

    @classmethod
    def resumed(cls, kept: Mapping[str, Any]) -> Outbox:
        """As it was, in the same boot.  Raises ValueError, TypeError, KeyError for what `kept` did not make."""
        outbox = cls()
        outbox.dropped = whole(kept.get("cut", 0), MOST)
        for raw in kept["letters"][:MOST]:
            letter = Letter(str(raw["id"]), whole(raw["made_at"], _MOST), str(raw["body"]))
            if not letter.id.isascii() or not letter.id.replace("-", "").isalnum() or len(letter.body) > MOST_BODY:
                raise ValueError("a letter that was not written here")
            outbox._queue.append(letter)
        return outbox
