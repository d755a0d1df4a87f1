"""The certificate counter of a pool's blocks, as it is written down in a Lease: `4@pool1...`.  Pure.

An operator who corrects it may leave the pool out: `6` is that of whichever pool forges under this Lease.
"""

from __future__ import annotations

import re
from typing import Final

from ipc.messages import CertificateCounter

ANNOTATION: Final = "cardano.io/opcert-counter"
"""Of a cluster's Lease."""
_WRITTEN: Final = re.compile(r"([0-9]{1,18})(?:@(pool1[0-9a-z]{51}))?")


def parsed(text: str) -> CertificateCounter | None:
    """None: there is none, or nonsense of somebody else's."""
    found = _WRITTEN.fullmatch(text)
    return CertificateCounter(int(found[1]), found[2] or "") if found else None


def as_text(counter: CertificateCounter) -> str:
    """As `parsed` reads it."""
    return f"{counter.counter}@{counter.pool_id}" if counter.pool_id else str(counter.counter)


def is_news(used: CertificateCounter | None, known: CertificateCounter | None) -> bool:
    """Whether a block proves more than what is written down: a higher counter, or that of another pool."""
    if used is None or known is None:
        return used is not None
    return used.counter > known.counter if concerns(known, used.pool_id) else True


def concerns(counter: CertificateCounter, pool_id: str) -> bool:
    """Whether it says something about this pool's certificates."""
    return counter.pool_id in ("", pool_id)
