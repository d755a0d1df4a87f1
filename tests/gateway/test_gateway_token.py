"""What a request shows of a token, and what a file may hold: nothing but the very token is right."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.token import LONGEST, SHORTEST, BadToken, Shown, Token, look_at, parse_token

SECRET = "s3cret-token:of~more/than+thirty=two!"
TOKEN = Token(SECRET.encode())


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
@pytest.mark.parametrize("spaces", [" ", "   "])
def test_the_token_is_right_by_the_scheme_bearer_in_any_case(scheme: str, spaces: str) -> None:
    assert look_at([f"{scheme}{spaces}{SECRET}"], TOKEN) is Shown.RIGHT


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
@pytest.mark.parametrize("user", ["", "admin", "päivi"])
def test_it_is_right_as_the_password_of_any_user(scheme: str, user: str) -> None:
    assert look_at([f"{scheme} {basic(user, SECRET)}"], TOKEN) is Shown.RIGHT


@pytest.mark.parametrize(
    "header",
    [
        "",
        SECRET,
        "Bearer",
        "Bearer ",
        f"Bearer\t{SECRET}",
        f"Bearer{SECRET}",
        f"Bearer {SECRET} ",
        f"Bearer {SECRET} x",
        f"Bearer {SECRET},Bearer {SECRET}",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        f"Bearer {basic('', SECRET)}",
        f'Bearer "{SECRET}"',
        f"Token {SECRET}",
        f"Digest {SECRET}",
        f"Basic {SECRET}",
        f"Basic {base64.b64encode(SECRET.encode()).decode()}",
        f"Basic {basic(SECRET, '')}",
        f"Basic {basic('', SECRET + chr(10))}",
        f"Basic {basic('', SECRET).rstrip('=')}!",
        f"Basic {basic('', SECRET)[:8]} {basic('', SECRET)[8:]}",
        f"Basic {basic('x' * 2 * LONGEST, SECRET)}",
    ],
)
def test_what_is_not_quite_right_is_wrong(header: str) -> None:
    assert look_at([header], TOKEN) is Shown.WRONG


def test_two_headers_are_wrong_even_where_each_is_right() -> None:
    assert look_at([f"Bearer {SECRET}"] * 2, TOKEN) is Shown.WRONG
    assert look_at([f"Bearer {SECRET}", ""], TOKEN) is Shown.WRONG


def test_no_header_is_nothing_shown_and_without_a_token_nothing_is_right() -> None:
    assert look_at([], TOKEN) is Shown.NOTHING
    assert look_at([f"Bearer {SECRET}"], None) is Shown.WRONG
    assert look_at(["Bearer "], Token(b"")) is Shown.WRONG


BYTES = st.binary(max_size=80).map(lambda data: data.decode("utf-8", "surrogateescape"))  # as aiohttp hands them over
PARTS = st.sampled_from(["Bearer ", "Basic ", SECRET[:-1], basic("", SECRET[1:]), ":", "=", " ", ",", "\0", "\udcff"])


@given(st.lists(st.lists(BYTES | PARTS, max_size=4).map("".join), max_size=3))
@example(["Bearer " + "\udcff" * 40])
@example(["Basic " + "=" * 40])
def test_no_bytes_authorise_but_the_token(headers: list[str]) -> None:
    assert look_at(headers, TOKEN) is (Shown.WRONG if headers else Shown.NOTHING)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=SHORTEST, max_size=LONGEST))
def test_every_token_that_a_file_may_hold_can_be_shown_both_ways(text: str) -> None:
    for end in ("", "\n", "\r\n"):
        token = parse_token((text + end).encode())
        assert look_at([f"Bearer {text}"], token) is Shown.RIGHT
        assert look_at([f"Basic {basic('x', text)}"], token) is Shown.RIGHT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * (SHORTEST - 1), "is shorter than 32 characters"),
        (b"x" * (LONGEST + 1), "is longer than 512 characters"),
        (b"x" * 20 + b" " + b"x" * 20, "without spaces"),
        (b"x" * 40 + b"\n\n", "one line"),
        (b"x" * 40 + b"\0", "printable ASCII"),
        (b"\xef\xbb\xbf" + b"x" * 40, "printable ASCII"),
        ("ü".encode() * 40, "printable ASCII"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_with_a_remedy_and_without_its_content(content: bytes, says: str) -> None:
    with pytest.raises(BadToken) as caught:
        parse_token(content)
    assert says in str(caught.value)
    assert "openssl rand -hex 32" in str(caught.value)
    assert "xxx" not in str(caught.value)


@given(st.binary(max_size=600))
def test_any_content_is_a_token_or_refused(content: bytes) -> None:
    with contextlib.suppress(BadToken):
        assert parse_token(content) == parse_token(content)


def test_a_token_is_kept_as_its_digest_only() -> None:
    assert SECRET.encode() not in TOKEN.__dict__.values()
    assert SECRET not in repr(TOKEN)
    assert Token(b"x") != TOKEN
