"""A stake pool's id in its two forms: 28 bytes in hexadecimal digits, and the same in bech32 (`pool1...`, CIP-5).

Promises one name for one pool, in whichever form it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PREFIX: Final = "pool"
_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32(prefix: str, data: bytes) -> str:
    """Encode as BIP 173 has it (without its limit of 90 characters)."""
    words = _words(data)
    head = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = _polymod([*head, *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [check >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1{_text(words)}"


def bech32_of(digits: str) -> str:
    """The bech32 form of an id; of its first ten digits, the first ten characters.  Raises ValueError."""
    if len(digits) == 10:
        return f"{PREFIX}1{_text(_words(bytes.fromhex(digits))[:5])}"
    return bech32(PREFIX, bytes.fromhex(digits))


def _words(data: bytes) -> list[int]:
    """Five bits each; zeros fill the last one up."""
    count = -(-len(data) * 8 // 5)
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 5)
    return [bits >> 5 * (count - 1 - i) & 31 for i in range(count)]


def _text(words: Iterable[int]) -> str:
    return "".join(_ALPHABET[word] for word in words)


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            check ^= generator if (top >> i) & 1 else 0
    return check
