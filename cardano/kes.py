"""A KES signing key's public side: the verification key that an operational certificate must name.

Sum6KES (cardano-base Cardano/Crypto/KES/Sum.hs, SumKES.hs rawSerialise): 608 bytes = the running leaf's seed (32), then
for each of six levels, from the leaf up: the right half's seed (32), the left half's verification key (32), the right
half's (32).  A pair's verification key is blake2b-256 of both.  So all but the seeds is public, and each level's key is
one of the two above it: the left one while the key stands in the first half there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cardano.envelope import KES_SIGNING_KEY, Envelope, Unreadable

LEVELS: Final = 6
PERIODS: Final = 2**LEVELS
SIZE: Final = 32 + LEVELS * 96


@dataclass(frozen=True, slots=True)
class KesKey:
    """What is public of a signing key."""

    verification_key: bytes
    evolved: int
    """Periods that it has been evolved by, rounded down to an even number (the leaf's own place only its seed tells).

    0 as cardano-cli writes it; it cannot sign for those before.
    """


def kes_key(envelope: Envelope) -> KesKey:
    """Raises Unreadable, also where the parts do not belong together."""
    envelope.must_be(KES_SIGNING_KEY)
    start = envelope.byte_string(SIZE)
    key, evolved = b"", 0
    for level in range(LEVELS):
        pair = start + 32 + level * 96 + 32
        left, right = envelope.public(pair, pair + 32), envelope.public(pair + 32, pair + 64)
        if key and key not in (left, right):
            raise Unreadable("is damaged: its parts do not belong together")
        if key and key == right:
            evolved += 2**level
        key = hashlib.blake2b(left + right, digest_size=32).digest()
    return KesKey(key, evolved)
