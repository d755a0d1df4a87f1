"""CardanoForgeClusters: read without guessing, written as they are read, and kept on a server by merge patches."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.api import EmbeddedApi
from kube.errors import ApiFailure, Failure
from kube.forge_clusters import (
    CARRIER,
    MANAGER,
    MARK,
    MOST_HEADERS,
    POOL_LABEL,
    ForgeClusterClient,
    Unreadable,
    canonical,
    difference,
    duration,
    owned_by_others,
    parse_cluster,
    parse_spec,
    rfc3339,
    spec_of,
    without,
)
from kube.session import ApiSession
from policy.arbitration import ClusterSpec, ForgeState, HealthSpec, Override
from policy.health import parse_duration

Json = dict[str, Any]
TIMEOUT_S = 30.0
CRD_DURATION = re.compile(r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")

amounts = st.integers(0, 10**7).map(str) | st.integers(0, 10**7).map(lambda n: f"{n // 1000}.{n % 1000:03}")
durations = st.lists(st.tuples(amounts, st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=2).map(
    lambda parts: "".join(f"{number}{unit}" for number, unit in parts)
)
seconds = durations.filter(lambda text: len(text) <= 32).map(parse_duration)
"""As they come of reading."""
written_seconds = seconds.map(lambda s: parse_duration(duration(s)))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
instants = st.integers(-62_135_596_800, 253_402_300_799).map(float) | st.floats(0, 4e9).map(lambda s: round(s, 6))
specs = st.builds(
    ClusterSpec,
    state=st.sampled_from(ForgeState),
    priority=st.integers(1, 999),
    health=st.builds(
        HealthSpec,
        enabled=st.booleans(),
        endpoint=texts,
        interval_s=written_seconds,
        timeout_s=written_seconds,
        threshold=st.integers(1, 100),
        headers=st.dictionaries(texts, texts, max_size=3).map(lambda headers: tuple(sorted(headers.items()))),
    ),
    override=st.builds(
        Override,
        enabled=st.booleans(),
        reason=texts,
        expires_at=st.none() | instants,
        force_priority=st.none() | st.integers(1, 999),
        force_state=st.sampled_from([None, ForgeState.ENABLED, ForgeState.DISABLED]),
    ),
)
values = st.recursive(
    st.booleans() | st.integers(2, 9) | st.text(max_size=3) | st.lists(st.integers(2, 5), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


# --- reading and writing ---


@given(specs)
def test_a_spec_is_read_as_it_was_written(spec: ClusterSpec) -> None:
    assert parse_spec(json.loads(json.dumps(spec_of(spec)))) == spec


@given(seconds)
def test_a_duration_is_written_as_the_crd_has_it_and_read_alike_to_the_millisecond(length: float) -> None:
    text = duration(length)
    assert CRD_DURATION.match(text)
    assert parse_duration(text) == pytest.approx(length, abs=0.0006)


@given(seconds)
def test_a_duration_that_is_carried_on_and_on_stays_what_it_is(length: float) -> None:
    once = parse_duration(duration(length))
    assert parse_duration(duration(once)) == once


@pytest.mark.parametrize(
    ("given_text", "said"),
    [("30s", "30s"), ("570ms", "570ms"), ("1m30s", "90s"), ("1.5h", "5400s"), ("0s", "0s"), ("400h", "1440000s")],
)
def test_durations_are_said_in_seconds_or_milliseconds(given_text: str, said: str) -> None:
    assert duration(parse_duration(given_text)) == said


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [(0.0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.500000Z"), (1.8e9, "2027-01-15T08:00:00Z")],
)
def test_instants_are_written_in_utc_with_fractions_only_where_there_are_any(wall_s: float, text: str) -> None:
    assert rfc3339(wall_s) == text


def test_an_empty_spec_is_what_the_defaults_are() -> None:
    assert parse_spec({}) == ClusterSpec()
    assert parse_spec({"healthCheck": None, "override": None, "priority": None}) == ClusterSpec()


def test_an_instant_of_any_zone_is_the_same_instant() -> None:
    for text in ("2026-01-31T18:00:00Z", "2026-01-31T20:00:00+02:00", "2026-01-31T18:00:00.000Z"):
        assert parse_spec({"override": {"expiresAt": text}}).override.expires_at == 1_769_882_400.0


MALFORMED: list[tuple[Json, str]] = [
    ({"forgeState": value}, "spec.forgeState") for value in ("enabled", "", 1, True, [], {})
]
MALFORMED += [({"priority": value}, "spec.priority") for value in (0, 1000, -1, 1.5, "5", True, [])]
MALFORMED += [({"healthCheck": value}, "spec.healthCheck") for value in ("x", 1, [], False)]
MALFORMED += [({"override": value}, "spec.override") for value in ("x", 1, [], True)]
MALFORMED += [
    ({part: {name: value}}, f"spec.{part}.{name}")
    for part, name, wrong in [
        ("healthCheck", "enabled", ("true", 1, [])),
        ("healthCheck", "endpoint", (1, [], {})),
        ("healthCheck", "interval", ("", "5", "5d", "-1s", 5, "1" * 40 + "s")),
        ("healthCheck", "timeout", ("s", "1s ", 1.5, True)),
        ("healthCheck", "failureThreshold", (0, 101, "3", True)),
        ("healthCheck", "headers", ("x", [], {"a": 1}, {"a": None}, {"a": "x" * MOST_HEADERS})),
        ("override", "enabled", ("yes", 0, {})),
        ("override", "reason", (1, ["x"])),
        (
            "override",
            "expiresAt",
            ("", "tomorrow", "2026-01-31T18:00:00", 5, "0001-01-01T00:00:00+09:00", "9999-12-31T23:00:00-09:00"),
        ),
        ("override", "forcePriority", (0, 1000, "1", False)),
        ("override", "forceState", ("Priority-based", "", 1, [])),
    ]
    for value in wrong
]


@pytest.mark.parametrize(("spec", "field"), MALFORMED, ids=[f"{f}={str(s)[-24:]}" for s, f in MALFORMED])
def test_a_malformed_field_is_named_and_never_guessed(spec: Json, field: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_spec(spec)
    assert str(caught.value).startswith(f"{field} must")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "forgeState": anything,
            "priority": anything,
            "healthCheck": st.fixed_dictionaries(
                {}, optional=dict.fromkeys(("enabled", "interval", "timeout", "headers"), anything | durations)
            )
            | anything,
            "override": st.fixed_dictionaries(
                {}, optional={"expiresAt": anything | st.datetimes().map(lambda d: f"{d.isoformat()}-12:00")}
            )
            | anything,
        },
    )
)
def test_whatever_a_spec_says_it_is_read_or_refused_and_what_is_read_can_be_carried(raw: Json) -> None:
    try:
        spec = parse_spec(raw)
    except Unreadable:
        return
    carried = parse_spec(spec_of(spec))
    assert parse_spec(spec_of(carried)) == carried


# --- objects ---


def raw_cluster(**spec: Any) -> Json:
    return {
        "metadata": {
            "name": "east",
            "resourceVersion": "5",
            "uid": "u",
            "generation": 3,
            "labels": {POOL_LABEL: "p"},
            "annotations": {MARK: "1.ab"},
        },
        "spec": spec,
        "status": {"fencingToken": 4},
    }


def test_an_object_is_read_with_all_that_it_says() -> None:
    found = parse_cluster(raw_cluster(priority=7, region="eu", pool={"id": "pool1"}, network={"name": "preview"}))
    assert (found.name, found.version, found.uid, found.generation, found.mark) == ("east", "5", "u", 3, "1.ab")
    assert (found.region, found.pool_id, found.network, found.label) == ("eu", "pool1", "preview", "p")
    assert found.spec == ClusterSpec(priority=7)
    assert (found.unreadable, found.status) == ("", {"fencingToken": 4})


def test_an_object_with_a_malformed_spec_is_there_and_says_why() -> None:
    found = parse_cluster(raw_cluster(priority="high", region="eu"))
    assert (found.spec, found.region) == (None, "eu")
    assert "spec.priority" in found.unreadable


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "x"]), anything))
def test_what_is_no_object_is_refused_as_malformed(raw: Json) -> None:
    with pytest.raises(ApiFailure) as caught:
        parse_cluster(raw)
    assert caught.value.kind is Failure.MALFORMED


@given(st.dictionaries(st.sampled_from(["resourceVersion", "uid", "generation", "labels", "annotations"]), anything))
def test_odd_metadata_makes_no_odd_object(metadata: Json) -> None:
    found = parse_cluster({"metadata": metadata | {"name": "east"}, "spec": 5, "status": "x"})
    assert isinstance(found.version, str)
    assert type(found.generation) is int
    assert (found.spec, found.status) == (ClusterSpec(), {})


# --- merge patches ---


@given(objects, objects)
def test_a_difference_applied_to_the_old_gives_the_new(old: Json, new: Json) -> None:
    before = copy.deepcopy((old, new))
    assert canonical(merged(old, difference(old, new))) == canonical(new)
    assert (old, new) == before


@given(objects)
def test_there_is_no_difference_between_equals(value: Json) -> None:
    assert difference(value, copy.deepcopy(value)) == {}


def test_a_difference_names_only_what_differs() -> None:
    old = {"a": {"x": 1, "y": 2}, "b": [1], "c": 5}
    new = {"a": {"x": 1, "y": 3}, "b": [1], "d": 6}
    assert difference(old, new) == {"a": {"y": 3}, "c": None, "d": 6}


# --- fields and their managers ---


def managed(*entries: tuple[str, Json], **more: Any) -> Json:
    return {"metadata": {"managedFields": [{"manager": who, "fieldsV1": what, **more} for who, what in entries]}}


def test_fields_of_other_managers_are_found_and_our_own_and_the_status_are_not() -> None:
    fields = {"f:spec": {".": {}, "f:priority": {}, "f:pool": {"f:id": {}}}}
    assert owned_by_others(managed((MANAGER, fields))) == frozenset()
    assert owned_by_others(managed(("kubectl", fields), subresource="status")) == frozenset()
    assert owned_by_others(managed(("kubectl", fields))) == {("spec", "priority"), ("spec", "pool", "id")}


def test_fields_that_were_carried_here_are_not_the_environments() -> None:
    assert owned_by_others(managed((CARRIER, {"f:spec": {"f:priority": {}}}))) == {("spec", "priority")}


@given(anything)
def test_odd_managed_fields_say_nothing(odd: Any) -> None:
    assert isinstance(owned_by_others({"metadata": {"managedFields": odd}}), frozenset)
    assert isinstance(owned_by_others(managed(("kubectl", odd))), frozenset)


def test_what_others_own_is_left_out_with_what_becomes_empty_by_it() -> None:
    body = {"spec": {"priority": 5, "pool": {"id": "x"}, "healthCheck": {"enabled": True, "interval": "5s"}}}
    taken = frozenset({("spec", "pool", "id"), ("spec", "healthCheck", "interval")})
    assert without(body, taken) == {"spec": {"priority": 5, "healthCheck": {"enabled": True}}}


@given(objects, st.frozensets(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(tuple), max_size=4))
def test_nothing_at_a_path_of_others_is_left_and_all_else_is(body: Json, paths: frozenset[tuple[str, ...]]) -> None:
    def leaves(value: Json, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
        found: dict[tuple[str, ...], Any] = {}
        for name, inner in value.items():
            here = (*at, name)
            found |= leaves(inner, here) if isinstance(inner, dict) and inner else {here: inner}
        return found

    kept = {
        path: value
        for path, value in leaves(body).items()
        if not any(path[:length] in paths for length in range(1, len(path) + 1))
    }
    assert leaves(without(body, paths)) == kept


# --- on a server ---


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    async with EmbeddedApi(users=["pod-a"], tls=True) as server:
        server.write_kubeconfig(tmp_path / "pod-a", "pod-a")
        yield server


@pytest.fixture
async def clusters(api: EmbeddedApi, tmp_path: Path) -> AsyncIterator[ForgeClusterClient]:
    async with ApiSession(tmp_path / "pod-a", user_agent="test") as session:
        yield ForgeClusterClient(session, "default", "preview-pool1", group="cardano.io", version="v1")


def body(pool: str = "preview-pool1", **spec: Any) -> Json:
    needed = {
        "network": {"name": "preview", "magic": 2},
        "pool": {"id": "pool1abc"},
        "application": {"type": "block-producer"},
    }
    return {"metadata": {"labels": {POOL_LABEL: pool}}, "spec": needed | {"region": "eu"} | spec}


async def test_only_the_clusters_of_the_pool_are_listed(clusters: ForgeClusterClient) -> None:
    assert (await clusters.every(timeout_s=TIMEOUT_S))[0] == []
    await clusters.create("east", body(), timeout_s=TIMEOUT_S)
    await clusters.create("alien", body("another"), timeout_s=TIMEOUT_S)
    listed, version = await clusters.every(timeout_s=TIMEOUT_S)
    assert [each.name for each in listed] == ["east"]
    assert version
    assert (await clusters.get("alien", timeout_s=TIMEOUT_S)).name == "alien"


async def test_one_that_is_missing_is_not_found_and_one_that_is_there_is_not_made_twice(
    clusters: ForgeClusterClient,
) -> None:
    with pytest.raises(ApiFailure) as caught:
        await clusters.get("east", timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.NOT_FOUND
    await clusters.create("east", body(), timeout_s=TIMEOUT_S)
    with pytest.raises(ApiFailure) as caught:
        await clusters.create("east", body(), timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.ALREADY_EXISTS


async def test_a_patch_upon_an_old_version_is_refused(clusters: ForgeClusterClient) -> None:
    made = await clusters.create("east", body(priority=5), timeout_s=TIMEOUT_S)
    change = {"metadata": {"annotations": {MARK: "2.x"}}, "spec": {"priority": 6}}
    found = await clusters.patch("east", change, version=made.version, manager=CARRIER, timeout_s=TIMEOUT_S)
    assert found.spec is not None
    assert (found.spec.priority, found.mark, found.label) == (6, "2.x", "preview-pool1")
    with pytest.raises(ApiFailure) as caught:
        await clusters.patch("east", change, version=made.version, manager=CARRIER, timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.CONFLICT


async def test_a_spec_is_carried_by_the_difference_and_comes_to_be_the_same(clusters: ForgeClusterClient) -> None:
    override = Override(enabled=True, reason="x", expires_at=1.8e9, force_state=ForgeState.DISABLED)
    wanted = ClusterSpec(
        ForgeState.ENABLED, 7, HealthSpec(True, "http://x", 1440000.0, 0.25, 9, (("A", "b"),)), override
    )
    found = await clusters.create("east", body(), timeout_s=TIMEOUT_S)
    for spec in (wanted, ClusterSpec(), wanted):
        parts = {name: found.raw["spec"][name] for name in spec_of(spec) if name in found.raw["spec"]}
        change = {"spec": difference(parts, spec_of(spec))}
        found = await clusters.patch("east", change, version=found.version, manager=CARRIER, timeout_s=TIMEOUT_S)
        assert (found.spec, found.region) == (spec, "eu")


async def test_a_status_becomes_what_it_shall_be_and_leaves_the_spec_alone(clusters: ForgeClusterClient) -> None:
    made = await clusters.create("east", body(priority=5), timeout_s=TIMEOUT_S)
    first = await clusters.patch_status(made, {"effectivePriority": 4, "message": "x"}, timeout_s=TIMEOUT_S)
    assert first.status == {"effectivePriority": 4, "message": "x"}
    second = await clusters.patch_status(first, {"effectivePriority": 5}, timeout_s=TIMEOUT_S)
    assert (second.status, second.spec, second.generation) == ({"effectivePriority": 5}, made.spec, made.generation)
    with pytest.raises(ApiFailure) as caught:
        await clusters.patch_status(first, {"effectivePriority": 3}, timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.CONFLICT


async def test_a_watch_tells_each_change_of_the_pool_in_order(clusters: ForgeClusterClient) -> None:
    _, version = await clusters.every(timeout_s=TIMEOUT_S)
    await clusters.create("alien", body("another"), timeout_s=TIMEOUT_S)
    made = await clusters.create("east", body(priority=5), timeout_s=TIMEOUT_S)
    change = {"spec": {"priority": 6}}
    patched = await clusters.patch("east", change, version="", manager="kubectl", timeout_s=TIMEOUT_S)
    async with contextlib.aclosing(clusters.watch(version, timeout_s=60)) as changes:
        first, second = await anext(changes), await anext(changes)
    assert (first.kind, first.cluster.name, first.version) == ("ADDED", "east", made.version)
    assert (second.kind, second.version) == ("MODIFIED", patched.version)
