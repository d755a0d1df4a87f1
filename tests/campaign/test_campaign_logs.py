"""Lines of ERROR and worse are looked at once each, and must have an explanation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.events import EVENTS

from campaign_logs import EXPECTED, Reader


def line(level: str, event: str, **more: str) -> str:
    return json.dumps({"time": "t", "level": level, "worker": "elector", "event": event, "message": "m", **more}) + "\n"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader("pod-0", tmp_path / "log")


def test_a_log_that_is_not_there_says_nothing(reader: Reader) -> None:
    assert reader.unexpected() == []


def test_each_line_is_looked_at_once_and_only_when_it_is_whole(reader: Reader) -> None:
    text = line("ERROR", "worker_fault", trace="Traceback")
    reader.path.write_text(line("INFO", "role_changed") + text[:20])
    assert reader.unexpected() == []
    with reader.path.open("a") as file:
        file.write(text[20:])
    (found,) = reader.unexpected()
    assert str(found) == "pod-0 t elector worker_fault: m Traceback"
    assert reader.unexpected() == []
    assert reader.counts == {"ERROR worker_fault": 1}


def test_what_was_done_on_purpose_is_expected_and_counted(reader: Reader) -> None:
    reader.path.write_text("".join(line("ERROR", event) for event in EXPECTED) + line("WARNING", "api_failed"))
    assert reader.unexpected() == []
    assert reader.counts["WARNING api_failed"] == 1
    assert sum(reader.counts.values()) == len(EXPECTED) + 1


def test_a_line_cut_short_by_a_kill_is_passed_over(reader: Reader) -> None:
    reader.path.write_text('{"level": "ERR' + line("ERROR", "a") + "[1]\nwords\n" + line("CRITICAL", "b"))
    assert [found.event for found in reader.unexpected()] == ["b"]


def test_every_expected_event_is_one_of_the_products() -> None:
    assert set(EXPECTED) <= set(EVENTS)
