"""CardanoLeader: what the leader says of itself, and what every pod says of its credentials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from devkit.api import EmbeddedApi
from kube.errors import ApiFailure, Failure
from kube.leader_status import LeaderStatusClient, Outcome
from kube.session import ApiSession
from policy import timing
from policy.credential_summary import GOOD, Summary
from workers.leader_report import SETTLE, LeaderReporter

Json = dict[str, Any]
FOLDER = "/apis/cardano.io/v1/namespaces/default/cardanoleaders"
S = timing.SECOND
EVENTS = "/api/v1/namespaces/default/events"
EXPIRED = Summary(False, "KesPeriod", "the certificate expired; rotate now")
SOON = Summary(True, "KesPeriod", "good for 3 KES periods more; rotate")


@pytest.fixture
async def session(one: EmbeddedApi, tmp_path: Path) -> AsyncIterator[ApiSession]:
    del one
    async with ApiSession(tmp_path / "one", user_agent="test") as opened:
        yield opened


def reporter(session: ApiSession, pod: str = "pod-0") -> LeaderReporter:
    client = LeaderStatusClient(session, "default", "cardano.io", "v1", "cardanoleaders", "cardano-leader")
    return LeaderReporter(client, session, pod)


async def status(session: ApiSession) -> Json:
    found: Json = (await session.request("get", f"{FOLDER}/cardano-leader", timeout_s=30))["status"]
    return found


async def events(session: ApiSession) -> list[Json]:
    found = await session.request("list", EVENTS, timeout_s=30)
    return sorted(found["items"], key=lambda one: int(one["metadata"]["resourceVersion"]))


async def until(session: ApiSession, holds: Callable[[Json], bool]) -> Json:
    async with asyncio.timeout(30):
        while True:
            try:
                found = await status(session)
            except ApiFailure as failure:
                assert failure.kind is Failure.NOT_FOUND  # not made yet
            except KeyError:
                pass  # made, and nothing said yet
            else:
                if holds(found):
                    return found
            await asyncio.sleep(0.02)


async def until_told(session: ApiSession, count: int) -> list[Json]:
    async with asyncio.timeout(30):
        while len(found := await events(session)) < count:
            await asyncio.sleep(0.02)
        return found


def conditions(found: Json) -> dict[str, Json]:
    return {each["type"]: each for each in found["conditions"]}


async def test_a_leader_says_whether_its_credentials_are_good_and_with_which_counter_blocks_were_made(
    session: ApiSession,
) -> None:
    report = reporter(session)
    report.report(0, leading=True, forging=True, reason="", credentials=GOOD, counter=7)
    found = await until(session, lambda s: s.get("forgingEnabled") is True)
    assert found["opCertCounter"] == 7
    assert conditions(found)["CredentialsUsable"]["status"] == "True"
    for now in (1, 1 + SETTLE):
        report.report(now, leading=True, forging=True, reason="", credentials=EXPIRED, counter=7)
    found = await until(session, lambda s: conditions(s)["CredentialsUsable"]["status"] == "False")
    told = conditions(found)["CredentialsUsable"]
    assert (told["reason"], told["message"]) == ("KesPeriod", "pod-0: the certificate expired; rotate now")
    assert found["lastTransitionTime"] == conditions(found)["Forging"]["lastTransitionTime"]
    await report.close()


async def test_every_pod_tells_of_its_credentials_by_events_about_the_object_and_good_ones_are_no_news(
    session: ApiSession,
) -> None:
    leader, standby = reporter(session), reporter(session, "pod-1")
    leader.report(0, leading=True, forging=True, reason="", credentials=GOOD)
    await until(session, lambda s: s.get("leaderPod") == "pod-0")
    for second, told in enumerate((GOOD, EXPIRED, EXPIRED, SOON, GOOD)):
        for now in (10 * second * S, 10 * second * S + SETTLE):
            standby.report(now, leading=False, forging=False, reason="", credentials=told)
        await asyncio.sleep(0)
    found = await until_told(session, 3)
    assert [(each["reason"], each["type"]) for each in found] == [
        ("CredentialsUnusable", "Warning"),
        ("CredentialsWarning", "Warning"),
        ("CredentialsGood", "Normal"),
    ]
    assert found[0]["message"] == "pod-1: the certificate expired; rotate now"
    assert found[0]["involvedObject"]["kind"] == "CardanoLeader"
    uid = (await session.request("get", f"{FOLDER}/cardano-leader", timeout_s=30))["metadata"]["uid"]
    assert {each["involvedObject"]["uid"] for each in found} == {uid}
    assert (await status(session))["leaderPod"] == "pod-0"
    await leader.close()
    await standby.close()


async def test_what_is_not_known_of_the_credentials_changes_nothing(session: ApiSession) -> None:
    report = reporter(session)
    for now in (1, 1 + SETTLE):
        report.report(now, leading=True, forging=False, reason="", credentials=EXPIRED)
    await until(session, lambda s: s.get("leaderPod") == "pod-0")
    report.report(9 * S, leading=True, forging=True, reason="", credentials=None)
    found = await until(session, lambda s: s.get("forgingEnabled") is True)
    assert conditions(found)["CredentialsUsable"]["status"] == "False"
    await report.close()


async def test_where_events_are_forbidden_the_status_is_written_all_the_same_and_the_remedy_is_named_once(
    session: ApiSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise ApiFailure(Failure.FORBIDDEN, "forbidden")

    monkeypatch.setattr("kube.events.emit", refused)
    caplog.set_level(logging.WARNING, logger="elector")
    report = reporter(session)
    for second, told in enumerate((EXPIRED, SOON)):
        for now in (10 * second * S + 1, 10 * second * S + 1 + SETTLE):
            report.report(now, leading=True, forging=False, reason="", credentials=told)
        await until(session, lambda s, told=told: conditions(s)["CredentialsUsable"]["message"].endswith(told.message))  # type: ignore[misc]
    async with asyncio.timeout(30):
        while report._events:
            await asyncio.sleep(0.02)
    told_of = [record for record in caplog.records if getattr(record, "event", "") == "event_refused"]
    assert len(told_of) == 1
    assert "grant create on events" in getattr(told_of[0], "why", "")
    await report.close()


async def test_what_is_bad_for_a_moment_only_is_no_news(session: ApiSession) -> None:
    report = reporter(session)
    for now, told in ((0, GOOD), (1, EXPIRED), (SETTLE, EXPIRED), (SETTLE + 1, GOOD), (2 * SETTLE, EXPIRED)):
        report.report(now, leading=True, forging=True, reason="", credentials=told)
    found = await until(session, lambda s: s.get("forgingEnabled") is True)
    assert conditions(found)["CredentialsUsable"]["status"] == "True"
    assert await events(session) == []
    await report.close()


async def test_a_crd_without_a_status_subresource_costs_a_few_requests_and_is_said_once(
    session: ApiSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = session.request

    async def without_status(verb: str, path: str, **options: Any) -> Json:
        if path.endswith("/status"):
            session.requests_total[verb] += 1
            raise ApiFailure(Failure.NOT_FOUND, "not found")
        return await honest(verb, path, **options)

    monkeypatch.setattr(session, "request", without_status)
    caplog.set_level(logging.WARNING, logger="elector")
    report = reporter(session)
    for forging in (True, False, True):
        report.report(0, leading=True, forging=forging, reason="", credentials=GOOD)
        async with asyncio.timeout(30):
            await report._settled.wait()
        told = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "crd_missing"]
        assert len(told) == 1
        assert "the CRD has no status subresource" in told[0]
        assert session.requests_total == {"get": 2, "create": 1, "patch": 2}
    await report.close()


async def test_whoever_is_written_over_twice_in_a_row_waits_before_it_writes_again(session: ApiSession) -> None:
    class Outrun(LeaderStatusClient):
        tried = 0

        async def publish(self, *_: object, **__: object) -> Outcome:
            self.tried += 1
            return Outcome.LOST

    client = Outrun(session, "default", "cardano.io", "v1", "cardanoleaders", "cardano-leader")
    report = LeaderReporter(client, session, "pod-0")
    report.report(0, leading=True, forging=True, reason="", credentials=GOOD)
    async with asyncio.timeout(30):
        await report._settled.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert client.tried == 2
    await report.close()
