"""One pool has one name, in whichever form its id is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.pool_id import bech32, bech32_of

BECH32, HEX = (
    "pool1pu5jlj4q9w9jlxeu370a3c9myx47md5j5m2str0naunn2q3lkdy",
    "0f292fcaa02b8b2f9b3c8f9fd8e0bb21abedb692a6d5058df3ef2735",
)
"""A pool of mainnet that the documentation of several Cardano services shows in both forms."""


def test_an_id_in_hexadecimal_digits_is_written_as_explorers_write_it() -> None:
    assert bech32_of(HEX) == BECH32


@given(st.binary(min_size=28, max_size=28))
def test_ten_digits_give_the_first_ten_characters(pool: bytes) -> None:
    assert bech32_of(pool.hex()[:10]) == bech32_of(pool.hex())[:10]


@pytest.mark.parametrize("text", ["0", "zz" * 28, "pool1abcde"])
def test_what_are_no_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        bech32_of(text)


@pytest.mark.parametrize(
    ("prefix", "data", "text"),
    [
        ("a", "", "a12uel5l"),
        ("abcdef", "00443214c74254b635cf84653a56d7c675be77df", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"),
        (
            "split",
            "c5f38b70305f519bf66d85fb6cf03058f3dde463ecd7918f2dc743918f2d",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
        ),
    ],
)
def test_bech32_gives_the_vectors_of_bip_173(prefix: str, data: str, text: str) -> None:
    assert bech32(prefix, bytes.fromhex(data)) == text
