"""Label and field selectors of list and watch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from devkit.api.errors import bad_request
from devkit.api.kinds import ResourceType, dig

Json = dict[str, Any]
Selector = Callable[[Json], bool]

_SET: Final = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)")
_EQUAL: Final = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^=!\s]*)")
_TERM: Final = re.compile(r",(?![^(]*\))")


def selector(resource: ResourceType, labels: str, fields: str) -> Selector | None:
    """What both selectors let pass; None: everything.  Raises ApiError (400) for what is not understood."""
    tests = [_label_term(term.strip()) for term in _TERM.split(labels) if term.strip()]
    tests += [_field_term(resource, term.strip()) for term in fields.split(",") if term.strip()]
    if not tests:
        return None
    return lambda body: all(test(body) for test in tests)


def _label_term(term: str) -> Selector:
    if matched := _SET.fullmatch(term):
        key, within = matched["key"], matched["how"] == "in"
        values = {value.strip() for value in matched["values"].split(",")}
        return lambda body: (_label(body, key) in values) is within
    if matched := _EQUAL.fullmatch(term):
        key, value, equal = matched["key"], matched["value"], matched["how"] != "!="
        return lambda body: (_label(body, key) == value) is equal
    if term.startswith("!"):
        return lambda body: _label(body, term[1:].strip()) is None
    if re.fullmatch(r"[\w./-]+", term):
        return lambda body: _label(body, term) is not None
    raise bad_request(f"unable to parse requirement: {term}")


def _label(body: Json, key: str) -> Any:
    return dig(body, ("metadata", "labels", key))


def _field_term(resource: ResourceType, term: str) -> Selector:
    matched = _EQUAL.fullmatch(term)
    if matched is None:
        raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
    key, value, equal = matched["key"], matched["value"], matched["how"] != "!="
    known = {"metadata.name", *resource.field_labels} | ({"metadata.namespace"} if resource.namespaced else set())
    if key not in known:
        raise bad_request(f"field label not supported: {key}")
    read = resource.label_values.get(key)
    if read is not None:
        return lambda body: (read(body) == value) is equal
    path = tuple(key.split("."))
    return lambda body: (str(dig(body, path) or "") == value) is equal
