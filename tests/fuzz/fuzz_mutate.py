"""Spoils frames: a small mutation fuzzer that knows msgpack's shape, and is the same again for the same seed.

A payload is parsed once into the places of its values; a mutation replaces, moves, doubles or drops some of them, or
bytes without regard to them.  All of it is cutting and joining of bytes: fast, and able to make what no packer would.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgpack
from fuzz_corpus import KINDS, Honest

from ipc.messages import MAX_FRAME, PROTOCOL, DebugWhat, Worker

_LENGTH: Final = struct.Struct(">I")


def packed(value: object) -> bytes:
    return bytes(msgpack.packb(value))


def header(count: int, *, of_map: bool) -> bytes:
    """The beginning of an array or a map of so many entries, present or not."""
    packer = msgpack.Packer()
    return bytes(packer.pack_map_header(count) if of_map else packer.pack_array_header(count))


def nested(depth: int, rng: random.Random) -> bytes:
    """Arrays or maps within each other."""
    return rng.choice((b"\x91", b"\x81\xa0", b"\x81\xa1a", b"\xdc\x00\x01")) * depth + rng.choice((b"\xc0", b""))


@dataclass(frozen=True, slots=True)
class Node:
    """Where a value stands in a payload."""

    start: int
    end: int
    entries: tuple[tuple[int, int], ...] = ()
    """Of an array or a map: from and to of each."""
    is_map: bool = False
    is_container: bool = False


def parse(payload: bytes) -> list[Node]:
    """Every value of a payload that msgpack packed, the outermost last."""
    nodes: list[Node] = []
    assert _parse(payload, 0, nodes) == len(payload)
    return nodes


_FIXED: Final = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9} | {
    0xD0: 2,
    0xD1: 3,
    0xD2: 5,
    0xD3: 9,
}
_TEXT: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}
_MAP: Final = {0xDE: 2, 0xDF: 4}


def _parse(data: bytes, at: int, nodes: list[Node]) -> int:
    """Note the value at `at` and all within it; where it ends."""
    tag = data[at]
    if tag <= 0x7F or tag >= 0xE0 or tag in _FIXED:
        end = at + _FIXED.get(tag, 1)
        nodes.append(Node(at, end))
        return end
    if 0xA0 <= tag <= 0xBF or tag in _TEXT:
        more = _TEXT.get(tag, 0)
        length = tag & 0x1F if not more else int.from_bytes(data[at + 1 : at + 1 + more])
        nodes.append(Node(at, at + 1 + more + length))
        return at + 1 + more + length
    is_map = tag <= 0x8F or tag in _MAP
    more = (_MAP if is_map else _ARRAY).get(tag, 0)
    count = tag & 0x0F if not more else int.from_bytes(data[at + 1 : at + 1 + more])
    place = at + 1 + more
    entries = []
    for _ in range(count):
        begin = place
        for _ in range(2 if is_map else 1):
            place = _parse(data, place, nodes)
        entries.append((begin, place))
    nodes.append(Node(at, place, tuple(entries), is_map, is_container=True))
    return place


def _hostile() -> list[bytes]:
    """Values that someone must have thought of, or not."""
    numbers = [0, 1, -1, 255, 256, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), PROTOCOL, PROTOCOL + 1]
    floats = [0.0, -0.0, 1.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
    texts = ["", "a", "x" * 4096, "x" * 4097, "ü" * 2048, "\x00", "treasurer", "true", *(k.__name__ for k in KINDS)]
    made = [packed(each) for each in (None, True, False, *numbers, *floats, *texts, *Worker, *DebugWhat)]
    made += [b"\xca" + part for part in (b"\x7f\xc0\x00\x00", b"\x7f\x80\x00\x00", b"\x00\x00\x00\x01")]
    made += [packed(each) for each in ([], {}, [0] * 256, [0] * 257, {f"{n}": n for n in range(257)}, b"", b"bytes")]
    made += [b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa1\xc3", b"\xd9\x02\xc0\x80"]  # no UTF-8
    made += [b"\xc1", b"\xc7\x00\xff", b"\xc7\x00\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xd4\x05\x00"]  # never, ext
    made += [tag + size for tag in (b"\xdb", b"\xdd", b"\xdf", b"\xc6", b"\xc9") for size in (b"\xff" * 4, b"\x00" * 4)]
    return made


_HOSTILE: Final = _hostile()
_BY_LENGTH: Final = (0, MAX_FRAME + 1, 2**31, 2**32 - 1)

Edit = tuple[int, int, bytes]
"""From, to, and what comes in between."""


class Fuzzer:
    """Spoilt payloads without end."""

    def __init__(self, honest: list[Honest], rng: random.Random) -> None:
        self._honest = honest
        self._nodes = [parse(each.payload) for each in honest]
        self._containers = [[node for node in nodes if node.is_container] for nodes in self._nodes]
        self._rng = rng
        self._edits: tuple[Callable[[int], Edit], ...] = (
            self._another_value,
            self._another_value,
            self._a_value_from_elsewhere,
            self._an_entry_less,
            self._an_entry_twice,
            self._an_entry_more,
            self._entries_in_another_order,
            self._a_count_that_lies,
            self._deep,
            self._too_many,
        )
        self._spoils: tuple[Callable[[bytes], bytes], ...] = (
            self._flip_bits,
            self._set_bytes,
            self._cut,
            self._take_out,
            self._put_in,
            self._double,
            self._splice,
        )

    def payload(self) -> tuple[Honest, bytes]:
        """Whose frame it was, and what has become of it (1 byte to MAX_FRAME).  Some come through unspoilt."""
        rng = self._rng
        which = rng.randrange(len(self._honest))
        honest = self._honest[which]
        spoilt = honest.payload
        chance = rng.random()
        if chance < 0.85:
            spoilt = self._edited(which, 1 if chance < 0.6 else rng.randint(2, 4))
        if 0.75 < chance < 0.98:
            for _ in range(1 if chance < 0.9 else rng.randint(2, 4)):
                spoilt = rng.choice(self._spoils)(spoilt)
        return honest, spoilt[:MAX_FRAME] or b"\x00"

    def stream(self, payloads: list[bytes]) -> bytes:
        """Their frames one after the other; sometimes a length lies or the last one is cut."""
        rng, made = self._rng, bytearray()
        for payload in payloads:
            length = len(payload)
            if rng.random() < 0.02:
                length = rng.choice((length - 1, length + 1, rng.randrange(MAX_FRAME), *_BY_LENGTH))
            made += _LENGTH.pack(max(length, 0)) + payload
        return bytes(made[: rng.randrange(len(made))]) if rng.random() < 0.02 else bytes(made)

    def pieces(self, stream: bytes) -> Iterator[bytes]:
        """As it might arrive: at once, in some pieces, byte by byte."""
        rng, chance = self._rng, self._rng.random()
        if chance < 0.6:
            yield stream
        elif chance < 0.995 or len(stream) > 4000:
            cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randint(1, 4)))
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                yield stream[start:end]
        else:
            yield from (stream[at : at + 1] for at in range(len(stream)))

    # --- by shape ---

    def _edited(self, which: int, times: int) -> bytes:
        payload = self._honest[which].payload
        before = len(payload)
        for start, end, new in sorted((self._rng.choice(self._edits)(which) for _ in range(times)), reverse=True):
            if end <= before:  # not within one that is done
                payload, before = payload[:start] + new + payload[end:], start
        return payload

    def _another_value(self, which: int) -> Edit:
        node = self._rng.choice(self._nodes[which])
        return node.start, node.end, self._rng.choice(_HOSTILE)

    def _a_value_from_elsewhere(self, which: int) -> Edit:
        node, other = self._rng.choice(self._nodes[which]), self._rng.randrange(len(self._honest))
        from_there = self._rng.choice(self._nodes[other])
        return node.start, node.end, self._honest[other].payload[from_there.start : from_there.end]

    def _an_entry_less(self, which: int) -> Edit:
        node, entries = self._entries(which)
        if entries:
            del entries[self._rng.randrange(len(entries))]
        return _joined(node, entries)

    def _an_entry_twice(self, which: int) -> Edit:
        """In a map: its key again, sometimes with another value."""
        node, entries = self._entries(which)
        if entries:
            again = self._rng.choice(entries)
            if node.is_map and self._rng.random() < 0.5:
                again = again[: _end(again)] + self._rng.choice(_HOSTILE)
            entries.insert(self._rng.randrange(len(entries) + 1), again)
        return _joined(node, entries)

    def _an_entry_more(self, which: int) -> Edit:
        node, entries = self._entries(which)
        key = self._rng.choice((b"\xa5admin", b"\xa0", *_HOSTILE)) if node.is_map else b""
        entries.insert(self._rng.randrange(len(entries) + 1), key + self._rng.choice(_HOSTILE))
        return _joined(node, entries)

    def _entries_in_another_order(self, which: int) -> Edit:
        node, entries = self._entries(which)
        self._rng.shuffle(entries)
        return _joined(node, entries)

    def _a_count_that_lies(self, which: int) -> Edit:
        node, entries = self._entries(which)
        count = self._rng.choice((0, 255, 256, 257, 65536, 2**32 - 1, len(entries) + 1, max(len(entries) - 1, 0)))
        return node.start, node.end, header(count, of_map=node.is_map) + b"".join(entries)

    def _deep(self, which: int) -> Edit:
        node = self._rng.choice(self._nodes[which])
        depth = self._rng.choice((2, 30, 400, *range(900, 1030, 10), 5000))
        return node.start, node.end, nested(depth, self._rng)

    def _too_many(self, which: int) -> Edit:
        """An array or a map with one of its entries, honest or not, again and again."""
        node, entries = self._entries(which)
        entries += [self._rng.choice(entries) if entries else b"\xa1a\xa1a"] * self._rng.choice((3, 250, 256, 300))
        return _joined(node, entries)

    def _entries(self, which: int) -> tuple[Node, list[bytes]]:
        node, payload = self._rng.choice(self._containers[which]), self._honest[which].payload
        return node, [payload[start:end] for start, end in node.entries]

    # --- by bytes ---

    def _flip_bits(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._rng.randint(1, 8) if data else 0):
            changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _set_bytes(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._rng.randint(1, 4) if data else 0):
            changed[self._rng.randrange(len(changed))] = self._rng.choice((0x00, 0x7F, 0x80, 0xC1, 0xFF))
        return bytes(changed)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._rng.randrange(len(data) + 1)]

    def _take_out(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _put_in(self, data: bytes) -> bytes:
        start = self._rng.randrange(len(data) + 1)
        return data[:start] + self._rng.randbytes(self._rng.randint(1, 40)) + data[start:]

    def _double(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:end] + data[start:]

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self._honest).payload
        return data[: self._rng.randrange(len(data) + 1)] + other[self._rng.randrange(len(other)) :]

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._rng.randrange(len(data) + 1)
        return start, min(len(data), start + self._rng.randint(1, 60))


def _joined(node: Node, entries: list[bytes]) -> Edit:
    return node.start, node.end, header(len(entries), of_map=node.is_map) + b"".join(entries)


def _end(entry: bytes) -> int:
    """Where the key of a map's entry ends."""
    return _parse(entry, 0, [])
