"""Keys whose secrets are known, and the search for them in whatever a program gives away.

Secret are the seeds: of a KES key the running leaf's and that of each right half, of VRF and cold keys the first 32
bytes.  All else in these files is public (verification keys, types, CBOR heads): it is in certificates and blocks, and
may be shown.  So it is no canary.

A leak may be encoded, cut short or in the midst of other text: each seed is written in the forms in which programs show
bytes, and a quarter of a form, 64 bits of the secret, is a leak.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from cardano.envelope import KES_SIGNING_KEY, OPERATIONAL_CERTIFICATE, VRF_SIGNING_KEY
from devkit import keys

Files = dict[str, bytes]


@dataclass(frozen=True)
class Canary:
    """A set: the files that a pod gets, by name, and what is secret of it."""

    files: Files
    secrets: dict[str, bytes]


def seed_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def canary(folder: Path, name: str, *, counter: int = 0, pool: str = "") -> Canary:
    """Made in `folder`.  pool: the set whose cold key signs the certificate, as in a rotation; empty: its own."""
    period = keys.current_kes_period("mainnet")
    made = keys.generate(folder, kes_period=period, counter=counter, seed=seed_of(name))
    files = {path.name: path.read_bytes() for path in (made.kes, made.vrf, made.cert)}
    kes, vrf, cold = (bytes.fromhex(digits_of(path.read_bytes())) for path in (made.kes, made.vrf, made.cold))
    if pool:
        hot, signer = keys.kes_root(kes[3:]), keys._blake(b"cold" + seed_of(pool))
        certificate = keys.operational_certificate(hot, counter, period, signer)
        files["node.cert"] = envelope(OPERATIONAL_CERTIFICATE, certificate.hex())
    rights = {f"right half of level {level}": kes[3 + 32 + 96 * level :][:32] for level in range(6)}
    secrets = {"leaf": kes[3:35], **rights, "VRF seed": vrf[2:34], "cold key": cold[2:]}
    return Canary(files, {f"{name}: {part}": secret for part, secret in secrets.items()})


def envelope(kind: str, digits: str, description: str = "") -> bytes:
    return json.dumps({"type": kind, "description": description, "cborHex": digits}).encode()


def digits_of(content: bytes) -> str:
    return str(json.loads(content)["cborHex"])


def _kes(spoil: Callable[[bytes, str], bytes], name: str = "kes.skey") -> Callable[[Files], Files]:
    """In place of a file, what `spoil` makes of the KES key's."""
    return lambda files: {name: spoil(files["kes.skey"], digits_of(files["kes.skey"]))}


BROKEN: dict[str, Callable[[Files], Files]] = {
    "cut in the middle of its digits": _kes(lambda file, _: file[: len(file) // 2]),
    "a digit that is none": _kes(lambda _, digits: envelope(KES_SIGNING_KEY, f"{digits[:300]}x{digits[301:]}")),
    "a digit too few": _kes(lambda _, digits: envelope(KES_SIGNING_KEY, digits[:-1])),
    "KES and VRF key exchanged": lambda files: {"kes.skey": files["vrf.skey"], "vrf.skey": files["kes.skey"]},
    "a KES key as VRF key": _kes(lambda _, digits: envelope(VRF_SIGNING_KEY, digits), "vrf.skey"),
    "a KES key as certificate": _kes(lambda _, digits: envelope(OPERATIONAL_CERTIFICATE, digits), "node.cert"),
    "digits as description": _kes(lambda _, digits: envelope(KES_SIGNING_KEY, "", digits)),
    "digits as type": _kes(lambda _, digits: envelope(digits, "")),
    "digits as a field's name": _kes(lambda _, digits: json.dumps({digits: "", "cborHex": "00"}).encode()),
    "an envelope in an envelope": _kes(lambda file, _: json.dumps({"cborHex": json.loads(file)}).encode()),
    "an envelope in a list": _kes(lambda file, _: b"[" + file + b"]"),
    "an envelope as description": _kes(lambda file, _: envelope(KES_SIGNING_KEY, "", file.decode())),
    "bytes and no envelope": _kes(lambda _, digits: bytes.fromhex(digits)),
    "digits and no envelope": _kes(lambda _, digits: digits.encode()),
    "base64": _kes(lambda file, _: base64.b64encode(file)),
    "two envelopes": _kes(lambda file, _: file + file),
}
"""How operators, templates and secret stores spoil a set: the files that it then has instead of its own."""


# --- the search ---


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """As programs write bytes."""
    latin, digits = secret.decode("latin-1"), secret.hex()
    yield from (("bytes", secret), ("reversed bytes", secret[::-1]), ("UTF-8", latin.encode()))
    texts = {
        "hex": digits,
        "upper hex": digits.upper(),
        "reversed hex": secret[::-1].hex(),
        "hex with colons": secret.hex(":"),
        "hex of hex": digits.encode().hex(),
        "numbers": ", ".join(map(str, secret)),
        "close numbers": ",".join(map(str, secret)),
        "a number": str(int.from_bytes(secret, "big")),
        "repr": repr(secret)[2:-1],
        "repr in JSON": json.dumps(repr(secret))[3:-2],
        "JSON": json.dumps(latin)[1:-1],
        "surrogates": json.dumps(secret.decode("ascii", "surrogateescape"))[1:-1],
    }
    yield from ((form, text.encode()) for form, text in texts.items())
    for form, text in (("bytes", secret), ("hex", digits.encode()), ("upper hex", digits.upper().encode())):
        for skipped in range(3):  # where it begins to count
            part = text[skipped:][: (len(text) - skipped) // 3 * 3]
            yield from ((f"base64 of {form}", encode(part)) for encode in (base64.b64encode, base64.urlsafe_b64encode))


WORD = 8
_AT_ONCE = 1 << 16


class Search:
    """Finds any quarter of any form of some secrets.

    All eight-byte pieces of all forms are in one table, as numbers; a haystack is read as numbers too, eight times,
    each time a byte later.  Where one is in the table, what stands around it decides.
    """

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._pieces: dict[int, list[tuple[str, bytes, int]]] = {}
        for name, secret in secrets.items():
            for text, form in {text: form for form, text in forms(secret)}.items():  # some forms are the same
                for at in range(len(text) - WORD + 1):
                    piece = int.from_bytes(text[at : at + WORD], sys.byteorder)
                    self._pieces.setdefault(piece, []).append((f"{name}, as {form}", text, at))

    def found(self, haystack: bytes, *, coarse: bool = False) -> set[str]:
        """What it has of the secrets.  coarse: an eighth of the work; then bytes and base64 are found from 15 on."""
        found, view = set(), memoryview(haystack)
        for shift in range(1 if coarse else WORD):
            words = view[shift:][: (len(view) - shift) // WORD * WORD].cast("Q")
            for first in range(0, len(words), _AT_ONCE):  # in parts: threads of this process serve the pod meanwhile
                part = words[first : first + _AT_ONCE]
                if self._pieces.keys().isdisjoint(part):
                    continue
                for number, word in enumerate(part, start=first):
                    for name, text, at in self._pieces.get(word, ()):
                        if _run(haystack, shift + number * WORD, text, at) >= len(text) // 4:
                            found.add(name)
        return found


def _run(haystack: bytes, position: int, text: bytes, at: int) -> int:
    """How much of `text` stands there, around its byte `at`, which is at `position`."""
    after = zip(haystack[position : position + len(text) - at], text[at:], strict=False)
    before = zip(reversed(haystack[max(position - at, 0) : position]), reversed(text[:at]), strict=False)
    return sum(1 for pairs in (after, before) for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
