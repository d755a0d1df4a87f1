"""One cluster's spec, of which every coordination API has a copy: which one counts, and what to write where.

Operators patch whichever API they reach.  The cluster's own arbiter (that of its leading pod) carries a change to the
other members; it marks each copy with a revision and a digest of what it wrote.  A copy that does not match its mark
was edited by somebody since, and counts before those that do: no clock is asked.  Of two edited differently on two
members, the one that disables counts first (it is the safe one), then the member that comes first in the
configuration.  A member that came back from a backup, or from being out of reach, has an older revision and is put
right.

With one member there is nothing to agree upon, and no mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policy.arbitration import ClusterSpec, ForgeState

_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Copy:
    """One member's copy of a cluster's spec."""

    reachable: bool
    """The member answers now: what it shows is not old."""
    spec: ClusterSpec
    mark: str
    """As it was read; empty: none."""

    @property
    def revision(self) -> int:
        """0: it was never marked."""
        number = self.mark.partition(".")[0]
        return int(number) if number.isascii() and number.isdecimal() and len(number) < 16 else 0

    @property
    def edited(self) -> bool:
        """Somebody wrote it after it was marked, or it was never marked."""
        return mark(self.revision, self.spec) != self.mark


def mark(revision: int, spec: ClusterSpec) -> str:
    """What stands beside a copy that was brought into step."""
    return f"{revision}.{hashlib.sha256(repr(spec_key(spec)).encode()).hexdigest()[:_DIGITS]}"


def spec_key(spec: ClusterSpec) -> tuple[object, ...]:
    """Everything that an operator can set, headers too."""
    health, override = spec.health, spec.override
    return (
        str(spec.state),
        spec.priority,
        (health.enabled, health.endpoint, health.interval_s, health.timeout_s, health.threshold, health.headers),
        (override.enabled, override.reason, override.expires_at, override.force_priority, str(override.force_state)),
    )


def counts(copies: Sequence[Copy]) -> int | None:
    """Index of the copy that counts; None: there is none.  `copies` in the order of the configuration."""
    if not copies:
        return None
    highest = max(copy.revision for copy in copies)
    # What was carried to others already is no news, though the copy that was edited does not say so yet.
    carried = {spec_key(copy.spec) for copy in copies if not copy.edited and copy.revision == highest}
    return max(range(len(copies)), key=lambda i: (*_standing(copies[i], carried), -i))


def _standing(copy: Copy, carried: set[tuple[object, ...]]) -> tuple[bool, bool, bool, int]:
    disabled = ForgeState.DISABLED in (copy.spec.state, copy.spec.override.force_state)
    news = copy.edited and spec_key(copy.spec) not in carried
    return copy.reachable, news, news and disabled, copy.revision


def agreed_mark(copies: Sequence[Copy]) -> str:
    """The mark that every copy should carry; "" if all agree already."""
    chosen = counts(copies)
    assert chosen is not None
    spec = copies[chosen].spec
    highest = max(copy.revision for copy in copies)
    same = all(spec_key(copy.spec) == spec_key(spec) and copy.mark == copies[chosen].mark for copy in copies)
    if same and not copies[chosen].edited:
        return ""
    if not copies[chosen].edited and copies[chosen].revision == highest:
        return copies[chosen].mark
    carried = mark(highest, spec)
    if all(copy.mark == carried for copy in copies if copy.revision == highest):
        return carried  # to some members already; the edited one itself may not take a write
    return mark(highest + 1, spec)
