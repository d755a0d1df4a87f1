"""CardanoLeader's status: the exact traffic of each situation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_api import TIMEOUT_S, Json, hang, obj, refusal, scripted, session_with

from kube import leader_status
from kube.errors import ApiFailure, Failure
from kube.leader_status import LOOK_AGAIN_NS, Condition, LeaderStatus, LeaderStatusClient, Outcome
from kube.session import ApiSession

FOLDER = "/apis/cardano.io/v1/namespaces/n/cardanoleaders"
NOW = "2026-01-01T00:00:00Z"
FORGING = LeaderStatus(
    leader_pod="pod-0",
    forging_enabled=True,
    last_transition_time=NOW,
    reason="Forging",
    message="pod-0 forges",
    conditions=(Condition("Forging", "True", "Forging", "pod-0 forges", NOW),),
)
RELEASED = replace(FORGING, leader_pod="", forging_enabled=False, reason="Released", message="pod-0: stopping")
NOT_FOUND = refusal(404, "NotFound")


def leader(version: str, *, generation: int = 1, pod: str | None = None) -> Json:
    status = {} if pod is None else {"status": {"leaderPod": pod}}
    return {"metadata": {"name": "cardano-leader", "resourceVersion": version, "generation": generation}, **status}


def client(session: ApiSession) -> LeaderStatusClient:
    return LeaderStatusClient(session, "n", "cardano.io", "v1", "cardanoleaders", "cardano-leader")


async def publish(
    writer: LeaderStatusClient, status: LeaderStatus, *, taking_over: bool, timeout_s: float = TIMEOUT_S
) -> Outcome:
    return await writer.publish(status, timeout_s=timeout_s, taking_over=taking_over)


async def test_a_new_leader_writes_the_whole_status_over_what_it_read(tmp_path: Path) -> None:
    script = [("GET", obj(leader("5", generation=3, pod="pod-9"))), ("PATCH", obj(leader("6", generation=3)))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        assert await publish(client(session), FORGING, taking_over=True) is Outcome.WRITTEN
    patch = api.requests[1]
    assert patch.path == f"{FOLDER}/cardano-leader/status"
    assert patch.headers["content-type"] == "application/merge-patch+json"
    assert patch.body == {
        "metadata": {"resourceVersion": "5"},
        "status": {
            "leaderPod": "pod-0",
            "forgingEnabled": True,
            "lastTransitionTime": NOW,
            "reason": "Forging",
            "message": "pod-0 forges",
            "observedGeneration": 3,
            "opCertCounter": None,
            "conditions": [
                {
                    "type": "Forging",
                    "status": "True",
                    "reason": "Forging",
                    "message": "pod-0 forges",
                    "lastTransitionTime": NOW,
                }
            ],
        },
    }


async def test_a_missing_object_is_made_first(tmp_path: Path) -> None:
    script = [("GET", NOT_FOUND), ("POST", obj(leader("1"), 201)), ("PATCH", obj(leader("2")))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        assert await publish(client(session), FORGING, taking_over=True) is Outcome.WRITTEN
    made = api.requests[1]
    assert made.path == FOLDER
    assert (made.body["apiVersion"], made.body["kind"]) == ("cardano.io/v1", "CardanoLeader")
    assert made.body["metadata"] == {"name": "cardano-leader", "namespace": "n"}
    assert made.body["spec"]["namespace"] == "n"
    assert api.requests[2].body["metadata"] == {"resourceVersion": "1"}


async def test_two_pods_making_the_object_at_once_both_find_it(tmp_path: Path) -> None:
    script = [
        ("GET", NOT_FOUND),
        ("POST", refusal(409, "AlreadyExists")),
        ("GET", obj(leader("4"))),
        ("PATCH", obj(leader("5"))),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        assert await publish(client(session), FORGING, taking_over=True) is Outcome.WRITTEN


async def test_the_same_status_again_costs_nothing(tmp_path: Path) -> None:
    script = [("GET", obj(leader("5"))), ("PATCH", obj(leader("6")))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        await publish(writer, FORGING, taking_over=True)
        assert await publish(writer, FORGING, taking_over=True) is Outcome.UNCHANGED


async def test_a_former_leader_takes_back_what_it_wrote_with_one_request(tmp_path: Path) -> None:
    script = [("GET", obj(leader("5"))), ("PATCH", obj(leader("6"))), ("PATCH", obj(leader("7")))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        await publish(writer, FORGING, taking_over=True)
        assert await publish(writer, RELEASED, taking_over=False) is Outcome.WRITTEN
    assert api.requests[2].body["metadata"] == {"resourceVersion": "6"}
    assert api.requests[2].body["status"]["leaderPod"] == ""


async def test_a_former_leader_does_not_write_over_a_faster_successor(tmp_path: Path) -> None:
    script = [("GET", obj(leader("5"))), ("PATCH", obj(leader("6"))), ("PATCH", refusal(409, "Conflict"))]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        await publish(writer, FORGING, taking_over=True)
        assert await publish(writer, RELEASED, taking_over=False) is Outcome.LOST


async def test_a_former_leader_whose_writes_failed_still_spares_its_successor(tmp_path: Path) -> None:
    """After a failure the version is unknown; read anew, it must not become the permission to overwrite."""
    script = [
        ("GET", obj(leader("5"))),
        ("PATCH", refusal(500, "InternalError")),
        ("GET", obj(leader("9", pod="pod-1"))),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        with pytest.raises(ApiFailure):
            await publish(writer, FORGING, taking_over=True)
        assert await publish(writer, RELEASED, taking_over=False) is Outcome.LOST


async def test_a_former_leader_whose_write_was_in_doubt_takes_it_back(tmp_path: Path) -> None:
    script = [
        ("GET", obj(leader("5"))),
        ("PATCH", obj(leader("6"))),
        ("PATCH", hang()),
        ("GET", obj(leader("7", pod="pod-0"))),
        ("PATCH", obj(leader("8"))),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        await publish(writer, FORGING, taking_over=True)
        with pytest.raises(ApiFailure) as caught:
            await publish(writer, replace(FORGING, message="again"), taking_over=False, timeout_s=1.0)
        assert caught.value.kind is Failure.TIMEOUT
        assert await publish(writer, RELEASED, taking_over=False) is Outcome.WRITTEN
    assert api.requests[4].body["metadata"] == {"resourceVersion": "7"}


async def test_a_deleted_object_is_made_anew(tmp_path: Path) -> None:
    script = [
        ("GET", obj(leader("5"))),
        ("PATCH", NOT_FOUND),
        ("GET", NOT_FOUND),
        ("POST", obj(leader("8"), 201)),
        ("PATCH", obj(leader("9"))),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        assert await publish(writer, FORGING, taking_over=True) is Outcome.LOST
        assert await publish(writer, FORGING, taking_over=True) is Outcome.WRITTEN


async def test_a_missing_crd_is_looked_for_again_only_after_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000
    monkeypatch.setattr(leader_status, "boottime_ns", lambda: now)
    script = [
        ("GET", NOT_FOUND),
        ("POST", NOT_FOUND),
        ("GET", obj(leader("1"))),
        ("PATCH", obj(leader("2"))),
    ]
    async with scripted(*script) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        assert await publish(writer, FORGING, taking_over=True) is Outcome.NO_CRD
        now += LOOK_AGAIN_NS - 1
        assert await publish(writer, FORGING, taking_over=True) is Outcome.NO_CRD
        assert len(api.requests) == 2
        now += 1
        assert await publish(writer, FORGING, taking_over=True) is Outcome.WRITTEN


async def test_a_crd_without_a_status_subresource_is_known_by_the_second_refusal_and_tried_again_after_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upon the first one the object may have been deleted between the read and the patch."""
    now = 1_000
    monkeypatch.setattr(leader_status, "boottime_ns", lambda: now)
    there = ("GET", obj(leader("5")))
    script = [there, ("PATCH", NOT_FOUND), there, ("PATCH", NOT_FOUND), there, ("PATCH", NOT_FOUND), there]
    async with scripted(*script, ("PATCH", obj(leader("6")))) as api, session_with(api.url, tmp_path) as session:
        writer = client(session)
        assert await publish(writer, FORGING, taking_over=True) is Outcome.LOST
        for asked in (4, 6):
            assert await publish(writer, FORGING, taking_over=True) is Outcome.NO_STATUS
            now += LOOK_AGAIN_NS - 1
            assert await publish(writer, FORGING, taking_over=True) is Outcome.NO_STATUS
            assert len(api.requests) == asked
            now += 1
        assert await publish(writer, FORGING, taking_over=True) is Outcome.WRITTEN


@pytest.mark.parametrize(
    ("answer", "kind"), [(refusal(403, "Forbidden"), Failure.FORBIDDEN), (obj({"metadata": {}}), Failure.MALFORMED)]
)
async def test_what_an_operator_must_mend_is_raised(tmp_path: Path, answer: Any, kind: Failure) -> None:
    async with scripted(("GET", answer)) as api, session_with(api.url, tmp_path) as session:
        with pytest.raises(ApiFailure) as caught:
            await publish(client(session), FORGING, taking_over=True)
    assert caught.value.kind is kind
