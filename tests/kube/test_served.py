"""The fields that a server must know are those of the shipped definitions; what an older one lacks is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kube import served
from kube.served import CLUSTER, LEADER, Kind

CRDS = Path(__file__).parents[2] / "deploy" / "crds"
GVK = {"group": "cardano.io", "version": "v1", "kind": "CardanoLeader"}


def things(inner: Any) -> Any:
    names = st.sampled_from(["properties", "spec", "status", "resources", "name", "kind", "components", "schemas"])
    return st.dictionaries(names | st.text(max_size=3), inner, max_size=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | things(inner)
)


def schema(wanted: Kind) -> dict[str, Any]:
    definition = yaml.safe_load((CRDS / f"{wanted.plural}.yaml").read_text())
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def leaves(part: dict[str, Any], at: str) -> Iterator[str]:
    inner = part.get("properties")
    for name, below in (inner or {}).items():
        yield from leaves(below, f"{at}.{name}")
    if inner is None:
        yield at


@pytest.mark.parametrize("wanted", [LEADER, CLUSTER], ids=lambda kind: kind.kind)
def test_the_fields_are_those_of_the_shipped_definition(wanted: Kind) -> None:
    properties = schema(wanted)["properties"]
    shipped = [field for part in ("spec", "status") for field in leaves(properties[part], part)]
    assert sorted(wanted.fields) == sorted(shipped)
    assert set(wanted.needed) <= set(wanted.fields)
    assert served.dropped(wanted, schema(wanted)) == ()


@pytest.mark.parametrize("wanted", [LEADER, CLUSTER], ids=lambda kind: kind.kind)
def test_each_field_that_a_definition_lacks_is_named(wanted: Kind) -> None:
    for field in wanted.fields:
        older = schema(wanted)
        *way, last = field.split(".")
        part = older
        for step in way:
            part = part["properties"][step]
        del part["properties"][last]
        if part["properties"]:
            assert served.dropped(wanted, older) == (field,)


def test_what_keeps_unknown_fields_drops_none() -> None:
    assert served.dropped(CLUSTER, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}) == ()


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([], "not installed"),
        ([{"name": "cardanoleaders", "kind": "Other", "namespaced": True}], "of kind Other"),
        ([{"name": "cardanoleaders", "kind": "CardanoLeader", "namespaced": False}], "not namespaced"),
        ([{"name": "cardanoleaders", "kind": "CardanoLeader", "namespaced": True}], "no status subresource"),
    ],
)
def test_a_resource_that_cannot_be_written_to_is_named(listed: list[Any], why: str) -> None:
    assert why in served.resource({"resources": listed}, "cardanoleaders", "CardanoLeader")


@given(things(JSON))
def test_no_answer_of_a_server_is_too_odd(answer: dict[str, Any]) -> None:
    assert served.resource(answer, "cardanoleaders", "CardanoLeader")
    assert served.schema_of(answer, **GVK) is None
    assert set(served.dropped(LEADER, answer)) <= set(LEADER.fields)
