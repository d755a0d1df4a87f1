"""What happens again and again in a worker's log: lines with counts, and the loop's timers that bring them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ipc.complaints import Complaint
from policy import timing

LONG = 3600 * timing.SECOND
SHORT = timing.SECOND // 50
PATIENCE_S = 30
log = logging.getLogger("complaints")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "complaints"]


async def until(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while not (found := [line for line in lines(caplog) if line["event"] == event]):
            await asyncio.sleep(0.005)
    return found[0]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_the_first_is_told_with_its_facts_and_the_rest_by_the_end(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(
        log, "member_failed", "it fails", period=LONG, end=("member_ok", "it answers"), facts={"member": "one"}
    )
    for number in range(1000):
        complaint.again(why=f"number {number}")
    assert complaint.over()
    assert not complaint.over()
    first, end = lines(caplog)
    assert (first["event"], first["member"], first["why"], first["levelname"]) == (
        *("member_failed", "one", "number 0", "WARNING"),
    )
    assert "repeated" not in first
    assert (end["event"], end["member"], end["count"], end["levelname"]) == ("member_ok", "one", 1000, "INFO")
    assert end["message"].startswith("it answers: ended after 1000 in ")


def test_what_is_of_another_kind_is_told_at_once_too(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "api_failed", "it fails", period=LONG)
    for kind in ("timeout", "timeout", "forbidden", "timeout"):
        complaint.again(kind, kind=kind)
    assert [line["kind"] for line in lines(caplog)] == ["timeout", "forbidden"]


def test_an_end_without_a_name_says_what_ended(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "cannot_accept", "connections wait", period=LONG)
    complaint.again()
    complaint.over()
    assert (lines(caplog)[1]["event"], lines(caplog)[1]["what"]) == ("ended", "cannot_accept")


def test_a_text_from_elsewhere_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    Complaint(log, "api_failed", "x").again(message="100 %s %d")
    assert lines(caplog)[0]["message"] == "100 %s %d"


async def test_what_had_no_line_is_told_when_the_period_is_over(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "api_failed", "it fails", period=10 * SHORT)
    for number in range(5):
        complaint.again(why=number)
    async with asyncio.timeout(PATIENCE_S):
        while len(lines(caplog)) < 2:
            await asyncio.sleep(0.005)
    assert [(line["why"], line.get("repeated", 0)) for line in lines(caplog)] == [(0, 0), (4, 3)]


async def test_what_nobody_ends_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "debug_refused", "refused", period=SHORT, passes=True)
    complaint.again()
    complaint.again()
    end = await until(caplog, "ended")
    assert (end["what"], end["count"]) == ("debug_refused", 2)
    assert not complaint.active


async def test_what_came_once_has_no_end_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "debug_refused", "refused", period=SHORT, passes=True)
    complaint.again()
    async with asyncio.timeout(PATIENCE_S):
        while complaint.active:
            await asyncio.sleep(0.005)
    assert len(lines(caplog)) == 1


async def test_where_its_end_is_no_news_there_is_no_line_of_it(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, "role_reason", "", end=None, period=SHORT, passes=True, free=12)
    for number in range(3):
        complaint.again(message=f"reason {number}")
    async with asyncio.timeout(PATIENCE_S):
        while complaint.active:
            await asyncio.sleep(0.005)
    assert not complaint.over()
    assert [line["message"] for line in lines(caplog)] == ["reason 0", "reason 1", "reason 2"]
