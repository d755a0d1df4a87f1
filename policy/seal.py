"""A release that nobody but the holder can write.

Whoever takes the Lease puts the hash of a random key into it, its seal; whoever releases it adds the key.  Those who
saw the seal can tell a release from an edit by hand, and from one by another pod's elector gone bad: neither knows the
key.  It is worth nothing once it is public; until then only the elector that made it has it.
"""

from __future__ import annotations

import hashlib


def seal_of(key: str) -> str:
    """What goes into the Lease with a new term: SHA-256 of the key, in hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def opens(key: str, seal: str) -> bool:
    """Whether this key belongs to this seal; never without either."""
    return bool(key and seal) and seal_of(key) == seal
