"""Two keys: whether the grants at hand give the right to forge, until when, and if not, why not.

The rule of exclusiveness: both grants must be valid, and at least one must be exclusive over the whole scope it
serves.  With cluster management off that is the elector's (it holds the cluster's Lease); with it on, the
arbiter's (it holds the pool-wide lock).
"""

from __future__ import annotations

from dataclasses import dataclass

from ipc.messages import Grant
from policy import timing


@dataclass(frozen=True, slots=True)
class Right:
    """May forge until `deadline` (hard); a living actuator stops at `soft`.  ns of CLOCK_BOOTTIME."""

    deadline: int
    token: int

    @property
    def soft(self) -> int:
        return timing.soft_deadline(self.deadline)


@dataclass(frozen=True, slots=True)
class Refusal:
    """May not forge; `reason` is for people."""

    reason: str


def right_to_forge(
    elector: Grant | None, arbiter: Grant | None, *, managed: bool, void_before: int, now: int
) -> Right | Refusal:
    """Weigh the two grants at instant `now`.

    `void_before`: grants renewed at or before this instant count for nothing (the wall clock jumped: the machine
    may have been suspended, copied or moved, and what it believed then is not to be trusted).
    """
    for name, grant in (("elector", elector), ("arbiter", arbiter)):
        if grant is None:
            return Refusal(f"no grant from the {name}")
        if grant.renewed_at <= void_before:
            return Refusal(f"the {name}'s grant is older than a jump of the wall clock")
        if now >= timing.soft_deadline(grant.deadline):
            return Refusal(f"the {name}'s grant ran out")
    assert elector is not None
    assert arbiter is not None
    if not (arbiter.exclusive if managed else elector.exclusive):
        return Refusal("neither grant is exclusive over " + ("the pool" if managed else "the cluster"))
    token = arbiter.fencing_token if managed else elector.fencing_token
    return Right(min(elector.deadline, arbiter.deadline), token)
