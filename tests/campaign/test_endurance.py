"""Endurance: what grows is named, what only swings is not; and a short run on real pods."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.asking import Failed, NotThere
from devkit.record import Interval

from campaign_parts import STALL_S
from endurance import LONG, Endurance, changed_hands, distribution, text
from endurance_trends import ENOUGH, SPAN, TOLERANCES, Sample, Trend, contents, look, slope, trends, unjudged

PROGRAM = Path(__file__).with_name("endurance.py")
MANY = 6 * ENOUGH
STEP = SPAN // ENOUGH
"""Hand-overs from sample to sample: the second half of so many is long enough."""


def life(values: list[float], figure: str = "pss_kib", owner: str = "pod-0 elector", pid: int = 7) -> list[Sample]:
    return [Sample(STEP * n, owner, pid, {figure: value}) for n, value in enumerate(values)]


def only(samples: list[Sample]) -> Trend:
    (found,) = trends(samples)
    return found


@pytest.mark.parametrize("figure", TOLERANCES)
def test_what_keeps_growing_is_a_leak_and_is_named(figure: str) -> None:
    tolerance, start = TOLERANCES[figure], 100.0
    beyond = 4 * (tolerance.absolute + tolerance.share * start) / (MANY / 2)
    found = only(life([start + beyond * n for n in range(MANY)], figure))
    assert found.leaks
    assert str(found).startswith(f"pod-0 elector: {figure} grows: ")


def test_what_grows_within_the_tolerance_is_none() -> None:
    found = only(life([20_000 + 400 * n / MANY for n in range(MANY)]))
    assert found.judged
    assert found.growth > 100
    assert not found.leaks


def test_what_only_swings_and_what_jumps_for_a_moment_is_none() -> None:
    swinging = [25_000.0 + 3000 * (n % 3) for n in range(MANY)]
    swinging[-2] = 900_000
    assert not only(life(swinging)).leaks


def test_what_rises_again_and_again_and_falls_back_is_none() -> None:
    """Most slopes between two of its samples rise; its last quarter is where the first was."""
    saw = only(life([20_000.0 + 3000 * (n % 9) for n in range(MANY)]))
    assert not TOLERANCES["pss_kib"].allows(saw.growth, saw.first), "its slope alone would be a leak"
    assert saw.last == saw.first
    assert not saw.leaks


def test_what_grew_while_its_life_was_young_is_none() -> None:
    assert not only(life([20_000.0 + 400 * min(n, MANY // 3) for n in range(MANY)])).leaks


def test_of_a_life_that_was_short_nothing_is_said() -> None:
    few = only(life([1000.0 * n for n in range(ENOUGH)]))
    brief = only([Sample(n, "pod-0 elector", 7, {"fds": float(n)}) for n in range(MANY)])
    assert [(each.judged, each.leaks) for each in (few, brief)] == [(False, False)] * 2


def test_what_was_not_seen_for_long_enough_is_named_and_is_not_taken_for_what_does_not_grow() -> None:
    lives = life([20_000.0] * MANY) + life([20_000.0] * ENOUGH, owner="pod-0 arbiter")
    assert unjudged(trends(lives), ["pod-0 elector", "pod-0 arbiter", "pod-0 prober"]) == [
        "pod-0 arbiter",
        "pod-0 prober",
    ]


def endurance(*, stood_still_s: float = 0.0) -> Endurance:
    """One that has not begun; the machine stood still for so long a moment ago."""
    made: Any = Endurance(argparse.Namespace(transitions=LONG, every=None, seed=1, slack=1.5))
    made._pulse = SimpleNamespace(worst_since=lambda _: stood_still_s)
    made._clock = SimpleNamespace(jumped=lambda: False)
    made._arena = SimpleNamespace(pods=SimpleNamespace(pods=[SimpleNamespace(name="pod-0")]))
    return cast("Endurance", made)


def test_a_process_of_the_first_pod_that_ends_by_itself_is_a_violation() -> None:
    """What it held went with it, and whatever leaked would never be seen."""
    run, pod = endurance(), cast("Any", SimpleNamespace(name="pod-0"))
    run._look_after(pod, {"elector": 7, "arbiter": 8})
    run._look_after(pod, {"elector": 7})
    assert run.violations == []
    run._look_after(pod, {"elector": 9, "arbiter": 8})
    run._look_after(pod, {"elector": 9, "arbiter": 8})
    (said,) = run.violations
    assert said.endswith("pod-0 elector was started anew, and nobody ended it")


def test_who_cannot_hear_yet_is_told_again_and_who_refuses_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The elector was killed a moment ago, and its pod is ready by what it said before."""
    run, pod = endurance(), cast("Any", SimpleNamespace(name="pod-0"))
    answers: list[Exception | None] = [NotThere("no elector"), NotThere("no elector"), None]

    def tell(_: object) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    def wait_for(what: Callable[[], bool], _seconds: float, _why: str) -> None:
        while not what():
            pass

    monkeypatch.setattr(run, "_tell", tell)
    monkeypatch.setattr(run._arena.pods, "wait_for", wait_for, raising=False)
    run._stand_down(pod)
    assert answers == []
    assert "pod-0" in run._out
    answers.append(Failed("not now"))
    with pytest.raises(Failed, match="not now"):
        run._stand_down(pod)


def test_on_a_machine_that_stood_still_that_is_a_remark() -> None:
    run, pod = endurance(stood_still_s=STALL_S), cast("Any", SimpleNamespace(name="pod-0"))
    run._look_after(pod, {"elector": 7})
    run._look_after(pod, {"elector": 9})
    assert run.violations == []
    assert len(run.remarks) == 1


def test_a_long_run_has_not_held_where_the_first_pod_was_not_judged() -> None:
    run = endurance()
    run._look_after(cast("Any", SimpleNamespace(name="pod-0")), {"elector": 7})
    assert run._must_be_judged() == [], "it has just begun"
    run.gaps_s += [0.1] * LONG
    results = run._results()
    assert not results["held"]
    assert "pod-0 elector was not seen for long enough to know that nothing of it grows" in results["violations"]


def test_each_life_is_judged_by_itself() -> None:
    """A process that was started anew begins low: that is no shrinking of the one before."""
    first, second = ([20_000.0 + 100 * n for n in range(MANY)] for _ in range(2))
    found = trends(life(first, pid=7) + life(second, pid=8))
    assert [each.leaks for each in found] == [True, True]


def test_a_slope_is_the_median_of_those_between_any_two() -> None:
    assert slope([(0, 0), (1, 2), (2, 4), (3, 6), (4, 100)]) == 2
    assert slope([(5, 1)]) == slope([]) == 0


def test_a_process_is_looked_at_and_one_that_is_gone_is_none() -> None:
    found = look(os.getpid())
    assert found is not None
    assert found["pss_kib"] >= found["anonymous_kib"] * 0.1 > 100
    assert found["fds"] > 2
    assert found["threads"] >= 1
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert look(process.pid) is None


def test_the_contents_of_a_folder_are_counted_all_the_way_down(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to("a/file")
    assert contents(tmp_path) == {"files": 2, "bytes": 1000}


def test_hands_are_changed_where_the_next_to_begin_is_another() -> None:
    nodes = {"a": [Interval(0, 5), Interval(20, 30)], "b": [Interval(6, 10), Interval(12, 19)]}
    assert changed_hands(nodes) == 2


def test_the_text_says_how_long_nobody_forged_and_what_leaks() -> None:
    leak = only(life([20_000.0 + 100 * n for n in range(MANY)]))
    told = text(
        {
            "held": False,
            "violations": [str(leak)],
            "remarks": [],
            "seed": 3,
            "hand_overs": 4,
            "returns": 0,
            "unheeded": 0,
            "seconds": 9.0,
            "transitions": {"lease": 4, "records": 4},
            "gap_s": distribution([0.1, 0.1, 0.2, 1.5]),
            "incidents": [{"kind": "the pod is replaced", "gap_s": 0.3, "bound_s": 1}],
            "trends": [{name: getattr(leak, name) for name in Trend.__slots__}],
        }
    )
    assert "median 0.100 s, 95 % 1.500 s" in told
    assert "1 longer than 1 s" in told
    assert "the pod is replaced: 1 times, median 0.300 s" in told
    assert f"VIOLATION: {leak}" in told
    assert "LEAKS" in told
    assert told.endswith("FAILED")


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_sixty_hand_overs_with_incidents_between_never_make_two_forge_and_the_lease_counts_each(tmp_path: Path) -> None:
    """Bounds in seconds are the long run's: here the machine may be as slow as it likes."""
    options = ["--transitions", "60", "--seed", "5", "--incidents-every", "6", "--every", "10", "--slack", "300"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "endurance.json").read_text())
    assert results["held"]
    assert results["hand_overs"] == 60
    assert results["transitions"]["lease"] >= results["transitions"]["records"] >= 60 - results["returns"]
    assert len({each["kind"] for each in results["incidents"]}) >= 8
    seen = {each["owner"]: set(each["figures"]) for each in results["samples"]}
    assert seen["pod-0 elector"] == {"pss_kib", "anonymous_kib", "fds", "threads", "tasks"}
    assert seen["pod-0 tree"] == {"processes"}
    assert seen["pod-0 RUN_DIR"] == {"files", "bytes"}
    assert seen["API Lease"] == {"object_bytes"}
    assert seen["pod-0 log"] == {"log_bytes"}
    assert (tmp_path / "endurance.txt").read_text().endswith("held\n")
