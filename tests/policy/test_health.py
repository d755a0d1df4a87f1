"""When health is asked and what follows from the answers: intervals, failures in a row, durations as written."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.messages import HealthCheck
from policy import timing
from policy.health import (
    LEAST_INTERVAL_S,
    MOST_INTERVAL_S,
    USUAL_TIMEOUT_S,
    Health,
    Outcome,
    bounded,
    parse_duration,
)

S = timing.SECOND
CHECK = HealthCheck("https://health.example/", interval_s=30, timeout_s=10, threshold=3)
GOOD = Outcome(healthy=True, message="answered 200", response_s=0.25)
BAD = Outcome(healthy=False, message="answered 503", response_s=0.5)

checks = st.builds(
    HealthCheck,
    endpoint=st.sampled_from(["", "http://a.example/", "http://b.example/"]),
    interval_s=st.floats(allow_nan=False, allow_infinity=False),
    timeout_s=st.floats(allow_nan=False, allow_infinity=False),
    threshold=st.integers(-5, 200),
    headers=st.dictionaries(st.sampled_from(["A", "B"]), st.text(max_size=3), max_size=2),
)


def checked(health: Health, outcome: Outcome, now: int) -> None:
    health.began(now)
    health.ended(outcome, now + S)


# --- durations ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("0s", 0), ("1h1m1s1ms", 3661.001), ("5m", 300)],
)
def test_durations_are_read_as_the_crd_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "30 s",
        " 30s",
        "30s\n",
        "-1s",
        "+1s",
        "1d",
        "1e3s",
        "1..5s",
        ".5s",
        "1.s",
        "٣s",
        "1S",
        "9" * 40 + "s",
    ],
)
def test_anything_else_is_refused_and_the_remedy_named(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s, 1m30s or 500ms"):
        parse_duration(text)


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=4))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    expected = sum(number * units[unit] for number, unit in parts)
    assert parse_duration("".join(f"{number}{unit}" for number, unit in parts)) == pytest.approx(expected)


@given(st.text(alphabet="0123456789.smh d-\n", max_size=40))
def test_no_text_gives_anything_but_seconds_or_a_refusal(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert math.isfinite(seconds)
    assert seconds >= 0


# --- bounds ---


@given(checks)
def test_every_check_ends_before_the_next_begins(check: HealthCheck) -> None:
    kept = bounded(check)
    assert LEAST_INTERVAL_S <= kept.interval_s <= MOST_INTERVAL_S
    assert 0 < kept.timeout_s <= kept.interval_s
    assert kept.threshold >= 1
    assert (kept.endpoint, kept.headers) == (check.endpoint, check.headers)
    assert bounded(kept) == kept


def test_what_is_within_bounds_stays_as_it_is() -> None:
    assert bounded(CHECK) == CHECK


def test_no_timeout_is_the_usual_one() -> None:
    assert bounded(replace(CHECK, timeout_s=0)).timeout_s == USUAL_TIMEOUT_S


# --- when ---


def test_without_an_endpoint_nothing_is_due_and_nothing_reported() -> None:
    health = Health()
    assert not health.want(HealthCheck(), 5 * S)
    assert (health.due, health.report) == (None, None)


def test_the_first_check_is_due_at_once_and_the_next_an_interval_after_it_began() -> None:
    health = Health()
    assert health.want(CHECK, 5 * S)
    assert health.due == 5 * S
    checked(health, GOOD, 6 * S)
    assert health.due == 36 * S


def test_a_failed_check_is_not_repeated_faster() -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 6 * S)
    assert health.due == 36 * S


def test_the_same_settings_again_change_nothing() -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 0)
    before = (health.due, health.report)
    assert not health.want(replace(CHECK, headers={}), 7 * S)
    assert (health.due, health.report) == before


@pytest.mark.parametrize("changed", [{"headers": {"X": "y"}}, {"interval_s": 60.0}, {"timeout_s": 1.0}])
def test_other_settings_make_a_check_due_at_once_and_keep_the_failures(changed: dict[str, object]) -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 0)
    assert health.want(replace(CHECK, **changed), 7 * S)  # type: ignore[arg-type]
    assert health.due == 7 * S
    assert health.report is not None
    assert health.report.consecutive_failures == 1


def test_an_endpoint_that_is_taken_away_ends_the_checks() -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 0)
    assert health.want(replace(CHECK, endpoint=""), 7 * S)
    assert (health.due, health.report) == (None, None)


# --- what follows ---


def test_before_the_first_check_a_cluster_is_healthy() -> None:
    health = Health()
    health.want(CHECK, 0)
    assert health.report is not None
    assert (health.report.healthy, health.report.consecutive_failures, health.report.checked_at) == (True, 0, 0)


def test_it_is_unhealthy_from_the_threshold_on_and_healthy_after_one_good_check() -> None:
    health = Health()
    health.want(CHECK, 0)
    said = []
    for outcome in (BAD, BAD, BAD, BAD, GOOD):
        checked(health, outcome, health.due or 0)
        assert health.report is not None
        said.append((health.report.healthy, health.report.consecutive_failures))
    assert said == [(True, 1), (True, 2), (False, 3), (False, 4), (True, 0)]


def test_the_report_says_when_the_check_ended_and_what_came_of_it() -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 4 * S)
    assert health.report is not None
    assert (health.report.endpoint, health.report.checked_at) == (CHECK.endpoint, 5 * S)
    assert (health.report.message, health.report.response_s) == (BAD.message, BAD.response_s)


def test_another_endpoint_begins_anew() -> None:
    health = Health()
    health.want(replace(CHECK, threshold=1), 0)
    checked(health, BAD, 0)
    health.want(replace(CHECK, endpoint="https://other.example/"), 7 * S)
    assert health.report is not None
    assert health.report.endpoint == "https://other.example/"
    assert (health.report.healthy, health.report.consecutive_failures, health.report.checked_at) == (True, 0, 0)


def test_another_threshold_judges_the_failures_that_are_known() -> None:
    health = Health()
    health.want(CHECK, 0)
    checked(health, BAD, 0)
    health.want(replace(CHECK, threshold=1), 7 * S)
    assert health.report is not None
    assert not health.report.healthy


@given(st.lists(st.one_of(checks, st.booleans()), max_size=30))
def test_at_any_time_the_report_is_of_the_wanted_endpoint_and_counts_its_failures_in_a_row(
    events: list[HealthCheck | bool],
) -> None:
    health, now, in_a_row = Health(), 0, 0
    for event in events:
        now += 1
        if isinstance(event, HealthCheck):
            if event.endpoint != health.check.endpoint:
                in_a_row = 0
            if health.want(event, now):
                assert health.due == (now if event.endpoint else None)
        elif health.due is not None:
            now = max(now, health.due)
            checked(health, GOOD if event else BAD, now)
            in_a_row = 0 if event else in_a_row + 1
            assert health.due >= now + int(LEAST_INTERVAL_S * S)
        report = health.report
        assert (report is None) is (health.due is None) is (not health.check.endpoint)
        if report is not None:
            assert report.endpoint == health.check.endpoint
            assert report.consecutive_failures == in_a_row
            assert report.healthy is (in_a_row < health.check.threshold)
