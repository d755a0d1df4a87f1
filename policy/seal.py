"""A release that nobody but the holder can write, and not even its elector alone.

Whoever takes the Lease puts a seal into it: the hashes of two random keys, joined by a dot.  Whoever releases it adds
both keys.  Those who saw the seal can tell a release from an edit by hand, and from one by another pod's elector gone
bad: neither knows the keys.  One key is the elector's, the other its arbiter's, who gives it away only when it has
granted for the last time in this term and the node is fenced (`policy.witness`): an elector gone bad cannot release
the Lease under its own node.  Keys are worth nothing once they are public.

A seal without a dot is a holder's that knows one key only; it is believed as well as two.
"""

from __future__ import annotations

import hashlib

_DOT = "."


def half_of(key: str) -> str:
    """What goes into the Lease for one key: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def joined(of_the_elector: str, of_the_arbiter: str) -> str:
    """Both halves of a seal, or both keys."""
    return f"{of_the_elector}{_DOT}{of_the_arbiter}"


def arbiters_half(seal: str) -> str:
    """Empty: there is none."""
    return seal.partition(_DOT)[2]


def seal_of(key: str) -> str:
    """The seal that this key, or both joined, will open."""
    return _DOT.join(half_of(each) for each in key.split(_DOT))


def opens(key: str, seal: str) -> bool:
    """Whether this key belongs to this seal; never without either."""
    return bool(key and seal) and seal_of(key) == seal
