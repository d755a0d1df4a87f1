"""A pause: no hand-over happens by itself until it ends; written on a Lease by an operator.  Pure.

The annotation `cardano.io/paused` on the election's Lease keeps the forging with the pod that has it, on the pool-wide
lock's Leases with the cluster that has it.  `forgectl pause` writes it, `forgectl resume` removes it, and so can
kubectl:

    kubectl annotate lease cardano-node-leader cardano.io/paused="2026-12-24T18:00:00Z new switches"

Its first word says when the pause ends, if it is an instant; the rest is the reason.  A pause only ever keeps somebody
from taking over: the fence and every deadline hold as ever, so it can cost blocks and never make two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from policy.wall_time import rfc3339

ANNOTATION: Final = "cardano.io/paused"
MOST: Final = 500
"""Characters of the annotation that count."""
_NOT: Final = ("false", "no", "0")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pause:
    until_s: float | None
    """Seconds since 1970, held against the clock of whoever reads it; None: until it is ended."""
    reason: str

    def __str__(self) -> str:
        """`until 2026-12-24T18:00:00Z: new switches`, `until resumed`."""
        end = "resumed" if self.until_s is None else _written(self.until_s)
        return f"until {end}: {self.reason}" if self.reason else f"until {end}"


def parsed(text: str) -> Pause | None:
    """None: nothing is paused.  What is no instant is the reason: who writes anything there means a pause."""
    text = "".join(c if c.isprintable() else " " for c in text[:MOST]).strip()
    if not text or text.lower() in _NOT:
        return None
    first, _, rest = text.partition(" ")
    if _INSTANT.fullmatch(first):
        try:
            return Pause(datetime.fromisoformat(first).timestamp(), rest.strip())
        except ValueError:  # the 31st of February
            return Pause(None, text)
    return Pause(None, rest.strip() if first.lower() in ("true", "yes") else text)


def as_text(pause: Pause) -> str:
    """As `parsed` reads it: whole seconds."""
    first = "true" if pause.until_s is None else _written(pause.until_s)
    return f"{first} {pause.reason}".strip()


def acting(text: str, wall_s: float) -> Pause | None:
    """The pause that is in force at `wall_s` (seconds since 1970)."""
    pause = parsed(text)
    return pause if pause is not None and (pause.until_s is None or wall_s < pause.until_s) else None


def of_members(texts: Sequence[str], wall_s: float) -> Pause | None:
    """The pool's, of what the coordination APIs that are known say: half of them are enough.

    One that was out of reach when the others were paused, or resumed, is outvoted; between two, who paused is heard.
    """
    found = [acting(text, wall_s) for text in texts]
    paused = [pause for pause in found if pause is not None]
    return max(paused, key=_lasts) if paused and 2 * len(paused) >= len(found) else None


def _lasts(pause: Pause) -> float:
    return float("inf") if pause.until_s is None else pause.until_s


def _written(until_s: float) -> str:
    """To the second that has begun then."""
    return rfc3339(math.floor(until_s))
