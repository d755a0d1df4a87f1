"""Credentials as cardano-node reads them: what disables, what is refused, what is accepted.

Source: cardano-node Protocol/Shelley.hs, Run.hs (checkVRFFilePermissions).  The order is VRF, certificate, KES; the
first file that fails decides.  Only a file that does not exist is FileNotFoundError; everything else, an unreadable
file included, is Refused.  Not checked, as there: the cold key's signature, the counter, the period.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Refused(Exception):  # noqa: N818
    """Credentials that are there but not accepted."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the three files are, or two of them and the socket of a KES agent."""

    vrf: Path
    cert: Path
    kes: Path | None
    agent: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """Of an operational certificate, what the node acts upon."""

    hot_key: bytes
    counter: int
    start_period: int


def paths(vrf: Path | None, cert: Path | None, kes: Path | None, agent: Path | None = None) -> Paths | None:
    """All three or none (a relay).  Raises Refused when some are given without the others."""
    if kes is not None and agent is not None:
        raise Refused("--shelley-kes-key and --shelley-kes-agent-socket exclude each other")
    if vrf is not None and cert is not None and (kes is not None or agent is not None):
        return Paths(vrf, cert, kes, agent)
    for flag, given in (
        ("shelley-operational-certificate", cert),
        ("shelley-vrf-key", vrf),
        ("shelley-kes-key", kes or agent),
    ):
        if given is None and (vrf or cert or kes or agent):
            raise Refused(f"to create blocks, the --{flag} must also be specified")
    return None


def check_vrf_permissions(vrf: Path) -> None:
    """At its start, and only then, a node wants the VRF key to be its user's alone.  Raises Refused, OSError."""
    if vrf.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refused(f"{vrf}: group or others have permissions")


def read(where: Paths) -> Certificate:
    """Read all three.  Raises FileNotFoundError (which disables) or Refused (which changes nothing)."""
    try:
        _bytes(where.vrf, "VrfSigningKey_PraosVRF", b"\x58\x40", 64)
        certificate = parse_certificate(_envelope(where.cert, "NodeOperationalCertificate"))
        if where.kes is None:  # the agent's key is not held against the certificate (Shelley.hs)
            return certificate
        signing = _bytes(where.kes, "KesSigningKey_ed25519_kes_2^6", b"\x59\x02\x60", 608)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from None
    if hashlib.blake2b(signing[-64:], digest_size=32).digest() != certificate.hot_key:
        raise Refused("MismatchedKesKey: the KES key is not the one that the certificate names")
    return certificate


def agent_answers(path: Path) -> bool:
    """Whether a KES agent gives a key: here, whatever it says first.  Each try is a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
            return bool(sock.recv(1))
        except OSError:  # none there, or silent: the node tries again
            return False


def _envelope(path: Path, kind: str) -> bytes:
    """The CBOR of a text envelope of this type.  Raises FileNotFoundError, Refused, OSError.

    As cardano-api's fileIOExceptT: it asks doesFileExist first, which answers "no" for a folder and for *any* error of
    stat (ENOENT, but also ESRCH under a /proc/PID that is just being reaped); only after a "yes" is a failing open an
    error.
    """
    if not os.path.exists(path) or os.path.isdir(path):  # noqa: PTH110, PTH112  # Path.exists raises for some errors
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        envelope: Any = json.loads(path.read_bytes().decode("utf-8"))
        if envelope["type"] != kind:
            raise Refused(f"{path.name}: not a {kind}")
        if not isinstance(envelope["description"], str):
            raise Refused(f"{path.name}: no description")
        return bytes.fromhex(envelope["cborHex"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"{path.name}: not a text envelope") from None


def _bytes(path: Path, kind: str, header: bytes, size: int) -> bytes:
    """A text envelope that holds one byte string.  Raises Refused, OSError."""
    raw = _envelope(path, kind)
    if not raw.startswith(header) or len(raw) != len(header) + size:
        raise Refused(f"{path.name}: {size} bytes expected")
    return raw[len(header) :]


def parse_certificate(raw: bytes) -> Certificate:
    """CBOR [[hot key 32, counter, period, signature 64], cold key 32], nothing else.  Raises Refused."""
    rest = memoryview(raw)

    def literal(expected: bytes, size: int = 0) -> bytes:
        nonlocal rest
        taken, rest = bytes(rest[: len(expected) + size]), rest[len(expected) + size :]
        if not taken.startswith(expected) or len(taken) != len(expected) + size:
            raise Refused("not an operational certificate")
        return taken[len(expected) :]

    def number() -> int:
        first = literal(b"", 1)[0]
        if first < 24:
            return first
        if first > 27:
            raise Refused("not an operational certificate")
        return int.from_bytes(literal(b"", 1 << (first - 24)), "big")

    hot = literal(b"\x82\x84\x58\x20", 32)
    counter, period = number(), number()
    literal(b"\x58\x40", 64)
    literal(b"\x58\x20", 32)
    if rest:
        raise Refused("not an operational certificate")
    return Certificate(hot, counter, period)
