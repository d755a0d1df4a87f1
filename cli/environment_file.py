"""A file of settings as systemd reads it (EnvironmentFile=), for forgectl on a host without Kubernetes.

A shell reads such a file otherwise: it takes `&`, `$` and spaces in a value for its own, and runs what it finds.  So
whoever looks at a sidecar through a shell's reading may be shown settings that it does not have.

Source of the rules: systemd.exec(5), "EnvironmentFile="; where it is silent, systemd 252 itself (tests/systemd).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final

from config.variables import variables

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WHITESPACE: Final = " \t\n\r"
_NEWLINE: Final = "\n\r"
_ESCAPED_IN_QUOTES: Final = '"\\`$'


def parse(text: str) -> dict[str, str]:
    """Names and values; of a name that stands there twice the last.  What is no assignment is passed over."""
    found = {}
    rest = iter(text)
    for char in rest:
        if char in "#;":
            _skip_comment(rest)
        elif char not in _WHITESPACE:
            name, ended = _name(char, rest)
            if ended == "=":
                value = _value(rest)
                if _NAME.fullmatch(name):
                    found[name] = value
    return found


def _skip_comment(rest: Iterator[str]) -> None:
    for char in rest:
        if char == "\\":
            next(rest, "")  # a comment goes on behind a backslash, too
        elif char in _NEWLINE:
            return


def _name(first: str, rest: Iterator[str]) -> tuple[str, str]:
    """And what ended it: "=", or a newline."""
    name = first
    if first == "=":
        return "", "="
    for char in rest:
        if char == "=" or char in _NEWLINE:
            return name.rstrip(_WHITESPACE), char
        name += char
    return name, ""


def _value(rest: Iterator[str]) -> str:
    """Up to the end of its line; quoted parts and escaped characters as they are, the rest without space around it."""
    value, kept, quote = "", 0, ""
    begun = False
    for char in rest:
        if quote:
            if char == quote:
                quote, begun = "", False
            elif char == "\\" and quote == '"':
                following = next(rest, "")
                if following in _ESCAPED_IN_QUOTES:
                    value += following
                elif following != "\n":
                    value += "\\" + following
            else:
                value += char
            kept = len(value)
        elif char in _NEWLINE:
            break
        elif char == "\\":
            following = next(rest, "")
            begun = True
            if following not in _NEWLINE:
                value += following
            kept = len(value)
        elif not begun and char in "'\"":
            quote = char
        elif not begun and char in _WHITESPACE:
            continue
        else:
            begun = True
            value += char
            kept = kept if char in _WHITESPACE else len(value)
    return value[:kept]


def use(file: Path, environment: MutableMapping[str, str]) -> None:
    """Settings of ours come from this file alone; what else it names is added.  Raises OSError, UnicodeDecodeError."""
    named = parse(file.read_bytes().decode("utf-8"))  # with its line ends
    for variable in variables():
        environment.pop(variable.name, None)
    environment.update(named)
