"""Sets of fields and what server-side apply does with them; tests/contract holds the rest against a real server."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.api import fieldsets
from devkit.api.builtin import LEASES
from devkit.api.errors import Cause
from devkit.api.rules import Rules
from devkit.api.shapes import Shape, shape_of

Json = dict[str, Any]

NAMES = st.sampled_from(["spec", "status", "a", "b"])
SCALARS = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=6
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=3)
ITEMS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from("ABCD")}, optional={"status": st.sampled_from("TF")}),
    max_size=4,
    unique_by=lambda item: str(item["type"]),
)
CONDITIONS = ITEMS.map(lambda items: {"conditions": items})
ANY = shape_of(None)
KEYED = Shape(
    "map",
    fields={
        "conditions": Shape(
            "keyed",
            keys=("type",),
            element=Shape("map", fields={"type": Shape("scalar", "string"), "status": Shape("scalar", "string")}),
        )
    },
)
SHAPED = st.tuples(st.just(ANY), OBJECTS, OBJECTS) | st.tuples(st.just(KEYED), CONDITIONS, CONDITIONS)


@given(OBJECTS)
def test_a_set_of_fields_comes_back_as_it_was_written(body: Json) -> None:
    fields = fieldsets.fields_of(ANY, body)
    assert fieldsets.decode(fieldsets.encode(fields)) == fields


@pytest.mark.parametrize("wrong", [5, [], {"f:a": 5}, {"a": {}}, {"x:a": {}}])
def test_what_is_no_set_of_fields_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="no fieldsV1"):
        fieldsets.decode(wrong)


@given(SHAPED)
def test_nothing_differs_from_itself_and_all_of_a_new_object_is_added(given_: tuple[Shape, Json, Json]) -> None:
    shape, body, _ = given_
    same = fieldsets.compare(shape, body, copy.deepcopy(body))
    assert same == fieldsets.Comparison()
    new = fieldsets.compare(shape, {}, body)
    assert new.added >= fieldsets.fields_of(shape, body)
    assert new == fieldsets.Comparison(added=new.added)


@given(SHAPED)
def test_a_comparison_turned_round_adds_what_was_removed(given_: tuple[Shape, Json, Json]) -> None:
    shape, one, other = given_
    there, back = fieldsets.compare(shape, one, other), fieldsets.compare(shape, other, one)
    assert there == fieldsets.Comparison(back.removed, back.modified, back.added)


@given(SHAPED)
def test_a_merge_holds_all_that_is_merged_in_once_and_changes_no_argument(given_: tuple[Shape, Json, Json]) -> None:
    shape, old, new = given_
    before = copy.deepcopy((old, new))
    merged = fieldsets.merge(shape, old, new)
    assert fieldsets.merge(shape, merged, new) == merged
    differing = fieldsets.compare(shape, merged, new)
    assert not differing.added
    assert (old, new) == before


@given(SHAPED)
def test_what_is_removed_is_gone_and_no_argument_is_changed(given_: tuple[Shape, Json, Json]) -> None:
    shape, body, part = given_
    before = copy.deepcopy(body)
    fields = fieldsets.fields_of(shape, part)
    left = fieldsets.remove(shape, body, fields)
    assert not fieldsets.fields_of(shape, left or {}) & {path for path in fields if len(path) == 1}
    assert body == before


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ("AB", "C", "ABC"),
        ("AB", "BA", "BA"),
        ("ABC", "CA", "BCA"),
        ("ABD", "CB", "ACBD"),
        ("", "AB", "AB"),
        ("AB", "", "AB"),
    ],
)
def test_a_list_with_keys_is_merged_in_the_order_of_what_is_applied(old: str, new: str, merged: str) -> None:
    def items(kinds: str) -> Json:
        return {"conditions": [{"type": kind} for kind in kinds]}

    assert fieldsets.merge(KEYED, items(old), items(new)) == items(merged)


def test_a_lease_has_a_form_without_other_fields() -> None:
    shape = shape_of(LEASES.schema)
    fieldsets.check(shape, {"metadata": {"labels": {"a": "b"}}, "spec": {"holderIdentity": None}})
    with pytest.raises(fieldsets.ShapeError, match=re.escape("errors:\n  .spec.a: field not declared")):
        fieldsets.check(shape, {"spec": {"a": 1}, "b": 2})


def test_a_rule_is_not_asked_about_a_value_that_did_not_change() -> None:
    rules = Rules({"type": "object", "properties": {"a": {"type": "integer", "x-kubernetes-validations": [BELOW]}}})
    (cause,) = rules.check({"a": 9}, {"a": 8}, [])
    assert cause == Cause("FieldValueInvalid", "a", "Invalid value: 9: failed rule: self < 5")
    assert rules.check({"a": 9}, {"a": 9}, []) == []
    assert rules.check({}, None, []) == []
    assert len(rules.check({"a": 9}, None, [])) == 1


def test_a_schema_without_rules_asks_nothing() -> None:
    required = Cause("FieldValueRequired", "a", "Required value")
    assert Rules({"type": "object"}).check({}, None, [required]) == []
    (cause,) = Rules({"type": "object", "x-kubernetes-validations": [BELOW]}).check({}, None, [required])
    assert cause.field == "<nil>"


BELOW: Json = {"rule": "self < 5"}
