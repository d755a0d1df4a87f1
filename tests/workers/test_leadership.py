"""The leadership schedule as it lies on a disk: read when it changed, and no obstacle when it cannot be."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from cardano.slots import NETWORKS
from policy import timing
from workers.leadership import MOST_FILES, LeadershipSchedule, Outlook

S = timing.SECOND
CALENDAR = NETWORKS["preview"]
WALL = CALENDAR.start_s + 1000.25
"""A quarter of a second into slot 1000."""
NOW = 5000 * S


def written(path: Path, *slots: int) -> Path:
    path.write_text(json.dumps([{"slotNumber": slot, "slotTime": "?"} for slot in slots]))
    return path


def schedule(path: Path | None, gap_s: float = 30) -> LeadershipSchedule:
    return LeadershipSchedule(path, CALENDAR, gap_s)


def test_without_a_schedule_it_is_always_quiet() -> None:
    assert schedule(None).outlook(NOW, WALL) == Outlook()


def test_the_next_slot_and_the_next_gap_are_told_in_instants_of_this_host(tmp_path: Path) -> None:
    found = schedule(written(tmp_path / "s.json", 900, 1010, 1020, 1100)).outlook(NOW, WALL)
    assert found == Outlook(quiet_at=NOW + int(20.75 * S), leads_at=NOW + int(9.75 * S))
    later = schedule(tmp_path / "s.json").outlook(NOW, WALL + 21)
    assert (later.quiet_at, later.leads_at) == (0, NOW + int(78.75 * S))


def test_a_slot_that_runs_is_the_next_one_and_not_quiet(tmp_path: Path) -> None:
    found = schedule(written(tmp_path / "s.json", 1000, 5000)).outlook(NOW, WALL)
    assert (found.quiet_at, found.leads_at) == (NOW + int(0.75 * S), NOW)


def test_of_a_folder_every_file_counts_and_what_kubernetes_hides_in_it_does_not(tmp_path: Path) -> None:
    written(tmp_path / "epoch-1.json", 900)
    written(tmp_path / "epoch-2.json", 1010)
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "x").write_text("no schedule")
    assert schedule(tmp_path).outlook(NOW, WALL).leads_at == NOW + int(9.75 * S)


def test_another_schedule_in_its_place_is_read_at_the_next_look(tmp_path: Path) -> None:
    reader = schedule(written(tmp_path / "s.json", 1010))
    reader.outlook(NOW, WALL)
    written(tmp_path / "new", 1040).rename(tmp_path / "s.json")
    assert reader.outlook(NOW, WALL).leads_at == NOW + int(39.75 * S)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "cannot be read"),
        ("", "empty"),
        ("{", "s.json"),
        ("x" * 2**21, "longer"),
        ("\xff\xfe", "s.json"),
        ("[1, 2, 3]", "no slot to come"),
        (f"[900, {2**53 - 1}]", "days away; no schedule reaches that far"),
        ("[1790000000000]", "supply slots of this network"),
    ],
)
def test_a_schedule_that_says_nothing_delays_nothing_and_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, named: str
) -> None:
    caplog.set_level(logging.INFO, logger="prober")
    path = tmp_path / "s.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    reader = schedule(path)
    for _ in range(3):
        found = reader.outlook(NOW, WALL)
        assert (found.quiet_at, found.leads_at) == (0, 0)
        assert found.problem.startswith("LEADERSHIP_SCHEDULE ")
        assert named in found.problem
    assert len(caplog.records) == 1
    written(tmp_path / "new", 1040).rename(path)
    assert reader.outlook(NOW, WALL).problem == ""
    assert len(caplog.records) == 2


def test_a_fifo_that_nobody_writes_to_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.json")
    assert "is not a file" in schedule(tmp_path / "s.json").outlook(NOW, WALL).problem


def test_a_folder_that_is_none_of_schedules_is_refused(tmp_path: Path) -> None:
    assert "0 files" in schedule(tmp_path).outlook(NOW, WALL).problem
    for number in range(MOST_FILES + 1):
        written(tmp_path / str(number), 1010)
    assert f"at most {MOST_FILES}" in schedule(tmp_path).outlook(NOW, WALL).problem


def test_on_a_network_without_a_calendar_the_remedy_is_named(tmp_path: Path) -> None:
    found = LeadershipSchedule(written(tmp_path / "s.json", 1010), None, 30).outlook(NOW, WALL)
    assert "SHELLEY_GENESIS" in found.problem
