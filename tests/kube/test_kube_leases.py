"""Reading and writing the Lease: exactly what is sent, exactly what is understood."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_api import TIMEOUT_S, Json, Kept, cut, lease, listed, obj, refusal, scripted, session_with

from kube.errors import ApiFailure, Failure
from kube.leases import KEY, PREFERRED, SEAL, LeaseClient, parse_lease
from policy.certificate_counter import ANNOTATION as COUNTER
from policy.lease import LeaseRecord

MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
PATH = "/apis/coordination.k8s.io/v1/namespaces/n/leases"


def is_now(text: str) -> bool:
    """Whether that is a MicroTime of this minute."""
    assert MICRO_TIME.fullmatch(text), text
    then = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return abs(datetime.now(UTC) - then) < timedelta(minutes=1)


async def test_a_lease_is_read_into_a_record(tmp_path: Path) -> None:
    async with (
        scripted(("GET", listed(lease("7", "pod-0_1", transitions=3)))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        record, version = await LeaseClient(session, "n", "l").look(timeout_s=TIMEOUT_S)
    assert version == "100", "of the list: a watch goes on after it"
    assert (api.requests[0].path, api.requests[0].query) == (PATH, {"fieldSelector": "metadata.name=l"})
    renewed = "2026-01-01T00:00:05.000000Z"
    assert record == LeaseRecord("7", "pod-0_1", 15, 3, "2026-01-01T00:00:00.000000Z", "u1", renew_time=renewed)


@pytest.mark.parametrize("said", ["a-uid", "7f6a5c1e-0b7e-4a54-9f5e-0d4e1f6b2c3d"])
async def test_the_namespace_tells_one_server_from_another(tmp_path: Path, said: str) -> None:
    async with (
        scripted(("GET", obj({"kind": "Namespace", "metadata": {"name": "n", "uid": said}}))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        assert await LeaseClient(session, "n", "l").api_identity(timeout_s=TIMEOUT_S) == said
    assert api.requests[0].path == "/api/v1/namespaces/n"


@pytest.mark.parametrize("metadata", [None, {}, {"uid": ""}, {"uid": 7}, {"uid": "a,b"}, {"uid": "u" * 65}])
async def test_a_namespace_without_a_uid_that_can_be_written_down_is_malformed(tmp_path: Path, metadata: Any) -> None:
    async with scripted(("GET", obj({"metadata": metadata}))) as api, session_with(api.url, tmp_path) as session:
        with pytest.raises(ApiFailure) as caught:
            await LeaseClient(session, "n", "l").api_identity(timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.MALFORMED


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [(404, Failure.INVALID, "there is no namespace n"), (403, Failure.FORBIDDEN, "grant get on namespaces")],
)
async def test_whoever_cannot_see_the_namespace_is_told_what_to_do(
    tmp_path: Path, status: int, kind: Failure, remedy: str
) -> None:
    async with scripted(("GET", refusal(status, "Because"))) as api, session_with(api.url, tmp_path) as session:
        with pytest.raises(ApiFailure, match=remedy) as caught:
            await LeaseClient(session, "n", "l").api_identity(timeout_s=TIMEOUT_S)
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("b,a", ("a", "b")),
        ("a,a", ("a",)),
        ("", ()),
        ("a,,b", ()),
        ("a b", ()),
        ("a\u00e9", ()),
        (",".join(f"a{n}" for n in range(33)), ()),
    ],
)
def test_which_members_a_holder_counts_is_read_from_the_lease_or_not_at_all(
    written: str, read: tuple[str, ...]
) -> None:
    raw = {"metadata": {"resourceVersion": "1", "annotations": {"cardano.io/lock-apis": written}}}
    assert parse_lease(raw).apis == read


async def test_no_lease_is_none_and_no_failure(tmp_path: Path) -> None:
    async with scripted(("GET", listed())) as api, session_with(api.url, tmp_path) as session:
        assert (await LeaseClient(session, "n", "l").look(timeout_s=TIMEOUT_S))[0] is None
        assert session.failures_total == 0


async def test_an_unreadable_answer_is_never_taken_for_no_lease(tmp_path: Path) -> None:
    async with scripted(("GET", obj({}))) as api, session_with(api.url, tmp_path) as session:
        with pytest.raises(ApiFailure) as caught:
            await LeaseClient(session, "n", "l").look(timeout_s=TIMEOUT_S)
    assert caught.value.kind is Failure.MALFORMED


async def test_a_created_lease_names_holder_and_both_times(tmp_path: Path) -> None:
    async with scripted(("POST", Kept("1", 201))) as api, session_with(api.url, tmp_path) as session:
        await LeaseClient(session, "n", "l").create(holder="a", duration_s=15, transitions=4, timeout_s=TIMEOUT_S)
    sent = api.requests[0].body
    assert (api.requests[0].path, sent["metadata"]) == (PATH, {"name": "l", "namespace": "n"})
    assert is_now(sent["spec"]["acquireTime"])
    assert sent["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "leaseTransitions": 4,
        "acquireTime": sent["spec"]["renewTime"],
        "renewTime": sent["spec"]["renewTime"],
    }


async def put_after_get(tmp_path: Path, found: Json, **wanted: Any) -> Json:
    """What a replacement of `found` sends."""
    arguments = {"holder": "b", "duration_s": 20, "transitions": 2, "acquired": False, **wanted}
    async with (
        scripted(("GET", listed(found)), ("PUT", Kept("8"))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        await leases.replace(record, **arguments, timeout_s=TIMEOUT_S)
    assert api.requests[1].path == f"{PATH}/l"
    sent: Json = api.requests[1].body
    return sent


async def test_a_renewal_keeps_when_it_was_acquired_and_says_when_it_was_renewed(tmp_path: Path) -> None:
    sent = await put_after_get(tmp_path, lease("7"))
    assert sent["metadata"]["resourceVersion"] == "7"
    assert is_now(sent["spec"].pop("renewTime"))
    assert sent["spec"] == {
        "holderIdentity": "b",
        "leaseDurationSeconds": 20,
        "leaseTransitions": 2,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
    }


async def test_taking_a_lease_says_when_it_was_acquired(tmp_path: Path) -> None:
    sent = await put_after_get(tmp_path, lease("7"), acquired=True)
    assert is_now(sent["spec"]["acquireTime"])
    assert sent["spec"]["acquireTime"] == sent["spec"]["renewTime"]


@pytest.mark.parametrize("spec", [None, {}, {"acquireTime": None}])
async def test_a_lease_made_by_hand_without_times_gets_them(tmp_path: Path, spec: Json | None) -> None:
    sent = await put_after_get(tmp_path, {**lease("7"), "spec": spec})
    assert is_now(sent["spec"]["acquireTime"])


async def test_what_others_put_on_the_object_is_sent_back(tmp_path: Path) -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]
    found = lease(
        "7",
        labels={"app": "cardano"},
        annotations={"note": "ours"},
        ownerReferences=owners,
        finalizers=["x/y"],
        managedFields=[{"manager": "kubectl"}],
    )
    found["spec"] |= {"strategy": "OldestEmulationVersion", "preferredHolder": "c", "novel": 1}
    sent = await put_after_get(tmp_path, found)
    meta = sent["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"app": "cardano"}, {"note": "ours"})
    assert (meta["ownerReferences"], meta["finalizers"], meta["uid"]) == (owners, ["x/y"], "u1")
    assert "managedFields" not in meta
    assert (sent["spec"]["strategy"], sent["spec"]["preferredHolder"]) == ("OldestEmulationVersion", "c")
    assert sent["spec"]["novel"] == 1


async def test_what_a_late_watch_tells_takes_nothing_from_the_object_that_is_sent_next(tmp_path: Path) -> None:
    first = lease("11", labels={"app": "x"}, annotations={"note": "ours"})
    async with (
        scripted(("GET", listed(first)), ("PUT", Kept("12")), ("PUT", Kept("13"))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        how = {"holder": "b", "duration_s": 20, "transitions": 2, "acquired": False, "timeout_s": TIMEOUT_S}
        written = await leases.replace(record, **how)
        change = leases._change({"type": "MODIFIED", "object": first})
        assert change is not None
        assert change.version == "11"
        assert leases._change({"type": "DELETED", "object": first}) is not None
        await leases.replace(written, **how)
    sent = api.requests[2].body["metadata"]
    assert (sent["labels"], sent["annotations"], sent["resourceVersion"]) == ({"app": "x"}, {"note": "ours"}, "12")


async def test_nothing_is_sent_upon_a_version_that_was_not_seen_last(tmp_path: Path) -> None:
    async with (
        scripted(("GET", listed(lease("7"))), ("GET", listed(lease("8")))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        earlier, _ = await leases.look(timeout_s=TIMEOUT_S)
        await leases.look(timeout_s=TIMEOUT_S)
        assert earlier is not None
        with pytest.raises(ApiFailure) as caught:
            await leases.release(earlier, timeout_s=TIMEOUT_S)
        assert caught.value.kind is Failure.CONFLICT
    assert len(api.requests) == 2


async def test_a_new_term_carries_its_seal_and_nothing_of_the_last_one(tmp_path: Path) -> None:
    found = lease("7", "", annotations={SEAL: "old", KEY: "told", "note": "ours"})
    sent = await put_after_get(tmp_path, found, acquired=True, seal="new")
    assert sent["metadata"]["annotations"] == {SEAL: "new", "note": "ours"}


async def test_a_release_carries_the_key_of_its_seal(tmp_path: Path) -> None:
    sent = await put_after_get(tmp_path, lease("7"), seal="s", key="k")
    assert sent["metadata"]["annotations"] == {SEAL: "s", KEY: "k"}


async def test_seal_and_key_are_read_and_what_is_none_is_refused() -> None:
    record = parse_lease(lease("7", annotations={SEAL: "s", KEY: "k"}))
    assert (record.seal, record.key) == ("s", "k")
    for wrong in ([1], "x", {SEAL: 1}, {KEY: ["k"]}):
        with pytest.raises(ApiFailure):
            parse_lease(lease("7", annotations=wrong))


async def test_the_certificate_counter_is_written_where_it_is_given_and_stays_where_it_is_not(tmp_path: Path) -> None:
    found = lease("7", annotations={COUNTER: "4"})
    assert parse_lease(found).counter == "4"
    assert (await put_after_get(tmp_path, found, counter="5@p"))["metadata"]["annotations"] == {COUNTER: "5@p"}
    sent = await put_after_get(tmp_path, found, acquired=True, seal="new")
    assert sent["metadata"]["annotations"][COUNTER] == "4"


async def test_a_preferred_holder_is_written_and_removed_on_demand(tmp_path: Path) -> None:
    sent = await put_after_get(tmp_path, lease("7"), preferred_holder="c")
    assert sent["metadata"]["annotations"][PREFERRED] == "c"
    found = lease("7")
    found["metadata"]["annotations"] = {PREFERRED: "c"}
    sent = await put_after_get(tmp_path, found, preferred_holder="")
    assert not sent["metadata"].get("annotations")


async def test_a_release_is_written_as_client_go_writes_it(tmp_path: Path) -> None:
    async with (
        scripted(("GET", listed(lease("7", transitions=3))), ("PUT", Kept("8"))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        assert (await leases.release(record, timeout_s=TIMEOUT_S)).holder == ""
    spec = api.requests[1].body["spec"]
    assert is_now(spec["renewTime"])
    assert spec == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "leaseTransitions": 3,
        "renewTime": spec["renewTime"],
        "acquireTime": spec["renewTime"],
    }


async def test_renewals_need_no_reading_between_them(tmp_path: Path) -> None:
    noted = lease("7", labels={"app": "x"})
    async with (
        scripted(("GET", listed(noted)), ("PUT", Kept("8")), ("PUT", Kept("9"))) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        for _ in range(2):
            assert record is not None
            record = await leases.replace(
                record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S
            )
    sent = [request.body["metadata"] for request in api.requests[1:]]
    assert [(meta["resourceVersion"], meta["labels"]) for meta in sent] == [("7", {"app": "x"}), ("8", {"app": "x"})]


async def test_a_renewal_that_this_client_did_not_send_is_foreign_though_the_lease_names_the_same_holder(
    tmp_path: Path,
) -> None:
    async with (
        scripted(("GET", listed(lease("7"))), ("PUT", Kept("8")), ("PUT", cut())) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        before, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert before is not None
        told = {"holder": "a", "duration_s": 15, "transitions": 1, "acquired": False, "timeout_s": TIMEOUT_S}
        written = await leases.replace(before, **told)
        with pytest.raises(ApiFailure):
            await leases.replace(written, **told)
    first, lost = (dataclasses.replace(written, renew_time=each.body["spec"]["renewTime"]) for each in api.requests[1:])
    assert not leases.is_foreign(before), "it was seen, and written over"
    assert not leases.is_foreign(first)
    assert not leases.is_foreign(lost), "the answer was lost, the write was not"
    assert leases.is_foreign(dataclasses.replace(written, renew_time="2026-11-28T08:00:00.000001Z"))
    assert not leases.is_foreign(None)


async def test_what_was_there_before_a_clients_first_write_is_not_foreign_though_it_fails(tmp_path: Path) -> None:
    """An earlier life of the worker has written it."""
    async with scripted(("GET", listed(lease("7"))), ("PUT", cut())) as api, session_with(api.url, tmp_path) as session:
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        assert not leases.is_foreign(dataclasses.replace(record, renew_time="2026-11-28T08:00:00.000001Z"))
        with pytest.raises(ApiFailure):
            await leases.replace(record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S)
        assert not leases.is_foreign(record)


STALE = "2026-01-01T00:00:05.000000Z"


@pytest.mark.parametrize(
    ("made_of_it", "named"),
    [
        ({"spec": {"renewTime": STALE}}, "renewTime"),
        ({"spec": {"renewTime": None}}, "renewTime"),
        ({"spec": {"holderIdentity": "b"}}, "holderIdentity"),
        ({"spec": {"holderIdentity": None}}, "holderIdentity"),
        ({"spec": {"leaseTransitions": 7}}, "leaseTransitions"),
        ({"annotations": {}}, SEAL),
        ({"annotations": {SEAL: "another"}}, SEAL),
    ],
)
async def test_a_write_that_something_in_between_changes_is_none(tmp_path: Path, made_of_it: Json, named: str) -> None:
    """A webhook, or a proxy that says yes and keeps nothing: those who wait see no renewal, or not ours."""
    made, written = Kept("8", 201, **made_of_it), Kept("8", **made_of_it)
    script = (("POST", made), ("GET", listed(lease("7"))), ("PUT", written))
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        leases = LeaseClient(session, "n", "l")
        how: Json = {"holder": "a", "duration_s": 15, "transitions": 1, "timeout_s": TIMEOUT_S, "seal": "s"}
        with pytest.raises(ApiFailure, match=f"not kept as it was written.*{named}") as created:
            await leases.create(**how)
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        with pytest.raises(ApiFailure, match=f"not kept as it was written.*{named}") as replaced:
            await leases.replace(record, acquired=False, **how)
    assert created.value.kind is replaced.value.kind is Failure.MALFORMED


async def test_what_a_webhook_adds_to_a_lease_beside_what_was_written_does_no_harm(tmp_path: Path) -> None:
    added = Kept("8", spec={"novel": 1}, annotations={SEAL: "s", "injected": "yes"})
    async with scripted(("GET", listed(lease("7"))), ("PUT", added)) as api, session_with(api.url, tmp_path) as session:
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        written = await leases.replace(
            record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S, seal="s"
        )
    assert (written.holder, written.resource_version) == ("a", "8")


@pytest.mark.parametrize(
    ("answer", "kind"), [(refusal(409, "Conflict"), Failure.CONFLICT), (cut(), Failure.UNREACHABLE)]
)
async def test_a_replacement_that_failed_is_not_tried_again(tmp_path: Path, answer: Any, kind: Failure) -> None:
    async with (
        scripted(("GET", listed(lease("7"))), ("PUT", answer)) as api,
        session_with(api.url, tmp_path) as session,
    ):
        leases = LeaseClient(session, "n", "l")
        record, _ = await leases.look(timeout_s=TIMEOUT_S)
        assert record is not None
        with pytest.raises(ApiFailure) as caught:
            await leases.replace(record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S)
    assert caught.value.kind is kind
    assert api.requests[1].body["metadata"]["resourceVersion"] == "7"


# --- reading what others wrote ---


@pytest.mark.parametrize(("written", "read"), [(15, 15), (3600, 3600), (3601, 3600), (2**31 - 1, 3600)])
def test_no_lease_lasts_longer_than_a_lease_duration_may_be(written: int, read: int) -> None:
    """Written over a dead holder's it would keep everybody out for 68 years, its deletion included."""
    spec = {"holderIdentity": "a", "leaseDurationSeconds": written}
    assert parse_lease({"metadata": {"resourceVersion": "1"}, "spec": spec}).duration_s == read


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseDurationSeconds": None}])
def test_absent_fields_mean_nobody_and_nothing(spec: Json | None) -> None:
    record = parse_lease({"metadata": {"resourceVersion": "1", "uid": None}, "spec": spec})
    assert record == LeaseRecord("1", "", 0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"resourceVersion": ""}},
        {"metadata": {"resourceVersion": 1}},
        {"metadata": {"resourceVersion": "1"}, "spec": [1]},
        {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": 1}},
        {"metadata": {"resourceVersion": "1"}, "spec": {"leaseDurationSeconds": "15"}},
        {"metadata": {"resourceVersion": "1"}, "spec": {"leaseTransitions": True}},
    ],
)
def test_a_lease_of_another_shape_is_malformed(raw: Json) -> None:
    with pytest.raises(ApiFailure) as caught:
        parse_lease(raw)
    assert caught.value.kind is Failure.MALFORMED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
SPEC_FIELDS = ["holderIdentity", "leaseDurationSeconds", "acquireTime", "leaseTransitions", "preferredHolder"]


@given(
    metadata=json_values | st.fixed_dictionaries({"resourceVersion": json_values}, optional={"uid": json_values}),
    spec=json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(SPEC_FIELDS, json_values)),
)
def test_any_json_is_a_record_or_malformed_and_a_holder_is_never_made_up(metadata: Any, spec: Any) -> None:
    raw = json.loads(json.dumps({"metadata": metadata, "spec": spec}))
    try:
        record = parse_lease(raw)
    except ApiFailure as failure:
        assert failure.kind is Failure.MALFORMED
        return
    assert record.resource_version == metadata["resourceVersion"] != ""
    written = spec.get("holderIdentity") if spec else None
    assert record.holder == (written or "")
