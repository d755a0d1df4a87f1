"""What a Lease may hold."""

from __future__ import annotations

from typing import Any

import pytest

from contract_api import JSON_PATCH, STRATEGIC, Api, lease

NOW = "2026-01-01T00:00:00.123456Z"


async def test_a_lease_comes_back_as_it_was_written(api: Api) -> None:
    spec = {
        "holderIdentity": "pod-0_1",
        "leaseDurationSeconds": 15,
        "acquireTime": NOW,
        "renewTime": NOW,
        "leaseTransitions": 3,
    }
    created = await api.create_lease("l", **spec)
    assert created.spec == spec
    meta = created.body["metadata"]
    assert {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"} <= set(meta)
    assert "generation" not in meta


async def test_a_time_is_given_back_in_utc(api: Api) -> None:
    created = await api.create_lease("l", renewTime="2026-01-01T02:00:00.123456+02:00")
    assert created.spec["renewTime"] == NOW


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-13-01T00:00:00.123456Z",
        "2026-01-01 00:00:00.123456Z",
        "2026-01-01T00:00:00.123456",
        "nonsense",
        "",
        5,
    ],
)
async def test_a_time_without_exactly_six_digits_of_a_fraction_is_refused(api: Api, time: Any) -> None:
    answer = await api.post(api.leases(), lease("l", renewTime=time))
    assert (answer.code, answer.reason) == (400, "BadRequest")


async def test_a_null_is_as_good_as_nothing(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity=None, renewTime=None, leaseDurationSeconds=None)
    assert created.spec == {}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"leaseDurationSeconds": 0}, "spec.leaseDurationSeconds"),
        ({"leaseDurationSeconds": -1}, "spec.leaseDurationSeconds"),
        ({"leaseTransitions": -1}, "spec.leaseTransitions"),
    ],
)
async def test_a_number_out_of_range_is_invalid(api: Api, spec: dict[str, Any], field: str) -> None:
    answer = await api.post(api.leases(), lease("l", **spec))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert answer.fields == {field}
    await api.create_lease("l")
    changed = await api.patch(api.leases("l"), {"spec": spec})
    assert (changed.code, changed.fields) == (422, {field})


@pytest.mark.parametrize(
    "spec",
    [
        {"leaseDurationSeconds": "15"},
        {"leaseDurationSeconds": 1.5},
        {"leaseDurationSeconds": 2**31},
        {"leaseDurationSeconds": True},
        {"holderIdentity": 5},
        {"holderIdentity": {}},
    ],
)
async def test_a_wrong_type_cannot_be_decoded(api: Api, spec: dict[str, Any]) -> None:
    answer = await api.post(api.leases(), lease("l", **spec))
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert "cannot be handled as a Lease: json: cannot unmarshal" in answer.body["message"]


async def test_a_patch_that_leaves_no_lease_is_invalid(api: Api) -> None:
    await api.create_lease("l")
    for content in ("application/merge-patch+json", STRATEGIC):
        for spec in ({"leaseDurationSeconds": "x"}, {"renewTime": "yesterday"}):
            answer = await api.patch(api.leases("l"), {"spec": spec}, content)
            assert (answer.code, answer.reason) == (422, "Invalid")
            assert answer.fields == {"patch"}


async def test_a_preferred_holder_is_dropped_by_a_server_without_coordinated_election(api: Api) -> None:
    """The default of every release so far: a successor must be named some other way, an annotation for one."""
    created = await api.create_lease("l", preferredHolder="x", strategy="OldestEmulationVersion")
    assert created.spec == {}
    patched = await api.patch(api.leases("l"), {"spec": {"preferredHolder": "x"}})
    assert patched.code == 200
    assert patched.spec == {}


async def test_a_released_lease_keeps_an_empty_holder(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a", leaseDurationSeconds=15)
    body = created.body
    body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
    assert (await api.put(api.leases("l"), body)).spec == {"holderIdentity": "", "leaseDurationSeconds": 1}


async def test_an_unknown_field_is_dropped_with_a_warning(api: Api) -> None:
    answer = await api.post(api.leases(), lease("l", bogus=1))
    assert answer.code == 201
    assert answer.spec == {}
    assert answer.warnings == ['299 - "unknown field \\"spec.bogus\\""']


async def test_an_unknown_field_is_refused_where_the_client_wants_it_so(api: Api) -> None:
    answer = await api.post(api.leases(), lease("l", bogus=1), fieldValidation="Strict")
    assert answer.code == 400
    assert answer.body["message"].endswith('strict decoding error: unknown field "spec.bogus"')


async def test_kind_and_version_may_be_left_out(api: Api) -> None:
    answer = await api.post(api.leases(), {"metadata": {"name": "l"}})
    assert answer.code == 201
    assert (answer.body["kind"], answer.body["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")
    assert answer.spec == {}


async def test_another_kind_is_refused(api: Api) -> None:
    answer = await api.post(api.leases(), {**lease("l"), "kind": "Pod", "apiVersion": "v1"})
    assert (answer.code, answer.reason) == (400, "BadRequest")


@pytest.mark.parametrize("name", ["Bad_Name", "-a", "a..b", "x" * 254])
async def test_a_name_must_be_a_dns_subdomain(api: Api, name: str) -> None:
    answer = await api.post(api.leases(), lease(name))
    assert (answer.code, answer.fields) == (422, {"metadata.name"})


async def test_a_name_is_made_from_its_prefix(api: Api) -> None:
    answer = await api.post(api.leases(), {"metadata": {"generateName": "pool-"}})
    assert answer.code == 201
    name = answer.body["metadata"]["name"]
    assert name.startswith("pool-")
    assert len(name) == len("pool-") + 5


async def test_name_and_namespace_must_be_those_of_the_address(api: Api) -> None:
    created = (await api.create_lease("l")).body
    renamed = await api.put(api.leases("m"), created)
    assert (renamed.code, renamed.reason) == (400, "BadRequest")
    moved = {**created, "metadata": {**created["metadata"], "namespace": "default"}}
    assert (await api.put(api.leases("l"), moved)).code == 400
    assert (await api.post(api.leases(), moved)).code == 400


async def test_a_namespace_must_exist(api: Api) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/nowhere/leases"
    answer = await api.post(path, lease("l"))
    assert (answer.code, answer.reason) == (404, "NotFound")
    assert answer.body["message"] == 'namespaces "nowhere" not found'


async def test_a_create_must_not_name_a_version(api: Api) -> None:
    answer = await api.post(api.leases(), {"metadata": {"name": "l", "resourceVersion": "7"}})
    assert answer.code == 500
    assert answer.body["message"] == "resourceVersion should not be set on objects to be created"


async def test_labels_and_annotations_have_a_form(api: Api) -> None:
    await api.create_lease("l")
    good = {"labels": {"a.b/c": "D-1"}, "annotations": {"cardano.io/successor": "any text: ü"}}
    assert (await api.patch(api.leases("l"), {"metadata": good})).code == 200
    for bad in ({"labels": {"a": "no spaces"}}, {"labels": {"bad key": ""}}, {"annotations": {"bad key!": ""}}):
        answer = await api.patch(api.leases("l"), {"metadata": bad})
        assert (answer.code, answer.fields) == (422, {f"metadata.{next(iter(bad))}"})


async def test_what_the_server_set_stays(api: Api) -> None:
    created = await api.create_lease("l")
    changed = await api.patch(api.leases("l"), {"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}})
    assert changed.code == 200
    assert changed.body["metadata"]["creationTimestamp"] == created.body["metadata"]["creationTimestamp"]
    answer = await api.patch(api.leases("l"), {"metadata": {"uid": "other"}})
    assert (answer.code, answer.fields) == (422, {"metadata.uid"})


async def test_a_json_patch_tests_before_it_changes(api: Api) -> None:
    await api.create_lease("l", holderIdentity="a")
    swap = [
        {"op": "test", "path": "/spec/holderIdentity", "value": "a"},
        {"op": "replace", "path": "/spec/holderIdentity", "value": "b"},
    ]
    assert (await api.patch(api.leases("l"), swap, JSON_PATCH)).spec["holderIdentity"] == "b"
    again = await api.patch(api.leases("l"), swap, JSON_PATCH)
    assert (again.code, again.reason) == (422, "Invalid")


async def test_a_body_in_another_format_is_refused(api: Api) -> None:
    answer = await api.request("POST", api.leases(), lease("l"), content="text/plain")
    assert (answer.code, answer.reason) == (415, "UnsupportedMediaType")
    answer = await api.request("GET", api.leases(), accept="text/plain")
    assert (answer.code, answer.reason) == (406, "NotAcceptable")
    for broken in ("not json", "[]", ""):
        assert (await api.post(api.leases(), broken)).code == 400


async def test_a_trial_run_changes_nothing(api: Api) -> None:
    answer = await api.post(api.leases(), lease("l", holderIdentity="a"), dryRun="All")
    assert answer.code == 201
    assert (await api.get(api.leases("l"))).code == 404
