"""The messages of docs/ipc.md, from ipc/messages.py itself: fields, types, and what is written beside them there."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import textwrap
import types
import typing
from typing import Any, Final, Union

from ipc import messages
from ipc.messages import BODIES, DEBUG_REPLIES, Cost, DebugRefusal, DebugRequest, DebugWhat, Sandbox, State

COMMANDS: Final = (messages.StandDown, messages.StandDownReply)


def questions() -> str:
    """What can be asked, with the answer's kind."""
    notes = _notes(DebugWhat)
    lines = ["| `what` | answer | |", "|---|---|---|"]
    lines += [f"| `{what}` | `{DEBUG_REPLIES[what].__name__}` | {notes.get(what.name, '')} |" for what in DebugWhat]
    return "\n".join(lines)


def states() -> str:
    """What crosses a state socket."""
    return _sections(_with_parts([State, Sandbox, Cost, *BODIES.values()]))


def commands() -> str:
    """What crosses the command socket."""
    return _sections(_with_parts(COMMANDS))


def debugging() -> str:
    """What crosses a debug socket, but for what states are made of."""
    told = _with_parts([State, *BODIES.values()])
    kinds = _with_parts([DebugRequest, DebugRefusal, *DEBUG_REPLIES.values()])
    return _sections([kind for kind in kinds if kind not in told])


def words() -> str:
    """Every closed list of words."""
    sections = []
    for kind in vars(messages).values():
        if isinstance(kind, type) and issubclass(kind, enum.StrEnum) and kind.__module__ == messages.__name__:
            notes = _notes(kind)
            rows = [f"| `{member.value}` | {notes.get(member.name, '')} |" for member in kind]
            sections.append("\n".join([f"### {kind.__name__}", "", *_about(kind), "| word | |", "|---|---|", *rows]))
    return "\n\n".join(sections)


def every_message() -> set[type]:
    """All that ipc/messages.py declares, whether any socket carries it or not."""
    found = (kind for kind in vars(messages).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind))
    return {kind for kind in found if kind.__module__ == messages.__name__}


def _with_parts(kinds: typing.Iterable[type]) -> list[type]:
    """These and the messages that their fields hold, each once, the holder before what it holds."""
    found: list[type] = []
    for kind in kinds:
        for each in (kind, *_with_parts(_parts(kind))):
            if each not in found:
                found.append(each)
    return found


def _parts(kind: type) -> list[type]:
    hints = typing.get_type_hints(kind)
    return [leaf for f in dataclasses.fields(kind) for leaf in _leaves(hints[f.name]) if dataclasses.is_dataclass(leaf)]


def _leaves(hint: Any) -> list[type]:
    inner = typing.get_args(hint)
    return [leaf for each in inner for leaf in _leaves(each)] if inner else [hint]


def _sections(kinds: typing.Iterable[type]) -> str:
    return "\n\n".join(_section(kind) for kind in kinds)


def _section(kind: type) -> str:
    hints, notes = typing.get_type_hints(kind), _notes(kind)
    rows = [f"| `{f.name}` | {_type(hints[f.name])} | {notes.get(f.name, '')} |" for f in dataclasses.fields(kind)]
    return "\n".join([f"### {kind.__name__}", "", *_about(kind), "| field | type | |", "|---|---|---|", *rows])


def _about(kind: type) -> list[str]:
    """The docstring, if somebody wrote one (dataclass and enum make their own)."""
    node = _syntax(kind)
    text = ast.get_docstring(node)
    return [_markdown(text), ""] if text else []


def _type(hint: Any) -> str:
    if hint is types.NoneType:
        return "nil"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type, inner))
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"map of {_type(inner[0])} to {_type(inner[1])}"
    name = hint.__name__
    return f"[{name}](#{name.lower()})" if hint.__module__ == messages.__name__ else name


def _notes(kind: type) -> dict[str, str]:
    """What is written below each field or member."""
    found: dict[str, str] = {}
    name = ""
    for node in _syntax(kind).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=field)) | ast.Assign(targets=[ast.Name(id=field)]):
                name = field
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = _markdown(text)
    return found


@functools.cache
def _syntax(kind: type) -> ast.ClassDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    node = tree.body[0]
    assert isinstance(node, ast.ClassDef)
    return node


def _markdown(text: str) -> str:
    """On one line, with nothing that would end a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
