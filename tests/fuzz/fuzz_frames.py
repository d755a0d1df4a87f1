"""Honest frames of every message kind, and ways to spoil them.

What is honest follows from the type hints of `ipc.messages`: a message added there is fuzzed without a word here.
Everything follows from the seed: `Frames(seed).mutant(n)` is the same bytes each time, whatever came before it.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import random
import struct
import types
import typing
from collections.abc import Callable
from typing import Any, Final

import msgpack

from ipc import messages
from ipc.frames import frame
from ipc.messages import BODIES, MAX_FRAME, PROTOCOL, State, Worker, encode

KINDS: Final = tuple(
    kind
    for _, kind in sorted(vars(messages).items())
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == messages.__name__
)
"""Each dataclass of the protocol; those that only occur inside others can stand alone here as well."""
EACH: Final = 12
"""Honest frames of each kind."""
INT_EDGES: Final = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    -32,
    -33,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
)
FLOATS: Final = (0.0, -0.0, 0.5, 3600.0, 86400.0, 1e308, 5e-324, -1.0)
WORDS: Final = (
    "",
    "a",
    "leader",
    "prober",
    "State",
    "pod-0_a1b2",
    "INFO",
    "tür",
    "鍵",
    "\x00",
    "\n",
    "=",
    "a/b",
    "x" * 300,
)


def configured(name: str, otherwise: int) -> int:
    """A number from the environment."""
    return int(os.environ.get(name) or otherwise)


FRAMES: Final = configured("FORGE_FUZZ_FRAMES", 50_000)
SEED: Final = configured("FORGE_FUZZ_SEED", random.SystemRandom().randrange(2**32))
THOROUGH: Final = "FORGE_FUZZ_FRAMES" in os.environ


def honest(hint: Any, rng: random.Random) -> Any:
    """Some value of that type."""
    if hint is bool:
        return rng.random() < 0.5
    if hint is int:
        return rng.choice(INT_EDGES) if rng.random() < 0.3 else rng.getrandbits(rng.randrange(1, 60))
    if hint is str:
        return rng.choice(WORDS)
    if hint is float:
        return rng.choice(FLOATS)
    if hint is types.NoneType:
        return None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return rng.choice(list(hint))
    if hint is State:
        worker = rng.choice(list(Worker))
        return dataclasses.replace(made(State, rng), worker=worker, body=made(BODIES[worker], rng))
    if dataclasses.is_dataclass(hint):
        return made(hint, rng)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return honest(rng.choice(inner), rng)
    if origin is tuple:
        return tuple(honest(inner[0], rng) for _ in range(rng.randrange(4)))
    if origin is dict:
        return {honest(inner[0], rng): honest(inner[1], rng) for _ in range(rng.randrange(4))}
    raise AssertionError(f"no rule for {hint}")


def made(kind: Any, rng: random.Random) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: honest(hints[field.name], rng) for field in dataclasses.fields(kind)})


def conforms(value: Any, hint: Any) -> bool:
    """Whether a decoded value is of exactly that type, and within what a frame may hold."""
    if isinstance(hint, type) and not typing.get_args(hint):
        if type(value) is not hint:
            return False
        if dataclasses.is_dataclass(hint):
            hints = typing.get_type_hints(hint)
            return all(conforms(getattr(value, field.name), hints[field.name]) for field in dataclasses.fields(hint))
        return not (hint is str and len(value.encode()) > 4096)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, choice) for choice in inner)
    if origin is tuple:
        return type(value) is tuple and len(value) <= 256 and all(conforms(item, inner[0]) for item in value)
    assert origin is dict
    return (
        type(value) is dict
        and len(value) <= 256
        and all(conforms(k, inner[0]) and conforms(v, inner[1]) for k, v in value.items())
    )


# --- single values, packed, that no honest sender would put there ---


def _packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


ODD: Final = (
    *(_packed(n) for n in INT_EDGES),
    *(_packed(f) for f in (*FLOATS, float("nan"), float("inf"), float("-inf"))),
    b"\xca\x7f\x80\x00\x00",  # infinity in 32 bits
    *(_packed(word) for word in (*WORDS, "ephemeral-leader", "ARMED", " armed", "armed\x00")),
    b"\xc0",
    b"\xc2",
    b"\xc3",
    b"\xcd\x00\x01",  # one, in more bytes than it needs
    b"\xd3" + bytes(8),
    b"\xd9\x01a",
    b"\xdb\x00\x00\x00\x01a",
    _packed("y" * 4096),
    _packed("y" * 4097),
    _packed("y" * 65_000),
    b"\xa2\xff\xfe",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # half a surrogate pair
    b"\xa2\xc0\x80",  # NUL in two bytes
    b"\xa4\xf4\x90\x80\x80",  # beyond Unicode
    b"\xc4\x00",
    b"\xc4\x05armed",
    b"\xc7\x00\x05",
    b"\xc7\x03\x05abc",
    b"\xd6\xff\x00\x00\x00\x00",  # a time stamp
    b"\xc7\x00\xff",  # an empty one
    b"\xd8\xff" + b"\xff" * 16,
    b"\xc1",  # never used
    b"\x90",
    b"\x80",
    b"\x93\xc0\xc0\xc0",
    b"\xdc\x01\x01" + b"\xc0" * 257,
    b"\xdc\x01\x00" + b"\xa1z" * 256,
    b"\xde\x01\x01" + b"".join(_packed(f"{n}") + b"\x01" for n in range(257)),
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x81\x01\x02",  # keys that are no text
    b"\x81\xc0\x02",
    b"\x81\x90\x02",
    b"\x81\x80\x02",
    b"\x81\xc4\x00\x02",
    b"\x82\xa1a\x01\xa1a\x02",  # the same key twice
    b"\x82\xa0\xa5Grant\xa0\xa5State",
    *(b"\x91" * depth + b"\xc0" for depth in (5, 100, 511, 1023, 1024, 1025, 20_000)),
    *(b"\x81\xa1a" * depth + b"\xc0" for depth in (5, 511, 1024, 20_000)),
    b"\xdc\x01\x00" * 900,
)
_MARK: Final = msgpack.ExtType(77, b"here comes the odd one")
_MARKED: Final = _packed(_MARK)


class Places:
    """The containers of a frame's tree: where something can be put in place of something else."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.inner: list[Any] = []
        self._walk(tree)

    def _walk(self, node: Any) -> None:
        if isinstance(node, list | dict):
            self.inner.append(node)
            for item in node.values() if isinstance(node, dict) else node:
                self._walk(item)

    def any(self, rng: random.Random) -> Any:
        return rng.choice(self.inner)

    def put(self, rng: random.Random, value: Any) -> None:
        """In some place, instead of what is there."""
        full = [node for node in self.inner if node]
        node = rng.choice(full)
        node[rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))] = value


class Frames:
    """The honest frames that a seed gives, and its mutants."""

    def __init__(self, seed: int, kinds: tuple[type, ...] = KINDS) -> None:
        self.seed = seed
        rng = random.Random(seed)
        self.honest: list[tuple[type, bytes]] = [
            (kind, encode(honest(kind, rng))) for kind in kinds for _ in range(EACH)
        ]
        self._structural: tuple[Callable[[Any, random.Random], bytes], ...] = (
            self._odd,
            self._odd,
            self._swapped,
            self._fields,
            self._opening,
            self._grown,
            self._twice,
        )
        self._bytewise = (self._flipped, self._cut, self._inserted, self._spliced, self._repeated)
        self._delivered = (self._lied, self._many, self._noise)

    def rng(self, number: int) -> random.Random:
        return random.Random(self.seed << 40 | number)

    def mutant(self, number: int) -> tuple[type, bytes, list[bytes]]:
        """The kind it was, the bytes that cross the socket, and the pieces in which they arrive."""
        rng = self.rng(number)
        kind, payload = rng.choice(self.honest)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if rng.random() < 0.6:
                try:
                    tree = msgpack.unpackb(payload)
                except (ValueError, TypeError, msgpack.UnpackException):  # spoilt in bytes already
                    tree = None
                if isinstance(tree, list) and tree:
                    payload = rng.choice(self._structural)(tree, rng)
                    continue
            payload = rng.choice(self._bytewise)(payload, rng)
        if rng.random() < 0.1:
            stream = rng.choice(self._delivered)(payload, rng)
        else:
            stream = struct.pack(">I", len(payload)) + payload
        return kind, stream, pieces(stream, rng)

    # --- by structure ---

    def _odd(self, tree: Any, rng: random.Random) -> bytes:
        Places(tree).put(rng, _MARK)
        return _packed(tree).replace(_MARKED, rng.choice(ODD), 1)

    def _swapped(self, tree: Any, rng: random.Random) -> bytes:
        """A part of another frame in place of one of this."""
        other = Places(msgpack.unpackb(rng.choice(self.honest)[1]))
        Places(tree).put(rng, other.any(rng))
        return _packed(tree)

    def _fields(self, tree: Any, rng: random.Random) -> bytes:
        node = Places(tree).any(rng)
        if isinstance(node, dict):
            if node and rng.random() < 0.5:
                del node[rng.choice(list(node))]
            else:
                node[rng.choice(("", "admin", "grant", "valid_until", "__class__"))] = rng.choice((True, 1, "x", None))
        elif node and rng.random() < 0.5:
            del node[rng.randrange(len(node))]
        else:
            node.insert(rng.randrange(len(node) + 1), rng.choice((True, 1, "x", None)))
        return _packed(tree)

    def _opening(self, tree: Any, rng: random.Random) -> bytes:
        """Another protocol, another kind."""
        if rng.random() < 0.5:
            tree[0] = rng.choice(
                (PROTOCOL + 1, PROTOCOL - 1, 0, -1, float(PROTOCOL), True, None, str(PROTOCOL), 2**64 - 1)
            )
        elif len(tree) > 1:
            tree[1] = rng.choice((rng.choice(KINDS).__name__, "", "state", None, 7, [], "ProtocolError", "DebugReply"))
        return _packed(tree)

    def _grown(self, tree: Any, rng: random.Random) -> bytes:
        node = Places(tree).any(rng)
        count = rng.choice((10, 200, 256, 257, 5000))
        if isinstance(node, dict):
            node |= {f"{n}": n for n in range(count)}
        else:
            node.extend([rng.choice(WORDS[:8])] * count)
        return _packed(tree)

    def _twice(self, tree: Any, rng: random.Random) -> bytes:
        """A map with one of its keys twice."""
        maps = [node for node in Places(tree).inner if isinstance(node, dict) and 0 < len(node) < 250]
        if not maps:
            return _packed(tree)[:-1]
        node = rng.choice(maps)
        again = rng.choice(list(node))
        node["\x01again"] = _MARK
        packed = _packed(tree)
        return packed.replace(_packed("\x01again") + _MARKED, _packed(again) + rng.choice(ODD[:40]), 1)

    # --- by bytes ---

    def _flipped(self, payload: bytes, rng: random.Random) -> bytes:
        changed = bytearray(payload or b"\x00")
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    def _cut(self, payload: bytes, rng: random.Random) -> bytes:
        return payload[: rng.randrange(len(payload) + 1)] if rng.random() < 0.7 else payload[rng.randrange(4) :]

    def _inserted(self, payload: bytes, rng: random.Random) -> bytes:
        at = rng.randrange(len(payload) + 1)
        return payload[:at] + (rng.choice(ODD) if rng.random() < 0.5 else rng.randbytes(4)) + payload[at:]

    def _spliced(self, payload: bytes, rng: random.Random) -> bytes:
        other = rng.choice(self.honest)[1]
        return payload[: rng.randrange(len(payload) + 1)] + other[rng.randrange(len(other)) :]

    def _repeated(self, payload: bytes, rng: random.Random) -> bytes:
        start = rng.randrange(len(payload) + 1)
        part = payload[start : start + rng.randrange(1, 20)]
        return payload[:start] + part * rng.choice((2, 3, 100)) + payload[start:]

    # --- by what is on the wire ---

    def _lied(self, payload: bytes, rng: random.Random) -> bytes:
        lies = (0, 1, len(payload) - 1, len(payload) + 1, MAX_FRAME, MAX_FRAME + 1, 2**31, 2**32 - 1)
        return struct.pack(">I", max(rng.choice(lies), 0)) + payload

    def _many(self, payload: bytes, rng: random.Random) -> bytes:
        others = b"".join(frame(rng.choice(self.honest)[1]) for _ in range(rng.randrange(1, 8)))
        return others + struct.pack(">I", len(payload)) + payload

    def _noise(self, payload: bytes, rng: random.Random) -> bytes:
        return rng.randbytes(rng.choice((1, 3, 4, 5, 64, 3000)))


def pieces(stream: bytes, rng: random.Random) -> list[bytes]:
    """Mostly at once; else cut somewhere; seldom byte by byte."""
    how = rng.random()
    if how < 0.8 or len(stream) < 2:
        return [stream]
    if how < 0.99 or len(stream) > 3000:
        at = rng.randrange(len(stream))
        return [part for part in (stream[:at], stream[at:]) if part]
    return [stream[at : at + 1] for at in range(len(stream))]
