"""One cluster's spec, of which every coordination API has a copy: which one counts, and what to write where.

Operators patch whichever API they reach.  The cluster's own arbiter (that of its leading pod) carries a change to the
other members; it marks each copy with a revision and a digest of what it wrote.  A copy that does not match its mark
was edited by somebody since, and counts before those that do: no clock is asked.

The edited copy is marked first, and only then the others are written: whoever sees his change everywhere and makes
another on another member makes it upon a higher revision.  (Were all written at once, the first copy's mark could be
late, and the first edit be taken for news after the second.)  If the edited copy takes no mark, or its member is out of
reach by now, the others are written all the same: what an operator said is not lost with the member he said it to.

Of two edits that did not know of each other the one that disables counts (it is the safe one), then the one that was
marked first: that on the member that comes first in the configuration, if both are seen at once.  The other is set
aside.  A member that came back from a backup, or from being out of reach, has an older revision and is put right.

A copy that the arbiter makes where there is none is marked from the first: what the environment says on a new member is
nobody's edit, and counts before nothing that an operator said elsewhere meanwhile.

A server that keeps something else than it was given (its CRD is another version's) is not given the same again.

With one member there is nothing to agree upon, and no mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policy.arbitration import ClusterSpec, ForgeState

_DIGITS: Final = 16
_LAST: Final = 10**15 - 1
"""A mark with this revision, or a higher one, only a hand can have written: it is none."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One member's copy of a cluster's spec."""

    reachable: bool
    """The member answers now: what it shows is not old."""
    spec: ClusterSpec
    mark: str
    """As it was read; empty: none."""
    writable: bool = True
    """The last write to it did not fail."""
    alters: str = ""
    """Digest of a spec that its server took and made another of (its CRD is another version's); empty: none."""

    @property
    def marked(self) -> bool:
        """It tells upon which revision it stands, edited or not."""
        return _revision(self.mark) is not None

    @property
    def revision(self) -> int:
        """0: it was made from what the environment says, or is not marked."""
        return _revision(self.mark) or 0

    @property
    def edited(self) -> bool:
        """Somebody wrote it after it was marked, or it was never marked."""
        return mark(self.revision, self.spec) != self.mark

    @property
    def disables(self) -> bool:
        return ForgeState.DISABLED in (self.spec.state, self.spec.override.force_state)


@dataclass(frozen=True, slots=True)
class Step:
    """What to write next."""

    source: int
    """Index of the copy whose spec is to be that of the others."""
    mark: str
    onto: frozenset[int]
    """Indices of the copies that are to be made so now; empty: they agree, or can be made to only later."""


def mark(revision: int, spec: ClusterSpec) -> str:
    """What stands beside a copy that was brought into step."""
    return f"{revision}.{digest(spec)}"


def older(one: str, other: str) -> bool:
    """Whether this mark is of an earlier revision than the other one; both must be marks."""
    this, that = _revision(one), _revision(other)
    return this is not None and that is not None and this < that


def _revision(mark: str) -> int | None:
    number = mark.partition(".")[0]
    if not number.isascii() or not number.isdecimal() or len(number) > len(str(_LAST)):
        return None
    return int(number) if int(number) < _LAST else None


def digest(spec: ClusterSpec) -> str:
    """Of everything that an operator can set."""
    return hashlib.sha256(repr(spec_key(spec)).encode()).hexdigest()[:_DIGITS]


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
    """Index of the copy that counts; None: there is none.  `copies` in the order of the configuration.

    One that can be read comes first: every arbiter is to see the same.
    """
    return max(_each(copies), key=lambda i: (copies[i].reachable, *_standing(copies, i)), default=None)


def made(copies: Sequence[Copy], defaults: ClusterSpec) -> tuple[ClusterSpec, str]:
    """Spec and mark of a copy to be made on a member that has none: as the one that counts, else of the defaults.

    It is marked with what it is made of, at the revision upon which that was edited: it is no edit itself.
    """
    counting = counts(copies)
    spec, revision = (defaults, 0) if counting is None else (copies[counting].spec, copies[counting].revision)
    return spec, mark(revision, spec)


def step(copies: Sequence[Copy]) -> Step | None:
    """What the cluster's own arbiter is to write next; None: there is no copy.

    What was seen on a member that is out of reach now is carried too.
    """
    if not copies:
        return None
    source = max(_each(copies), key=lambda i: _standing(copies, i))
    chosen = copies[source]
    following = min(max(copy.revision for copy in copies) + 1, _LAST - 1)
    wanted = mark(following, chosen.spec) if chosen.edited else chosen.mark
    onto = frozenset(i for i, c in enumerate(copies) if c.reachable and not (c.mark == wanted and _same(c, chosen)))
    onto -= {i for i in onto if i != source and copies[i].alters == digest(chosen.spec)}
    if chosen.edited and chosen.writable and chosen.reachable:
        onto = frozenset({source})
    elif chosen.edited and onto != {source}:
        onto -= {source}  # its mark would make the others' copies, not written yet, look as if they had been
    return Step(source, wanted, onto)


def sets_aside(copies: Sequence[Copy], taken: Step, index: int) -> bool:
    """Whether this step overwrites an edit that nobody carried."""
    known = [copies[taken.source], *_since(copies, index)]
    return copies[index].edited and not any(_same(copies[index], other) for other in known)


def _is_news(copies: Sequence[Copy], index: int) -> bool:
    """Whether this one was edited, by somebody who knew what others have.

    Else it is news only if it disables the cluster, and can be read; and if it was replaced as a whole, by hand: such a
    copy does not tell upon which it was made.
    """
    copy = copies[index]
    if not copy.edited:
        return False
    since = _since(copies, index)
    if not since:
        return True
    newest = since[-1]
    if not copy.reachable or _same(copy, newest):
        return False
    return not copy.marked or (copy.disables and not newest.disables)


def _since(copies: Sequence[Copy], index: int) -> list[Copy]:
    """Those brought into step at later revisions than this one, the newest last."""
    later = [other for other in copies if other.revision > copies[index].revision and not other.edited]
    return sorted(later, key=lambda other: (other.revision, other.disables))


def _standing(copies: Sequence[Copy], index: int) -> tuple[bool, bool, int, bool, int]:
    news, copy = _is_news(copies, index), copies[index]
    return news, news and copy.disables, copy.revision, copy.disables, -index


def _same(one: Copy, other: Copy) -> bool:
    return spec_key(one.spec) == spec_key(other.spec)


def _each(copies: Sequence[Copy]) -> range:
    return range(len(copies))
