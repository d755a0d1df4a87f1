"""What every object's metadata may hold, whatever its kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from devkit.api.errors import Cause

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}
_STRINGS: Final[Json] = {"type": "object", "additionalProperties": _STRING}
_INT64: Final[Json] = {"type": "integer", "format": "int64"}
_OBJECTS: Final[Json] = {
    "type": "array",
    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}

META_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "name": _STRING,
        "generateName": _STRING,
        "namespace": _STRING,
        "selfLink": _STRING,
        "uid": _STRING,
        "resourceVersion": _STRING,
        "generation": _INT64,
        "creationTimestamp": _STRING,
        "deletionTimestamp": _STRING,
        "deletionGracePeriodSeconds": _INT64,
        "labels": _STRINGS,
        "annotations": _STRINGS,
        "ownerReferences": _OBJECTS,
        "finalizers": {"type": "array", "items": _STRING},
        "managedFields": _OBJECTS,
    },
}

_NAME_MAX: Final = 253
_LABEL_MAX: Final = 63
_SUBDOMAIN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"

_NAME_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    f" end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_KEY_RULE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    f" character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    f" '{_LABEL_VALUE}')"
)


def validate_meta(meta: Json) -> Iterator[Cause]:
    """The form of name, labels and annotations."""
    name = meta["name"]
    if not re.fullmatch(_SUBDOMAIN, name) or len(name) > _NAME_MAX:
        yield Cause("FieldValueInvalid", "metadata.name", f'Invalid value: "{name}": {_NAME_RULE}')
    for key, value in meta.get("labels", {}).items():
        yield from _validate_key("metadata.labels", key)
        if not re.fullmatch(_LABEL_VALUE, value) or len(value) > _LABEL_MAX:
            yield Cause("FieldValueInvalid", "metadata.labels", f'Invalid value: "{value}": {_VALUE_RULE}')
    for key in meta.get("annotations", {}):
        yield from _validate_key("metadata.annotations", key)


def _validate_key(where: str, key: str) -> Iterator[Cause]:
    yield from validate_qualified_name(where, key)


def validate_qualified_name(where: str, key: str) -> Iterator[Cause]:
    """The form of a label's key, and of what names a component."""
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        yield Cause("FieldValueInvalid", where, f'Invalid value: "{key}": prefix part {_NAME_RULE}')
    if not name:
        yield Cause("FieldValueInvalid", where, f'Invalid value: "{key}": name part must be non-empty')
    if not re.fullmatch(_QUALIFIED, name) or len(name) > _LABEL_MAX:
        yield Cause("FieldValueInvalid", where, f'Invalid value: "{key}": {_KEY_RULE}')
