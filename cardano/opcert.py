"""Operational certificates: a pool's cold key hands its right to forge to a KES key, from a KES period on.

CBOR [[hot key (32), counter, KES period, signature (64)], cold key (32)] (cardano-ledger Protocol/TPraos/OCert.hs, with
the cold key as cardano-api Cardano/Api/OperationalCertificate.hs adds it).  The signature is the cold key's, Ed25519,
over hot key || counter || period, these two as 8 bytes, big endian.  Nothing here is secret: it is in every block.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Final

import cbor2
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from cardano.envelope import OPERATIONAL_CERTIFICATE, Envelope, Unreadable
from cardano.pool_id import PREFIX, bech32

_WORD64: Final = 2**64
_BEGINS: Final = b"\x82\x84"
"""A list of two, of which the first is a list of four."""
_MOST_BYTES: Final = 154
"""With both numbers of nine bytes."""


@dataclass(frozen=True, slots=True)
class OperationalCertificate:
    """As the file has it; whether its signature is good is asked for."""

    hot_key: bytes
    counter: int
    kes_period: int
    """The first in which it is good."""
    signature: bytes
    cold_key: bytes

    @property
    def pool_id_hex(self) -> str:
        """blake2b-224 of the cold key."""
        return hashlib.blake2b(self.cold_key, digest_size=28).hexdigest()

    @property
    def pool_id(self) -> str:
        """bech32, `pool1...`."""
        return bech32(PREFIX, bytes.fromhex(self.pool_id_hex))

    def is_signed(self) -> bool:
        """Whether the cold key signed it: by libsodium, as the node itself looks."""
        message = self.hot_key + self.counter.to_bytes(8, "big") + self.kes_period.to_bytes(8, "big")
        try:
            crypto_sign_open(self.signature + message, self.cold_key)
        except BadSignatureError:
            return False
        return True


def operational_certificate(envelope: Envelope) -> OperationalCertificate:
    """Raises Unreadable."""
    envelope.must_be(OPERATIONAL_CERTIFICATE)
    damaged = "is damaged: its CBOR is not [[hot key, counter, KES period, signature], cold key]"
    if not len(_BEGINS) <= len(envelope) <= _MOST_BYTES or envelope.public(0, len(_BEGINS)) != _BEGINS:
        raise Unreadable(damaged)  # before it is copied: it may be a key under the wrong type
    stream = io.BytesIO(envelope.public(0, len(envelope)))
    try:
        decoded = cbor2.load(stream)
    except (cbor2.CBORDecodeError, RecursionError):
        raise Unreadable(damaged) from None
    if stream.read(1):
        raise Unreadable("is damaged: something follows its CBOR")
    match decoded:
        case [[bytes(hot), int(counter), int(period), bytes(signature)], bytes(cold)]:
            pass
        case _:
            raise Unreadable(damaged)
    sizes = len(hot), len(signature), len(cold)
    if sizes != (32, 64, 32) or not all(type(n) is int and 0 <= n < _WORD64 for n in (counter, period)):
        raise Unreadable(damaged)
    return OperationalCertificate(hot, counter, period, signature, cold)
