"""Honest frames of every kind of message, made from the types alone: a new kind is fuzzed as soon as it is declared."""

from __future__ import annotations

import dataclasses
import enum
import random
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Union

from hypothesis import strategies as st

from ipc import messages
from ipc.messages import BODIES, DEBUG_REPLIES, DebugWhat, State, Worker, decode, decode_debug_reply, decode_state

Decoder = Callable[[bytes], Any]

KINDS: Final[tuple[type, ...]] = tuple(
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == messages.__name__
)
"""Every message and every part of one: `decode` can be asked for any."""

_TEXTS: Final = ("", "pod-0_aa", "a/b=c", "ü" * 40, "x" * 300, "\x00\n\x7f", "𐏿")
_INTS: Final = (0, 1, -1, 17, 127, 128, 65536, 10**15, 2**31, 2**63 - 1, 2**64 - 1, -(2**63))


@dataclass(frozen=True)
class Honest:
    """A payload that its reader takes."""

    name: str
    payload: bytes
    decoders: tuple[Decoder, ...]
    """Everybody who might be given it."""


def hints(kind: type) -> dict[str, Any]:
    """Name -> type of each field."""
    found = typing.get_type_hints(kind)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


def value(kind: Any, rng: random.Random) -> Any:
    """A random value of that type."""
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return rng.choice(_INTS) if rng.random() < 0.5 else rng.randrange(2**40)
    if kind is str:
        return rng.choice(_TEXTS)
    if kind is float:
        return rng.choice((0.0, 1.5, -1.0, 1e300, 5e-324))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return rng.choice(list(kind))
    if kind is State:
        return state(rng.choice(list(Worker)), rng)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(**{name: value(hint, rng) for name, hint in hints(kind).items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return None if types.NoneType in arguments and rng.random() < 0.2 else value(_some(arguments, rng), rng)
    if origin is tuple:
        return tuple(value(arguments[0], rng) for _ in range(rng.randrange(3)))
    assert origin is dict, f"no rule for {kind}"
    return {value(arguments[0], rng): value(arguments[1], rng) for _ in range(rng.randrange(3))}


def _some(arguments: tuple[Any, ...], rng: random.Random) -> Any:
    return rng.choice([each for each in arguments if each is not types.NoneType])


def state(worker: Worker, rng: random.Random) -> State:
    """A state of that worker."""
    fields = {name: value(hint, rng) for name, hint in hints(State).items() if name not in ("worker", "body")}
    return State(worker=worker, body=value(BODIES[worker], rng), **fields)


def corpus(rng: random.Random, each: int = 3) -> list[Honest]:
    """`each` payloads of every kind, with who reads them."""
    made = []
    for _ in range(each):
        for worker in Worker:
            readers = (partial(decode_state, worker=worker), partial(decode_debug_reply, what=DebugWhat.STATE))
            made.append(Honest(f"State of {worker}", messages.encode(state(worker, rng)), readers))
        for kind in KINDS:
            if kind is not State:
                found: list[Decoder] = [partial(decode, expected=kind)]
                found += [
                    partial(decode_debug_reply, what=what) for what, reply in DEBUG_REPLIES.items() if reply is kind
                ]
                made.append(Honest(kind.__name__, messages.encode(value(kind, rng)), tuple(found)))
    return made


# --- the same for hypothesis ---

INTS: Final = st.integers(-(2**63), 2**64 - 1)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: Final[dict[Any, st.SearchStrategy[Any]]] = {bool: st.booleans(), int: INTS, str: TEXTS, float: FLOATS}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Every value of that type, the smallest first."""
    if kind in PLAIN:
        return PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(list(kind))
    if kind is State:
        return st.sampled_from(list(Worker)).flatmap(_states)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return st.builds(kind, **{name: values(hint) for name, hint in hints(kind).items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if each is types.NoneType else values(each) for each in arguments])
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    assert origin is dict, f"no rule for {kind}"
    return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)


def _states(worker: Worker) -> st.SearchStrategy[State]:
    more = {name: values(hint) for name, hint in hints(State).items() if name not in ("worker", "body")}
    return st.builds(State, worker=st.just(worker), body=values(BODIES[worker]), **more)
