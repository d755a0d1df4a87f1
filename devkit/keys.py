"""Credentials in the real formats, for nodes that never see a real network.

Formats: cardano-api TextEnvelope; Sum6KES (cardano-base Cardano/Crypto/KES/Sum.hs): 608 bytes = leaf seed 32, then
for levels 1 to 6: seed of the right half 32, left key 32, right key 32; the root key is blake2b-256 of the last
64 bytes.  Seeds are expanded as in Cardano/Crypto/Seed.hs: blake2b-256(1 || seed), blake2b-256(2 || seed).
VRF (PraosVRF): seed 32, then its Ed25519 public key 32.
Operational certificate: CBOR [[hot key, counter, period, signature], cold key], the signature by the cold key over
hot key || counter (8 bytes, big endian) || period (8 bytes, big endian) (cardano-ledger Protocol/TPraos/OCert.hs).
Issue counter: CBOR [next counter, cold key].  Pool id: blake2b-224 of the cold key.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cardano.pool_id import PREFIX, bech32
from cardano.slots import NETWORKS, kes_period_at

KES_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class KeySet:
    """Paths of a generated set, and whose it is."""

    folder: Path
    kes: Path
    vrf: Path
    cert: Path
    cold: Path
    cold_verification: Path
    issue_counter: Path
    pool_id_hex: str
    pool_id: str
    """bech32, `pool1...`."""
    counter: int
    kes_period: int
    """First KES period in which the certificate is good."""


def _blake(data: bytes, size: int = 32) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _kes_verification_key(seed: bytes, depth: int) -> bytes:
    if depth == 0:
        return _public(seed)
    left, right = _blake(b"\1" + seed), _blake(b"\2" + seed)
    return _blake(_kes_verification_key(left, depth - 1) + _kes_verification_key(right, depth - 1))


def kes_signing_key(seed: bytes, depth: int = KES_DEPTH, *, evolved: int = 0) -> bytes:
    """A Sum KES signing key of `depth` levels, serialised: good for 2^depth periods, of which so many are over.

    Of what lies behind the seeds are gone: zeros.
    """
    if depth == 0:
        return seed
    left, right = _blake(b"\1" + seed), _blake(b"\2" + seed)
    keys, half = _kes_verification_key(left, depth - 1) + _kes_verification_key(right, depth - 1), 2 ** (depth - 1)
    if evolved < half:
        return kes_signing_key(left, depth - 1, evolved=evolved) + right + keys
    return kes_signing_key(right, depth - 1, evolved=evolved - half) + bytes(32) + keys


def kes_root(signing_key: bytes) -> bytes:
    """The verification key of a serialised Sum6 key.  Raises ValueError for another length."""
    if len(signing_key) != 32 + KES_DEPTH * 96:
        raise ValueError("a Sum6 KES signing key has 608 bytes")
    return _blake(signing_key[-64:])


def operational_certificate(hot: bytes, counter: int, period: int, cold_seed: bytes) -> bytes:
    """CBOR of a certificate by which the cold key hands its pool to `hot` from KES period `period` on."""
    message = hot + counter.to_bytes(8, "big") + period.to_bytes(8, "big")
    signature = Ed25519PrivateKey.from_private_bytes(cold_seed).sign(message)
    return cbor2.dumps([[hot, counter, period, signature], _public(cold_seed)])


def _envelope(path: Path, kind: str, description: str, cbor: bytes, mode: int) -> Path:
    """Write a text envelope that was never readable by others, replacing an old one."""
    text = json.dumps({"type": kind, "description": description, "cborHex": cbor.hex()}, indent=4) + "\n"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, mode)  # whatever the umask took away
        file.write(text)
    return path


def generate(
    folder: Path, *, kes_period: int = 0, counter: int = 0, seed: bytes | None = None, kes_seed: bytes = b""
) -> KeySet:
    """Make a consistent set in `folder` (0700): what a node needs, and what its pool keeps in the safe.

    kes.skey, vrf.skey, cold.skey 0400; node.cert, cold.vkey, cold.counter 0600.  The same seed gives the same keys;
    with another `kes_seed` the pool is the same and its KES key is not, as after a rotation.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = seed or secrets.token_bytes(32)
    cold, hot_seed, vrf_seed = _blake(b"cold" + seed), _blake(b"kes" + (kes_seed or seed)), _blake(b"vrf" + seed)
    signing, cold_public = kes_signing_key(hot_seed), _public(cold)
    certificate = operational_certificate(kes_root(signing), counter, kes_period, cold)
    vrf, pool = vrf_seed + _public(vrf_seed), _blake(cold_public, 28)

    def write(name: str, kind: str, description: str, value: object, mode: int = 0o600) -> Path:
        return _envelope(folder / name, kind, description, cbor2.dumps(value), mode)

    owner = "Stake Pool Operator"
    return KeySet(
        folder=folder,
        kes=write("kes.skey", "KesSigningKey_ed25519_kes_2^6", "KES Signing Key", signing, 0o400),
        vrf=write("vrf.skey", "VrfSigningKey_PraosVRF", "VRF Signing Key", vrf, 0o400),
        cert=_envelope(folder / "node.cert", "NodeOperationalCertificate", "", certificate, 0o600),
        cold=write("cold.skey", "StakePoolSigningKey_ed25519", f"{owner} Signing Key", cold, 0o400),
        cold_verification=write(
            "cold.vkey", "StakePoolVerificationKey_ed25519", f"{owner} Verification Key", cold_public
        ),
        issue_counter=write(
            "cold.counter",
            "NodeOperationalCertificateIssueCounter",
            f"Next certificate issue number: {counter + 1}",
            [counter + 1, cold_public],
        ),
        pool_id_hex=pool.hex(),
        pool_id=bech32(PREFIX, pool),
        counter=counter,
        kes_period=kes_period,
    )


def current_kes_period(network: str) -> int:
    """The KES period now; 0 for a network without a table."""
    return kes_period_at(NETWORKS.get(network), time.time()) or 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.keys", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="mainnet", help=f"{', '.join(NETWORKS)} or custom (KES period 0)")
    parser.add_argument("--counter", type=int, default=0, help="of the operational certificate")
    arguments = parser.parse_args()
    period = current_kes_period(arguments.network)
    print(generate(arguments.folder, kes_period=period, counter=arguments.counter).pool_id)


if __name__ == "__main__":
    main()
