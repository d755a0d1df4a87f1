"""The token that who wants to look must show, and what a request shows of it.  Pure.

RFC 9110, section 11 (Authorization: a scheme in any case, then spaces, then credentials), RFC 6750 (Bearer), RFC 7617
(Basic: here any user name, with the token as the password, so that a browser can ask for it).

Promises: nothing but the very token is right, whatever bytes arrive; how long the comparison takes tells nothing of
it; the token itself is not kept, only its digest, and no message has any of it.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

SHORTEST: Final = 32
"""Characters: 128 bits where they are hexadecimal digits, as `openssl rand -hex 16` gives them."""
LONGEST: Final = 512
MOST_BYTES: Final = LONGEST + 2
"""Of the file: the token, and a line's end."""

_PRINTABLE: Final = re.compile(rb"[!-~]*")
_CREDENTIALS: Final = re.compile(r"(?P<scheme>[!#$%&'*+.^_`|~0-9A-Za-z-]+) +(?P<rest>[!-~]+)", re.ASCII)
MOST_SHOWN: Final = 2 * LONGEST
"""Characters of a header that is looked at: Base64 makes four of three, and there is a user name."""


class BadToken(ValueError):  # noqa: N818  # what is wrong with a file, named as such
    """No usable token; the text says what is wrong and what would be right, without a character of it."""


class Token:
    """What is left of a token: enough to know it again."""

    def __init__(self, secret: bytes) -> None:
        self._digest = hashlib.sha256(secret).digest()

    def is_of(self, shown: bytes) -> bool:
        """Digests are compared, so neither the length nor the beginning of the token shows in the time this takes."""
        return hmac.compare_digest(self._digest, hashlib.sha256(shown).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and hmac.compare_digest(self._digest, other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)


class Shown(enum.StrEnum):
    """What a request has to show."""

    NOTHING = "none"
    WRONG = "wrong"
    RIGHT = "right"


def parse_token(content: bytes) -> Token:
    """The token in a file's content, which may end with a line's end.  Raises BadToken."""
    token = content.removesuffix(b"\n").removesuffix(b"\r")
    make = "write one there, such as `openssl rand -hex 32` prints"
    if not token:
        raise BadToken(f"is empty; {make}")
    if len(token) > LONGEST:
        raise BadToken(f"is longer than {LONGEST} characters; {make}")
    if not _PRINTABLE.fullmatch(token):
        raise BadToken(f"must have one line of printable ASCII without spaces; {make}")
    if len(token) < SHORTEST:
        raise BadToken(f"is shorter than {SHORTEST} characters, so it could be guessed; {make}")
    return Token(token)


def look_at(headers: Sequence[str], token: Token | None) -> Shown:
    """headers: the values of every Authorization header.  token: None: there is none that could be right."""
    if not headers:
        return Shown.NOTHING
    if len(headers) > 1:  # which of them counts would be a guess
        return Shown.WRONG
    secret = _secret(headers[0])
    return Shown.RIGHT if token is not None and secret is not None and token.is_of(secret) else Shown.WRONG


def _secret(header: str) -> bytes | None:
    """What stands in the token's place; None: nothing does."""
    if len(header) > MOST_SHOWN:
        return None
    found = _CREDENTIALS.fullmatch(header)
    if found is None:
        return None
    rest = found["rest"].encode("ascii")
    match found["scheme"].lower():
        case "bearer":
            return rest
        case "basic":
            return _password(rest)
    return None


def _password(encoded: bytes) -> bytes | None:
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        return None
    _, colon, password = decoded.partition(b":")
    return password if colon else None
