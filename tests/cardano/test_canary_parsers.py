"""However a key file is spoilt, nothing made of it shows a secret: no result, no finding, no exception, no output.

Its keys are known here, so they can be searched for in every form in which programs show bytes (`e2e/canaries.py`).
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.canaries import BROKEN, Canary, Files, Search, canary, digits_of, envelope
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cardano.credentials import Source, credential_set
from cardano.envelope import KINDS, VRF_SIGNING_KEY, Unreadable
from cardano.envelope import envelope as parsed
from cardano.kes import kes_key
from cardano.opcert import operational_certificate
from cardano.vrf import vrf_key
from cli import examining, forgectl
from cli.asking import Failed
from config import ConfigError, load
from policy.credential_findings import examine


def _made() -> Canary:
    with tempfile.TemporaryDirectory() as folder:
        return canary(Path(folder), "a set")


KEYS = _made()
KES = KEYS.files["kes.skey"]
SEARCH = Search(KEYS.secrets)
SECRET = KEYS.secrets["a set: leaf"]


# --- the search itself ---


@pytest.mark.parametrize(
    "shown",
    [
        *(SECRET, SECRET[::-1], SECRET.hex().encode(), SECRET.hex(":").encode(), f"{int(SECRET.hex(), 16):X}".encode()),
        *(
            text.encode()
            for text in (str(list(SECRET)), str(SECRET), json.dumps(str(SECRET)), str(int(SECRET.hex(), 16)))
        ),
        *(base64.b64encode(bytes(skipped) + SECRET) for skipped in range(3)),
        *(base64.urlsafe_b64encode(bytes(skipped) + KES) for skipped in range(3)),
    ],
)
def test_a_secret_is_found_in_any_form_anywhere_and_cut_short(shown: bytes) -> None:
    for before in range(8):
        for part in (shown, shown[: len(shown) // 2], shown[len(shown) // 3 :]):
            assert SEARCH.found(b"-" * before + part + b"-")


def test_what_is_public_of_a_set_is_not_taken_for_a_secret() -> None:
    found = credential_set(*(Source(name, content) for name, content in KEYS.files.items()))
    assert SEARCH.found(f"{found} {found.kes.verification_key.hex()}".encode() + KEYS.files["node.cert"]) == set()


# --- what is shown of a set ---


def everything_shown(files: Files) -> Iterator[str]:
    """By whoever reads them."""
    for content in files.values():
        for parse in (kes_key, vrf_key, operational_certificate):
            try:
                yield repr(parse(parsed(content)))
            except Unreadable as error:
                yield from (repr(error), *traceback.format_exception(error))
    config, found = load({}), credential_set(*(Source(name, memoryview(raw)) for name, raw in files.items()))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        for how in ([], ["--json"]):
            asked = forgectl._parser().parse_args(["check", folder, *how])
            yield from (repr(found), repr(examine(found, examining._expected(config, asked))))
            with contextlib.redirect_stdout(io.StringIO()) as output:
                try:
                    examining.command(config, asked)
                except Failed as error:
                    yield from traceback.format_exception(error)
            yield output.getvalue()


def leaks(changed: Files) -> set[str]:
    return SEARCH.found("\n".join(everything_shown(KEYS.files | changed)).encode())


TEXTS = [content.decode() for content in KEYS.files.values()]
DIGITS = [digits_of(content) for content in KEYS.files.values()]
WORDS = st.sampled_from([*DIGITS, *TEXTS, *KINDS, "", "00", {"cborHex": DIGITS[0]}])
NAMES = st.sampled_from(["cborHex", "cborHex", "cborHex", "CborHex", "", *DIGITS])


@st.composite
def spoilt(draw: st.DrawFn) -> Files:
    """Some files are put together from what belongs elsewhere, and some are damaged up to three times."""
    files = dict(KEYS.files)
    for name in files:
        content = files[name]
        if draw(st.booleans()):
            fields = {"type": draw(st.sampled_from(sorted(KINDS)) | WORDS), "description": draw(WORDS)}
            content = json.dumps({**fields, draw(NAMES): draw(st.sampled_from(DIGITS) | WORDS)}).encode()
        for _ in range(draw(st.integers(0, 3))):
            at, to = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
            junk = draw(st.binary(max_size=40) | st.sampled_from([b'"', b"\\", b"}", b'{"', b"00", b"\n", content]))
            damaged = [content[:at], content[at:], content[:at] + content[to:], content.upper(), b"[" + content + b"]"]
            damaged += [content[:at] + junk + content[at:], content[:at] + junk + content[at + len(junk) :]]
            content = draw(st.sampled_from(damaged))
        files[name] = content
    return files


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.reuse, Phase.generate]
)
@given(spoilt())
def test_a_spoilt_set_shows_no_secret(files: Files) -> None:
    assert leaks(files) == set()


@pytest.mark.parametrize("name", BROKEN)
def test_no_secret_is_shown_of_a_set_with(name: str) -> None:
    assert leaks(BROKEN[name](KEYS.files)) == set()


def test_no_secret_is_shown_of_a_vrf_key_whose_halves_were_exchanged() -> None:
    digits = digits_of(KEYS.files["vrf.skey"])
    assert leaks({"vrf.skey": envelope(VRF_SIGNING_KEY, digits[:4] + digits[68:] + digits[4:68])}) == set()


@pytest.mark.parametrize("variable", ["SOURCE_KES_KEY", "SOURCE_VRF_KEY", "TARGET_KES_KEY"])
@pytest.mark.parametrize("form", [bytes.decode, digits_of, lambda file: base64.b64encode(file).decode()])
def test_a_key_that_was_given_in_place_of_its_path_is_not_shown(variable: str, form: Callable[[bytes], str]) -> None:
    with pytest.raises(ConfigError, match=variable) as refused:
        load({variable: form(KES)})
    assert SEARCH.found(f"{refused.value} {refused.value!r} {refused.value.mistakes}".encode()) == set()
