"""A VRF signing key's public side.  PraosVRF (libsodium crypto_vrf_ietfdraft03): seed (32), verification key (32)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cardano.envelope import VRF_SIGNING_KEY, Envelope

SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class VrfKey:
    """What is public of it."""

    verification_key: bytes = field(repr=False)
    """Not shown: if somebody exchanged the file's halves, it is the seed."""

    @property
    def hash_hex(self) -> str:
        """As the pool's registration on chain names it: blake2b-256 (`cardano-cli node key-hash-VRF`)."""
        return hashlib.blake2b(self.verification_key, digest_size=32).hexdigest()


def vrf_key(envelope: Envelope) -> VrfKey:
    """Raises Unreadable."""
    envelope.must_be(VRF_SIGNING_KEY)
    start = envelope.byte_string(SIZE)
    return VrfKey(envelope.public(start + 32, start + 64))
