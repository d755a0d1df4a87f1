"""Events: what happened to an object, as kubectl shows it."""

from __future__ import annotations

from typing import Any

import pytest

from contract_api import MERGE, STRATEGIC, Api, Json, Kubectl, cluster

SEEN = "2026-01-01T00:00:00Z"
OBSERVED = "2026-01-01T00:00:00.000000Z"


def event(name: str, about: Json, **more: Any) -> Json:
    return {"metadata": {"name": name}, "involvedObject": about, **more}


def lost(api: Api, name: str = "c", **more: Any) -> Json:
    about = {"kind": "CardanoForgeCluster", "apiVersion": "cardano.io/v1", "name": name, "namespace": api.namespace}
    return event(
        f"{name}.1",
        about | more.pop("about", {}),
        **{
            "reason": "LeadershipLost",
            "message": "pod-0 stopped forging",
            "type": "Warning",
            "source": {"component": "cardano-forge-manager", "host": "pod-0"},
            "firstTimestamp": SEEN,
            "lastTimestamp": SEEN,
            "count": 1,
            "reportingComponent": "cardano.io/forge-manager",
            "reportingInstance": "pod-0",
            **more,
        },
    )


async def create(api: Api, body: Json) -> Json:
    answer = await api.post(api.events(), body)
    assert answer.code == 201, answer.text
    return answer.body


async def test_an_event_comes_back_as_it_was_written(api: Api) -> None:
    series = {"count": 3, "lastObservedTime": OBSERVED}
    sent = lost(api, action="Fence", eventTime=OBSERVED, series=series, related={"kind": "Pod", "name": "pod-1"})
    made = await create(api, sent)
    assert {name: made[name] for name in sent if name != "metadata"} == {
        name: value for name, value in sent.items() if name != "metadata"
    }


async def test_what_is_not_said_of_an_event_is_written_as_nothing(api: Api) -> None:
    made = await create(api, event("e", {"name": "c", "namespace": api.namespace}))
    assert {name: value for name, value in made.items() if name not in {"metadata", "kind", "apiVersion"}} == {
        "involvedObject": {"name": "c", "namespace": api.namespace},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }


async def test_an_events_times_are_whole_seconds_in_utc(api: Api) -> None:
    made = await create(api, lost(api, firstTimestamp="2026-01-01T02:00:00.5+02:00"))
    assert made["firstTimestamp"] == SEEN


async def test_an_event_is_counted_on(api: Api) -> None:
    await create(api, lost(api))
    later = {"count": 2, "lastTimestamp": "2026-01-01T00:01:00Z"}
    for content in (MERGE, STRATEGIC):
        answer = await api.patch(api.events("c.1"), later, content)
        assert (answer.code, answer.body["count"], answer.body["lastTimestamp"]) == (200, 2, later["lastTimestamp"])
        assert answer.body["firstTimestamp"] == SEEN
    assert (await api.delete(api.events("c.1"))).code == 200
    assert (await api.get(api.events("c.1"))).code == 404


async def test_an_event_is_owned_by_field_but_for_its_references(api: Api) -> None:
    await api.post(api.events(), lost(api), fieldManager="forge-manager")
    answer = await api.get(api.events("c.1"))
    names = ("count", "firstTimestamp", "involvedObject", "lastTimestamp", "message", "reason", "type")
    expected = {f"f:{name}": {} for name in (*names, "reportingComponent", "reportingInstance")}
    expected["f:source"] = {"f:component": {}, "f:host": {}}
    assert answer.owned_by("forge-manager", "Update") == expected


async def test_an_event_is_applied(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "Event", **lost(api)}
    assert (await api.apply(api.events("c.1"), body, "forge-manager")).code == 201
    body |= {"count": 2}
    again = await api.apply(api.events("c.1"), body, "forge-manager")
    assert (again.code, again.body["count"]) == (200, 2)


async def test_events_are_selected_by_what_they_are_about(api: Api) -> None:
    await create(api, lost(api, "a", about={"uid": "u-1"}))
    await create(api, lost(api, "b", about={"uid": "u-2"}, type="Normal", reason="LeadershipWon", source={}))

    async def names(selector: str) -> list[str]:
        answer = await api.get(api.events(), fieldSelector=selector)
        assert answer.code == 200, answer.text
        return [item["metadata"]["name"] for item in answer.body["items"]]

    assert await names("involvedObject.name=a") == ["a.1"]
    assert await names("involvedObject.uid=u-2") == ["b.1"]
    described = f"involvedObject.kind=CardanoForgeCluster,involvedObject.namespace={api.namespace}"
    assert await names(f"involvedObject.name=b,involvedObject.uid=u-2,{described}") == ["b.1"]
    assert await names("type!=Warning") == ["b.1"]
    assert await names("reason=LeadershipLost") == ["a.1"]
    assert await names("source=cardano-forge-manager") == ["a.1"]
    assert await names("source=cardano.io/forge-manager") == ["b.1"]
    assert await names("reportingComponent=cardano.io/forge-manager") == ["a.1", "b.1"]
    assert await names("metadata.name=a.1") == ["a.1"]
    assert (await api.get(api.events(), fieldSelector="message=x")).code == 400


async def test_events_are_watched_by_what_they_are_about(api: Api) -> None:
    start = (await api.get(api.events())).body["metadata"]["resourceVersion"]
    selector = {"fieldSelector": "involvedObject.name=b", "resourceVersion": start}
    async with api.watch(api.events(), **selector) as stream:
        await create(api, lost(api, "a"))
        await create(api, lost(api, "b"))
        told = await stream.next()
    assert (told["type"], told["object"]["metadata"]["name"]) == ("ADDED", "b.1")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"about": {"namespace": "elsewhere"}}, "involvedObject.namespace"),
        ({"about": {"namespace": ""}}, "involvedObject.namespace"),
        ({"eventTime": OBSERVED}, "action"),
        ({"eventTime": OBSERVED, "action": "A", "reason": ""}, "reason"),
        ({"eventTime": OBSERVED, "action": "A", "message": "m" * 1025}, "message"),
        ({"eventTime": OBSERVED, "action": "A" * 129}, "action"),
        ({"eventTime": OBSERVED, "action": "A", "reportingComponent": "no good"}, "reportingComponent"),
    ],
)
async def test_an_event_that_makes_no_sense_is_invalid(api: Api, wrong: Json, field: str) -> None:
    answer = await api.post(api.events(), lost(api, **wrong))
    assert (answer.code, answer.fields) == (422, {field})
    assert answer.body["message"].startswith('Event "c.1" is invalid: ')


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": "1"},
        {"type": 5},
        {"involvedObject": "x"},
        {"firstTimestamp": "yesterday"},
        {"eventTime": SEEN},
        {"series": {"count": "x"}},
        {"source": {"component": 4}},
    ],
)
async def test_an_event_of_a_wrong_type_cannot_be_decoded(api: Api, wrong: Json) -> None:
    answer = await api.post(api.events(), lost(api, **wrong))
    assert (answer.code, answer.reason) == (400, "BadRequest")


async def test_kubectl_lists_events(api: Api, kubectl: Kubectl) -> None:
    assert await kubectl("get", "events") == ""
    await create(api, lost(api))
    header, row = (line.split(maxsplit=4) for line in (await kubectl("get", "events")).splitlines())
    assert " ".join(header).split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert row[1:] == ["Warning", "LeadershipLost", "cardanoforgecluster/c", "pod-0 stopped forging"]
    wide = await kubectl("get", "events", "-o", "wide")
    assert "cardano-forge-manager, pod-0" in wide
    assert (await kubectl("get", "events", "-o", "name")) == "event/c.1\n"
    assert "LeadershipLost" in await kubectl("events", "--for", "cardanoforgecluster/c")


async def test_a_description_ends_with_the_events(api: Api, kubectl: Kubectl) -> None:
    made = await api.post(api.clusters(), cluster("c"))
    await create(api, lost(api, about={"uid": made.body["metadata"]["uid"]}))
    await create(api, lost(api, "other", reason="Elsewhere"))
    printed = await kubectl("describe", "cfc", "c")
    events = printed[printed.index("Events:") :].splitlines()
    assert events[1].split() == ["Type", "Reason", "Age", "From", "Message"]
    assert events[3].split()[:2] == ["Warning", "LeadershipLost"]
    assert events[3].endswith("cardano-forge-manager  pod-0 stopped forging")
    assert "Elsewhere" not in printed
