"""Keys and certificates: what is public of them is read, whatever else is in the files is refused and never shown."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardano.credentials import CredentialSet, Faulty, Source, credential_set
from cardano.envelope import (
    KES_SIGNING_KEY,
    KINDS,
    OPERATIONAL_CERTIFICATE,
    VRF_SIGNING_KEY,
    Envelope,
    Unreadable,
    envelope,
)
from cardano.kes import KesKey, kes_key
from cardano.opcert import OperationalCertificate, operational_certificate
from cardano.vrf import VrfKey, vrf_key
from devkit import keys

import golden

GOLDEN_KES = golden.file(KES_SIGNING_KEY, golden.KES, "KES Signing Key")
GOLDEN_VRF = golden.file(VRF_SIGNING_KEY, golden.VRF, "VRF Signing Key")
GOLDEN_CERTIFICATE = golden.file(OPERATIONAL_CERTIFICATE, golden.CERTIFICATE)


def of(kes: bytes, vrf: bytes, certificate: bytes) -> CredentialSet:
    return credential_set(Source("kes.skey", kes), Source("vrf.skey", vrf), Source("node.cert", certificate))


# --- a set of cardano-cli's ---


def test_a_set_made_by_cardano_cli_belongs_together() -> None:
    found = of(GOLDEN_KES, GOLDEN_VRF, GOLDEN_CERTIFICATE)
    assert isinstance(found.kes, KesKey)
    assert isinstance(found.vrf, VrfKey)
    assert isinstance(found.certificate, OperationalCertificate)
    assert found.signed
    assert found.kes.verification_key == found.certificate.hot_key
    assert (found.kes.evolved, found.certificate.counter, found.certificate.kes_period) == (0, 0, 0)
    assert found.certificate.pool_id == "pool13gsek6vd8dhqxsu346zvae30r4mtd77yth07fcc7p49kqc3fd09"
    assert found.vrf.verification_key.hex() == golden.VRF[-64:]


def test_a_set_of_the_dev_kits_is_read_as_what_it_was_made_of(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "keys", kes_period=7, counter=3)
    found = of(made.kes.read_bytes(), made.vrf.read_bytes(), made.cert.read_bytes())
    assert isinstance(found.kes, KesKey)
    assert isinstance(found.certificate, OperationalCertificate)
    assert (found.certificate.counter, found.certificate.kes_period) == (3, 7)
    assert (found.certificate.pool_id, found.certificate.pool_id_hex) == (made.pool_id, made.pool_id_hex)
    assert found.kes.verification_key == found.certificate.hot_key
    assert found.signed


# --- KES keys ---


@pytest.mark.parametrize("by", [0, 1, 2, 31, 32, 33, 62, 63])
def test_a_kes_key_tells_how_far_it_was_evolved_and_its_verification_key_stays(by: int) -> None:
    seed = b"s" * 32
    digits = cbor2.dumps(keys.kes_signing_key(seed, evolved=by)).hex()
    found = kes_key(envelope(golden.file(KES_SIGNING_KEY, digits)))
    assert found == KesKey(keys._kes_verification_key(seed, 6), by - by % 2)


@pytest.mark.parametrize("level", range(6))
@pytest.mark.parametrize("offset", [32, 95])
def test_a_kes_key_of_which_a_public_part_is_damaged_is_refused(level: int, offset: int) -> None:
    raw = bytearray(bytes.fromhex(golden.KES))
    raw[3 + 32 + level * 96 + offset] ^= 1
    try:
        damaged = kes_key(envelope(golden.file(KES_SIGNING_KEY, raw.hex())))
    except Unreadable as error:
        assert "damaged" in str(error)  # not for the last pair: its hash is the key itself
        return
    assert damaged.verification_key.hex() not in golden.CERTIFICATE


# --- certificates ---


@pytest.mark.parametrize("at", [4, 36, 37, 41, 105, 110, 137])
def test_a_certificate_of_which_a_byte_was_changed_is_not_signed_or_not_read(at: int) -> None:
    raw = bytearray(bytes.fromhex(golden.CERTIFICATE))
    raw[at] ^= 1
    try:
        found = operational_certificate(envelope(golden.file(OPERATIONAL_CERTIFICATE, raw.hex())))
    except Unreadable:
        return
    assert not found.is_signed()


@pytest.mark.parametrize(
    "content",
    [
        [],
        [[b"h" * 32, 0, 0, b"s" * 64]],
        [[b"h" * 31, 0, 0, b"s" * 64], b"c" * 32],
        [[b"h" * 32, -1, 0, b"s" * 64], b"c" * 32],
        [[b"h" * 32, 0, 2**64, b"s" * 64], b"c" * 32],
        [[b"h" * 32, True, 0, b"s" * 64], b"c" * 32],
        [[b"h" * 32, 0.0, 0, b"s" * 64], b"c" * 32],
        [[b"h" * 32, 0, 0, "s" * 64], b"c" * 32],
        [[b"h" * 32, 0, 0, b"s" * 64, 1], b"c" * 32],
        {"a": 1},
        7,
    ],
)
def test_cbor_that_is_no_certificate_is_refused(content: object) -> None:
    with pytest.raises(Unreadable, match="damaged"):
        operational_certificate(envelope(golden.file(OPERATIONAL_CERTIFICATE, cbor2.dumps(content).hex())))


@given(st.binary(max_size=200))
def test_whatever_bytes_stand_in_a_certificate_they_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(Unreadable):
        operational_certificate(envelope(golden.file(OPERATIONAL_CERTIFICATE, raw.hex()))).is_signed()


@pytest.mark.parametrize(
    "raw", ["81" * 5000, "d81c" * 900 + "00", "c2" * 3000, "5b7fffffffffffffff00", "9b7fffffffffffffff"]
)
def test_cbor_made_to_exhaust_its_reader_is_refused(raw: str) -> None:
    with pytest.raises(Unreadable):
        operational_certificate(envelope(golden.file(OPERATIONAL_CERTIFICATE, raw)))


def test_something_after_a_certificate_is_refused() -> None:
    with pytest.raises(Unreadable, match="follows"):
        operational_certificate(envelope(golden.file(OPERATIONAL_CERTIFICATE, golden.CERTIFICATE + "00")))


# --- envelopes ---


def test_every_other_kind_is_named_in_words() -> None:
    swapped = of(GOLDEN_VRF, GOLDEN_CERTIFICATE, GOLDEN_KES)
    assert swapped.kes == Faulty("kes.skey is a VRF signing key, not a KES signing key")
    assert swapped.vrf == Faulty("vrf.skey is an operational certificate, not a VRF signing key")
    assert swapped.certificate == Faulty("node.cert is a KES signing key, not an operational certificate")
    cold = golden.file("StakePoolSigningKey_ed25519", "5820" + "00" * 32)
    assert of(cold, GOLDEN_VRF, GOLDEN_CERTIFICATE).kes == Faulty(
        "kes.skey is the pool's cold signing key, not a KES signing key"
    )
    strange = golden.file("Whatever", "5820" + "00" * 32)
    assert of(strange, GOLDEN_VRF, GOLDEN_CERTIFICATE).kes == Faulty(
        "kes.skey is something else, not a KES signing key"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"hello",
        b"[]",
        GOLDEN_KES[:-400],
        GOLDEN_KES[:100],
        GOLDEN_KES[1:],
        GOLDEN_KES + GOLDEN_KES,
        GOLDEN_KES.replace(b'"type"', b'"kind"'),
        GOLDEN_KES.replace(b'"type"', b'"cborHex"'),
        GOLDEN_KES.replace(b'"KES Signing Key"', b"7"),
        GOLDEN_KES.replace(b'"KES Signing Key"', b'{"a": 1}'),
        GOLDEN_KES.replace(b'"KES Signing Key"', b'"\xff"'),
        GOLDEN_KES.replace(b'"KES Signing Key"', b"[" * 3000),
        GOLDEN_KES.replace(b"KES Signing Key", b"x" * 5000),
        GOLDEN_KES.replace(b"590260", b"59026"),
        GOLDEN_KES.replace(b"590260", b"590261"),
        GOLDEN_KES.replace(b"590260", b"5902600"),
        GOLDEN_KES.replace(b"590260a1", b"590260"),
        GOLDEN_KES.replace(b"590260a1", b"590260zz"),
        GOLDEN_KES.replace(b'"cborHex"', b'"more": "", "cborHex"'),
        GOLDEN_KES.decode().encode("utf-16"),
    ],
)
def test_what_is_no_key_file_is_refused_in_words_that_follow_its_name(content: bytes) -> None:
    found = of(content, GOLDEN_VRF, GOLDEN_CERTIFICATE).kes
    assert isinstance(found, Faulty)
    assert found.reason.startswith("kes.skey ")


@given(st.data())
def test_a_spoilt_key_file_is_read_or_refused_and_never_shows_its_digits(data: st.DataObject) -> None:
    """Nothing of the secret seeds, in whatever way the file is spoilt."""
    content = bytearray(data.draw(st.sampled_from([GOLDEN_KES, GOLDEN_VRF])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        act = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if act == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif act == "cut":
            del content[at : at + data.draw(st.integers(1, 60))]
        elif act == "insert":
            content[at:at] = data.draw(st.binary(max_size=20))
        else:
            content[at:at] = content[at : at + 300]
        if not content:
            return
    found = of(bytes(content), bytes(content), bytes(content))
    shown = repr(found) + str(found)
    for secret in (golden.KES[6:70], golden.KES[70:134], golden.VRF[4:68]):
        for start in range(0, 64, 8):
            assert secret[start : start + 8] not in shown


def test_an_envelope_never_shows_what_it_holds() -> None:
    shown = repr(envelope(GOLDEN_KES))
    assert golden.KES[6:14] not in shown
    assert str(GOLDEN_KES[:10]) not in shown


def test_the_fields_may_come_in_any_order_and_layout() -> None:
    fields = {"cborHex": golden.KES, "description": "ключ", "type": KES_SIGNING_KEY}
    for text in (json.dumps(fields), json.dumps(fields, ensure_ascii=False, indent=1), json.dumps(fields) + "\r\n\t "):
        assert kes_key(envelope(text.encode())).verification_key.hex() in golden.CERTIFICATE


def test_a_view_is_read_as_well_as_bytes_and_can_be_released_afterwards() -> None:
    held = bytearray(GOLDEN_VRF)
    view = memoryview(held)
    found = of(GOLDEN_KES, view, GOLDEN_CERTIFICATE)  # type: ignore[arg-type]
    assert isinstance(found.vrf, VrfKey)
    view.release()
    held.clear()  # refused while anybody looks at it


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != VRF_SIGNING_KEY])
def test_only_its_own_kind_is_taken(kind: str) -> None:
    with pytest.raises(Unreadable):
        vrf_key(envelope(golden.file(kind, golden.VRF)))


def test_an_empty_envelope_has_no_bytes() -> None:
    found: Envelope = envelope(golden.file(VRF_SIGNING_KEY, ""))
    assert len(found) == 0
    with pytest.raises(Unreadable, match="damaged or cut short"):
        vrf_key(found)


def test_a_file_that_could_not_be_read_is_faulty_with_the_reason() -> None:
    gone = Source("kes.skey", None, "cannot be read: No such file or directory")
    found = credential_set(gone, Source("vrf.skey", GOLDEN_VRF), Source("node.cert", GOLDEN_CERTIFICATE))
    assert found.kes == Faulty("kes.skey cannot be read: No such file or directory")


NAMES = st.sampled_from(["type", "cborHex", "x"])
ENVELOPES = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(KINDS)), "description": st.just(""), "cborHex": st.just("aa")}
)
ANY_JSON = st.recursive(
    ENVELOPES | st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ANY_JSON)
def test_whatever_json_a_file_holds_it_is_an_envelope_or_unreadable(value: object) -> None:
    """Among it an envelope in a list, which once ended the actuator."""
    with contextlib.suppress(Unreadable):
        envelope(json.dumps(value).encode())
        assert isinstance(value, dict)


@pytest.mark.parametrize(
    "text", ['[{"type": "a", "description": "b", "cborHex": "aa"}]', '[["cborHex", "aa"]]', '["cborHex"]']
)
def test_an_envelope_in_a_list_is_none(text: str) -> None:
    with pytest.raises(Unreadable):
        envelope(text.encode())
