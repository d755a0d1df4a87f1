"""Every version of a Lease that was written while nobody here looked: somebody may hold a right unseen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from kube.errors import ApiFailure, Failure
from kube.leases import LeaseChange, LeaseClient
from policy import timing
from policy.lease import LeaseRecord

PASSING: Final = frozenset({Failure.UNREACHABLE, Failure.SERVER_ERROR, Failure.THROTTLED})
"""Asked again, the server may still tell what came between."""


async def caught_up(
    leases: LeaseClient, version: str, record: LeaseRecord, tell: Callable[[LeaseChange], None], *, by: float
) -> bool:
    """Tell all changes after `version`; whether the last one was `record`, so that none is missing.

    Asks until `by` (time of the loop).  `leases`: one of its own, through which nothing is written.  Raises ApiFailure
    if the server cannot be asked now; one that has forgotten what was is no failure.
    """
    try:
        async with (
            asyncio.timeout_at(by),
            contextlib.aclosing(leases.watch(version, timeout_s=timing.WATCH_TIMEOUT_S)) as changes,
        ):
            async for change in changes:
                tell(change)
                if change.record == record:
                    return True
    except TimeoutError:
        pass
    except ApiFailure as failure:
        if failure.kind in PASSING:
            raise
    return False
