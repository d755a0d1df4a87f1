"""Lines of ERROR and worse are looked at once each, and must have an explanation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.events import EVENTS

from campaign_breaks import BREAKS
from campaign_logs import EXPECTED, STARVED, Reader


def line(level: str, event: str, **more: str) -> str:
    return json.dumps({"time": "t", "level": level, "worker": "elector", "event": event, "message": "m", **more}) + "\n"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader("pod-0", tmp_path / "log")


def test_a_log_that_is_not_there_says_nothing(reader: Reader) -> None:
    assert reader.unexpected([]) == []


def test_each_line_is_looked_at_once_and_only_when_it_is_whole(reader: Reader) -> None:
    text = line("ERROR", "worker_fault", trace="Traceback")
    reader.path.write_text(line("INFO", "role_changed") + text[:20])
    assert reader.unexpected([]) == []
    with reader.path.open("a") as file:
        file.write(text[20:])
    (found,) = reader.unexpected([])
    assert str(found) == "pod-0 t elector worker_fault: m Traceback"
    assert reader.unexpected([]) == []
    assert reader.counts == {"ERROR worker_fault": 1}


def test_what_a_fault_explains_is_expected_beside_it_and_counted(reader: Reader) -> None:
    text = line("CRITICAL", "signal") + line("WARNING", "api_failed") + line("ERROR", "release_abandoned")
    reader.path.write_text(text)
    assert reader.unexpected(["the Lease is deleted", "the node is deaf to SIGHUP"]) == []
    assert reader.counts == {"CRITICAL signal": 1, "WARNING api_failed": 1, "ERROR release_abandoned": 1}
    with reader.path.open("a") as file:
        file.write(text)
    assert [found.event for found in reader.unexpected(["the Lease is deleted"])] == ["signal"]


def test_every_explanation_is_a_word_of_some_kind_of_fault() -> None:
    kinds = [*BREAKS, "script: one of the fault tests", STARVED]
    for event, (why, words) in EXPECTED.items():
        assert why
        for word in words:
            assert any(word in kind for kind in kinds), (event, word)


def test_a_line_cut_short_by_a_kill_is_passed_over(reader: Reader) -> None:
    reader.path.write_text('{"level": "ERR' + line("ERROR", "a") + "[1]\nwords\n" + line("CRITICAL", "b"))
    assert [found.event for found in reader.unexpected([])] == ["b"]


def test_every_expected_event_is_one_of_the_products() -> None:
    assert set(EXPECTED) <= set(EVENTS)
