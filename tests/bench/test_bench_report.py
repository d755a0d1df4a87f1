"""Tables and plots say what the results say, and those in the repository are of the results beside them."""

from __future__ import annotations

import copy
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import plots, report, results
from devkit.docs import ROOT

BENCHMARKS = (ROOT / "docs/benchmarks.md").read_text("utf-8")


@pytest.fixture
def found() -> dict[str, Any]:
    """Of two contenders and two faults."""

    def figures(nobody: float, two: float, *, settled: bool = True) -> dict[str, Any]:
        one = {"nobody_s": nobody, "two_s": two, "settled": settled}
        return {
            "nobody_median_s": nobody,
            "nobody_most_s": nobody + 1,
            "two_median_s": two,
            "two_most_s": two,
            "rounds": [one],
        }

    cost = {"requests": 12.0, "cpu_s": 0.4, "pss_mib": 120.0}
    return {
        "command": "python -m bench.failover --rounds 1",
        "facts": {
            "date": "2026-01-02 03:04 UTC",
            "machine": "Linux 6.18, 2 CPUs",
            "python": "3.13.0",
            "seconds": 600,
            "load": [[0.1, 0.2, 0.3], [1.5, 1.0, 0.5]],
            "others_cpus": 0.05,
            "waited_share": 0.04,
            "niceness": 0,
        },
        "api": "kube-apiserver v1.2.3",
        "rounds": 1,
        "instances": 3,
        "rest_seconds": 60,
        "contenders": [
            {"name": "this product", "version": "3", "settings": ""},
            {"name": "peer", "version": "1", "settings": "another lifetime"},
        ],
        "start": {name: {"leads_s": [1.0, 2.0, 9.0], "stands_by_s": [3.0, 4.0]} for name in ("this product", "peer")},
        "rest": {name: {"leader": cost, "standby": cost} for name in ("this product", "peer")},
        "faults": {
            "frozen": {"this product": figures(2.5, 0.0), "peer": figures(0.0, 8.0)},
            "node killed": {"this product": figures(0.1, 0.0)},
        },
    }


def test_whoever_can_not_meet_a_fault_has_no_figure_for_it(found: dict[str, Any]) -> None:
    assert "| its node is killed | 0.10 (1.10) | - |" in report.nobody_table(found)


def test_two_leaders_stand_out_and_their_absence_does_not(found: dict[str, Any]) -> None:
    assert "| frozen for 25 s | 0.00 (0.00) | **8.00 (8.00)** |" in report.two_table(found)


def test_a_contender_that_did_not_come_to_rest_is_marked_and_the_mark_explained(found: dict[str, Any]) -> None:
    assert "†" not in report.failover(found)
    found["faults"]["frozen"]["peer"]["rounds"][0]["settled"] = False
    assert "8.00 (8.00) †" in report.two_table(found)
    assert "† It did not come to rest" in report.failover(found)


def test_other_settings_than_the_common_ones_are_told(found: dict[str, Any]) -> None:
    assert "Settings of peer: another lifetime." in report.failover(found)
    assert "Settings of this product" not in report.failover(found)


def test_every_table_names_its_command_its_machine_and_its_load(found: dict[str, Any]) -> None:
    told = report.provenance(found)
    for part in (
        "`python -m bench.failover --rounds 1`",
        "Linux 6.18, 2 CPUs",
        "2026-01-02",
        "Load 0.1 before, 1.5",
        "waited for one 4%",
    ):
        assert part in told


@pytest.mark.parametrize(("fact", "value"), [("others_cpus", 0.6), ("niceness", 19)])
def test_figures_of_a_machine_that_was_not_ours_alone_say_so(found: dict[str, Any], fact: str, value: float) -> None:
    assert "Measured beside other work" not in report.provenance(found)
    disturbed = copy.deepcopy(found)
    disturbed["facts"][fact] = value
    assert "Measured beside other work" in report.provenance(disturbed)


def test_the_cost_has_the_median_start_and_both_roles(found: dict[str, Any]) -> None:
    assert "| peer | 12, 12 | 0.40, 0.40 | 120.0, 120.0 | 2.00 | 3.50 |" in report.cost(found)


def test_the_command_is_told_without_the_place_of_the_results() -> None:
    words = ["--rounds", "3", "--out", "/somewhere/x.json", "--api", "real"]
    assert results.command("bench.failover", words) == "python -m bench.failover --rounds 3 --api real"


# --- what is in the repository ---


@pytest.mark.parametrize("path", report.WHOLE)
def test_a_plot_in_the_repository_is_of_the_results_there(path: str) -> None:
    """Run `python -m bench.report` when this fails."""
    assert (ROOT / path).read_text("utf-8") == report.WHOLE[path]()


@pytest.mark.parametrize("path", report.WHOLE)
def test_every_plot_is_shown_in_the_text(path: str) -> None:
    assert path.removeprefix("docs/") in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", BENCHMARKS)


@pytest.mark.parametrize("name", ["failover", *report.SERIES])
def test_results_name_no_place_of_a_machine(name: str) -> None:
    told = json.dumps(results.read(name))
    assert not re.search(r"/(tmp|root|home|work|dev)\b", told)


# --- plots ---


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_bar_is_as_long_as_its_value_and_has_it_written_beside_it() -> None:
    svg = plots.bars("T", "seconds", {"g": {"a": 5.0, "b": 10.0}, "h": {"a": 0.0}})
    bars = [each for each in ElementTree.fromstring(svg) if each.tag.endswith("rect") and len(each)]
    a, b, none = (float(each.attrib["width"]) for each in bars)
    assert b == pytest.approx(2 * a, abs=0.2)
    assert none == 0
    assert {"5", "10", "0", "g", "h", "a", "b"} <= set(texts(svg))


def test_a_series_has_the_same_colour_in_every_group() -> None:
    svg = plots.bars("T", "s", {"g": {"a": 1.0, "b": 2.0}, "h": {"b": 3.0}})
    bars = [each.attrib["fill"] for each in ElementTree.fromstring(svg) if each.tag.endswith("rect") and len(each)]
    assert bars[1] == bars[2] != bars[0]


def test_text_is_light_where_the_reader_prefers_the_dark() -> None:
    svg = plots.lines("T", "x", "y", {"a": [(1, 1.0), (200, 3.0)]})
    assert "prefers-color-scheme:dark" in svg


def test_a_line_rises_with_its_values_and_goes_right_with_its_x() -> None:
    svg = plots.lines("T", "x", "y", {"a": [(1, 1.0), (10, 2.0), (100, 4.0)]})
    line = next(each for each in ElementTree.fromstring(svg) if each.tag.endswith("polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)  # logarithmic


def test_what_a_name_contains_cannot_break_the_picture() -> None:
    assert "a<b&c" in texts(plots.bars("T", "s", {"a<b&c": {"x": 1.0}}))


@pytest.mark.parametrize(("most", "expected"), [(10, [0, 2, 4, 6, 8, 10]), (0.3, [0, 0.1, 0.2, 0.3]), (0, [0, 1])])
def test_an_axis_has_round_numbers(most: float, expected: list[float]) -> None:
    assert plots.ticks(most) == expected
