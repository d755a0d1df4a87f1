"""x-kubernetes-validations: a schema's rules in CEL, looked at once everything else about an object is right.

Rules of unchanged parts are passed over, so that what was stored before a rule came keeps working; rules that speak of
oldSelf are passed over where there is no old value.  `messageExpression` and `optionalOldSelf` are not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from devkit.api.errors import Cause

Json = dict[str, Any]

_RULES: Final = "x-kubernetes-validations"
_NO_KEY: Final = re.compile(r'NOT_FOUND: Key not found in map : "(.*)"')
"""What the C++ implementation says; the real server has the one in Go."""
_OLD_SELF: Final = re.compile(r"\boldSelf\b")
_BLOCKING: Final = frozenset(
    f"FieldValue{kind}" for kind in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")
)
_UNCHECKED: Final = (
    "some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation"
)
_PREFIXES: Final = {"FieldValueForbidden": "Forbidden", "FieldValueRequired": "Required value"}
_NONE: Final = object()
"""Stands for an old value that is not there."""


class Rules:
    """The rules of one schema, each compiled when it is first needed."""

    def __init__(self, schema: Json) -> None:
        self._schema: Final = schema
        self._environment: Any = None
        self._programs: dict[str, Any] = {}
        self._ruled: Final[set[int]] = set()
        """The parts of the schema that have rules in them, by identity."""
        _find_ruled(schema, self._ruled)

    def check(self, body: Json, old: Json | None, found: list[Cause]) -> list[Cause]:
        """What the rules find, or that they were not asked because of what was found before."""
        if not self._ruled:
            return []
        if any(cause.reason in _BLOCKING for cause in found):
            return [Cause("FieldValueInvalid", "<nil>", f"Invalid value: null: {_UNCHECKED}")]
        return list(self._check(self._schema, body, _NONE if old is None else old, ""))

    def _check(self, schema: Json, value: Any, old: Any, path: str) -> Iterator[Cause]:
        if value is None or value == old or id(schema) not in self._ruled:
            return
        for rule in schema.get(_RULES, ()):
            if old is not _NONE or not _OLD_SELF.search(rule["rule"]):
                yield from self._ask(rule, schema, value, old, path)
        if isinstance(value, dict):
            additional = schema.get("additionalProperties")
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                inner = schema.get("properties", {}).get(name, additional)
                if isinstance(inner, dict):
                    yield from self._check(inner, item, before.get(name, _NONE), f"{path}.{name}" if path else name)
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            known = _by_keys(schema, old)
            for index, item in enumerate(value):
                yield from self._check(
                    schema["items"], item, known.get(_identity(schema, item), _NONE), f"{path}[{index}]"
                )

    def _ask(self, rule: Json, schema: Json, value: Any, old: Any, path: str) -> Iterator[Cause]:
        message = rule.get("message", "").strip()
        answer = self._program(rule["rule"]).eval(data={"self": _seen(value), "oldSelf": _seen(old)}).plain_value()
        if answer is True:
            return
        field = path + rule.get("fieldPath", "")
        reason = rule.get("reason", "FieldValueInvalid")
        if answer is not False:
            answer = _NO_KEY.sub(r"no such key: \1", str(answer))
            said = f'Invalid value: "{schema["type"]}": {answer} evaluating rule: {message or rule["rule"].strip()}'
            yield Cause("FieldValueInvalid", path, said)
            return
        said = message or f"failed rule: {rule['rule'].strip()}"
        if reason in _PREFIXES:
            yield Cause(reason, field, f"{_PREFIXES[reason]}: {said}")
        elif schema["type"] in {"object", "array"}:
            yield Cause(reason, field, f"Invalid value: {said}")
        else:
            yield Cause(reason, field, f"Invalid value: {json.dumps(value, ensure_ascii=False)}: {said}")

    def _program(self, rule: str) -> Any:
        program = self._programs.get(rule)
        if program is None:
            # Imported by the first write that needs it: a server that sees no such object starts without.
            from cel_expr_python import cel

            if self._environment is None:
                self._environment = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
            program = self._programs[rule] = self._environment.compile(rule)
        return program


def _find_ruled(schema: Json, found: set[int]) -> bool:
    inner = [*schema.get("properties", {}).values(), schema.get("additionalProperties"), schema.get("items")]
    below = [_find_ruled(one, found) for one in inner if isinstance(one, dict)]
    if schema.get(_RULES) or any(below):
        found.add(id(schema))
        return True
    return False


def _seen(value: Any) -> Any:
    """The value as a rule sees it: null is as if absent."""
    if value is _NONE:
        return None
    if isinstance(value, dict):
        return {name: _seen(item) for name, item in value.items() if item is not None}
    return [_seen(item) for item in value] if isinstance(value, list) else value


def _by_keys(schema: Json, old: Any) -> dict[str, Any]:
    """The items of a list with keys; other lists have no items that can be told from one another."""
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map":
        return {}
    return {_identity(schema, item): item for item in old}


def _identity(schema: Json, item: Any) -> str:
    keys = schema.get("x-kubernetes-list-map-keys", ())
    return json.dumps([item.get(key) for key in keys]) if isinstance(item, dict) else ""
