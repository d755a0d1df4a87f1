"""cardano-api's TextEnvelope, read without copying what is secret in it.

`{"type": ..., "description": ..., "cborHex": ...}` (cardano-api Cardano/Api/SerialiseTextEnvelope.hs).  The file's
content may be a view of locked memory: its hexadecimal digits stay where they are, and only those that are asked for by
`Envelope.public` become bytes of their own.  No error has a byte of the content: at most a type that is in `KINDS`.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Final

from kernel.secretmem import Content

KES_SIGNING_KEY: Final = "KesSigningKey_ed25519_kes_2^6"
VRF_SIGNING_KEY: Final = "VrfSigningKey_PraosVRF"
OPERATIONAL_CERTIFICATE: Final = "NodeOperationalCertificate"
COLD_SIGNING_KEYS: Final = (
    "StakePoolSigningKey_ed25519",
    "StakePoolExtendedSigningKey_ed25519_bip32",
    "GenesisDelegateSigningKey_ed25519",
)
KINDS: Final = {
    KES_SIGNING_KEY: "a KES signing key",
    VRF_SIGNING_KEY: "a VRF signing key",
    OPERATIONAL_CERTIFICATE: "an operational certificate",
    "KesVerificationKey_ed25519_kes_2^6": "a KES verification key",
    "VrfVerificationKey_PraosVRF": "a VRF verification key",
    "StakePoolVerificationKey_ed25519": "the pool's cold verification key",
    "NodeOperationalCertificateIssueCounter": "the cold key's issue counter",
    "PaymentSigningKeyShelley_ed25519": "a payment signing key",
    "StakeSigningKeyShelley_ed25519": "a stake signing key",
    **dict.fromkeys(COLD_SIGNING_KEYS, "the pool's cold signing key"),
}
"""The types that an operator is likely to have at hand (cardano-api Cardano/Api/Serialise/TextEnvelope), in words."""

_HEX: Final = re.compile(rb'"cborHex"[ \t\r\n]*:[ \t\r\n]*"([0-9A-Fa-f]*)"')
_LONG_WORD: Final = re.compile(rb"[0-9A-Za-z+/_-]{48}")
"""Longer than any name that cardano-cli writes: it may be somebody's key."""
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MOST_BESIDE: Final = 4096
"""Bytes beside the digits; cardano-cli writes about a hundred."""


class Unreadable(ValueError):  # noqa: N818  # a judgement, named as such
    """Not what it should be.  The text says what is wrong, fit to follow a file's name; never what is in the file."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed file; `kind` is its type, "" if it is none that is known here."""

    kind: str
    _content: Content = field(repr=False)
    _start: int = field(repr=False)
    _end: int = field(repr=False)

    def __len__(self) -> int:
        """Bytes of CBOR."""
        return (self._end - self._start) // 2

    def public(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of the CBOR: for the caller to know that these are no secret."""
        return bytes.fromhex(bytes(self._content[self._start + 2 * start : self._start + 2 * end]).decode("ascii"))

    def must_be(self, kind: str) -> None:
        """Raises Unreadable unless this is its type."""
        if self.kind != kind:
            found = KINDS.get(self.kind, "something else")
            raise Unreadable(f"is {found}, not {KINDS[kind]}")

    def byte_string(self, size: int) -> int:
        """Where the content of the one CBOR byte string of `size` (24 or more) bytes begins.  Raises Unreadable."""
        head = bytes([0x58, size]) if size < 256 else bytes([0x59, size >> 8, size & 255])
        if len(self) != len(head) + size or self.public(0, len(head)) != head:
            raise Unreadable(f"does not hold one byte string of {size} bytes: the file is damaged or cut short")
        return len(head)


def envelope(content: Content) -> Envelope:
    """Parse a file.  Raises Unreadable."""
    found = _HEX.search(content)
    if found is None:
        raise Unreadable('has no "cborHex" of hexadecimal digits: it is no text envelope as cardano-cli writes them')
    start, end = found.span(1)
    if (end - start) % 2:
        raise Unreadable("has an odd number of hexadecimal digits: the file is cut short")
    if _HEX.search(content, end):
        raise Unreadable("has a field twice")
    if len(content) - (end - start) > _MOST_BESIDE:
        raise Unreadable("is no text envelope: there is too much beside its digits")
    if _LONG_WORD.search(content, 0, start) or _LONG_WORD.search(content, end):
        raise Unreadable("is no text envelope: a long word stands beside its digits")
    around = bytes(content[:start]) + bytes(content[end:])
    if around.startswith(codecs.BOM_UTF8):  # aeson, by which the node reads it, takes none
        raise Unreadable("begins with a byte order mark, which the node does not read: save it as UTF-8 without one")
    fields: dict[str, str] = {}
    try:
        parsed = json.loads(around.decode("utf-8"), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON") from None
    if not isinstance(parsed, tuple):  # an object's pairs: a JSON list would be a list
        raise Unreadable("is no JSON object")
    for name, value in parsed:
        if name in fields:
            raise Unreadable("has a field twice")
        if not isinstance(value, str):
            raise Unreadable("has a field that is no text")
        if _SURROGATES.search(value):  # one half, written as an escape: aeson refuses it, Python does not
            raise Unreadable("is no JSON")
        fields[name] = value
    if fields.keys() != {"type", "description", "cborHex"}:
        raise Unreadable('is no text envelope: it must have "type", "description" and "cborHex", and nothing else')
    kind = fields["type"]
    return Envelope(kind if kind in KINDS else "", content, start, end)
