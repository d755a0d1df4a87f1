"""The report: made of results alone, complete, escaped, and loading nothing."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import campaign_picture as picture
import campaign_report as report

EVIL = "<img src=x onerror=alert(1)> & \"quotes' \u202e"


def fault(kind: str = "SIGKILL of the node", **more: Any) -> dict[str, Any]:
    plain = {"kind": kind, "victim": "pod-0", "began_s": 12.0, "ended_s": 13.0, "told": "", "missed": ""}
    return plain | more


def a_round(number: int = 1, **more: Any) -> dict[str, Any]:
    plain = {
        "number": number,
        "began_s": 12.0 * number,
        "ended_s": 12.0 * number + 12,
        "faults": [fault(began_s=12.0 * number, ended_s=12.0 * number + 1)],
        "gap_s": 0.5,
        "longest_s": 0.5,
        "bound_s": 1.0,
        "back_s": 0.5,
        "late_s": 0.0,
        "waited": 0.1,
        "home": True,
        "excused": "",
        "violations": [],
    }
    return plain | more


def a_part(name: str = "cluster") -> dict[str, Any]:
    return {
        "name": name,
        "terms": {"slack_s": 1.5, "recovery_s": 40, "planned_s": 0, "longest": name == "fleet"},
        "began_s": 12.0,
        "ended_s": 250.0,
        "nodes": {"pod-0": [[0.0, 12.5]], "pod-1": [[13.0, 250.0]], "pod-2": []},
        "operations": {"pod-0": {"on": 1, "off": 1, "slot": 12}, "pod-1": {"slot": 237}, "pod-2": {}},
        "lease_transitions": [3, 8],
        "rounds": [a_round(1), a_round(2, faults=[fault(missed="nobody there")], gap_s=0.0, bound_s=None)],
        "overlaps": [],
        "gaps": [{"begin_s": 12.5, "end_s": 13.0, "round": 1, "faults": [0]}],
        "kinds": [
            {
                "kind": "SIGKILL of the node",
                "count": 2,
                "alone": 1,
                "missed": 1,
                "median_s": 0.5,
                "p95_s": 0.5,
                "max_s": 0.5,
                "bound_s": 1.0,
            },
            {"kind": "cut", "count": 1, "alone": 0, "missed": 0, "median_s": None, "p95_s": None, "max_s": None}
            | {"bound_s": None},
        ],
        "resources": {
            "every_s": 10,
            "drift": [
                {"kind": "elector", "samples": 3, "pss_first_kib": 25000, "pss_last_kib": 25100, "pss_max_kib": 26000}
                | {"fds_first": 18, "fds_last": 18, "fds_max": 19, "leaks": False}
            ],
            "samples": [
                {"at_s": float(n), "pod": "pod-0", "kind": "elector", "pss_kib": 25000 + n, "fds": 18} for n in range(3)
            ],
        },
        "logged": {"WARNING api_failed": 4},
        "remarks": [],
        "violations": [],
        "held": True,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "campaign": {
            "seed": 7,
            "minutes": 20.0,
            "api": "real",
            "slack_s": 1.5,
            "commit": "abc1234",
            "began": "2026-11-27T17:00:00+00:00",
            "ended": "2026-11-27T17:20:00+00:00",
            "python": "3.13.1",
            "kernel": "6.18",
            "processors": 2,
            "load": 1.0,
        },
        "parts": [a_part("cluster"), a_part("fleet")],
    }


VOID = {"meta", "br", "img", "line", "polyline"}


class Strict(HTMLParser):
    """Complains of a tag that is not closed, of scripts, and of whatever would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert tag not in ("script", "link", "iframe", "img", "object"), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "src"
            if name == "id":
                self.ids.append(str(value))
            if name == "href":
                assert str(value).startswith("#")
                self.links.append(str(value)[1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(text: str) -> Strict:
    found = Strict()
    found.feed(text)
    found.close()
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert set(found.links) <= set(found.ids)
    assert "url(" not in text
    assert "@import" not in text
    return found


def test_the_page_is_whole_loads_nothing_and_every_mark_leads_to_its_round(results: dict[str, Any]) -> None:
    found = checked(report.page(results))
    assert {"svg", "table", "title", "details"} <= found.seen
    assert {"cluster-1", "cluster-2", "fleet-1"} <= set(found.links)


def test_it_says_what_held_and_how_to_do_it_again(results: dict[str, Any]) -> None:
    text = report.page(results)
    assert "All held." in text
    assert "make campaign MINUTES=20 SEED=7 API=real" in text
    assert "prefers-color-scheme: dark" in text


def test_it_says_first_what_did_not_hold(results: dict[str, Any]) -> None:
    results["parts"][0]["violations"] = ["round 1: two forged for 0.250 s"]
    results["parts"][0]["overlaps"] = [[100.0, 100.25]]
    text = report.page(results)
    checked(text)
    assert "Not all held." in text
    assert "cluster: round 1: two forged for 0.250 s" in text
    assert "TWO forge for 0.250 s" in text
    assert text.index("What did not hold") < text.index("One cluster")


def evil(value: Any) -> Any:
    """The same with every text replaced that is no key of ours."""
    if isinstance(value, dict):
        return {key: evil(each) if key != "name" else each for key, each in value.items()}
    if isinstance(value, list):
        return [evil(each) for each in value]
    return EVIL if isinstance(value, str) else value


def test_no_text_of_the_results_becomes_a_part_of_the_page(results: dict[str, Any]) -> None:
    spoilt = evil(results)
    part = spoilt["parts"][0]
    part["nodes"] = {EVIL: [[12.0, 20.0]]}
    part["operations"] = {EVIL: {"on": 1}}
    part["logged"] = {EVIL: 1}
    part["violations"] = [EVIL]
    part["remarks"] = [EVIL]
    part["rounds"][0]["violations"] = [EVIL]
    text = report.page(spoilt)
    checked(text)
    assert "<img" not in text


def test_a_part_that_never_began_is_told_and_the_rest_is_there(results: dict[str, Any]) -> None:
    results["parts"][1] = {"name": "fleet", "held": False, "violations": ["ended with -9 and no word"]}
    text = report.page(results)
    checked(text)
    assert "fleet: ended with -9 and no word" in text
    assert "One cluster" in text
    assert "NOT all held" in report.summary(results)


def test_a_part_whose_pool_never_came_to_rest_has_a_report_too(results: dict[str, Any]) -> None:
    part = results["parts"][0]
    part |= {"rounds": [], "gaps": [], "kinds": [], "began_s": 40.0, "ended_s": 40.0, "violations": ["never at rest"]}
    checked(report.page(results))


def test_the_summary_has_the_figures(results: dict[str, Any]) -> None:
    first, _, machine, last = report.summary(results).splitlines()
    assert first == (
        "cluster: 1 faults in 2 rounds and 4.0 minutes; two forged for 0.000 s; 1 gaps, the longest 0.500 s; "
        "one forged for 99.79% of the time; the lease changed hands 5 times"
    )
    assert last == "seed 7: 2 faults, all held"
    assert machine == (
        "the machine: load 1.0 when it began and 1.0 when it ended, on 2 processors; in the median round something "
        "waited for a processor in 10% of the time, and a timer of ours was late by 0.00 s at most; slack beside "
        "bounds 1.5 s, in 0 rounds beside a bound of zero too"
    )


def test_a_busy_machine_and_the_slack_that_was_given_for_it_are_told(results: dict[str, Any]) -> None:
    results["parts"][0]["rounds"][0]["waited"] = 0.8
    results["campaign"]["load_at_end"] = 9.0
    told = "9.0 when it ended"
    slack = "slack beside bounds 1.5 s, in 1 round beside a bound of zero too"
    for text in (report.summary(results), report.page(results)):
        assert told in text
        assert slack in text


def test_results_survive_json(results: dict[str, Any]) -> None:
    assert report.page(json.loads(json.dumps(results))) == report.page(copy.deepcopy(results))


# --- pictures ---


@given(st.floats(1, 200_000))
def test_a_time_line_has_at_most_twelve_lines_up_to_three_days(length: float) -> None:
    band = picture.band_length(length)
    assert band in picture.BAND_S
    assert length / band <= picture.BANDS
    assert band == picture.BAND_S[0] or length / picture.BAND_S[picture.BAND_S.index(band) - 1] > picture.BANDS


@given(st.lists(st.floats(0.0001, 500)))
def test_every_gap_has_one_place_in_the_histogram(gaps: list[float]) -> None:
    assert sum(count for _, count in picture.bins(gaps)) == len(gaps)


@given(
    st.lists(st.tuples(st.floats(0, 700), st.floats(0, 700)).map(lambda pair: sorted(pair)), max_size=6),
    st.floats(1, 700),
)
def test_whatever_a_time_line_shows_is_inside_it(spans: list[list[float]], length: float) -> None:
    part = a_part() | {"began_s": 0.0, "ended_s": length, "nodes": {"a": spans}, "overlaps": spans}
    part["gaps"] = [{"begin_s": b, "end_s": e, "round": None, "faults": []} for b, e in spans]
    part["rounds"] = [a_round(1, faults=[fault(began_s=b, ended_s=e) for b, e in spans])]
    text = picture.timeline(part)
    for x, width in re.findall(r'<rect class="[^"]*" x="([-\d.]+)" y="[-\d.]+" width="([-\d.]+)"', text):
        assert picture.LABEL <= float(x) <= picture.WIDTH
        assert float(x) + float(width) <= picture.WIDTH + 3


def test_a_moment_is_still_to_be_seen() -> None:
    part = a_part()
    part["gaps"] = [{"begin_s": 40.0, "end_s": 40.001, "round": 1, "faults": []}]
    (width,) = re.findall(r'<rect class="gap" x="[\d.]+" y="[-\d.]+" width="([\d.]+)"', picture.timeline(part))
    assert float(width) >= 1.5


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")])
def test_a_clock_is_read_as_people_do(seconds: float, text: str) -> None:
    assert picture.clock(seconds) == text


def test_a_sparkline_of_one_point_is_none() -> None:
    assert picture.sparkline([(1.0, 2.0)], "x") == ""
    assert "<polyline" in picture.sparkline([(1.0, 2.0), (2.0, 4.0)], "x")
