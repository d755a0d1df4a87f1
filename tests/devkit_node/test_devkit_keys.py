"""Generated credentials: the published formats, checked by rules of their own."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cardano.pool_id import bech32
from cardano.slots import NETWORKS, kes_period_at
from devkit import node_credentials
from devkit.keys import KeySet, current_kes_period, generate, kes_root, kes_signing_key

ROOT = Path(__file__).parents[2]


def envelope(path: Path) -> dict[str, str]:
    read: dict[str, str] = json.loads(path.read_text())
    assert list(read) == ["type", "description", "cborHex"]
    return read


def raw(path: Path) -> bytes:
    return bytes.fromhex(envelope(path)["cborHex"])


def blake(data: bytes, size: int = 32) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def tree_key(seed: bytes, depth: int) -> bytes:
    """The key of a subtree, level by level from its leaves: another way than the generator's."""
    seeds = [seed]
    for _ in range(depth):
        seeds = [half for s in seeds for half in (blake(b"\1" + s), blake(b"\2" + s))]
    keys = [public(s) for s in seeds]
    while len(keys) > 1:
        keys = [blake(left + right) for left, right in zip(keys[::2], keys[1::2], strict=True)]
    return keys[0]


def test_the_types_and_headers_are_the_published_ones(made: KeySet) -> None:
    expected = {
        made.kes: ("KesSigningKey_ed25519_kes_2^6", "590260"),
        made.vrf: ("VrfSigningKey_PraosVRF", "5840"),
        made.cert: ("NodeOperationalCertificate", "82845820"),
        made.cold: ("StakePoolSigningKey_ed25519", "5820"),
        made.cold_verification: ("StakePoolVerificationKey_ed25519", "5820"),
        made.issue_counter: ("NodeOperationalCertificateIssueCounter", "82"),
    }
    for path, (kind, header) in expected.items():
        assert envelope(path)["type"] == kind
        assert envelope(path)["cborHex"].startswith(header)


def test_the_kes_key_is_a_whole_tree_of_64_leaves(made: KeySet) -> None:
    key = raw(made.kes)[3:]
    assert len(key) == 608
    verification = public(key[:32])
    for level in range(6):
        right_seed, left, right = (key[32 + 96 * level + 32 * i :][:32] for i in range(3))
        assert left == verification
        assert right == tree_key(right_seed, level)
        verification = blake(left + right)
    assert verification == kes_root(key)


def test_the_tree_is_the_one_of_its_seed() -> None:
    seed = bytes(range(32))
    assert kes_root(kes_signing_key(seed)) == tree_key(seed, 6)
    assert kes_signing_key(seed, 1) == blake(b"\1" + seed) + blake(b"\2" + seed) + b"".join(
        public(blake(prefix + seed)) for prefix in (b"\1", b"\2")
    )


def test_a_kes_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="608"):
        kes_root(kes_signing_key(bytes(32), 5))


def test_the_certificate_names_the_kes_key_and_is_signed_by_the_cold_key(made: KeySet) -> None:
    (hot, counter, period, signature), cold = cbor2.loads(raw(made.cert))
    assert hot == kes_root(raw(made.kes)[3:])
    assert (counter, period) == (made.counter, made.kes_period)
    assert cold == raw(made.cold_verification)[2:] == public(raw(made.cold)[2:])
    message = hot + counter.to_bytes(8, "big") + period.to_bytes(8, "big")
    Ed25519PublicKey.from_public_bytes(cold).verify(signature, message)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(cold).verify(signature, message[:-1] + b"\0")


def test_the_vrf_key_carries_its_public_half(made: KeySet) -> None:
    key = raw(made.vrf)[2:]
    assert len(key) == 64
    assert key[32:] == public(key[:32])


def test_the_issue_counter_is_one_ahead(tmp_path: Path) -> None:
    made = generate(tmp_path, counter=7)
    assert cbor2.loads(raw(made.issue_counter)) == [8, raw(made.cold_verification)[2:]]


def test_the_pool_id_is_the_hash_of_the_cold_key_in_both_spellings(made: KeySet) -> None:
    assert made.pool_id_hex == blake(raw(made.cold_verification)[2:], 28).hex()
    assert made.pool_id == bech32("pool", bytes.fromhex(made.pool_id_hex))
    assert len(made.pool_id) == 56


@pytest.mark.parametrize("umask", [0, 0o277])
def test_files_have_their_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        made = generate(tmp_path / "keys")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in made.folder.iterdir()}
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert {modes[p] for p in (made.kes, made.vrf, made.cold)} == {0o400}
    assert set(modes.values()) == {0o400, 0o600}


def test_a_seed_gives_the_same_keys_again_and_no_seed_gives_new_ones(tmp_path: Path) -> None:
    a, b = generate(tmp_path / "a", seed=b"x"), generate(tmp_path / "b", seed=b"x")
    assert [p.read_bytes() for p in (a.kes, a.vrf, a.cert)] == [p.read_bytes() for p in (b.kes, b.vrf, b.cert)]
    assert generate(tmp_path / "c").pool_id != generate(tmp_path / "c").pool_id


def test_a_network_without_a_table_starts_at_period_zero() -> None:
    assert current_kes_period("custom") == 0
    assert current_kes_period("mainnet") >= (kes_period_at(NETWORKS["mainnet"], 1_750_000_000) or 0)


def test_the_command_makes_a_set_for_now_and_prints_the_pool_id(tmp_path: Path) -> None:
    before = current_kes_period("preview")
    answer = subprocess.run(
        [sys.executable, "-m", "devkit.keys", str(tmp_path / "k"), "--network", "preview", "--counter", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (_, counter, period, _), cold = cbor2.loads(raw(tmp_path / "k" / "node.cert"))
    assert answer.stdout.strip() == bech32("pool", blake(cold, 28))
    assert counter == 4
    assert before <= period <= current_kes_period("preview")


def test_a_rotation_is_of_the_same_pool_with_another_kes_key(tmp_path: Path) -> None:
    seed = bytes(32)
    before, after = (
        generate(tmp_path / name, seed=seed, kes_seed=name.encode(), counter=n) for n, name in enumerate("ab")
    )
    assert before.pool_id == after.pool_id
    assert before.vrf.read_bytes() == after.vrf.read_bytes()
    assert before.kes.read_bytes() != after.kes.read_bytes()
    for made in (before, after):
        (hot, counter, _, _), _ = cbor2.loads(raw(made.cert))
        assert (hot, counter) == (kes_root(cbor2.loads(raw(made.kes))), made.counter)


# --- as the node reads them ---


@pytest.mark.parametrize(("counter", "period"), [(0, 0), (23, 24), (255, 256), (65536, 2**40)])
def test_the_node_reads_back_every_size_of_number(tmp_path: Path, counter: int, period: int) -> None:
    made = generate(tmp_path, counter=counter, kes_period=period)
    found = node_credentials.read(node_credentials.Paths(made.vrf, made.cert, made.kes))
    assert (found.counter, found.start_period) == (counter, period)


def test_the_node_refuses_every_certificate_that_is_cut_or_longer(made: KeySet) -> None:
    whole = raw(made.cert)
    node_credentials.parse_certificate(whole)
    for wrong in (*(whole[:n] for n in range(len(whole))), whole + b"\0", b"\x83" + whole[1:]):
        with pytest.raises(node_credentials.Refused):
            node_credentials.parse_certificate(wrong)
