"""Frames: however a stream is cut, whole payloads come out; an impossible length ends it at once."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.frames import FrameReader, frame
from ipc.messages import MAX_FRAME, ProtocolError


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.lists(st.integers(0, 5000), max_size=20))
def test_payloads_come_out_whole_and_in_order_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    reader, stream = FrameReader(), b"".join(map(frame, payloads))
    assert [got for piece in pieces(stream, cuts) for got in reader.feed(piece)] == payloads


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=5))
def test_any_stream_gives_payloads_within_the_cap_or_a_protocol_error(stream: bytes, cuts: list[int]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces(stream, cuts):
            assert all(0 < len(payload) <= MAX_FRAME for payload in reader.feed(piece))
    except ProtocolError:
        return


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 2**31, 2**32 - 1])
def test_an_impossible_length_is_refused_as_soon_as_it_is_read(length: int) -> None:
    with pytest.raises(ProtocolError, match="length"):
        FrameReader().feed(struct.pack(">I", length))


def test_the_largest_frame_passes() -> None:
    payload = bytes(MAX_FRAME)
    assert FrameReader().feed(frame(payload)) == [payload]


@pytest.mark.parametrize("payload", [b"", bytes(MAX_FRAME + 1)])
def test_a_frame_that_no_reader_would_take_is_not_made(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        frame(payload)
