"""The small pure parts of the embedded API."""

from __future__ import annotations

import contextlib
import copy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.api import microtime, protobuf, schema
from devkit.api.crd import DEFAULT_FOLDER, load_manifests, resources_of
from devkit.api.errors import ApiError
from devkit.api.negotiate import Wanted, negotiate
from devkit.api.patches import PatchError, apply_json_patch, merge
from devkit.api.table import human_duration

Json = dict[str, Any]

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


# --- merge patch: the examples of RFC 7386, appendix A ---


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_applied_twice_is_applied_once_and_changes_no_argument(target: Json, patch: Json) -> None:
    before = copy.deepcopy((target, patch))
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert (target, patch) == before


@given(OBJECTS)
def test_an_empty_merge_patch_changes_nothing(target: Json) -> None:
    assert merge(target, {}) == target


# --- JSON patch ---


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/c", "value": 1}], {"a": {"b": [1, 2]}, "c": 1}),
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {"a": {"b": [1, 2, 9]}}),
        ([{"op": "replace", "path": "/a/b/0", "value": 9}], {"a": {"b": [9, 2]}}),
        ([{"op": "replace", "path": "/a/b", "value": 9}], {"a": {"b": 9}}),
        ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2]}}),
        ([{"op": "remove", "path": "/a"}], {}),
        ([{"op": "copy", "from": "/a/b", "path": "/c"}], {"a": {"b": [1, 2]}, "c": [1, 2]}),
        ([{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": {"b": [1, 2]}, "x/y~z": 1}),
        ([{"op": "test", "path": "/a/b/0", "value": 1}], {"a": {"b": [1, 2]}}),
    ],
)
def test_a_json_patch_does_what_its_rfc_says(operations: list[Json], result: Json) -> None:
    target = {"a": {"b": [1, 2]}}
    assert apply_json_patch(target, operations) == result
    assert target == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        ["add"],
        [{"op": "nonsense", "path": "/a"}],
        [{"op": "add", "path": "/c"}],
        [{"op": "add", "path": "c", "value": 1}],
        [{"op": "add", "path": "/x/y", "value": 1}],
        [{"op": "add", "path": "/a/b/3", "value": 1}],
        [{"op": "replace", "path": "/c", "value": 1}],
        [{"op": "remove", "path": "/a/b/2"}],
        [{"op": "remove", "path": "/a/b/-1"}],
        [{"op": "remove", "path": ""}],
        [{"op": "test", "path": "/a/b/0", "value": 2}],
        [{"op": "replace", "path": "", "value": 1}],
    ],
)
def test_a_json_patch_that_cannot_be_applied_is_an_error(operations: Any) -> None:
    with pytest.raises(PatchError):
        apply_json_patch({"a": {"b": [1, 2]}}, operations)


@given(OBJECTS, st.lists(st.dictionaries(st.sampled_from(["op", "path", "from", "value"]), VALUES | st.just("/a"))))
def test_any_json_patch_gives_an_object_or_a_patch_error(target: Json, operations: list[Json]) -> None:
    with contextlib.suppress(PatchError):
        assert isinstance(apply_json_patch(target, operations), dict)


# --- times ---


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_a_micro_time_is_the_same_moment_in_utc(moment: datetime, minutes_east: int) -> None:
    given_time = moment.replace(tzinfo=timezone(timedelta(minutes=minutes_east)))
    back = microtime.canonical(given_time.isoformat(timespec="microseconds"))
    assert back.endswith("Z")
    assert datetime.fromisoformat(back) == given_time
    assert microtime.canonical(back) == back


@given(st.text(max_size=40) | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}[Zz+-]?\Z"))
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        found = microtime.canonical(text)
    except ValueError:
        return
    assert datetime.fromisoformat(found).tzinfo == UTC


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2026-01-01T04:00:00+00:00", True),
        ("2026-01-01T04:00:00Z", True),
        ("2026-01-01t04:00:00.5z", True),
        ("2026-02-30T04:00:00Z", False),
        ("2026-01-01T25:00:00Z", False),
        ("2026-01-01T04:00:00", False),
        ("2026-01-01", False),
        ("", False),
    ],
)
def test_a_date_time_is_rfc_3339(text: str, right: bool) -> None:
    assert schema.is_date_time(text) is right


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (601, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (2 * 86400, "2d"),
        (2 * 86400 + 3600, "2d1h"),
        (9 * 86400 + 3600, "9d"),
        (3 * 365 * 86400 + 86400, "3y1d"),
    ],
)
def test_a_duration_is_shown_as_kubectl_shows_it(seconds: int, shown: str) -> None:
    assert human_duration(seconds) == shown


# --- schemas ---

RESOURCES = [resource for document in load_manifests(DEFAULT_FOLDER) for resource in resources_of(document)]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
@given(body=st.dictionaries(st.sampled_from(["spec", "status", "kind"]), OBJECTS))
def test_pruning_and_defaulting_are_done_when_done_once(resource: Any, body: Json) -> None:
    schema.prune(resource.schema, body)
    schema.apply_defaults(resource.schema, body)
    once = copy.deepcopy(body)
    assert schema.prune(resource.schema, body) == []
    schema.apply_defaults(resource.schema, body)
    assert body == once
    list(schema.validate(resource.schema, body))


def test_every_default_satisfies_its_own_schema() -> None:
    def check(found: Json) -> None:
        if "default" in found:
            assert list(schema.validate(found, found["default"])) == []
        for inner in [*found.get("properties", {}).values(), *([found["items"]] if "items" in found else [])]:
            check(inner)

    for resource in RESOURCES:
        assert resource.schema is not None
        check(resource.schema)


def test_every_printer_column_names_a_field_of_the_schema() -> None:
    for resource in RESOURCES:
        for column in resource.columns:
            found = resource.schema
            for step in column.path if column.path[0] != "metadata" else ():
                assert found is not None
                found = found["properties"][step]
            if column.path[0] != "metadata" and column.type != "date":
                assert found is not None
                assert found["type"] == column.type


def test_a_list_with_keys_takes_each_key_once() -> None:
    keyed = {"type": "array", "x-kubernetes-list-map-keys": ["type"], "items": {"type": "object"}}
    (cause,) = schema.validate(keyed, [{"type": "A"}, {"type": "B"}, {"type": "A"}], "conditions")
    assert (cause.reason, cause.field) == ("FieldValueDuplicate", "conditions[2]")


# --- protobuf and formats ---


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: b"k8s\x00" + data))
def test_any_bytes_are_a_message_or_a_protobuf_error(data: bytes) -> None:
    with contextlib.suppress(protobuf.ProtobufError):
        assert isinstance(protobuf.decode(data), dict)


@given(st.binary(max_size=60))
def test_any_bytes_in_a_lease_envelope_are_a_message_or_a_protobuf_error(raw: bytes) -> None:
    kind = b"\x0a\x0bcoordinatio\x12\x05Lease"
    try:
        decoded = protobuf.decode(b"k8s\x00" + b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(raw)]) + raw)
    except protobuf.ProtobufError:
        return
    assert decoded["kind"] == "Lease"


def test_the_first_format_that_can_be_given_is_given() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert negotiate("") == negotiate("*/*") == negotiate("application/json") == Wanted()
    assert negotiate(f"{table},application/json") == Wanted(as_table=True)
    assert negotiate(f"application/vnd.kubernetes.protobuf,{table}") == Wanted(as_table=True)
    assert negotiate("application/json;as=Table;v=v9;g=meta.k8s.io,application/json") == Wanted()
    with pytest.raises(ApiError) as refused:
        negotiate("text/html")
    assert refused.value.code == 406
