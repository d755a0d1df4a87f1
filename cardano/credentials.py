"""What a node forges with, a KES key, a VRF key and an operational certificate, as far as it is public.

Parsing only: whoever has read the files hands over their contents, or says why he could not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cardano.envelope import Envelope, Unreadable, envelope
from cardano.kes import KesKey, kes_key
from cardano.opcert import OperationalCertificate, operational_certificate
from cardano.vrf import VrfKey, vrf_key
from kernel.secretmem import Content

T = TypeVar("T")

MOST_BYTES: Final = 64 * 1024
"""No credential is larger; a larger file is a mistake in the mount."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """In place of a key or certificate that could not be read."""

    reason: str
    """A sentence that begins with the file's name; nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file: its name, and its content or why there is none (fit to follow the name)."""

    name: str
    content: Content | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class KesAgent:
    """In place of a KES key: the node gets it from an agent, and nobody here sees it."""

    problem: str = ""
    """Why the agent cannot be reached: a sentence that begins with its socket's name; empty: it may be."""


@dataclass(frozen=True, slots=True)
class CredentialSet:
    """What is public of the three files."""

    kes: KesKey | KesAgent | Faulty
    vrf: VrfKey | Faulty
    certificate: OperationalCertificate | Faulty
    signed: bool = True
    """The certificate bears its cold key's signature."""


def credential_set(kes: Source | KesAgent, vrf: Source, certificate: Source) -> CredentialSet:
    """Whatever is in the files: what is no credential is `Faulty`."""
    cert = _parsed(certificate, operational_certificate)
    signed = cert.is_signed() if isinstance(cert, OperationalCertificate) else True
    key = kes if isinstance(kes, KesAgent) else _parsed(kes, kes_key)
    return CredentialSet(key, _parsed(vrf, vrf_key), cert, signed)


def _parsed(source: Source, parse: Callable[[Envelope], T]) -> T | Faulty:
    if source.content is None:
        return Faulty(f"{source.name} {source.problem}")
    try:
        return parse(envelope(source.content))
    except Unreadable as error:
        return Faulty(f"{source.name} {error}")
